"""What somebody could do ends with the power to do it; what a change does not understand, it refuses."""

import pytest

from services import invitations
from services.audit import Actor
from tests.callers import bearer
from tests.conftest import PASSWORD
from tests.people import ask, number_of, said, token
from tests.routes.test_invitations import GOOD, PATH, refused, register

CHIEF = {"username": "chief", "password": "correct horse battery"}


@pytest.fixture
def admin(app):
    return token(app)


@pytest.fixture
def code(app, admin):
    """Of an invitation that another admin made."""
    assert ask(app, "POST", "/users/create", admin, json=CHIEF | {"is_admin": True}).status_code == 200
    made = ask(app, "POST", PATH, token(app, **CHIEF), json={"role": "admin", "days": 365})
    assert made.status_code == 201
    return made.json["code"]


@pytest.mark.parametrize(
    "end",
    [
        ("PATCH", "/users/chief", {"is_active": False}),
        ("PATCH", "/users/chief", {"role": "auditor"}),
        ("PATCH", "/users/chief", {"is_admin": False}),
        ("DELETE", "/users/chief", None),
        ("POST", "/api/v1/admin/users/{number}/erase", {"username": "chief"}),
    ],
)
def test_an_invitation_ends_with_the_power_of_its_maker(app, admin, code, end):
    method, path, body = end
    number = next(
        one["user_id"] for one in ask(app, "GET", "/api/v1/admin/users", admin).json if one["username"] == "chief"
    )
    assert ask(app, method, path.format(number=number), admin, json=body).status_code == 200
    assert refused(register(app, code)) == (403, "invitation_invalid")
    assert said(ask(app, "GET", f"/users/{GOOD['username']}", admin))[0] == 404


def test_an_invitation_of_an_admin_who_is_still_one_opens(app, admin, code):
    answer = register(app, code)
    assert answer.status_code == 201
    assert ask(app, "GET", "/users/me", bearer(answer.json["api_key"])).json["is_admin"] is True


@pytest.mark.parametrize("body", [{"dayz": 3}, {"role": "user", "teem": "crew"}])
def test_a_misspelt_invitation_is_none(lite, body):
    answer = ask(lite, "POST", PATH, token(lite), json=body)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert ask(lite, "GET", PATH, token(lite)).json == []


def test_is_admin_is_short_for_the_role(lite):
    admin = token(lite)
    ask(lite, "POST", "/users/create", admin, json=CHIEF)

    def change(**body):
        answer = ask(lite, "PATCH", "/users/chief", admin, json=body)
        return answer.status_code, answer.json.get("role")

    assert change(is_admin=True) == (200, "admin")
    assert change(is_admin=False) == (200, "user")
    assert change(role="auditor", is_admin=False) == (200, "auditor")
    assert change(is_admin=False) == (200, "auditor"), "who is no admin stays what they are"
    assert change(role="user", is_admin=True)[0] == 400
    assert change(role="admin", is_admin=False)[0] == 400
    assert ask(lite, "GET", "/users/chief", admin).json["role"] == "auditor"


@pytest.mark.parametrize("member", ["password", "username", "created_at", "Role"])
def test_what_a_change_does_not_know_is_refused(lite, member):
    admin = token(lite)
    ask(lite, "POST", "/users/create", admin, json=CHIEF)
    before = ask(lite, "GET", "/users/chief", admin).json
    answer = ask(lite, "PATCH", "/users/chief", admin, json={member: "x", "disabled_reason": "y"})
    assert answer.status_code == 400
    assert ask(lite, "GET", "/users/chief", admin).json == before


@pytest.mark.parametrize("is_admin", [True, False])
def test_a_new_user_cannot_be_two_things(lite, is_admin):
    role = "user" if is_admin else "admin"
    body = CHIEF | {"is_admin": is_admin, "role": role, "password": PASSWORD}
    assert ask(lite, "POST", "/users/create", token(lite), json=body).status_code == 400


def test_a_user_who_is_called_like_the_operator_takes_nothing_away_and_gets_nothing(lite):
    admin, here = token(lite), lite.extensions["gateway"].engine
    ask(lite, "POST", "/users/create", admin, json=CHIEF | {"username": "operator"})
    assert register(lite, invitations.make(here, Actor("operator")).code).status_code == 201
    theirs = invitations.make(here, Actor("operator", number_of(lite, "operator")))
    assert refused(register(lite, theirs.code, username="second")) == (403, "invitation_invalid")
