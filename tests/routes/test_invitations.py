"""Invitations: who makes them, who registers with them, once and in time; and registration without any."""

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Invitation, Team, User
from services import invitations
from services.audit import Actor
from services.errors import GatewayError
from tests.callers import bearer
from tests.people import ask, engine, token
from tests.races.conftest import crowd

PATH = "/api/v1/admin/invitations"
GOOD = {"username": "maria", "password": "senha-da-maria"}
DAY_S = 86_400


@pytest.fixture
def invited(make_app, database):
    """An app where only the invited register, on each database."""
    return make_app(database, REGISTRATION="invite")


def make(app, **body):
    answer = ask(app, "POST", PATH, token(app), json=body)
    assert answer.status_code == 201, answer.text
    return answer.json


def register(app, code=None, **more):
    body = {**GOOD, **({"invitation": code} if code is not None else {}), **more}
    return app.test_client().post("/register", json=body)


def refused(answer):
    return answer.status_code, answer.json["code"]


def test_with_an_invitation_somebody_registers_once(invited):
    with Session(engine(invited)) as session, session.begin():
        session.add(Team(name="crew"))
    made = make(invited, role="team_admin", team="crew", days=3)
    assert made["code"].startswith("inv-")
    assert (made["state"], made["role"], made["team"], made["created_by"]) == ("open", "team_admin", "crew", "admin")
    answer = register(invited, made["code"])
    assert answer.status_code == 201
    assert ask(invited, "GET", "/users/me", bearer(answer.json["api_key"])).json["username"] == "maria"
    seen = ask(invited, "GET", "/users/maria", token(invited)).json
    assert (seen["role"], seen["team"]) == ("team_admin", "crew")
    assert refused(register(invited, made["code"], username="second")) == (403, "invitation_invalid")
    (listed,) = ask(invited, "GET", PATH, token(invited)).json
    assert (listed["state"], listed["used_by"]) == ("used", "maria")
    assert listed["used_at"]


def test_a_team_that_is_gone_by_then_is_left_out(lite):
    with Session(engine(lite)) as session, session.begin():
        session.add(Team(name="crew"))
    code = make(lite, team="crew")["code"]
    with Session(engine(lite)) as session, session.begin():
        session.query(Team).delete()
    assert register(lite, code).status_code == 201
    with Session(engine(lite)) as session:
        assert session.query(User).filter_by(username="maria").one().team_id is None


def test_the_code_is_shown_once_and_not_stored(invited):
    made = make(invited)
    listed = ask(invited, "GET", PATH, token(invited))
    assert made["code"] not in listed.text
    assert made["code"].startswith(listed.json[0]["hint"].rstrip("…"))
    with Session(engine(invited)) as session:
        row = session.query(Invitation).one()
        details = [str(entry.details) for entry in session.query(AuditEntry)]
    assert made["code"] not in f"{vars(row)} {details}"


def test_who_registers_begins_with_a_balance(make_app, sqlite_database):
    app = make_app(sqlite_database, REGISTRATION="invite", INITIAL_TOKEN_BALANCE="300")
    key = register(app, make(app)["code"]).json["api_key"]
    assert ask(app, "GET", "/api/v1/users/me/tokens", bearer(key)).json["balance"] == 300


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, (403, "invitation_required")),
        ("", (403, "invitation_required")),
        ("inv-" + "x" * 32, (403, "invitation_invalid")),
        ("x" * 10_000, (403, "invitation_invalid")),
        ("inv-\u202e", (403, "invitation_invalid")),
        (7, (403, "invitation_invalid")),
        (["inv-1"], (403, "invitation_invalid")),
    ],
)
def test_without_a_good_one_nobody_registers(make_app, sqlite_database, code, expected):
    app = make_app(sqlite_database, REGISTRATION="invite")
    assert refused(register(app, code)) == expected
    with Session(engine(app)) as session:
        assert session.query(User).filter_by(username="maria").count() == 0


def test_where_anybody_registers_an_invitation_still_gives_its_role(lite):
    assert register(lite).status_code == 201
    assert register(lite, make(lite, role="auditor")["code"], username="second").status_code == 201
    assert ask(lite, "GET", "/users/second", token(lite)).json["role"] == "auditor"
    assert refused(register(lite, "inv-wrong", username="third")) == (403, "invitation_invalid")


def test_where_registration_is_closed_no_invitation_helps(make_app, sqlite_database):
    app = make_app(sqlite_database, REGISTRATION="closed")
    made = invitations.make(app.extensions["gateway"].engine, Actor("operator"))
    assert refused(register(app, made.code)) == (403, "registration_closed")
    answer = ask(app, "POST", PATH, token(app), json={})
    assert (answer.status_code, answer.json["code"]) == (409, "CONFLICT")
    assert "REGISTRATION=invite" in answer.json["message"]


def test_an_invitation_ends(invited, monkeypatch):
    from utils import clock

    made, now = make(invited, days=2), clock.now_s()
    monkeypatch.setattr("utils.clock.now_s", lambda: now + 2 * DAY_S + 1)
    assert refused(register(invited, made["code"])) == (403, "invitation_invalid")
    monkeypatch.setattr("utils.clock.now_s", lambda: now + 2 * DAY_S - 60)
    assert register(invited, made["code"]).status_code == 201


def test_it_ends_between_the_first_look_and_the_registration(invited, monkeypatch):
    """What is checked before the password is hashed is checked again by the statement that uses the invitation up."""
    made = make(invited)
    check = invitations.check

    def slow(on, code):
        found = check(on, code)
        invitations.remove(on, Actor("t"), made["id"])
        return found

    monkeypatch.setattr(invitations, "check", slow)
    assert refused(register(invited, made["code"])) == (403, "invitation_invalid")
    with Session(engine(invited)) as session:
        assert session.query(User).filter_by(username="maria").count() == 0


def test_a_registration_that_fails_leaves_the_invitation_good(invited):
    code = make(invited)["code"]
    for more in ({"username": "admin"}, {"password": "short"}, {"username": "a b"}, {"username": ""}):
        assert register(invited, code, **more).status_code == 400
    assert register(invited, code).status_code == 201


def test_of_many_at_once_one_registers(invited):
    here = invited.extensions["gateway"]
    code = make(invited)["code"]

    def outcome(number):
        try:
            here.accounts.register(f"user{number}", "long enough", f"10.0.0.{number}", code)
        except GatewayError as exc:
            return exc.code
        return "done"

    outcomes = crowd(8, range(8), outcome)
    assert sorted(outcomes) == ["done", *["invitation_invalid"] * 7]
    with Session(engine(invited)) as session:
        (made,) = session.query(User).filter(User.username.startswith("user")).all()
        assert session.query(Invitation).one().used_by == made.id


def test_one_that_is_withdrawn_opens_nothing(invited):
    made, admin = make(invited), token(invited)
    assert ask(invited, "DELETE", f"{PATH}/{made['id']}", admin).status_code == 200
    assert refused(register(invited, made["code"])) == (403, "invitation_invalid")
    for number in (made["id"], "x", "a%00b", "%F0%9F%98%80", made["code"]):
        answer = ask(invited, "DELETE", f"{PATH}/{number}", admin)
        assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND")
    with Session(engine(invited)) as session:
        actions = [row.action for row in session.query(AuditEntry).filter_by(resource_type="invitation")]
    assert actions == ["invitation_create", "invitation_delete"]


def test_lists_come_in_pages_newest_first(lite, monkeypatch):
    here, roles = engine(lite), ("user", "auditor", "admin")
    for number, role in enumerate(roles):
        monkeypatch.setattr("utils.clock.now_s", lambda number=number: 1_800_000_000.0 + number)
        invitations.make(here, Actor("operator"), role=role)
    monkeypatch.undo()
    admin = token(lite)
    assert [one["role"] for one in ask(lite, "GET", PATH, admin).json] == ["admin", "auditor", "user"]
    assert [one["role"] for one in ask(lite, "GET", f"{PATH}?skip=1&limit=1", admin).json] == ["auditor"]
    assert ask(lite, "GET", f"{PATH}?limit=-1", admin).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "owner"}, 400),
        ({"role": 5}, 400),
        ({"days": 0}, 400),
        ({"days": 366}, 400),
        ({"days": "7"}, 400),
        ({"team": "ghosts"}, 404),
        ([1], 400),
    ],
)
def test_invitations_that_cannot_be(lite, body, status):
    assert ask(lite, "POST", PATH, token(lite), json=body).status_code == status
    with Session(engine(lite)) as session:
        assert session.query(Invitation).count() == 0


def test_only_admins_invite(lite):
    maria = bearer(register(lite).json["api_key"])
    for headers, status in ((None, 401), (maria, 403), (token(lite, **GOOD), 403)):
        for method, path in (("POST", PATH), ("GET", PATH), ("DELETE", f"{PATH}/x")):
            assert ask(lite, method, path, headers, json={"role": "admin"}).status_code == status


def test_an_invited_admin_in_production_has_a_strong_password(lite, monkeypatch):
    code = make(lite, role="admin")["code"]
    monkeypatch.setattr(lite.extensions["gateway"].accounts, "_is_strict", True)
    weak = register(lite, code, password="password")
    assert (weak.status_code, "password of an admin" in weak.json["detail"]) == (400, True)
    assert register(lite, code, password="a much better one").status_code == 201
