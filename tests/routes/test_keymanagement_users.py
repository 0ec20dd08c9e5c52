"""Users as the key management API has them, on top of the gateway's own."""

import json

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey, Budget, User, WebSession
from tests.management import KEYS, USERS, ask, audited, call, ceilings_of, change, make, refused
from tests.races.conftest import crowd

ALL = {
    "name": "Ana Sousa",
    "userId": "ana@example.org",
    "tags": ["org-1", "vip"],
    "costLimitInUsd": 0.5,
    "costLimitInUsdOverTime": "2",
    "costLimitInUsdUnit": "mo",
    "rateLimitOverTime": "3",
    "rateLimitUnit": "d",
    "ttl": "30d",
    "allowedModels": ["echo"],
    "allowedPaths": [{"path": "/v1/chat/completions", "method": "POST"}],
}


def put(app, **members):
    answer = ask(app, "PUT", USERS, {"name": "one", **members})
    assert answer.status_code == 200, answer.text
    return dict(answer.json)


def patch(app, number, **members):
    answer = ask(app, "PATCH", f"{USERS}/{number}", members)
    assert answer.status_code == 200, answer.text
    return dict(answer.json)


def user_ids(app, query=""):
    return [user["userId"] for user in ask(app, "GET", f"{USERS}?{query}").json]


def admin_id(app):
    return ask(app, "GET", f"{USERS}?userIds=admin").json[0]["id"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_every_member_comes_back(app, method):
    made = ask(app, method, USERS, ALL).json
    assert made == ask(app, "GET", f"{USERS}/{made['id']}").json
    assert 0 <= made.pop("updatedAt") - made.pop("createdAt") <= 1
    assert made.pop("expiresAt") > 0
    number = int(made.pop("id"))
    more = {"keyIds": [], "revoked": False, "revokedReason": ""}
    assert made == ALL | more | {"costLimitInUsdOverTime": 2, "rateLimitOverTime": 3}
    wanted = [("requests", "day", 3), ("usd", "month", 2 * 10**9), ("usd", "total", 5 * 10**8)]
    assert ceilings_of(app, "user", number) == wanted


def test_a_user_without_an_id_gets_one(app):
    one, two = put(app), put(app)
    assert (one["name"], len(one["userId"])) == ("one", 36)
    assert one["userId"] != two["userId"]


def test_nobody_can_sign_in_as_such_a_user(app):
    put(app, userId="ana")
    for password in ("", "correct horse", None):
        answer = ask(app, "POST", "/login", {"username": "ana", "password": password})
        assert answer.status_code in (400, 401)


def test_limits_hold_for_all_keys_of_a_user_together(app):
    put(app, **ALL)
    keys = [make(app, userId=ALL["userId"])["key"] for _ in range(2)]
    assert [call(app, keys[turn % 2]).status_code for turn in range(4)] == [200, 200, 200, 429]
    assert call(app, keys[0], "echo-no-usage").status_code == 403, "the user may not use that model"


def test_finding(app):
    ana, bob = put(app, userId="ana", tags=["a", "b"]), put(app, userId="bob", tags=["b"])
    key = make(app, userId="bob")
    assert user_ids(app, "tags=b") == ["bob", "ana"]
    assert user_ids(app, "tag=a&tags=b") == ["ana"]
    assert user_ids(app, "userIds=ana&userIds=bob") == ["bob", "ana"]
    assert user_ids(app, "userIds=ana&tags=none") == []
    assert user_ids(app, f"keyIds={key['keyId']}") == ["bob"]
    answer = ask(app, "GET", f"{USERS}?tags=b&limit=1&offset=1")
    assert ([user["id"] for user in answer.json], answer.headers["x-total-count"]) == ([ana["id"]], "2")
    assert {"admin", "api-tokens", "ana", "bob"} <= set(user_ids(app)), "those of the panel as well"
    assert ask(app, "GET", f"{USERS}/{bob['id']}").json["keyIds"] == [key["keyId"]]


def test_changing_by_id_and_by_name(app):
    made = put(app, **ALL)
    changed = patch(app, made["id"], name="Ana S.", allowedModels=[], costLimitInUsd=0, tags=["new"])
    new = {"name": "Ana S.", "allowedModels": [], "costLimitInUsd": 0, "tags": ["new"]}
    assert changed == made | new | {"updatedAt": changed["updatedAt"]}
    answer = ask(app, "PATCH", f"{USERS}?userId=ana@example.org&tags=new", {"rateLimitOverTime": 0})
    assert (answer.status_code, answer.json["rateLimitUnit"]) == (200, "")
    answer = ask(app, "PATCH", f"{USERS}?userId=ana@example.org&tags=vip", {})
    refused(answer, 404, "/errors/user-not-found")
    refused(ask(app, "PATCH", USERS, {}), 400, "/errors/missing-user-id")
    refused(ask(app, "PATCH", f"{USERS}?userId=nobody", {}), 404, "/errors/user-not-found")


def test_what_was_read_can_be_sent_back(app):
    made = put(app, **ALL)
    make(app, userId=ALL["userId"])
    before = ask(app, "GET", f"{USERS}/{made['id']}").json
    entries = len(audited(app, "user"))
    after = patch(app, made["id"], **before)
    assert after == before | {"updatedAt": after["updatedAt"]}
    assert len(audited(app, "user")) == entries


def test_a_revoked_user_and_its_keys(app):
    made = put(app, userId="ana")
    key = make(app, userId="ana")["key"]
    assert call(app, key).status_code == 200
    shown = patch(app, made["id"], revoked=True, revokedReason="left the company")
    assert (shown["revoked"], shown["revokedReason"]) == (True, "left the company")
    answer = call(app, key)
    assert answer.status_code == 401
    assert "left the company" in answer.json["error"]["message"]
    shown = patch(app, made["id"], revoked=False)
    assert (shown["revoked"], shown["revokedReason"]) == (False, "")
    assert call(app, key).status_code == 200


def test_an_expired_user_and_its_keys(app):
    made = put(app, userId="ana", ttl="1ms")
    key = make(app, userId="ana")["key"]
    shown = ask(app, "GET", f"{USERS}/{made['id']}").json
    assert (shown["revoked"], shown["revokedReason"]) == (True, "The user has expired")
    assert call(app, key).status_code == 401
    assert patch(app, made["id"], ttl="1h")["revoked"] is False
    assert call(app, key).status_code == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "userId": "two words"}, "userId"),
        ({"name": "x", "userId": "a/b"}, "userId"),
        ({"name": "x", "userId": "x" * 151}, "userId"),
        ({"name": "x", "userId": "me"}, "userId"),
        ({"name": "x", "userId": "key-management"}, "userId"),
        ({"name": "x", "userId": 5}, "userId"),
        ({"name": "x", "keyIds": ["k"]}, "keyIds"),
        ({"name": "x", "tags": [""]}, "tags"),
        ({"name": "x", "allowedModels": [""]}, "allowedModels"),
        ({"name": "x", "allowedPaths": [{"path": ""}]}, "allowedPaths.0.path"),
        ({"name": "x", "costLimitInUsd": -1}, "costLimitInUsd"),
        ({"name": "x", "ttl": "2w"}, "ttl"),
        ({"name": "x", "expiresAt": 1}, "expiresAt"),
    ],
)
def test_bad_users(lite, body, named):
    answer = ask(lite, "PUT", USERS, body)
    assert refused(answer, 400, "/errors/validation") == f"fields [{named}] are invalid"
    assert answer.json["title"] == "create user validation failed"


def test_what_is_not_changed_here_is_refused(app):
    made, key = put(app, userId="ana"), make(app)
    for name, value in (("userId", "bob"), ("keyIds", [key["keyId"]])):
        answer = ask(app, "PATCH", f"{USERS}/{made['id']}", {name: value})
        assert refused(answer, 400, "/errors/validation") == f"fields [{name}] are invalid"
        assert answer.json["title"] == "update user validation failed"


def test_a_name_is_given_once_also_under_a_race(app):
    put(app, userId="ana")
    refused(ask(app, "PUT", USERS, {"name": "x", "userId": "ana"}), 409, "/errors/duplicate-user")
    answers = crowd(6, range(6), lambda _: ask(app, "PUT", USERS, {"name": "x", "userId": "bob", "tags": ["t"]}))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    assert user_ids(app, "tags=t") == ["bob"]


def test_unknown_users(app):
    for number in ("0", "999999", "-1", "x", "%00", "9" * 30, "1.0", "%D9%A1"):
        for method in ("GET", "PATCH", "DELETE"):
            refused(ask(app, method, f"{USERS}/{number}", {}), 404, "/errors/user-not-found")
    for given in ("abc", "0", "9" * 30):
        said = refused(ask(app, "GET", f"{USERS}/{given}"), 404, "/errors/user-not-found")
        assert said == f"There is no user `{given}`."


def test_an_admin_is_not_locked_out_here(app):
    number = admin_id(app)
    for body in ({"revoked": True}, {"ttl": "1ms"}, {"expiresAt": 1}):
        refused(ask(app, "PATCH", f"{USERS}/{number}", body), 409, "/errors/conflict")
    refused(ask(app, "DELETE", f"{USERS}/{number}"), 409, "/errors/conflict")
    assert patch(app, number, costLimitInUsd=5, revoked=False)["costLimitInUsd"] == 5


def test_accounts_of_the_gateway_are_not_deleted_here(app):
    make(app)
    for name in ("api-tokens", "key-management"):
        number = ask(app, "GET", f"{USERS}?userIds={name}").json[0]["id"]
        refused(ask(app, "DELETE", f"{USERS}/{number}"), 409, "/errors/conflict")


def test_a_deleted_user_takes_keys_limits_and_sessions_along(app, gateway):
    made = put(app, **ALL)
    kept = make(app)
    key = make(app, userId=ALL["userId"], costLimitInUsd=1, rateLimitOverTime=1, rateLimitUnit="s")
    gateway.accounts.begin_session(int(made["id"]), "127.0.0.1", "tests")
    ask(app, "POST", f"{KEYS}/{key['keyId']}/rotate", {"grace": "1h"})
    answer = ask(app, "DELETE", f"{USERS}/{made['id']}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert call(app, key["key"]).status_code == 401
    assert call(app, kept["key"]).status_code == 200
    with Session(gateway.engine) as session:
        assert session.get(User, int(made["id"])) is None
        assert session.scalars(select(ApiKey).where(ApiKey.uuid == key["keyId"])).all() == []
        assert session.scalars(select(WebSession)).all() == []
        assert session.scalars(select(Budget)).all() == []
    assert put(app, **ALL)["id"] != made["id"], "a number is never given twice"


def test_every_change_is_in_the_audit_log(app):
    made = put(app, **ALL)
    patch(app, made["id"], name="new")
    ask(app, "DELETE", f"{USERS}/{made['id']}")
    entries = audited(app, "user")[-6:]
    assert [entry.action for entry in entries] == [
        *["limit_set", "limit_set", "rate_limit_set"],
        *["user_create", "user_update", "user_delete"],
    ]
    assert entries[4].details == {"before": {"name": "Ana Sousa"}, "after": {"name": "new"}}
    assert json.dumps(entries[5].details["before"]["allowed_models"]) == '["echo"]'


def test_the_panel_deletes_a_user_with_its_limits_too(lite):
    from tests.admin.conftest import Browser

    made = put(lite, **ALL)
    key = make(lite, userId=ALL["userId"], rateLimitOverTime=5, rateLimitUnit="d")
    browser = Browser(lite, "admin")
    assert browser.post(f"/admin/users/delete/?id={made['id']}").status_code == 303
    assert ceilings_of(lite, "user", int(made["id"])) == []
    refused(ask(lite, "GET", f"{KEYS}/{key['keyId']}"), 404, "/errors/key-not-found")


def test_keys_for_nobody_do_not_go_to_a_person_of_that_name(lite):
    with Session(lite.extensions["gateway"].engine) as session, session.begin():
        session.add(User(username="key-management", password_hash="x"))
    answer = ask(lite, "POST", KEYS, {"name": "x"})
    assert refused(answer, 400, "/errors/validation") == "fields [userId] are invalid"
    assert change(lite, make(lite, userId="admin")["keyId"], name="y")["userId"] == "admin"
