"""Tokens that somebody else signed: who they are here, what they may, and how they end."""

import threading
import time

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Identity, User
from services import people
from services.audit import Actor
from tests.callers import add_user, bearer, change, issue
from tests.conftest import SECRETS
from tests.fakes.outsider import AUDIENCE, CURVE_KEY, ISSUER, KEY, SHARED, Outsider, public, shared, token
from tests.helpers import chat
from tests.outside import OWN, REFUSED, assert_refused, claims, forged, me, now_s, users, whoever
from tests.people import ask, engine, number_of
from tests.people import token as signed_in


@pytest.fixture
def outsider():
    server = Outsider()
    yield server
    server.stop()


@pytest.fixture
def open_app(sqlite_database, make_app, outsider):
    """An app that makes a user of whoever comes with a token of the issuer."""
    return make_app(sqlite_database, **OWN, JWT_JWKS_URL=f"{outsider.url}/keys")


@pytest.fixture
def back_end_app(sqlite_database, make_app):
    """The same with a back end that shares a secret and says neither audience nor issuer."""
    return make_app(sqlite_database, JWT_SECRET=SHARED, OUTSIDE_CREATE_USERS="true")


@pytest.mark.parametrize("key", [KEY, CURVE_KEY])
def test_the_first_token_makes_a_user_and_later_ones_are_the_same(database, make_app, outsider, key):
    outsider.answers["/keys"] = {"keys": [public(key)]}
    app = make_app(database, **OWN, JWT_JWKS_URL=f"{outsider.url}/keys")
    algorithm = "RS256" if key is KEY else "ES256"
    first = token(key, algorithm, sub="a1b2-c3", preferred_username="maria")
    assert whoever(app, first) == ("maria", False)
    assert whoever(app, token(key, algorithm, sub="a1b2-c3", preferred_username="renamed")) == ("maria", False)
    assert outsider.count("/keys") == 1
    with Session(engine(app)) as session:
        row = session.query(Identity).one()
        assert (row.issuer, row.subject, row.user_id) == (ISSUER, "a1b2-c3", number_of(app))
        noted = session.query(AuditEntry).filter_by(action="user_create", actor="outside sign-in").one()
        assert noted.details["after"]["subject"] == "a1b2-c3"
    balance = ask(app, "GET", "/api/v1/users/me/tokens", bearer(first))
    assert (balance.json or {})["balance"] == 10_000  # as for whoever registers


def test_they_are_taken_wherever_our_own_are(open_app):
    good, admins = token(), token(sub="7", is_admin=True)
    for path in (
        "/v1/models",
        "/api/v1/users/me/tokens",
        "/users/me",
        "/user/usage",
        "/usage/user-5",
        "/api/v1/dialogs",
    ):
        assert ask(open_app, "GET", path, bearer(good)).status_code == 200, path
    for headers in (bearer(good), {"x-api-key": good}):
        answer = ask(open_app, "POST", "/v1/chat/completions", headers, json=chat(model="echo"))
        assert answer.status_code == 200, answer.text
    for path in ("/users/all", "/api/v1/admin/users", "/api/key-management/keys?tag=x", "/api/users"):
        assert ask(open_app, "GET", path, bearer(good)).status_code in (401, 403), path
        assert ask(open_app, "GET", path, bearer(admins)).status_code == 200, path


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/users/me", lambda body: body["detail"] == REFUSED),
        ("/api/v1/users/me/tokens", lambda body: body["code"] == "UNAUTHORIZED"),
        ("/v1/models", lambda body: body["error"]["type"] == "authentication_error"),
        ("/user/usage", lambda body: body["detail"] == REFUSED),
        ("/api/key-management/keys?tag=x", lambda body: body["status"] == 401),
    ],
)
def test_a_refusal_has_the_form_of_its_surface(open_app, path, read):
    answer = ask(open_app, "GET", path, bearer(token(exp=int(time.time()) - 60)))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert read(answer.json)


@pytest.mark.parametrize("subject", [{"user_id": 5}, {"user_id": 5, "sub": "other"}, {"sub": 5}, {"sub": "5"}])
def test_a_back_end_says_a_number(back_end_app, subject):
    assert whoever(back_end_app, shared(**{"user_id": None} | subject)) == ("user-5", False)
    assert users(back_end_app).keys() >= {"user-5"}


@pytest.mark.parametrize("claim", ["is_admin", "is_staff"])
def test_staff_is_admin_and_only_a_true_says_so(back_end_app, claim):
    assert whoever(back_end_app, shared(user_id=8, **{claim: True})) == ("user-8", True)
    for number, value in enumerate((False, 1, "true", "yes", [True], None), 20):
        assert whoever(back_end_app, shared(user_id=number, **{claim: value})) == (f"user-{number}", False)


def test_an_admin_needs_the_token_and_the_account_to_say_so(back_end_app):
    staff, plain = shared(user_id=8, is_staff=True), shared(user_id=8)
    assert whoever(back_end_app, staff) == ("user-8", True)
    assert whoever(back_end_app, plain) == ("user-8", False)
    assert ask(back_end_app, "GET", "/users/all", bearer(staff)).status_code == 200
    assert ask(back_end_app, "GET", "/users/all", bearer(plain)).status_code == 403
    change(back_end_app, User, number_of(back_end_app, "user-8"), role="user")
    assert whoever(back_end_app, staff) == ("user-8", False)
    whoever(back_end_app, shared(user_id=9))
    assert whoever(back_end_app, shared(user_id=9, is_staff=True)) == ("user-9", False)


def test_an_account_that_is_there_is_never_taken_over_by_its_name(open_app):
    add_user(open_app, "maria")
    for number, name in enumerate(("admin", "maria", "api-tokens", "me", "a b", "", "x" * 151, "<b>"), 50):
        given = token(sub=str(number), preferred_username=name, email=name)
        assert whoever(open_app, given) == (f"user-{number}", False)
    assert whoever(open_app, token(sub="admin", preferred_username="admin"))[0] == "user-admin"
    add_user(open_app, "user-60")
    name, _is_admin = whoever(open_app, token(sub="60"))
    assert name.startswith("user-") and name != "user-60"  # noqa: PT018 - two sides of one thing
    assert users(open_app)["admin"] == "admin"


def test_nobody_is_made_unless_that_is_wanted(sqlite_database, make_app, outsider):
    app = make_app(sqlite_database, **OWN | {"OUTSIDE_CREATE_USERS": "false"}, JWT_JWKS_URL=f"{outsider.url}/keys")
    before = users(app)
    assert_refused(app, token())
    add_user(app, "maria")
    here = app.extensions["gateway"]
    here.outsiders.link(Actor("t"), "maria", ISSUER, "5")
    here.catalog.refresh()
    assert whoever(app, token(preferred_username="somebody")) == ("maria", False)
    assert users(app) == before | {"maria": "user"}
    here.outsiders.unlink(Actor("t"), ISSUER, "5")
    here.catalog.refresh()
    assert_refused(app, token())


def test_of_many_first_tokens_at_once_one_makes_the_user(database, make_app):
    app = make_app(database, JWT_SECRET=SHARED, OUTSIDE_CREATE_USERS="true")
    given, start = shared(user_id=77, username="maria"), threading.Barrier(6)
    found = []

    def call():
        start.wait(60)
        found.append(me(app, given))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [(code, body["username"]) for code, body in found] == [(200, "maria")] * 6
    assert users(app).keys() == {"admin", "api-tokens", "maria"}


def test_the_same_subject_of_two_issuers_is_two_people(open_app):
    assert whoever(open_app, token(sub="5", username="ana")) == ("ana", False)
    named = shared(user_id=5, aud=AUDIENCE, iss=ISSUER, username="bruno")
    assert whoever(open_app, named) == ("bruno", False)


def test_a_long_token_is_taken(open_app):
    long = token(groups=["x" * 50] * 80)
    assert 4096 < len(long) < 8000
    assert me(open_app, long)[0] == 200
    staff = token(groups=["x" * 50] * 80, sub="8", is_admin=True)
    assert ask(open_app, "GET", "/api/users", bearer(staff)).status_code == 200


def test_clocks_may_differ_by_seconds(open_app):
    assert me(open_app, token(iat=now_s() + 5, nbf=now_s() + 5))[0] == 200
    assert me(open_app, token(exp=now_s() - 5))[0] == 200


def test_who_is_disabled_or_signed_out_is_refused_at_once(open_app):
    good = token(username="maria")
    assert me(open_app, good)[0] == 200
    number = number_of(open_app)
    change(open_app, User, number, is_active=False)
    assert_refused(open_app, good)
    change(open_app, User, number, is_active=True)
    assert me(open_app, good)[0] == 200
    with Session(engine(open_app)) as session, session.begin():
        people.sign_out(session, number)
    open_app.extensions["gateway"].catalog.refresh()
    assert_refused(open_app, good)
    assert_refused(open_app, token(username="maria", iat=now_s() - 30))
    assert me(open_app, token(iat=now_s() + 2))[0] == 200


def test_disabling_over_the_api_voids_tokens_for_good(open_app):
    good, admin = token(username="maria"), signed_in(open_app)
    assert me(open_app, good)[0] == 200
    for state in (False, True):
        answer = ask(open_app, "PATCH", "/users/maria", admin, json={"is_active": state})
        assert answer.status_code == 200
    assert_refused(open_app, good)


def test_who_is_deleted_comes_back_as_somebody_new(open_app):
    first = token(username="maria")
    whoever(open_app, first)
    number = number_of(open_app)
    assert ask(open_app, "DELETE", "/users/maria", signed_in(open_app)).status_code == 200
    with Session(engine(open_app)) as session:
        assert session.query(Identity).count() == 0
    open_app.extensions["gateway"].catalog.refresh()
    assert whoever(open_app, first) == ("maria", False)
    assert number_of(open_app) != number


def test_our_own_tokens_and_keys_go_on(open_app, back_end_app):
    for app in (open_app, back_end_app):
        assert ask(app, "GET", "/users/all", signed_in(app)).status_code == 200
    key = issue(open_app, number_of(open_app, "admin")).secret
    assert ask(open_app, "GET", "/users/me", bearer(key)).status_code == 200


def test_one_secret_for_both_still_tells_ours_from_theirs(sqlite_database, make_app):
    app = make_app(sqlite_database, JWT_SECRET=SECRETS["SECRET_KEY"], OUTSIDE_CREATE_USERS="true")
    assert ask(app, "GET", "/users/all", signed_in(app)).status_code == 200
    theirs = token(SECRETS["SECRET_KEY"], "HS256", None, aud=None, iss=None, user_id=1)
    assert whoever(app, theirs) == ("user-1", False)  # not our user number 1, who is the admin


def test_without_the_settings_nothing_of_others_counts(lite):
    for given in (token(), shared(), token(SECRETS["SECRET_KEY"], "HS256", None, user_id=1, aud=None, iss=None)):
        assert_refused(lite, given)
    assert users(lite).keys() == {"admin", "api-tokens"}


def test_a_short_secret_is_no_secret(sqlite_database, make_app):
    app = make_app(sqlite_database, JWT_SECRET="short", OUTSIDE_CREATE_USERS="true")
    assert any("JWT_SECRET" in line for line in app.extensions["gateway"].config.warnings)
    assert_refused(app, forged({"alg": "HS256"}, claims(), b"short"))
