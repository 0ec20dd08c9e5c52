"""`/api/v1/admin`: stats, users, the audit log and reading the models anew; and what each of them leaves in the log."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from models import Dialog
from services import audit, balances, chain
from services.audit import Actor
from tests.admin.conftest import add_calls
from tests.audit.conftest import engine, noted, signed_in
from tests.callers import add_user
from tests.conftest import PASSWORD, TOKEN
from tests.helpers import add_model, add_provider

ADMIN = "/api/v1/admin"
START = datetime(2026, 3, 1, tzinfo=UTC)


def get(app, headers, path, **query):
    return app.test_client().get(f"{ADMIN}/{path}", query_string=query, headers=headers)


def test_stats_add_up_what_began_in_the_span(app, admin):
    ana, bo = add_user(app, "ana"), add_user(app, "bo")
    add_calls(app, 2, user_id=ana, created_at=START, model="fast", duration_ms=100)
    later = START + timedelta(hours=5)
    add_calls(app, 1, user_id=bo, created_at=later, model="slow", input_tokens=1000, duration_ms=400)
    add_calls(app, 1, user_id=bo, created_at=START, model="slow", outcome="upstream_error", duration_ms=9_999)
    add_calls(app, 1, user_id=1, created_at=START + timedelta(days=1), model="late", input_tokens=None)
    answer = get(app, admin, "stats", start_date="2026-03-01", end_date="2026-03-02")
    assert (answer.status_code, answer.json) == (
        200,
        {
            "total_tokens": 2 * 120 + 1020 + 120,
            "active_users": 2,
            "top_models": [{"model": "slow", "usage": 1140}, {"model": "fast", "usage": 240}],
            "avg_latency_ms": 200.0,
        },
    )
    everything = get(app, admin, "stats").json
    assert (everything["active_users"], everything["total_tokens"]) == (3, 1380 + 20)
    narrow = get(app, admin, "stats", start_date="2026-03-01T03:00:00-02:00", end_date="2026-03-01T05:00:00.001Z").json
    assert narrow["total_tokens"] == 1020
    empty = get(app, admin, "stats", end_date="2020-01-01").json
    assert empty == {"total_tokens": 0, "active_users": 0, "top_models": [], "avg_latency_ms": 0.0}
    first = noted(app, action="admin_stats_view")[0]
    assert (first.resource_type, first.actor, first.details) == (
        "system",
        "admin",
        {"start_date": "2026-03-01T00:00:00+00:00", "end_date": "2026-03-02T00:00:00+00:00"},
    )


def test_users_and_where_they_stand(app, admin):
    ana = add_user(app, "ana", tokens_used=70)
    balances.add(engine(app), ana, 500, Actor("t"))
    balances.set_limit(engine(app), ana, 9000, Actor("t"))
    with Session(engine(app)) as session, session.begin():
        session.add_all([Dialog(user_id=ana, model_name="fast", updated_at=START) for _ in range(2)])
    expected = {
        "user_id": ana,
        "username": "ana",
        "dialog_count": 2,
        "total_tokens_used": 70,
        "balance": 500,
        "limit": 9000,
    }
    everybody = get(app, admin, "users").json
    assert everybody[-1] == expected
    assert everybody[0] | {"username": ""} == {
        "user_id": everybody[0]["user_id"],
        "username": "",
        "dialog_count": 0,
        "total_tokens_used": 0,
        "balance": None,
        "limit": None,
    }
    assert get(app, admin, "users", skip=len(everybody) - 1, limit=5).json == [expected]
    assert get(app, admin, "users", limit=1).json == everybody[:1]
    assert get(app, admin, f"users/{ana}").json == expected | {"last_activity": "2026-03-01T00:00:00+00:00"}
    add_calls(app, 1, user_id=ana, created_at=START + timedelta(days=2))
    assert get(app, admin, f"users/{ana}").json["last_activity"] == "2026-03-03T00:00:00+00:00"
    assert get(app, admin, "users/1").json["last_activity"] is None
    assert get(app, admin, "users/99999").status_code == 404
    assert get(app, admin, f"users/{10**30}").status_code == 404
    entries = noted(app, action="admin_user_view")
    assert [(entry.resource_id, entry.details) for entry in entries[:2]] == [
        (None, {"skip": 0, "limit": 20}),
        (None, {"skip": len(everybody) - 1, "limit": 5}),
    ]
    assert entries[3].resource_id == str(ana)
    assert chain.verify(engine(app)).broken is None


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("stats", {"start_date": "yesterday"}),
        ("stats", {"end_date": "1969-12-31"}),
        ("stats", {"end_date": "9999-12-31"}),
        ("stats", {"end_date": "0001-01-01T00:00:00+23:59"}),
        ("users", {"limit": "0"}),
        ("users", {"limit": "1001"}),
        ("users", {"skip": "-1"}),
        ("users", {"skip": "٣"}),
        ("audit", {"limit": "1001"}),
        ("audit", {"user_id": "ana"}),
        ("audit", {"user_id": str(2**63)}),
        ("audit", {"action": "x" * 41}),
        ("audit", {"resource_type": "\x00"}),
        ("audit", {"start_date": "2026-13-01"}),
    ],
)
def test_queries_that_cannot_be_are_refused(lite, path, query):
    headers = signed_in(lite)
    answer = get(lite, headers, path, **query)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json["details"]["param"] == next(iter(query))


def test_the_audit_log_is_narrowed_and_paged(app, admin):
    here = app.extensions["gateway"].audit
    for number in range(3):
        here.note(Actor("ana", 50 + number, "10.0.0.1", "browser"), "dialog_delete", "dialog", number, {"n": number})
    newest, *_rest = found = get(app, admin, "audit", resource_type="dialog").json
    assert [one["resource_id"] for one in found] == ["2", "1", "0"]
    assert newest.keys() == {
        *("id", "user_id", "actor", "action", "resource_type", "resource_id", "details", "ip_address", "user_agent"),
        *("created_at", "sequence", "digest"),
    }
    assert (newest["user_id"], newest["ip_address"], newest["user_agent"]) == (52, "10.0.0.1", "browser")
    assert newest["details"] == {"n": 2}
    assert newest["digest"] == chain.verify(engine(app)).end[1]
    second = get(app, admin, "audit", resource_type="dialog", skip=1, limit=1).json
    assert [one["resource_id"] for one in second] == ["1"]
    assert get(app, admin, "audit", action="dialog_delete", user_id=1).json == []
    assert {one["action"] for one in get(app, admin, "audit", action="login_success").json} == {"login_success"}
    moment = newest["created_at"]
    until = get(app, admin, "audit", resource_type="dialog", end_date=moment).json
    assert newest["id"] not in [one["id"] for one in until], "the end is not in it"
    assert newest["id"] in [one["id"] for one in get(app, admin, "audit", start_date=moment).json]
    assert get(app, admin, "audit", start_date="2100-01-01").json == []
    assert len(get(app, admin, "audit", limit=2).json) == 2


def test_models_are_read_anew(app, admin):
    other = make_second(app)
    add_model(app, add_provider(app, "http://127.0.0.1:9/v1"), "fast")
    seen = other.catalog.snapshot().version
    answer = app.test_client().post(f"{ADMIN}/models/reload", headers=admin)
    names = sorted(app.extensions["gateway"].catalog.snapshot().models)
    assert answer.json == {"status": "ok", "message": f"Reloaded {len(names)} models", "models": names}
    assert "fast" in names
    assert other.catalog.refresh().version > seen, "every worker looks at this number"
    assert [entry.resource_type for entry in noted(app, action="models_reload")] == ["system"]


def make_second(app):
    """What another worker on the same database has."""
    from services import build

    here = app.extensions["gateway"]
    second = build(here.config, here.engine)
    second.catalog.snapshot()
    return second


def test_what_people_do_is_in_the_log(app, admin):
    client, wanted = app.test_client(), {"username": "maria", "password": "senha-da-maria"}
    assert client.post("/register", json=wanted).status_code == 201
    assert client.post("/login", json=wanted | {"password": "wrong"}).status_code == 401
    assert client.post("/login", json=wanted).status_code == 200
    number = next(one["user_id"] for one in get(app, admin, "users").json if one["username"] == "maria")
    for amount in (500, -200):
        assert client.post(f"{ADMIN}/users/{number}/tokens", json={"amount": amount}, headers=admin).status_code == 200
    assert client.patch(f"{ADMIN}/users/{number}/limits", json={"limit": 9}, headers=admin).status_code == 200
    actions = {one["action"]: one for one in reversed(get(app, admin, "audit", limit=1000).json)}
    assert actions.keys() >= {
        *("login_success", "login_failed", "user_register", "token_topup", "token_deduct", "limit_set"),
        *("admin_user_view", "key_create"),
    }
    assert actions["limit_set"]["details"] == {"unit": "tokens", "period": "total", "before": None, "after": 9}
    assert (actions["token_topup"]["resource_type"], actions["token_topup"]["resource_id"]) == ("token", str(number))
    everything = repr([entry.details for entry in noted(app)])
    for secret in ("senha-da-maria", PASSWORD, TOKEN, admin["Authorization"].split()[1]):
        assert secret not in everything


def test_entries_are_written_with_the_moment_of_the_change(app):
    before = datetime.now(UTC) - timedelta(seconds=1)
    with Session(engine(app)) as session, session.begin():
        audit.note(session, Actor("ana"), "x", "user")
    assert before < noted(app)[-1].created_at < datetime.now(UTC) + timedelta(seconds=1)
