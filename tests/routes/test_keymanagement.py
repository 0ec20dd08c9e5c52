"""The key management API as its clients know it: making, finding, changing and deleting keys."""

import json
from pathlib import Path

import pytest

from tests.management import KEYS, SEARCH, SECRET, ask, audited, call, ceilings_of, change, make, refused, row_of, seen

ALL = {
    "name": "all",
    "key": SECRET,
    "tags": ["org-1", "org-2"],
    "costLimitInUsd": 0.25,
    "costLimitInUsdOverTime": "2",
    "costLimitInUsdUnit": "d",
    "rateLimitOverTime": "100",
    "rateLimitUnit": "m",
    "ttl": "2d",
    "allowedModels": ["echo", "fast"],
    "allowedPaths": [{"path": "/v1/chat/completions", "method": "post"}, {"path": "/v1/models"}],
    "allowedIps": ["10.1.2.3/8", "::1", "192.0.2.7"],
    "shouldLogRequest": True,
    "shouldLogResponse": True,
    "rotationEnabled": True,
    "timeouts": {"first_byte_s": 2.5, "total_s": 60},
    "settingId": "",
    "settingIds": [],
    "policyId": "",
    "isKeyNotHashed": False,
}


def test_a_key_of_ones_own_works_and_is_shown_once(app):
    made = make(app, name="My Secret Key", key="my-secret-key", tags=["mykey"])
    assert made["key"] == "my-secret-key"
    assert call(app, "my-secret-key").status_code == 200
    assert seen(app, made["keyId"])["key"] == "my…"
    assert "my-secret-key" not in ask(app, "GET", f"{KEYS}?tag=mykey").text
    assert row_of(app, made["keyId"]).digest == app.extensions["gateway"].keys.digest("my-secret-key")


def test_a_secret_that_was_just_refused_works_once_its_key_is_made(app):
    assert call(app, SECRET).status_code == 401
    make(app, key=SECRET)
    assert call(app, SECRET).status_code == 200


def test_a_key_without_a_secret_gets_one(app):
    answer = ask(app, "POST", KEYS, {"name": "generated"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json["key"].startswith("sk-th-")
    assert len(answer.json["key"]) == 55
    assert call(app, answer.json["key"]).status_code == 200
    assert make(app, name="two")["key"] != answer.json["key"]


def test_every_member_comes_back(app):
    made = make(app, **ALL)
    shown = seen(app, made["keyId"])
    assert shown == made | {"key": "my…"}
    assert 0 <= made.pop("updatedAt") - made.pop("createdAt") <= 1
    assert made.pop("expiresAt") == shown["createdAt"] + 2 * 86_400
    assert made.pop("keyId") == row_of(app, shown["keyId"]).uuid
    assert made == ALL | {
        "costLimitInUsdOverTime": 2,
        "rateLimitOverTime": 100,
        "allowedPaths": [{"path": "/v1/chat/completions", "method": "POST"}, {"path": "/v1/models", "method": ""}],
        "allowedIps": ["10.0.0.0/8", "::1/128", "192.0.2.7/32"],
        "revoked": False,
        "revokedReason": "",
        "lastUsedAt": None,
        "userId": "key-management",
    }


def test_the_limits_are_rows_that_everything_else_sees(app):
    made = make(app, **ALL)
    wanted = [("requests", "minute", 100), ("usd", "day", 2_000_000_000), ("usd", "total", 250_000_000)]
    assert ceilings_of(app, "key", row_of(app, made["keyId"]).id) == wanted


def test_timeouts_are_replaced_and_taken_away(lite):
    path = f"{KEYS}/{make(lite, timeouts={'silence_s': 0.1, 'total_s': None})['keyId']}"
    assert ask(lite, "GET", path).json["timeouts"] == {"silence_s": 0.1}
    assert ask(lite, "PATCH", path, {"timeouts": {"total_s": 86400}}).json["timeouts"] == {"total_s": 86400}
    assert ask(lite, "PATCH", path, {"name": "other"}).json["timeouts"] == {"total_s": 86400}
    assert ask(lite, "PATCH", path, {"timeouts": {}}).json["timeouts"] == {}


def test_a_limit_of_requests_is_enforced(app):
    made = make(app, rateLimitOverTime=2, rateLimitUnit="mo")
    assert [call(app, made["key"]).status_code for _ in range(3)] == [200, 200, 429]


def test_a_plain_key_has_no_limits(app):
    made = make(app, name="plain")
    empty = {"costLimitInUsd": 0, "costLimitInUsdOverTime": 0, "costLimitInUsdUnit": "", "rateLimitOverTime": 0}
    assert made | empty | {"rateLimitUnit": "", "ttl": "", "tags": [], "expiresAt": None} == made


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (2, "2"),
        ("2", "2"),
        (0.25, "0.25"),
        ("0.250", "0.25"),
        (0.1, "0.1"),
        ("0.000000001", "0.000000001"),
        ("123456789.123456789", "123456789.123456789"),
        (1e2, "100"),
    ],
)
def test_money_is_exact_both_ways(lite, given, shown):
    raw = json.dumps({"name": "m", "costLimitInUsd": given})
    answer = ask(lite, "POST", KEYS, data=raw)
    assert f'"costLimitInUsd":{shown},' in answer.text


def test_a_number_of_more_digits_than_a_float_has_is_kept(lite):
    answer = ask(lite, "POST", KEYS, data='{"name": "m", "costLimitInUsd": 12345678.123456789}')
    assert '"costLimitInUsd":12345678.123456789,' in answer.text


@pytest.mark.parametrize(
    ("unit", "period"), [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("mo", "month")]
)
def test_units_of_time(lite, unit, period):
    over = {"costLimitInUsdOverTime": 1, "costLimitInUsdUnit": unit, "rateLimitOverTime": 3, "rateLimitUnit": unit}
    made = make(lite, **over)
    assert made | over == made
    found = ceilings_of(lite, "key", row_of(lite, made["keyId"]).id)
    assert found == [("requests", period, 3), ("usd", period, 10**9)]


# Finding


def test_keys_are_found_by_their_tags(app):
    one, two = make(app, tags=["a", "b"]), make(app, tags=["b"])
    make(app, tags=["bb", 'b", "a'])
    make(app)
    found = {
        query: {key["keyId"] for key in ask(app, "GET", f"{KEYS}?{query}").json}
        for query in ("tag=a", "tag=b", "tag=a&tags=b", "tags=b", "tag=none", f"keyIds={two['keyId']}")
    }
    assert found == {
        "tag=a": {one["keyId"]},
        "tag=b": {one["keyId"], two["keyId"]},
        "tag=a&tags=b": {one["keyId"]},
        "tags=b": {one["keyId"], two["keyId"]},
        "tag=none": set(),
        f"keyIds={two['keyId']}": {two["keyId"]},
    }


@pytest.mark.parametrize("query", ["", "?tag=", "?tags="])
def test_a_list_needs_a_tag(lite, query):
    answer = ask(lite, "GET", KEYS + query)
    assert answer.status_code == 400
    assert answer.json == {
        "type": "/errors/missing-query-tag",
        "title": "tag is empty",
        "status": 400,
        "detail": "query param tag is missing from the request url. it is required for retrieving keys.",
        "instance": "/api/key-management/keys",
    }


def test_a_search_by_everything(app):
    one = make(app, name="Alpha 100%", tags=["a"])
    two = make(app, name="beta", tags=["a", "b"])
    dead = make(app, name="gamma", tags=["a"])
    change(app, dead["keyId"], revoked=True)

    def names(**body):
        return [key["name"] for key in ask(app, "POST", SEARCH, {"tags": ["a"], **body}).json["keys"]]

    assert names() == ["gamma", "beta", "Alpha 100%"]
    assert names(order="ASC") == ["Alpha 100%", "beta", "gamma"]
    assert names(revoked=True) == ["gamma"]
    assert names(revoked=False, order="asc") == ["Alpha 100%", "beta"]
    assert names(name="ALPHA") == ["Alpha 100%"]
    assert names(name="0%") == ["Alpha 100%"]
    assert names(name="%") == ["Alpha 100%"]
    assert names(keyIds=[one["keyId"].upper(), two["keyId"]]) == ["beta", "Alpha 100%"]
    assert names(tags=["a", "b"]) == ["beta"]
    assert names(userId="key-management", limit=1, offset=1) == ["beta"]
    assert names(userId="nobody") == []


def test_a_search_counts_when_asked(app):
    for _ in range(3):
        make(app, tags=["a"])
    found = ask(app, "POST", SEARCH, {"tags": ["a"], "limit": 2, "returnCount": True}).json
    assert (len(found["keys"]), found["count"], found.keys()) == (2, 3, {"keys", "count"})
    assert ask(app, "POST", SEARCH, {"tags": ["a"]}).json["count"] == 0
    assert len(ask(app, "POST", SEARCH).json["keys"]) > 3  # also those of the panel and the settings


def test_keys_made_elsewhere_are_found_too(app):
    found = ask(app, "POST", SEARCH, {"userId": "api-tokens"}).json["keys"]
    assert [(key["userId"], key["key"]) for key in found] == [("api-tokens", "te…")]


# Changing


def test_a_change_leaves_the_rest(app):
    made = make(app, **ALL)
    changed = change(app, made["keyId"], name="new", tags=["t"])
    assert changed == seen(app, made["keyId"])
    assert changed == made | {"name": "new", "tags": ["t"], "key": "my…", "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] >= made["updatedAt"]


def test_what_was_read_can_be_sent_back(app):
    made = make(app, **ALL)
    before = seen(app, made["keyId"])
    entries = len(audited(app))
    after = change(app, made["keyId"], **before)
    assert after == before | {"updatedAt": after["updatedAt"]}
    assert len(audited(app)) == entries, "nothing changed, so there is nothing to tell"


def test_limits_are_changed_replaced_and_removed(app):
    made = make(app, **ALL)
    number = row_of(app, made["keyId"]).id
    change(app, made["keyId"], costLimitInUsd=1, costLimitInUsdOverTime=3, costLimitInUsdUnit="h")
    change(app, made["keyId"], rateLimitOverTime=7, rateLimitUnit="d")
    assert ceilings_of(app, "key", number) == [
        ("requests", "day", 7),
        ("usd", "hour", 3 * 10**9),
        ("usd", "total", 10**9),
    ]
    change(app, made["keyId"], costLimitInUsd=0, costLimitInUsdOverTime=0, costLimitInUsdUnit="", rateLimitOverTime="0")
    assert ceilings_of(app, "key", number) == []


def test_of_several_limits_the_shortest_is_shown_and_replaced(app, gateway):
    from services import budgets
    from services.audit import Actor

    made = make(app)
    number = row_of(app, made["keyId"]).id
    for unit, period in (("usd", "month"), ("usd", "day"), ("usd", "week"), ("tokens", "hour")):
        budgets.put(gateway.engine, Actor("t"), scope="key", owner=str(number), unit=unit, limit="5", period=period)
    assert seen(app, made["keyId"])["costLimitInUsdUnit"] == "d"
    shown = change(app, made["keyId"], costLimitInUsdOverTime=9, costLimitInUsdUnit="mo")
    assert (shown["costLimitInUsdOverTime"], shown["costLimitInUsdUnit"]) == (9, "mo")
    assert ceilings_of(app, "key", number) == [
        ("tokens", "hour", 5),
        ("usd", "month", 9 * 10**9),
        ("usd", "week", 5 * 10**9),
    ]


def test_empty_lists_allow_everything_again(app):
    made = make(
        app, key=SECRET, allowedModels=["fast"], allowedPaths=[{"path": "/v1/x"}], allowedIps=["::1"], tags=["t"]
    )
    assert call(app, SECRET).status_code >= 400
    shown = change(app, made["keyId"], allowedModels=[], allowedPaths=[], allowedIps=[], tags=[])
    assert [shown[name] for name in ("allowedModels", "allowedPaths", "allowedIps", "tags")] == [[], [], [], []]
    assert call(app, SECRET).status_code == 200


def test_a_key_of_the_settings_is_not_changed_here(app):
    key = ask(app, "POST", SEARCH, {"userId": "api-tokens"}).json["keys"][0]["keyId"]
    for method, path in (("PATCH", key), ("DELETE", key), ("POST", f"{key}/rotate")):
        assert "API_AUTH_TOKENS" in refused(ask(app, method, f"{KEYS}/{path}", {}), 409, "/errors/conflict")


def test_deleting(app):
    made = make(app, **ALL)
    number = row_of(app, made["keyId"]).id
    answer = ask(app, "DELETE", f"{KEYS}/{made['keyId']}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert call(app, SECRET).status_code == 401
    assert ceilings_of(app, "key", number) == []
    refused(ask(app, "DELETE", f"{KEYS}/{made['keyId']}"), 404, "/errors/key-not-found")
    assert make(app, key=SECRET)["keyId"] != made["keyId"], "the secret may be used again"


# Whose


def test_the_owner_of_keys_for_nobody_is_made_once_and_cannot_sign_in(app):
    make(app)
    make(app)
    found = ask(app, "GET", "/api/users?userIds=key-management").json
    assert [len(user["keyIds"]) for user in found] == [2]
    assert [entry.actor for entry in audited(app, "user") if entry.action == "user_create"][-1] == "this machine"
    answer = ask(app, "POST", "/register", {"username": "key-management", "password": "correct horse"})
    assert answer.status_code == 400, "nobody can take its name"


def test_a_key_for_a_user_by_name_or_number(app):
    user = ask(app, "PUT", "/api/users", {"name": "Ana", "userId": "ana"}).json
    for given in ("ana", user["id"], int(user["id"])):
        assert make(app, userId=given)["userId"] == "ana"
    answer = ask(app, "POST", KEYS, {"name": "x", "userId": "nobody"})
    assert refused(answer, 400, "/errors/validation") == "fields [userId] are invalid"
    assert answer.json["errors"] == {"userId": "`nobody` does not exist"}


def test_a_name_of_digits_goes_before_a_number(app):
    first = ask(app, "PUT", "/api/users", {"name": "first"}).json
    ask(app, "PUT", "/api/users", {"name": "second", "userId": first["id"]})
    assert make(app, userId=first["id"])["userId"] == first["id"]


def test_a_key_can_be_given_to_another_user(app):
    ask(app, "PUT", "/api/users", {"name": "Ana", "userId": "ana"})
    made = make(app)
    assert change(app, made["keyId"], userId="ana")["userId"] == "ana"
    assert call(app, made["key"]).status_code == 200


def test_the_key_of_a_sign_in_stays_with_its_user(app):
    ask(app, "POST", "/register", {"username": "bob", "password": "correct horse"})
    key = ask(app, "POST", SEARCH, {"userId": "bob"}).json["keys"][0]["keyId"]
    refused(ask(app, "PATCH", f"{KEYS}/{key}", {"userId": "api-tokens"}), 409, "/errors/conflict")
    assert change(app, key, userId="bob", name="mine")["name"] == "mine"


# The audit log


def test_every_change_is_in_the_audit_log_without_secrets(app):
    made = make(app, key=SECRET, costLimitInUsd=1)
    change(app, made["keyId"], name="new", rateLimitOverTime=5, rateLimitUnit="m")
    change(app, made["keyId"], revoked=True, revokedReason="leaked")
    change(app, made["keyId"], revoked=False)
    rotated = ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate", {"grace": "1h"}).json["key"]
    ask(app, "DELETE", f"{KEYS}/{made['keyId']}")
    entries = audited(app)[-8:]
    assert [entry.action for entry in entries] == [
        "limit_set",
        "key_create",
        "rate_limit_set",
        "key_update",
        "key_revoke",
        "key_update",
        "key_rotate",
        "key_delete",
    ]
    assert entries[3].details == {"before": {"name": "one"}, "after": {"name": "new"}}
    assert entries[2].details == {"unit": "requests", "period": "minute", "before": None, "after": 5}
    assert entries[4].details["after"]["revoked_reason"] == "leaked"
    assert entries[7].details["before"]["hint"].startswith("sk-th-")
    told = json.dumps([entry.details for entry in audited(app)])
    assert SECRET not in told
    assert rotated not in told
    assert {(entry.actor, entry.ip_address) for entry in entries} == {("this machine", "127.0.0.1")}


def test_the_page_about_the_api_names_every_member():
    page = (Path(__file__).resolve().parents[2] / "docs/key-management.md").read_text(encoding="utf-8")
    missing = [name for name in (*ALL, "expiresAt", "lastUsedAt", "keyId", "userId") if f"`{name}`" not in page]
    assert missing == []
