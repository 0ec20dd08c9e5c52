"""The life of a key: how it ends, is revoked, gets new secrets, and what a deletion leaves."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, Limit, RetiredSecret
from tests.helpers import assert_books_agree, chat, open_holds, rows, with_upstream
from tests.management import KEYS, SEARCH, SECRET, USERS, ask, call, change, make, refused, row_of, seen
from tests.races.conftest import crowd
from utils import clock


@pytest.fixture
def later(monkeypatch):
    """Moves the clock on, for the gateway and its database alike."""
    seconds, milliseconds = clock.now_s, clock.now_ms
    gone = [0.0]
    monkeypatch.setattr(clock, "now_s", lambda: seconds() + gone[0])
    monkeypatch.setattr(clock, "now_ms", lambda: milliseconds() + int(gone[0] * 1000))

    def move(**span):
        gone[0] += timedelta(**span).total_seconds()

    return move


def rotate(app, made, **body):
    return ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate", body)


def found(app, **filters):
    return {key["keyId"] for key in ask(app, "POST", SEARCH, {"userId": "key-management", **filters}).json["keys"]}


# Ends


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("2d", 172_800), ("36h30m", 131_400), ("90m", 5_400), ("1h", 3_600), ("1d12h", 129_600)]
)
def test_a_ttl_counts_from_the_creation(lite, ttl, seconds):
    made = make(lite, ttl=ttl)
    assert (made["ttl"], made["expiresAt"]) == (ttl, made["createdAt"] + seconds)


def test_a_key_ends(app, later):
    made = make(app, ttl="1h")
    assert call(app, made["key"]).status_code == 200
    later(hours=1, seconds=1)
    assert call(app, made["key"]).status_code == 401
    shown = seen(app, made["keyId"])
    assert (shown["revoked"], shown["revokedReason"]) == (True, "The key has expired")
    assert found(app, revoked=True) == {made["keyId"]}
    assert found(app, revoked=False) == set()


def test_a_very_short_ttl(lite):
    made = make(lite, ttl="300ms")
    assert made["expiresAt"] in (made["createdAt"], made["createdAt"] + 1)


def test_a_new_ttl_counts_from_the_creation_and_revives(app, later):
    made = make(app, ttl="1h")
    later(hours=2)
    shown = change(app, made["keyId"], ttl="1d")
    assert (shown["revoked"], shown["expiresAt"]) == (False, made["createdAt"] + 86_400)
    assert call(app, made["key"]).status_code == 200
    assert change(app, made["keyId"], ttl="90m")["revoked"] is True, "a life that is over already"
    shown = change(app, made["keyId"], ttl="")
    assert (shown["revoked"], shown["expiresAt"], shown["ttl"]) == (False, None, "")


def test_an_end_by_date(app):
    end = int(clock.now_s()) + 1000
    made = make(app, expiresAt=end)
    assert (made["expiresAt"], made["ttl"]) == (end, "")
    shown = change(app, made["keyId"], ttl="1h")
    assert (shown["expiresAt"], shown["ttl"]) == (made["createdAt"] + 3_600, "1h")
    shown = change(app, made["keyId"], expiresAt=end)
    assert (shown["expiresAt"], shown["ttl"]) == (end, "")
    assert change(app, made["keyId"], expiresAt=0)["expiresAt"] is None
    assert change(app, made["keyId"], expiresAt=1)["revoked"] is True


def test_two_different_ends_are_refused(app):
    answer = ask(app, "POST", KEYS, {"name": "x", "ttl": "1h", "expiresAt": int(clock.now_s()) + 9_999})
    assert refused(answer, 400, "/errors/validation") == "fields [ttl, expiresAt] are invalid"
    made = make(app, ttl="1h")
    shown = change(app, made["keyId"], ttl="2h", expiresAt=made["expiresAt"])
    assert shown["expiresAt"] == made["createdAt"] + 7_200, "what was read and sent back is no second end"


def test_an_end_that_the_panel_set_puts_the_ttl_aside(app, gateway):
    made = make(app, ttl="1h")
    with Session(gateway.engine) as session, session.begin():
        session.execute(
            update(ApiKey).where(ApiKey.uuid == made["keyId"]).values(expires_at=datetime(2100, 1, 1, tzinfo=UTC))
        )
    shown = seen(app, made["keyId"])
    assert (shown["ttl"], shown["expiresAt"]) == ("", int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()))
    assert change(app, made["keyId"], ttl="1h")["expiresAt"] == made["expiresAt"]


# Revocation


def test_revoking_and_lifting(app):
    made = make(app)
    shown = change(app, made["keyId"], revoked=True, revokedReason="leaked on a forum")
    assert (shown["revoked"], shown["revokedReason"]) == (True, "leaked on a forum")
    answer = call(app, made["key"])
    assert answer.status_code == 401
    assert "leaked on a forum" in answer.json["error"]["message"]
    assert found(app, revoked=True) == {made["keyId"]}
    assert change(app, made["keyId"], revoked=True)["revokedReason"] == "leaked on a forum"
    assert change(app, made["keyId"], revokedReason="found again")["revokedReason"] == "found again"
    shown = change(app, made["keyId"], revoked=False)
    assert (shown["revoked"], shown["revokedReason"]) == (False, "")
    assert call(app, made["key"]).status_code == 200


def test_a_key_can_be_revoked_from_the_start(app):
    made = make(app, revoked=True, revokedReason="not yet")
    assert (made["revoked"], made["revokedReason"]) == (True, "not yet")
    assert call(app, made["key"]).status_code == 401


def test_an_expired_key_can_be_revoked_too(app, later):
    made = make(app, ttl="1h")
    later(hours=2)
    shown = seen(app, made["keyId"])
    echoed = {name: shown[name] for name in ("revoked", "revokedReason")}
    assert change(app, made["keyId"], **echoed, ttl="1d")["revoked"] is False, "an echo revokes nothing"
    change(app, made["keyId"], ttl="90m")
    change(app, made["keyId"], revoked=True)
    assert change(app, made["keyId"], ttl="")["revoked"] is True


def test_reaching_the_cost_limit_revokes_until_it_is_raised(app, upstream):
    with_upstream(app, upstream)
    made = make(app, costLimitInUsd="0.001", costLimitInUsdOverTime=5, costLimitInUsdUnit="d")
    other = make(app)
    assert call(app, made["key"], "fast").status_code == 200
    spent = rows(app.extensions["gateway"].engine)[-1].cost_nanousd
    assert spent > 0
    shown = change(app, made["keyId"], costLimitInUsd=f"{spent / 10**9:.9f}")
    assert (shown["revoked"], shown["revokedReason"]) == (True, "The total cost limit has been reached")
    assert found(app, revoked=True) == {made["keyId"]}
    assert found(app, revoked=False) == {other["keyId"]}
    assert call(app, made["key"], "fast").status_code == 402
    assert change(app, made["keyId"], costLimitInUsd="0.000000001")["revoked"] is True, "less than is spent"
    assert call(app, made["key"], "fast").status_code == 402
    assert change(app, made["keyId"], costLimitInUsd=1)["revoked"] is False
    assert call(app, made["key"], "fast").status_code == 200
    assert_books_agree(app.extensions["gateway"].engine)


# Rotation


@pytest.mark.parametrize("grace", [{"graceInSeconds": 3_600}, {"grace": "1h"}, {"grace": "60m0s"}])
def test_both_secrets_work_until_the_grace_is_over(app, later, grace):
    made = make(app, key=SECRET, rateLimitOverTime=100, rateLimitUnit="d")
    answer = rotate(app, made, **grace)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    fresh = answer.json["key"]
    assert answer.json == made | {"key": fresh, "updatedAt": answer.json["updatedAt"]}
    assert seen(app, made["keyId"])["key"] != fresh
    assert [call(app, secret).status_code for secret in (SECRET, fresh)] == [200, 200]
    later(minutes=59)
    assert [call(app, secret).status_code for secret in (SECRET, fresh)] == [200, 200]
    later(minutes=2)
    assert [call(app, secret).status_code for secret in (SECRET, fresh)] == [401, 200]
    assert {row.key_id for row in rows(app.extensions["gateway"].engine)} == {row_of(app, made["keyId"]).id}


def test_a_secret_whose_grace_is_over_may_be_used_again(app, later):
    made = make(app, key=SECRET)
    rotate(app, made, grace="1h")
    later(hours=2)
    again = make(app, key=SECRET)
    assert call(app, SECRET).status_code == 200
    assert rows(app.extensions["gateway"].engine)[-1].key_id == row_of(app, again["keyId"]).id


@pytest.mark.parametrize("body", [None, {}, {"graceInSeconds": 0}, {"grace": "0"}])
def test_without_grace_the_old_secrets_stop_at_once(app, body):
    made = make(app, key=SECRET)
    second = rotate(app, made, grace="1h").json["key"]
    third = ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate", body).json["key"]
    assert [call(app, secret).status_code for secret in (SECRET, second, third)] == [401, 401, 200]


def test_a_chain_of_rotations(app):
    made = make(app, key=SECRET)
    secrets = [SECRET, *(rotate(app, made, grace="1h").json["key"] for _ in range(3))]
    assert [call(app, secret).status_code for secret in secrets] == [200] * 4
    change(app, made["keyId"], revoked=True)
    assert [call(app, secret).status_code for secret in secrets] == [401] * 4
    ask(app, "DELETE", f"{KEYS}/{made['keyId']}")
    with Session(app.extensions["gateway"].engine) as session:
        assert session.scalars(select(RetiredSecret)).all() == []


def test_rotations_at_once_lose_no_secret(app):
    made = make(app, key=SECRET)
    fresh = [answer.json["key"] for answer in crowd(6, range(6), lambda _number: rotate(app, made, grace="1h"))]
    assert len(set(fresh)) == 6
    assert [call(app, secret).status_code for secret in (SECRET, *fresh)] == [200] * 7


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"graceInSeconds": -1}, "graceInSeconds"),
        ({"graceInSeconds": 30 * 86_400 + 1}, "graceInSeconds"),
        ({"graceInSeconds": "1"}, "graceInSeconds"),
        ({"graceInSeconds": True}, "graceInSeconds"),
        ({"grace": "31d"}, "grace"),
        ({"grace": "-1h"}, "grace"),
        ({"grace": "soon"}, "grace"),
        ({"grace": 5}, "grace"),
    ],
)
def test_bad_graces(lite, body, named):
    answer = rotate(lite, make(lite), **body)
    assert refused(answer, 400, "/errors/validation") == f"fields [{named}] are invalid"


def test_a_misspelt_grace_does_not_end_the_secret(lite):
    made = make(lite, key=SECRET)
    answer = rotate(lite, made, graceInSecond=3_600)
    assert refused(answer, 400, "/errors/validation") == "fields [graceInSecond] are invalid"
    assert call(lite, SECRET).status_code == 200
    assert rotate(lite, made, GRACE="1h").status_code == 200, "case is nobody's mistake"


def test_two_graces_are_refused(lite):
    refused(rotate(lite, make(lite), grace="1h", graceInSeconds=60), 400, "/errors/validation")


def test_what_opens_nothing_gets_no_new_secret(app, later):
    made, ended = make(app, revoked=True), make(app, ttl="1h")
    later(hours=2)
    for key in (made, ended):
        refused(rotate(app, key), 409, "/errors/conflict")


def test_a_secret_is_not_changed_by_writing_it(lite):
    made = make(lite, key=SECRET)
    answer = ask(lite, "PATCH", f"{KEYS}/{made['keyId']}", {"key": "another-secret-of-ours"})
    assert refused(answer, 400, "/errors/validation") == "fields [key] are invalid"
    assert answer.json["errors"] == {"key": "is changed by rotating it"}


def test_the_default_key_of_a_user_rotates_with_its_copy(app):
    ask(app, "POST", "/register", {"username": "bob", "password": "correct horse"})
    key = ask(app, "POST", SEARCH, {"userId": "bob"}).json["keys"][0]
    fresh = rotate(app, key).json["key"]
    login = ask(app, "POST", "/login", {"username": "bob", "password": "correct horse"}).json
    assert login["api_key"] == fresh


# Last use


def test_the_last_use_is_written_in_batches(app):
    made = make(app)
    for _ in range(3):
        call(app, made["key"])
    assert seen(app, made["keyId"])["lastUsedAt"] is None
    app.extensions["gateway"].keys.flush_used()
    shown = seen(app, made["keyId"])
    assert abs(shown["lastUsedAt"] - clock.now_s()) < 60
    assert shown["updatedAt"] == made["updatedAt"], "a use is no change"


# Deleting while calls are under way


def begin(app, upstream, secret):
    """A stream of which something has come, but not the end."""
    upstream.will(every_s=0.1)
    body, headers = chat(stream=True, max_tokens=50), {"Authorization": f"Bearer {secret}"}
    answer = app.test_client().post("/v1/chat/completions", json=body, headers=headers)
    chunks = answer.iter_encoded()
    next(chunks)
    assert open_holds(app.extensions["gateway"].engine) == 1
    return answer, chunks


@pytest.mark.parametrize("what", ["key", "user"])
def test_a_call_under_way_settles_when_its_key_or_user_is_deleted(app, upstream, what):
    with_upstream(app, upstream)
    engine = app.extensions["gateway"].engine
    user = ask(app, "PUT", USERS, {"name": "Ana", "userId": "ana", "costLimitInUsd": 5, **RATE}).json
    limits = {"costLimitInUsd": 1, "costLimitInUsdOverTime": 1, "costLimitInUsdUnit": "d", **RATE}
    made = make(app, userId="ana", **limits)
    answer, chunks = begin(app, upstream, made["key"])
    path = f"{KEYS}/{made['keyId']}" if what == "key" else f"{USERS}/{user['id']}"
    assert ask(app, "DELETE", path).status_code == 200
    assert call(app, made["key"]).status_code == 401
    assert b"[DONE]" in b"".join(chunks)
    answer.close()
    row = rows(engine)[-1]
    assert (row.outcome, row.state, row.cost_nanousd > 0) == ("ok", "measured", True)
    with Session(engine) as session:
        left = {table: session.scalars(select(table).where(table.scope == "key")).all() for table in (Budget, Limit)}
        assert left == {Budget: [], Limit: []}
        assert all(window.held_amount == 0 for window in session.scalars(select(BudgetWindow)))
    assert_books_agree(engine)
    assert app.test_cli_runner().invoke(args=["ledger", "verify"]).exit_code == 0


RATE = {"rateLimitOverTime": 100, "rateLimitUnit": "m"}


def test_lowering_and_removing_limits_under_a_call_keeps_the_books(app, upstream):
    with_upstream(app, upstream)
    engine = app.extensions["gateway"].engine
    made = make(app, costLimitInUsd=1, costLimitInUsdOverTime=1, costLimitInUsdUnit="d", **RATE)
    answer, chunks = begin(app, upstream, made["key"])
    change(app, made["keyId"], costLimitInUsd="0.000000001", costLimitInUsdOverTime=0)
    change(app, made["keyId"], rateLimitOverTime=1, rateLimitUnit="h")
    b"".join(chunks)
    answer.close()
    assert call(app, made["key"], "fast").status_code == 402
    assert change(app, made["keyId"], costLimitInUsd=0)["revoked"] is False
    assert call(app, made["key"], "fast").status_code == 200
    assert call(app, made["key"], "fast").status_code == 429
    assert_books_agree(engine)
