"""`flask teams`: a team is there before somebody sets its budget, and the refusal says how."""

import pytest
from flask import Flask
from sqlalchemy import select

from models import AuditEntry, Team, User
from services import budgets
from services.audit import Actor
from services.errors import NotFound
from tests.callers import add_user


@pytest.fixture
def command(app: Flask):
    def run(*arguments):
        done = app.test_cli_runner().invoke(args=list(arguments))
        return done.exit_code, done.output

    return run


def test_a_newcomer_finds_the_way_to_the_budget_of_a_team(command):
    budget = ["budgets", "set", "--team", "research", "--unit", "usd", "--limit", "200", "--period", "month"]
    status, said = command(*budget)
    assert (status, said) == (78, "There is no team `research`. Make it with: flask teams add NAME USER\u2026\n")
    assert command("teams", "list") == (0, "There is no team.\n")
    assert command("teams", "add", "research") == (0, "Team `research` made.\n")
    assert command(*budget)[0] == 0
    assert command("teams", "list") == (0, "TEAM      USERS\nresearch      0\n")


def test_users_join_and_leave_the_team_they_were_in(app, command, session):
    for name in ("ana", "bo"):
        add_user(app, name)
    assert command("teams", "add", "blue", "ana", "bo") == (0, "Team `blue` made; 2 users joined.\n")
    assert command("teams", "add", "red", "bo") == (0, "Team `red` made; 1 user joined.\n")
    assert command("teams", "add", "red") == (0, "Team `red` was there already.\n")
    assert command("teams", "list")[1].splitlines() == ["TEAM  USERS", "blue      1", "red       1"]
    query = select(User.username, Team.name).join(Team, User.team_id == Team.id).order_by(User.username)
    assert session.execute(query).tuples().all() == [("ana", "blue"), ("bo", "red")]
    entries = session.scalars(
        select(AuditEntry).where(AuditEntry.resource_type == "team").order_by(AuditEntry.id)
    ).all()
    assert [(entry.action, entry.actor) for entry in entries] == [("team_create", "operator")] * 2
    assert entries[0].details == {"after": {"name": "blue", "allowed_models": None, "members": ["ana", "bo"]}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["blue", "nobody"], "There is no user `nobody`."),
        ([" "], "A team's name has 1 to 150 characters"),
        (["x" * 151], "A team's name has 1 to 150 characters"),
        (["two\nlines"], "A team's name has 1 to 150 characters"),
    ],
)
def test_teams_that_cannot_be_are_refused(command, session, arguments, said):
    status, output = command("teams", "add", *arguments)
    assert (status, said in output) == (78, True)
    assert session.scalars(select(Team)).all() == []


def test_others_are_not_told_of_the_command(app):
    with pytest.raises(NotFound, match=r"There is no user `x`\.$"):
        budgets.put(
            app.extensions["gateway"].engine, Actor("t"), scope="user", owner="x", unit="usd", limit="1", period="day"
        )
