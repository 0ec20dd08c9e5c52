"""`/api/v1/teams`: a team's admin manages members, keys and budgets of that team, and reaches nobody else."""

import pytest
from sqlalchemy.orm import Session

from models import ApiKey, Budget, User
from tests.admin.conftest import CHEAP_HASH, add_budget, add_key, add_team, add_user
from tests.audit.conftest import engine, noted, signed_in
from tests.callers import bearer, find
from tests.helpers import chat


@pytest.fixture
def crew(app):
    """A team with its admin, a member and an auditor; another team with a member: numbers by name."""
    roles = {"boss": "team_admin", "ana": "user", "eve": "auditor", "bo": "user"}
    numbers = {name: add_user(app, name, role=role, password_hash=CHEAP_HASH) for name, role in roles.items()}
    numbers["crew"] = add_team(app, "crew", (numbers["boss"], numbers["ana"], numbers["eve"]), allowed_models=["echo"])
    numbers["others"] = add_team(app, "others", (numbers["bo"],))
    return numbers


@pytest.fixture
def boss(app, crew):
    headers = signed_in(app, "boss")

    def ask(method, path="", team="crew", **body):
        path = f"/api/v1/teams/{crew.get(team, team)}{path}"
        return app.test_client().open(path, method=method, headers=headers, json=body or None)

    return ask


def test_the_team_and_its_members(app, crew, boss):
    assert boss("GET").json == {"id": crew["crew"], "name": "crew", "allowed_models": ["echo"], "member_count": 3}
    found = boss("GET", "/members").json
    assert [(one["username"], one["role"]) for one in found] == [
        ("ana", "user"),
        ("boss", "team_admin"),
        ("eve", "auditor"),
    ]
    assert [one["username"] for one in boss("GET", "/members?skip=1&limit=1").json] == ["boss"]
    made = boss("POST", "/members", username="robot")
    assert (made.status_code, made.json["role"], made.json["is_active"]) == (201, "user", True)
    row = find(app, User, made.json["user_id"])
    assert (row.team_id, row.password_hash, row.role) == (crew["crew"], None, "user")
    assert boss("GET", "/members").json[-1] == made.json
    assert boss("POST", "/members", username="robot").status_code == 409
    for body in ({}, {"username": "a b"}, {"username": "me"}, {"username": 1}, {"username": "x", "role": "admin"}):
        assert boss("POST", "/members", **(body or {"name": "x"})).status_code == 400, body
    (entry,) = noted(app, action="user_create", resource_id=str(row.id))
    assert (entry.actor, entry.details["after"]["team_id"]) == ("boss", crew["crew"])


def test_a_member_is_disabled_and_let_in_again(app, crew, boss):
    path = f"/members/{crew['ana']}"
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        key = here.keys.issue(session, crew["ana"], "k").secret
    call = app.test_client().get("/v1/models", headers=bearer(key))
    assert call.status_code == 200
    off = boss("PATCH", path, is_active=False, disabled_reason="on leave")
    assert (off.status_code, off.json["is_active"], off.json["disabled_reason"]) == (200, False, "on leave")
    assert app.test_client().get("/v1/models", headers=bearer(key)).status_code == 401
    on = boss("PATCH", path, is_active=True)
    assert (on.json["is_active"], on.json["disabled_reason"]) == (True, None)
    assert app.test_client().get("/v1/models", headers=bearer(key)).status_code == 200
    assert [entry.details["after"] for entry in noted(app, action="user_update")] == [
        {"is_active": False, "disabled_reason": "on leave"},
        {"is_active": True, "disabled_reason": None},
    ]
    for body in ({"is_active": "no"}, {"role": "admin"}, {"team_id": 1}, {"disabled_reason": "x" * 256}):
        assert boss("PATCH", path, **body).status_code == 400, body
    for name in ("boss", "eve"):
        assert boss("PATCH", f"/members/{crew[name]}", is_active=False).status_code == 403, name


def test_keys_are_made_shown_once_and_revoked(app, crew, boss):
    made = boss("POST", f"/members/{crew['ana']}/keys", name="laptop")
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    secret = made.json["api_key"]
    answer = app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=bearer(secret))
    assert answer.status_code == 200
    listed = boss("GET", "/keys").json
    assert [(one["name"], one["username"]) for one in listed] == [("laptop", "ana"), ("default", "boss")]
    assert boss("GET", "/keys?limit=1").json == listed[:1]
    assert secret not in repr(listed)
    assert listed[0].items() <= made.json.items()
    assert boss("POST", f"/members/{crew['boss']}/keys", name="mine").status_code == 201
    assert boss("DELETE", f"/keys/{made.json['id']}?reason=lost").status_code == 204
    assert boss("DELETE", f"/keys/{made.json['id']}").status_code == 404
    assert app.test_client().get("/v1/models", headers=bearer(secret)).status_code == 401
    assert find(app, ApiKey, made.json["id"]).revoked_reason == "lost"
    assert [entry.actor for entry in noted(app, resource_type="key")][-3:] == ["boss"] * 3
    assert secret not in repr([entry.details for entry in noted(app)])
    assert boss("POST", f"/members/{crew['eve']}/keys", name="x").status_code == 403
    for body in ({"name": ""}, {"name": "a\nb"}, {"name": 1}, {"name": "x" * 256}, {"name": "x", "user_id": 1}):
        assert boss("POST", f"/members/{crew['ana']}/keys", **body).status_code == 400, body


def test_budgets_of_members_are_set_and_those_of_the_team_are_seen(app, crew, boss):
    add_budget(app, "team", crew["crew"], 5_000_000_000)
    add_budget(app, "user", crew["bo"], 1)
    path = f"/members/{crew['ana']}/budgets"
    made = boss("PUT", path, unit="usd", period="month", limit="2.5")
    assert (made.status_code, made.json["limit"], made.json["spent"]) == (200, 2.5, 0)
    assert boss("PUT", path, unit="usd", period="month", limit=3).json["limit"] == 3
    assert boss("PUT", path, unit="tokens", limit=1000).json["period"] == "total"
    found = [(one["scope"], one["owner"], one["unit"], one["limit"]) for one in boss("GET", "/budgets").json]
    assert found == [("team", "crew", "usd", 5), ("user", "ana", "usd", 3), ("user", "ana", "tokens", 1000)]
    assert boss("PUT", path, unit="tokens", limit=None).status_code == 204
    assert boss("PUT", path, unit="tokens", limit=None).status_code == 404
    assert [entry.details["after"] for entry in noted(app, action="limit_set", resource_id=str(crew["ana"]))] == [
        *(2_500_000_000, 3_000_000_000, 1000, None)
    ]
    for name in ("boss", "eve"):
        answer = boss("PUT", f"/members/{crew[name]}/budgets", unit="usd", limit=1)
        assert answer.status_code == 403, name
    for body in (
        *({"unit": "eur", "limit": 1}, {"unit": "usd"}, {"unit": "usd", "limit": -1}, {"unit": "usd", "limit": True}),
        *({"unit": "usd", "limit": "x"}, {"unit": "usd", "limit": 1, "period": "year"}, {"unit": ["usd"], "limit": 1}),
        {"unit": "usd", "limit": 1, "scope_id": 1},
    ):
        assert boss("PUT", path, **body).status_code == 400, body


def test_nobody_outside_the_team_is_reached(app, crew, boss):
    key = add_key(app, crew["bo"])
    asked = [
        boss("GET", team="others"),
        boss("GET", "/members", team="others"),
        boss("GET", "/keys", team="others"),
        boss("GET", "/budgets", team="others"),
        boss("POST", "/members", team="others", username="spy"),
        boss("GET", team=10**30),
        boss("GET", team=999),
        boss("PATCH", f"/members/{crew['bo']}", is_active=False),
        boss("PATCH", f"/members/{10**30}", is_active=False),
        boss("POST", f"/members/{crew['bo']}/keys", name="x"),
        boss("PUT", f"/members/{crew['bo']}/budgets", unit="usd", limit=1),
        boss("DELETE", f"/keys/{key}"),
        boss("DELETE", f"/keys/{key}", team="others"),
        boss("DELETE", f"/keys/{10**30}"),
    ]
    assert [answer.status_code for answer in asked] == [404] * len(asked)
    assert {answer.json["message"] for answer in asked} == {
        *("There is no such team.", "There is no such member.", "There is no such key.")
    }
    assert asked[0].json["message"] == asked[6].json["message"]
    assert find(app, User, crew["bo"]).is_active
    assert find(app, ApiKey, key).revoked_at is None
    with Session(engine(app)) as session:
        assert session.query(Budget).count() == 0


def test_an_admin_may_do_all_of_it_with_every_team(app, crew):
    client, headers = app.test_client(), signed_in(app)
    path = f"/api/v1/teams/{crew['others']}"
    assert client.get(f"{path}/members", headers=headers).json[0]["username"] == "bo"
    answer = client.patch(f"{path}/members/{crew['bo']}", json={"is_active": False}, headers=headers)
    assert answer.status_code == 200
    path = f"/api/v1/teams/{crew['crew']}/members/{crew['eve']}"
    answer = client.patch(path, json={"is_active": False}, headers=headers)
    assert (answer.status_code, answer.json["is_active"]) == (200, False)
