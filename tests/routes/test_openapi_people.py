"""Real answers about people, dialogs and teams against the OpenAPI document: each route once, and some refusals."""

import pytest
from sqlalchemy.orm import Session

from models import Budget, User
from tests.callers import add_user, issue
from tests.conftest import PASSWORD
from tests.helpers import AUTH
from tests.openapi import check
from tests.people import engine, token

NEW = "a password of the tests"
TEAM, CONFIG, INVITATIONS = "/api/v1/teams/{team_id}", "/api/v1/admin/config", "/api/v1/admin/invitations"
DIALOG, AGENT = "/api/v1/dialogs/{dialog_id}", "/api/v1/agents/{agent_id}"


@pytest.fixture
def ask(lite):
    """Sends a request as the admin, or with other headers, checks its answer, and gives it."""
    admin = token(lite)

    def send(method, path, status=200, headers=None, **more):
        options = {name: more.pop(name) for name in ("json", "data", "query_string") if name in more}
        options["headers"] = admin if headers is None else headers
        address = path.format(**more)
        answer = lite.test_client().open(address, method=method, **options)
        assert answer.status_code == status, (method, address, answer.text)
        check(lite, path, answer)
        return answer

    return send


def test_answers_about_users(lite, ask):
    ask("GET", "/users/me")
    ask("GET", "/users/me", headers=AUTH)
    ask("PATCH", "/users/me", json={"language": "pt-BR"})
    ask("PATCH", "/users/me", 400, json={"language": "fr"})
    ask("PATCH", "/users/me", json={"language": None})
    ask("GET", "/users/all")
    assert ask("GET", "/users/all", query_string={"limit": 1, "offset": 1}).headers["x-total-count"] == "2"
    ask("POST", "/users/create", json={"username": "maria", "password": PASSWORD})
    ask("POST", "/users/create", data={"username": "joana", "password": PASSWORD, "is_admin": "true"})
    ask("POST", "/users/create", 400, json={"username": "maria", "password": PASSWORD})
    ask("POST", "/users/create", 404, json={"username": "rita", "password": PASSWORD, "team": "none"})
    one = "/users/{username}"
    ask("GET", one, username="maria")
    ask("PATCH", one, username="maria", json={"is_active": False, "disabled_reason": "left", "allowed_models": ["a"]})
    ask("PATCH", one, 409, username="admin", json={"role": "user"})
    ask("GET", one, 404, username="nobody")
    ask("GET", one, 401, headers={}, username="maria")
    ask("GET", one, 403, headers=AUTH, username="maria")
    ask("GET", "/usage/{username}", username="admin", query_string={"start_date": "2026-01-01"})
    ask("GET", "/users/usage/{username}", username="maria")
    ask("GET", "/users/usage/{username}", 400, username="maria", query_string={"end_date": "soon"})
    ask("DELETE", one, username="maria")
    ask("POST", "/users/password", 400, json={"current_password": "wrong", "new_password": NEW})
    ask("POST", "/users/password", json={"current_password": PASSWORD, "new_password": NEW})


def test_answers_about_models(ask):
    made = {"model_name": "acme/small", "model_type": "OPENAI", "model_endpoint": "https://llm.example/v1"}
    ask("POST", "/models/create", json=made)
    ask("POST", "/models/create", 400, data=made)
    ask("GET", "/models/all", headers=AUTH)
    priced = "/api/v1/models/{name}"
    ask("GET", "/api/v1/models", headers=AUTH)
    ask("GET", priced, name="acme/small")
    ask("GET", priced, 404, name="nothing")
    ask("POST", f"{priced}/estimate", 402, name="acme/small", json={"prompt_tokens": 1})
    ask("POST", f"{priced}/estimate", name="gpt-4-turbo", json={"prompt_tokens": 1, "completion_tokens": 7})
    ask("POST", f"{priced}/estimate", 400, name="echo", json={"prompt_tokens": -1})
    ask("DELETE", "/models/{name}", name="acme/small")
    ask("DELETE", "/models/{name}", 404, name="acme/small")


def test_answers_about_dialogs(ask):
    config = {"temperature": 0.5, "agent_type": "default", "stop_sequences": ["end"]}
    made = ask("POST", "/api/v1/dialogs", 201, json={"model_name": "echo", "title": "a", "agent_config": config})
    number = made.json["id"]
    ask("POST", "/api/v1/dialogs", 404, json={"model_name": "nothing"})
    ask("POST", "/api/v1/dialogs", 400, json={"model_name": "echo", "other": 1})
    said = ask("POST", f"{DIALOG}/messages/sync", 201, dialog_id=number, json={"content": "hi"})
    assert said.json["role"] == "assistant"
    ask("POST", f"{DIALOG}/messages", dialog_id=number, json={"content": "hi again"})
    ask("POST", f"{DIALOG}/messages/sync", 404, dialog_id="none", json={"content": "hi"})
    assert len(ask("GET", f"{DIALOG}/messages", dialog_id=number).json) == 4
    ask("GET", "/api/v1/dialogs", query_string={"q": "hi", "page_size": "1"})
    ask("GET", "/api/v1/dialogs", 400, query_string={"page": "0"})
    ask("GET", DIALOG, dialog_id=number)
    ask("PATCH", DIALOG, dialog_id=number, json={"title": None})
    file = ask("GET", "/api/v1/export").json
    assert len(file["dialogs"][0]["messages"]) == 4
    ask("POST", "/api/v1/export/import", json=file)
    refused = ask("POST", "/api/v1/export/import", 400, json={"dialogs": [{"messages": 1}]})
    assert refused.json["details"]["errors"]
    ask("DELETE", DIALOG, 204, dialog_id=number)


def test_answers_about_agents(ask):
    made = ask("POST", "/api/v1/agents", 201, json={"name": "poet", "config": {"top_p": 0.5}})
    ask("POST", "/api/v1/agents", 409, json={"name": "poet"})
    ask("GET", "/api/v1/agents")
    ask("GET", AGENT, agent_id="default")
    ask("PATCH", AGENT, agent_id=made.json["id"], json={"model_name": "echo"})
    ask("DELETE", AGENT, 409, agent_id="default")
    ask("DELETE", AGENT, 204, agent_id=made.json["id"])


def test_answers_about_what_everybody_did(lite, ask):
    number = add_user(lite, "ana")
    ask("POST", "/api/v1/admin/users/{user_id}/tokens", user_id=number, json={"amount": 5})
    ask("POST", "/api/v1/admin/models/reload")
    ask("GET", "/api/v1/admin/stats", query_string={"start_date": "2026-01-01"})
    ask("GET", "/api/v1/admin/users", query_string={"limit": "5"})
    ask("GET", "/api/v1/admin/users/{user_id}", user_id=number)
    ask("GET", "/api/v1/admin/users/{user_id}", 404, user_id=9999)
    assert ask("GET", "/api/v1/admin/audit", query_string={"resource_type": "token"}).json
    ask("GET", "/api/v1/admin/audit", 400, query_string={"skip": "-1"})


def test_answers_about_invitations(ask):
    made = ask("POST", INVITATIONS, 201, json={"role": "auditor", "days": 1}).json
    ask("POST", "/register", 201, json={"username": "rui", "password": NEW, "invitation": made["code"]})
    used = ask("GET", INVITATIONS).json[0]
    assert (used["state"], used["used_by"]) == ("used", "rui")
    ask("DELETE", INVITATIONS + "/{number}", number=made["id"])
    ask("DELETE", INVITATIONS + "/{number}", 404, number=made["id"])
    ask("POST", INVITATIONS, 404, json={"team": "none"})


def test_answers_about_configuration_values(ask):
    one = CONFIG + "/{key}"
    ask("POST", CONFIG, 201, json={"key": "a", "value": "1"})
    ask("POST", CONFIG, 201, json={"key": "b", "value": "1", "is_secret": True})
    ask("POST", CONFIG, 409, json={"key": "a", "value": "1"})
    assert len(ask("GET", CONFIG).json) == 2
    ask("GET", one, key="b")
    ask("PUT", one, key="b", json={"value": "2"})
    ask("PATCH", one, key="a", json={"description": "d"})
    ask("PATCH", one, 400, key="a", json={"other": 1})
    ask("DELETE", one, 204, key="a")
    ask("GET", one, 404, key="a")


def test_answers_about_teams(lite, ask):
    number = add_user(lite, "ana", team={"allowed_models": ["echo"]})
    team = team_of(lite, number)
    with Session(engine(lite)) as session, session.begin():
        session.add(Budget(scope="team", scope_id=team, unit="tokens", period="day", limit_amount=7))
    issue(lite, number)
    ask("GET", TEAM, team_id=team)
    ask("GET", TEAM, 404, team_id=9999)
    ask("GET", f"{TEAM}/members", team_id=team)
    ask("POST", f"{TEAM}/members", 201, team_id=team, json={"username": "rui"})
    ask("POST", f"{TEAM}/members", 409, team_id=team, json={"username": "rui"})
    member = f"{TEAM}/members/{{user_id}}"
    ask("PATCH", member, team_id=team, user_id=number, json={"is_active": True})
    made = ask("POST", f"{member}/keys", 201, team_id=team, user_id=number, json={"name": "one"})
    assert len(ask("GET", f"{TEAM}/keys", team_id=team).json) == 2
    ask("DELETE", f"{TEAM}/keys/{{key_id}}", 204, team_id=team, key_id=made.json["id"], query_string={"reason": "old"})
    budget = {"unit": "usd", "limit": "2.5", "period": "month"}
    ask("PUT", f"{member}/budgets", team_id=team, user_id=number, json=budget)
    assert {row["unit"] for row in ask("GET", f"{TEAM}/budgets", team_id=team).json} == {"usd", "tokens"}
    ask("PUT", f"{member}/budgets", 204, team_id=team, user_id=number, json=budget | {"limit": None})


def team_of(app, user_id):
    """The number of a user's team."""
    with Session(engine(app)) as session:
        return session.get_one(User, user_id).team_id
