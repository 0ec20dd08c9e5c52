"""`flask users` and `flask invite`: people without the panel."""

import pytest
from flask import Flask

from models import AuditEntry, Invitation, User
from tests.callers import add_user
from tests.helpers import squeezed
from tests.people import token

GIVEN = "a good password\na good password\n"


@pytest.fixture
def command(app: Flask):
    def run(*arguments, given=None):
        done = app.test_cli_runner().invoke(args=list(arguments), input=given)
        return done.exit_code, done.output

    return run


def test_a_user_is_made_changed_listed_and_removed(app, command, session):
    status, said = command("users", "create", "ana", "--role", "auditor", given=GIVEN)
    assert (status, said.splitlines()[-1]) == (0, "User `ana` made, with the role auditor.")
    assert token(app, "ana", "a good password")
    command("teams", "add", "crew")
    changed = command("users", "change", "ana", "--role", "admin", "--team", "crew")
    assert changed == (0, "ana: role admin, team crew, active.\n")
    listed = squeezed(command("users", "list")[1])
    assert any(line.startswith("ana  admin  crew  active  sk-th-") for line in listed)
    disabled = command("users", "change", "ana", "--disabled", "--reason", "left", "--team", "")
    assert disabled == (0, "ana: role admin, team none, disabled.\n")
    assert session.query(User.disabled_reason).filter_by(username="ana").scalar() == "left"
    assert command("users", "delete", "ana") == (0, "User `ana` removed.\n")
    actions = [row.action for row in session.query(AuditEntry).filter_by(actor="operator", resource_type="user")]
    assert actions == ["user_create", "user_update", "user_update", "user_delete"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("users", "create", "admin"), "User already exists."),
        (("users", "create", "me"), "The user name `me` is reserved."),
        (("users", "create", "ana", "--team", "ghosts"), "There is no team `ghosts`."),
        (("users", "change", "ghost", "--role", "user"), "User not found"),
        (("users", "change", "admin", "--role", "user"), "This is the last admin; make another one first."),
        (("users", "change", "admin", "--disabled"), "This is the last admin; make another one first."),
        (("users", "delete", "admin"), "This is the last admin; make another one first."),
        (("users", "delete", "api-tokens"), "`api-tokens` is an account of the gateway itself."),
        (("invite", "--team", "ghosts"), "There is no team `ghosts`."),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said_in_a_line(command, session, arguments, why):
    before = session.query(User.username, User.role, User.is_active).order_by(User.id).all()
    status, said = command(*arguments, given=GIVEN)
    assert status == 78
    assert said.splitlines()[-1].startswith(why)
    assert session.query(User.username, User.role, User.is_active).order_by(User.id).all() == before


def test_the_last_admin_goes_when_another_one_is_there(app, command):
    add_user(app, "second", role="admin")
    assert command("users", "delete", "admin")[0] == 0
    assert command("users", "delete", "second")[0] == 78


def test_an_invitation_from_a_shell_opens_the_door(app, command, session):
    status, said = command("invite", "--role", "team_admin", "--days", "2")
    code = said.splitlines()[0]
    assert (status, code.startswith("inv-")) == (0, True)
    body = {"username": "ana", "password": "a good password", "invitation": code}
    assert app.test_client().post("/register", json=body).status_code == 201
    assert session.query(Invitation).one().created_by == "the operator"


def test_nobody_is_invited_where_registration_is_closed(make_app, sqlite_database):
    app = make_app(sqlite_database, REGISTRATION="closed")
    done = app.test_cli_runner().invoke(args=["invite"])
    assert (done.exit_code, "REGISTRATION=invite" in done.output) == (78, True)
