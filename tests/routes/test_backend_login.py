"""Signing in with a password that a back end keeps: who gets in, who they are here, and a back end that is odd."""

import json
import time

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Identity, User, WebSession
from services import backend
from services.audit import Actor
from services.outsiders import BACK_END
from tests.admin.conftest import Browser
from tests.callers import add_user, bearer, change
from tests.conftest import PASSWORD
from tests.fakes.outsider import SHARED, Outsider, shared, silence, status, trickle
from tests.people import ask, engine, number_of, said

PATH = "/api/v1/login/"
GIVEN = {"username": "olga", "password": "a password of there"}
STAFF = {"access": "eyJ-token-of-there", "is_staff": True, "user_id": 7}
INCORRECT = "Incorrect username or password"
AWAY = "The login service does not answer as it should; please try again later."


@pytest.fixture
def back_end():
    server = Outsider()
    server.answers[PATH] = STAFF
    yield server
    server.stop()


@pytest.fixture
def settings(back_end):
    return {
        "AUTH_BACKEND": "http",
        "BACKEND_AUTH_URL": back_end.url + PATH,
        "OUTSIDE_CREATE_USERS": "true",
        "JWT_SECRET": SHARED,
    }


@pytest.fixture
def here(sqlite_database, make_app, settings):
    return make_app(sqlite_database, **settings)


def log_in(app, **more):
    return ask(app, "POST", "/login", json=GIVEN | more)


def roles(app):
    with Session(engine(app)) as session:
        return {row.username: row.role for row in session.query(User)}


def noted(app, action):
    with Session(engine(app)) as session:
        return [row.actor for row in session.query(AuditEntry).filter_by(action=action).order_by(AuditEntry.id)]


def test_staff_of_there_is_an_admin_here(database, make_app, settings, back_end):
    app = make_app(database, **settings)
    answer = log_in(app)
    assert answer.status_code == 200, answer.text
    assert (answer.json["token_type"], answer.json["api_key"][:6]) == ("bearer", "sk-th-")
    headers = bearer(answer.json["access_token"])
    assert ask(app, "GET", "/users/me", headers).json | {"api_key": ""} == {
        "username": "olga",
        "api_key": "",
        "is_admin": True,
        "language": None,
    }
    assert ask(app, "GET", "/users/all", headers).status_code == 200
    path, sent, body = back_end.asked[0]
    assert (path, body, sent["content-type"]) == (PATH, GIVEN, "application/json")
    assert "authorization" not in sent
    with Session(engine(app)) as session:
        row = session.query(Identity).one()
        assert (row.issuer, row.subject, row.user_id) == (BACK_END, "7", number_of(app, "olga"))
        assert session.query(User.password_hash).filter_by(username="olga").scalar() is None
    assert noted(app, "login_success") == ["olga"]


def test_it_opens_the_panel_too(here):
    browser = Browser(here)
    answer = browser.sign_in(**GIVEN)
    assert (answer.status_code, answer.location) == (303, "/admin/")
    assert browser.get("/admin/users/").status_code == 200
    with Session(engine(here)) as session:
        assert session.query(WebSession).count() == 1


def test_the_second_time_it_is_the_same_account_also_by_a_token_of_there(here):
    log_in(here)
    assert log_in(here, username="olga.renamed").status_code == 200
    answer = ask(here, "GET", "/users/me", bearer(shared(user_id=7, is_staff=True)))
    assert (answer.json["username"], answer.json["is_admin"]) == ("olga", True)
    assert roles(here).keys() == {"admin", "api-tokens", "olga"}


def test_who_has_a_password_here_is_asked_for_that_one(here, back_end):
    for password, code in ((PASSWORD, 200), ("wrong " + PASSWORD, 401)):
        assert ask(here, "POST", "/login", json={"username": "admin", "password": password}).status_code == code
    change(here, User, number_of(here, "admin"), is_active=False)
    assert ask(here, "POST", "/login", json={"username": "admin", "password": PASSWORD}).status_code == 401
    for name in ("api-tokens", "key-management", "a\0b", "\n"):
        assert log_in(here, username=name).status_code == 401
    assert back_end.asked == []


def test_without_the_setting_nobody_is_asked(sqlite_database, make_app, settings, back_end):
    app = make_app(sqlite_database, **settings | {"AUTH_BACKEND": "local"})
    assert said(log_in(app)) == (401, INCORRECT)
    assert back_end.asked == []


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_wrong_password_reads_as_one_of_ours(here, back_end, code):
    back_end.answers[PATH] = status(code, json.dumps({"detail": "no such user olga"}).encode(), "application/json")
    theirs = log_in(here)
    ours = ask(here, "POST", "/login", json={"username": "admin", "password": "x"})
    assert said(theirs) == said(ours) == (401, INCORRECT)
    assert theirs.headers["www-authenticate"] == "Bearer"
    assert noted(here, "login_failed") == ["olga", "admin"]
    assert "olga" not in roles(here)


def test_only_staff_gets_in(here, back_end):
    back_end.answers[PATH] = STAFF | {"is_staff": False}
    answer = log_in(here)
    assert answer.status_code == 401
    assert (answer.json["code"], "staff" in answer.json["detail"]) == ("not_staff", True)
    assert answer.json["error"] == answer.json["detail"]
    page = Browser(here).sign_in(**GIVEN)
    assert page.status_code == 401
    assert "does not call you staff" in page.text
    assert "olga" not in roles(here)


def test_who_is_not_staff_any_more_stays_out(here, back_end):
    assert log_in(here).status_code == 200
    back_end.answers[PATH] = STAFF | {"is_staff": False}
    assert log_in(here).status_code == 401


def test_roles_given_here_stay_and_staff_is_more_than_a_user(here):
    log_in(here)
    number = number_of(here, "olga")
    for before, after in (("user", "admin"), ("auditor", "auditor"), ("team_admin", "team_admin")):
        change(here, User, number, role=before)
        assert log_in(here).status_code == 200
        assert roles(here)["olga"] == after


def test_who_is_disabled_here_stays_out(here):
    log_in(here)
    change(here, User, number_of(here, "olga"), is_active=False)
    answer = log_in(here)
    assert (answer.status_code, answer.json["code"]) == (401, "account_disabled")


def test_strangers_need_a_link_where_no_accounts_are_made(sqlite_database, make_app, settings):
    app = make_app(sqlite_database, **settings | {"OUTSIDE_CREATE_USERS": "false"})
    answer = log_in(app)
    assert (answer.status_code, answer.json["code"]) == (401, "identity_unknown")
    add_user(app, "olga-here")
    app.extensions["gateway"].outsiders.link(Actor("t"), "olga-here", BACK_END, "7")
    assert log_in(app).status_code == 200
    assert roles(app)["olga-here"] == "admin"


def test_an_account_without_a_password_is_not_taken_over_by_its_name(here):
    add_user(here, "olga")
    answer = log_in(here)
    assert ask(here, "GET", "/users/me", bearer(answer.json["access_token"])).json["username"] == "user-7"
    assert roles(here)["olga"] == "user"


ODD = {
    "an error": status(500, b"Traceback: SECRET inside"),
    "a page": status(200, b"<html>SECRET</html>"),
    "a redirect": status(302, b"", location="http://127.0.0.1:9/SECRET"),
    "a moved address": status(307, b"", location="/elsewhere"),
    "nothing": status(204),
    "too many asked": status(429, b"{}"),
    "a list": [STAFF],
    "no token": {"is_staff": True, "user_id": 7},
    "no number": {"access": "SECRET", "is_staff": True},
    "a truth for a number": STAFF | {"user_id": True},
    "a fraction for a number": STAFF | {"user_id": 7.5},
    "an empty number": STAFF | {"user_id": ""},
    "a number that is too long": STAFF | {"user_id": "7" * 300},
    "a number with a NUL": STAFF | {"user_id": "7\0"},
    "staff as a text": STAFF | {"is_staff": "true"},
    "staff as a number": STAFF | {"is_staff": 1},
    "staff not said": {"access": "x", "user_id": 7},
    "much": STAFF | {"more": "x" * 70_000},
    "far too much": status(200, b"[" + b" " * 9_000_000 + b"]"),
    "nonsense in UTF-16": status(200, json.dumps(STAFF).encode("utf-16")),
    "a closed line": silence(0),
}


def test_what_is_odd_opens_nothing_and_is_not_repeated(here, back_end, caplog):
    wrong = {}
    for name, answer in ODD.items():
        back_end.answers[PATH] = answer
        found = log_in(here, username=f"olga-{name.replace(' ', '-')}")
        if (found.status_code, found.json["code"], found.json["detail"]) != (502, "login_service_away", AWAY):
            wrong[name] = found.text
        assert back_end.url.rpartition(":")[2] not in found.text
    assert wrong == {}
    assert roles(here).keys() == {"admin", "api-tokens"}
    assert GIVEN["password"] not in caplog.text
    assert "SECRET" not in caplog.text
    assert {path for path, _headers, _body in back_end.asked} == {PATH}


@pytest.mark.parametrize("answer", [silence(20), trickle(20)])
def test_who_is_slow_is_not_waited_for(here, back_end, answer, monkeypatch):
    assert backend.TIMEOUT_S <= 5
    monkeypatch.setattr(backend, "TIMEOUT_S", 1.0)
    back_end.answers[PATH] = answer
    begun_s = time.monotonic()
    assert said(log_in(here)) == (502, AWAY)
    assert time.monotonic() - begun_s < 15
    assert "login service does not answer" in Browser(here).sign_in("olga", "x").text


def test_nobody_there_leaves_the_operator_a_way_in(here, back_end):
    back_end.stop()
    assert said(log_in(here)) == (502, AWAY)
    assert ask(here, "POST", "/login", json={"username": "admin", "password": PASSWORD}).status_code == 200
    assert Browser(here).sign_in("admin", PASSWORD).status_code == 303


def test_guessing_is_braked_before_the_back_end_hears_of_it(here, back_end):
    back_end.answers[PATH] = status(401)
    codes = [log_in(here).status_code for _ in range(8)]
    assert codes[:5] == [401] * 5
    assert codes[-1] == 429
    assert back_end.count(PATH) < 8
    back_end.answers[PATH] = STAFF
    assert log_in(here, username="somebody-else").status_code == 200


def test_good_tries_are_not_counted_against_anybody(here):
    assert [log_in(here).status_code for _ in range(8)] == [200] * 8


def test_a_password_of_there_makes_none_here(here):
    headers = bearer(log_in(here).json["access_token"])
    body = {"current_password": GIVEN["password"], "new_password": "another good one"}
    assert said(ask(here, "POST", "/users/password", headers, json=body)) == (400, "Invalid current password")


@pytest.mark.parametrize("url", ["http://169.254.169.254/login/", "http://[fd00:ec2::254]/"])
def test_addresses_that_are_never_called_are_not_called_for_this_either(sqlite_database, make_app, settings, url):
    app = make_app(sqlite_database, **settings | {"BACKEND_AUTH_URL": url})
    assert said(log_in(app)) == (502, AWAY)
