"""`/users` and `/usage`: oneself, one's usage and password, and what admins do with users."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Team, UsageRecord, User, WebSession
from tests.callers import bearer, change, issue
from tests.conftest import PASSWORD
from tests.helpers import AUTH, chat
from tests.people import FORBIDDEN, LOGIN, ask, engine, number_of, said, token

UNSIGNED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."


@pytest.fixture
def admin(app):
    return token(app)


@pytest.fixture
def maria(app, admin):
    """Somebody an admin made: the headers with her token."""
    assert ask(app, "POST", "/users/create", admin, json=LOGIN).status_code == 200
    return token(app, **LOGIN)


def test_a_list_of_users_comes_in_parts(app, admin):
    for name in ("bia", "ana", "caio"):
        ask(app, "POST", "/users/create", admin, json={"username": name, "password": "uma senha boa"})
    whole = ask(app, "GET", "/users/all", admin)
    assert whole.headers["x-total-count"] == str(len(whole.json))
    part = ask(app, "GET", "/users/all?offset=1&limit=2", admin)
    assert (part.json, part.headers["x-total-count"]) == (whole.json[1:3], str(len(whole.json)))
    assert ask(app, "GET", "/users/all?offset=2", admin).json == whole.json[2:]
    assert ask(app, "GET", "/users/all?offset=1000", admin).json == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "offset=-1", "offset=1.5"])
def test_a_part_of_the_users_must_be_one(lite, query):
    assert ask(lite, "GET", f"/users/all?{query}", token(lite)).status_code == 400


def test_who_one_is_with_a_hint_of_the_key(app, maria, admin):
    found = ask(app, "GET", "/users/me", maria)
    assert found.status_code == 200
    assert found.json.keys() == {"username", "api_key", "is_admin", "language"}
    assert (found.json["username"], found.json["is_admin"]) == ("maria", False)
    key = app.test_client().post("/login", json=LOGIN).json["api_key"]
    assert found.json["api_key"] == f"{key[:10]}…{key[-4:]}"
    assert ask(app, "GET", "/users/me", bearer(key)).json == found.json, "a key does too"
    assert ask(app, "GET", "/users/me", admin).json["is_admin"] is True
    assert ask(app, "GET", "/users/me", AUTH).json["username"] == "api-tokens"


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        pytest.param({}, "Not authenticated", id="none"),
        pytest.param(
            bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."), "Could not validate credentials", id="alg none"
        ),
        pytest.param(bearer("nonsense"), "Could not validate credentials", id="no token"),
        pytest.param({"Authorization": "Basic YTpi"}, "Could not validate credentials", id="another scheme"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/users/me", "/usage/admin", "/users/usage/admin", "/users/all", "/users/admin")),
        *(("POST", path) for path in ("/users/password", "/users/create", "/models/create")),
        *(("DELETE", "/users/admin"), ("PATCH", "/users/admin"), ("GET", "/models/all"), ("DELETE", "/models/echo")),
    ],
)
def test_strangers_get_the_words_that_clients_know(lite, method, path, headers, detail):
    answer = ask(lite, method, path, headers)
    assert said(answer) == (401, detail)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json.keys() == {"detail", "error", "code", "request_id"}
    assert answer.json["request_id"] == answer.headers["x-request-id"]


def test_only_an_admin_who_signed_in_manages(app, admin, maria):
    own = ask(app, "POST", "/login", json={"username": "admin", "password": PASSWORD}).json["api_key"]
    for headers, why in (
        (maria, "Only admins may do this."),
        (AUTH, "Only admins may do this."),
        (bearer(own), "An API key may not do this: send the token that /login gives an admin."),
    ):
        for method, path in (
            ("POST", "/users/create"),
            ("GET", "/users/all"),
            ("GET", "/users/admin"),
            ("GET", "/users/nobody"),
            ("PATCH", "/users/maria"),
            ("DELETE", "/users/maria"),
            ("DELETE", "/users/nobody"),
            ("POST", "/models/create"),
            ("DELETE", "/models/echo"),
        ):
            answer = ask(app, method, path, headers, json={"username": "x", "password": "long enough", "role": "admin"})
            assert said(answer) == (403, FORBIDDEN)
            assert answer.json["error"] == why
            assert answer.json["code"] == "permission_denied"
    with Session(engine(app)) as session:
        assert {row.username for row in session.query(User)} == {"admin", "api-tokens", "maria"}


def test_an_admin_makes_users(app, admin):
    made = ask(app, "POST", "/users/create", admin, json=LOGIN)
    assert (made.status_code, made.json) == (200, {"message": "User maria created successfully"})
    again = ask(app, "POST", "/users/create", admin, json=LOGIN)
    assert said(again) == (400, "User already exists.")
    assert again.json["code"] == "user_exists"
    form = LOGIN | {"username": "chief", "is_admin": "true"}
    assert ask(app, "POST", "/users/create", admin, data=form).status_code == 200, "a form will do"
    assert ask(app, "GET", "/users/all", token(app, "chief", form["password"])).status_code == 200
    with Session(engine(app)) as session:
        noted = session.query(AuditEntry).filter_by(action="user_create", resource_id=str(number_of(app))).one()
        assert (noted.actor, noted.details["after"]["role"]) == ("admin", "user")
        assert LOGIN["password"] not in str(noted.details)


def test_a_user_is_made_with_role_team_and_models(app, admin):
    with Session(engine(app)) as session, session.begin():
        session.add(Team(name="crew"))
    body = LOGIN | {"role": "auditor", "team": "crew", "allowed_models": ["echo"]}
    assert ask(app, "POST", "/users/create", admin, json=body).status_code == 200
    seen = ask(app, "GET", "/users/maria", admin).json
    assert (seen["role"], seen["team"], seen["allowed_models"], seen["is_active"]) == (
        "auditor",
        "crew",
        ["echo"],
        True,
    )
    maria = token(app, **LOGIN)
    assert ask(app, "POST", "/v1/chat/completions", maria, json=chat(model="echo")).status_code == 200
    refused = ask(app, "POST", "/v1/chat/completions", maria, json=chat(model="echo-slow"))
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "username"),
        ({"username": "ana"}, "A password needs 8 to 1024 characters."),
        ({"username": "ana", "password": "short"}, "A password needs 8 to 1024 characters."),
        ({"username": "ana", "password": 12345678}, "A password needs 8 to 1024 characters."),
        ({"username": 7, "password": "long enough"}, "must be a text"),
        ({"username": "a b", "password": "long enough"}, "A user name has"),
        ({"username": "a\u202eb", "password": "long enough"}, "printable"),
        ({"username": "x" * 151, "password": "long enough"}, "A user name has"),
        ({"username": "ana", "password": "long enough", "is_admin": "perhaps"}, "must be true or false"),
        ({"username": "ana", "password": "long enough", "is_admin": 1}, "must be true or false"),
        ({"username": "ana", "password": "long enough", "role": "owner"}, "must be one of"),
        ({"username": "ana", "password": "long enough", "role": ["admin"]}, "must be one of"),
        ({"username": "ana", "password": "long enough", "role": "user", "is_admin": True}, "is not what the role"),
        ({"username": "ana", "password": "long enough", "allowed_models": "echo"}, "must be a list"),
        *[({"username": name, "password": "long enough"}, "reserved") for name in ("me", "ALL", "create", "usage")],
        ([], "must be a JSON object or a form"),
        ("ana", "must be a JSON object or a form"),
    ],
)  # fmt: skip
def test_users_that_cannot_be(lite, body, words):
    answer = ask(lite, "POST", "/users/create", token(lite), json=body)
    assert answer.status_code == 400
    assert words in answer.text
    with Session(engine(lite)) as session:
        assert session.query(User).count() == 2


def test_a_team_there_is_not(lite):
    answer = ask(lite, "POST", "/users/create", token(lite), json=LOGIN | {"team": "ghosts"})
    assert (answer.status_code, "ghosts" in answer.json["detail"]) == (404, True)


def test_what_a_request_names_beyond_that_changes_nothing(lite):
    more = {"id": 1, "token_version": 9, "tokens_used": 10**6, "must_change_password": True, "password_hash": "x"}
    assert ask(lite, "POST", "/users/create", token(lite), json=LOGIN | more).status_code == 200
    with Session(engine(lite)) as session:
        row = session.query(User).filter_by(username="maria").one()
        assert (row.token_version, row.tokens_used, row.must_change_password) == (0, 0, False)
    assert token(lite, **LOGIN)


def test_an_admin_in_production_has_a_strong_password(lite, monkeypatch):
    admin = token(lite)
    monkeypatch.setattr(lite.extensions["gateway"].accounts, "_is_strict", True)
    answer = ask(lite, "POST", "/users/create", admin, json=LOGIN | {"password": "password", "is_admin": True})
    assert (answer.status_code, "password of an admin" in answer.json["detail"]) == (400, True)
    assert ask(lite, "POST", "/users/create", admin, json=LOGIN | {"password": "password"}).status_code == 200


@pytest.mark.parametrize("place", ["password", "current_password", "new_password"])
def test_a_password_in_the_query_is_refused(lite, place):
    admin = token(lite)
    for path in ("/users/password", "/users/create"):
        answer = ask(lite, "POST", f"{path}?{place}=senha-da-maria", admin, json=LOGIN)
        assert (answer.status_code, "a query ends up in logs" in answer.json["detail"]) == (400, True)
        assert "senha-da-maria" not in answer.text


def test_everybody_is_listed_for_admins(app, admin, maria):
    found = ask(app, "GET", "/users/all", admin).json
    assert [one["username"] for one in found] == ["admin", "api-tokens", "maria"]
    assert all(one.keys() == {"username", "api_key", "is_admin"} for one in found)
    assert [one["is_admin"] for one in found] == [True, False, False]
    assert "…" in found[2]["api_key"]


def test_a_revoked_key_is_not_shown(lite):
    key = issue(lite)
    admin = token(lite)
    assert ask(lite, "GET", "/users/ana", admin).json["api_key"] == key.hint
    change(lite, ApiKey, key.id, revoked_at=datetime.now(UTC))
    assert ask(lite, "GET", "/users/ana", admin).json["api_key"] is None


def test_a_new_password_ends_tokens_and_sessions_and_the_old_password(app, maria):
    accounts = app.extensions["gateway"].accounts
    browser = accounts.begin_session(number_of(app), "1.1.1.1", "test")
    bodies = {"current_password": LOGIN["password"], "new_password": "uma senha nova"}
    answer = ask(app, "POST", "/users/password", maria, json=bodies)
    assert (answer.status_code, answer.json) == (200, {"message": "Password updated successfully"})
    assert ask(app, "GET", "/users/me", maria).status_code == 401
    assert accounts.person_of_session(browser) is None
    assert app.test_client().post("/login", json=LOGIN).status_code == 401
    new = token(app, "maria", "uma senha nova")
    form = {"current_password": "uma senha nova", "new_password": LOGIN["password"]}
    assert ask(app, "POST", "/users/password", new, data=form).status_code == 200, "a form will do"
    with Session(engine(app)) as session:
        entries = session.query(AuditEntry).filter_by(action="password_change").all()
        assert [entry.actor for entry in entries] == ["maria", "maria"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"current_password": "wrong password", "new_password": "long enough"}, "Invalid current password"),
        ({"current_password": "senha-da-maria", "new_password": "short"}, "A password needs 8 to 1024 characters."),
        ({"current_password": "senha-da-maria"}, "A password needs 8 to 1024 characters."),
        ({"new_password": "long enough"}, "The body must have `current_password` and `new_password`."),
        ({"current_password": ["x"], "new_password": "long enough"}, "The body must have"),
        ({}, "The body must have"),
        ([], "The body must be a JSON object or a form"),
    ],
)
def test_passwords_that_are_not_changed(lite, body, words):
    ask(lite, "POST", "/users/create", token(lite), json=LOGIN)
    maria = token(lite, **LOGIN)
    answer = ask(lite, "POST", "/users/password", maria, json=body)
    assert (answer.status_code, answer.json["detail"].startswith(words)) == (400, True), answer.text
    assert ask(lite, "GET", "/users/me", maria).status_code == 200


def test_the_current_password_cannot_be_guessed(lite):
    ask(lite, "POST", "/users/create", token(lite), json=LOGIN)
    maria = token(lite, **LOGIN)
    body = {"current_password": "wrong password", "new_password": "long enough"}
    statuses = [ask(lite, "POST", "/users/password", maria, json=body).status_code for _ in range(8)]
    assert (statuses[0], statuses[-1]) == (400, 429)


def test_a_key_changes_no_password(lite):
    ask(lite, "POST", "/users/create", token(lite), json=LOGIN)
    key = lite.test_client().post("/login", json=LOGIN).json["api_key"]
    body = {"current_password": LOGIN["password"], "new_password": "long enough"}
    assert said(ask(lite, "POST", "/users/password", bearer(key), json=body)) == (403, FORBIDDEN)


def test_a_disabled_user_is_out_at_once_and_stays_out_with_old_tokens(app, admin, maria):
    accounts = app.extensions["gateway"].accounts
    browser = accounts.begin_session(number_of(app), "1.1.1.1", "test")
    key = app.test_client().post("/login", json=LOGIN).json["api_key"]
    change_ = {"is_active": False, "disabled_reason": "left the company"}
    answer = ask(app, "PATCH", "/users/maria", admin, json=change_)
    assert (answer.status_code, answer.json["is_active"], answer.json["disabled_reason"]) == (
        200,
        False,
        "left the company",
    )
    assert ask(app, "GET", "/users/me", maria).status_code == 401
    assert "left the company" in ask(app, "GET", "/users/me", bearer(key)).json["error"]
    assert accounts.person_of_session(browser) is None
    back = ask(app, "PATCH", "/users/maria", admin, json={"is_active": True})
    assert (back.json["is_active"], back.json["disabled_reason"]) == (True, None)
    assert ask(app, "GET", "/users/me", maria).status_code == 401, "a token of before is void for good"
    with Session(engine(app)) as session:
        assert session.query(WebSession).filter_by(user_id=number_of(app)).count() == 0
    assert ask(app, "GET", "/users/me", bearer(key)).status_code == 200
    assert ask(app, "GET", "/users/me", token(app, **LOGIN)).status_code == 200


@pytest.mark.parametrize("by", ["panel", "key management"])
def test_so_is_one_who_was_disabled_elsewhere(lite, by):
    from tests.admin.conftest import Browser
    from tests.management import ask as manage

    admin = token(lite)
    ask(lite, "POST", "/users/create", admin, json=LOGIN)
    maria, number = token(lite, **LOGIN), number_of(lite)
    lite.extensions["gateway"].accounts.begin_session(number, "1.1.1.1", "test")
    for is_active in (False, True):
        if by == "panel":
            form = {"role": "user", "team": "", "scope": "all", "tags": "", "ttl": "", "expires_at": ""}
            form |= {"is_active": "y"} if is_active else {}
            assert Browser(lite, "admin").post(f"/admin/users/edit/?id={number}", form).status_code == 303
        else:
            answer = manage(lite, "PATCH", f"/api/users/{number}", {"revoked": not is_active}, headers=admin)
            assert answer.status_code == 200, answer.text
        assert ask(lite, "GET", "/users/me", maria).status_code == 401
    with Session(engine(lite)) as session:
        assert session.get(User, number).is_active
        assert session.query(WebSession).filter_by(user_id=number).count() == 0


def test_models_of_a_user_are_given_and_taken(app, admin, maria):
    def use(model):
        return ask(app, "POST", "/v1/chat/completions", maria, json=chat(model=model)).status_code

    assert use("echo") == 200
    assert ask(app, "PATCH", "/users/maria", admin, json={"allowed_models": ["echo-slow"]}).status_code == 200
    assert use("echo") == 403
    assert [one["name"] for one in ask(app, "GET", "/api/v1/models", maria).json] == ["echo-slow"]
    for none in ([], None):
        assert ask(app, "PATCH", "/users/maria", admin, json={"allowed_models": none}).json["allowed_models"] is None
        assert use("echo") == 200
    with Session(engine(app)) as session:
        details = [row.details for row in session.query(AuditEntry).filter_by(action="user_update")]
    assert details[0] == {"before": {"allowed_models": None}, "after": {"allowed_models": ["echo-slow"]}}
    assert len(details) == 2, "what changes nothing is not noted"


def test_a_role_given_or_taken_counts_at_once(app, admin, maria):
    assert ask(app, "PATCH", "/users/maria", admin, json={"role": "admin"}).json["is_admin"] is True
    assert ask(app, "GET", "/users/all", maria).status_code == 200
    assert ask(app, "PATCH", "/users/maria", admin, json={"role": "auditor"}).json["role"] == "auditor"
    assert ask(app, "GET", "/users/all", maria).status_code == 200
    assert ask(app, "POST", "/users/create", maria, json=LOGIN).status_code == 403
    assert ask(app, "PATCH", "/users/maria", admin, json={"role": "user"}).json["role"] == "user"
    assert ask(app, "GET", "/users/all", maria).status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "owner"}, 400),
        ({"is_active": "no"}, 400),
        ({"team": "ghosts"}, 404),
        ({"allowed_models": {"a": 1}}, 400),
        ({"allowed_models": ["x"] * 201}, 400),
        ({"disabled_reason": "x" * 256}, 400),
        ([1], 400),
    ],
)
def test_changes_that_cannot_be(lite, body, status):
    admin = token(lite)
    ask(lite, "POST", "/users/create", admin, json=LOGIN)
    before = ask(lite, "GET", "/users/maria", admin).json
    assert ask(lite, "PATCH", "/users/maria", admin, json=body).status_code == status
    assert ask(lite, "GET", "/users/maria", admin).json == before


def test_a_deleted_user_is_gone_and_the_books_stay(app, admin, maria):
    assert ask(app, "POST", "/v1/chat/completions", maria, json=chat(model="echo")).status_code == 200
    number = number_of(app)
    answer = ask(app, "DELETE", "/users/maria", admin)
    assert (answer.status_code, answer.json) == (200, {"message": "User maria deleted successfully"})
    assert ask(app, "GET", "/users/me", maria).status_code == 401
    assert said(ask(app, "DELETE", "/users/maria", admin)) == (404, "User not found")
    assert said(ask(app, "PATCH", "/users/maria", admin, json={"role": "user"})) == (404, "User not found")
    with Session(engine(app)) as session:
        assert session.query(UsageRecord).filter_by(user_id=number).count() == 1
        assert session.query(AuditEntry).filter_by(action="user_delete", resource_id=str(number)).count() == 1


@pytest.mark.parametrize("name", ["admin", "api-tokens"])
def test_oneself_and_accounts_of_the_gateway_stay(lite, name):
    admin = token(lite)
    for method, body in (("DELETE", None), ("PATCH", {"is_active": False}), ("PATCH", {"role": "user"})):
        answer = ask(lite, method, f"/users/{name}", admin, json=body)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert ask(lite, "GET", f"/users/{name}", admin).json["is_active"]


def test_odd_names_are_nobody(app, admin):
    for name in ("a%00b", "%E2%80%AE", "x" * 300, "%27%20OR%201=1", "%C3%28"):
        for method in ("GET", "PATCH", "DELETE"):
            assert said(ask(app, method, f"/users/{name}", admin, json={})) == (404, "User not found")
        assert said(ask(app, "GET", f"/usage/{name}", admin)) == (404, "User not found")


def test_texts_come_in_portuguese(lite):
    headers = token(lite) | {"accept-language": "pt-BR"}
    assert ask(lite, "DELETE", "/users/nobody", headers).json["detail"] == "Usuário não encontrado"
    assert ask(lite, "GET", "/users/me", {"accept-language": "pt-BR"}).json["detail"] == "Não autenticado"
