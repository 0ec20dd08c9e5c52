"""`flask users link|unlink|identities|pull`."""

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Identity, User
from tests.callers import add_user
from tests.fakes.outsider import Outsider, status
from tests.people import engine


@pytest.fixture
def command(app):
    def run(*arguments):
        done = app.test_cli_runner().invoke(args=["users", *arguments])
        return done.exit_code, done.output

    return run


def test_somebody_is_linked_listed_and_unlinked(app, command, session):
    number = add_user(app, "ana")
    assert command("link", "ana", "5") == (0, "`5` of `back end` is `ana` here.\n")
    assert command("link", "ana", "x-1", "--issuer", "https://issuer.test")[0] == 0
    assert command("identities") == (
        0,
        "USER  SUBJECT  ISSUER\nana   5        back end\nana   x-1      https://issuer.test\n",
    )
    assert command("unlink", "5") == (0, "`5` of `back end` is nobody here.\n")
    assert command("identities") == (0, "USER  SUBJECT  ISSUER\nana   x-1      https://issuer.test\n")
    noted = [row.action for row in session.query(AuditEntry).filter_by(resource_id=str(number))]
    assert noted == ["identity_link", "identity_link", "identity_unlink"]


def test_what_cannot_be_is_said(app, command):
    add_user(app, "ana")
    add_user(app, "bruno")
    assert command("link", "ana", "5")[0] == 0
    assert command("link", "bruno", "5") == (78, "`5` of `back end` has an account here already.\n")
    assert command("link", "nobody", "6") == (78, "User not found\n")
    assert command("link", "api-tokens", "6")[0] == 78
    assert command("link", "ana", "x" * 256)[0] == 78
    assert command("link", "ana", "a\nb")[0] == 78
    assert command("unlink", "6") == (78, "`6` of `back end` has no account here.\n")
    assert command("identities") == (0, "USER  SUBJECT  ISSUER\nana   5        back end\n")


@pytest.fixture
def back_end():
    server = Outsider()
    server.answers["/login/"] = {"access": "token-of-there", "is_staff": True, "user_id": 7}
    server.answers["/users/"] = [
        {"id": 7, "username": "olga", "is_staff": True},
        {"id": 8, "username": "admin"},
        {"user_id": 9, "email": "ivo@there.test", "is_staff": False},
    ]
    yield server
    server.stop()


@pytest.fixture
def pull(sqlite_database, make_app, back_end):
    urls = {"BACKEND_AUTH_URL": f"{back_end.url}/login/", "BACKEND_USERS_URL": f"{back_end.url}/users/"}
    app = make_app(sqlite_database, AUTH_BACKEND="http", **urls)

    def run():
        done = app.test_cli_runner().invoke(args=["users", "pull", "olga"], input="a password\n")
        return done.exit_code, done.output.splitlines()[-1]

    run.app = app
    return run


def people_of(app):
    with Session(engine(app)) as session:
        rows = session.query(User.username, User.role, Identity.subject).join(Identity, Identity.user_id == User.id)
        return sorted(tuple(row) for row in rows)


def test_everybody_of_the_back_end_gets_an_account_once(pull, back_end):
    assert pull() == (0, "3 of 3 are new here.")
    there = [("ivo@there.test", "user", "9"), ("olga", "admin", "7"), ("user-8", "user", "8")]
    assert people_of(pull.app) == there
    assert pull() == (0, "0 of 3 are new here.")
    assert people_of(pull.app) == there
    assert back_end.asked[1][1]["authorization"] == "Bearer token-of-there"


def test_pages_are_followed_at_the_same_address_alone(pull, back_end):
    back_end.answers["/users/"] = {"results": [{"id": 1}], "next": f"{back_end.url}/more/?page=2"}
    back_end.answers["/more/"] = {"users": [{"id": 2}], "next": None}
    assert pull() == (0, "2 of 2 are new here.")
    other = Outsider()
    other.answers["/users/"] = []
    back_end.answers["/users/"] = {"results": [{"id": 3}], "next": f"{other.url}/users/"}
    assert pull() == (78, "The list of users goes on elsewhere, or has no end.")
    assert other.asked == []
    other.stop()
    back_end.answers["/users/"] = {"results": [], "next": f"{back_end.url}/users/"}
    assert pull()[0] == 78
    assert back_end.count("/users/") == 202


@pytest.mark.parametrize(
    "answer",
    [status(403), status(200, b"<html>"), {"detail": "x"}, [1], [{"username": "x"}], [{"id": True}], {"results": {}}],
)
def test_an_odd_list_makes_nobody(pull, back_end, answer):
    back_end.answers["/users/"] = answer
    assert pull()[0] == 78
    assert people_of(pull.app) == []


def test_without_a_back_end_or_with_a_wrong_password_nobody_is_made(pull, back_end, lite):
    back_end.answers["/login/"] = status(401)
    assert pull() == (78, "Incorrect username or password")
    assert back_end.count("/users/") == 0
    done = lite.test_cli_runner().invoke(args=["users", "pull", "olga"], input="x\n")
    assert (done.exit_code, "AUTH_BACKEND=http" in done.output) == (78, True)
