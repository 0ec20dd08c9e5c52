"""What roles are, and what they mean in the panel; tests/matrix has every role against every route."""

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import User
from services import rights
from tests.admin.conftest import CHEAP_HASH, Browser, add_team, add_user
from tests.audit.conftest import engine, signed_in

ROLES = ("admin", "auditor", "team_admin", "user")


@pytest.fixture
def people(lite):
    """Somebody of each role in one team, and somebody of each in no team: their tokens and the team's number."""
    with Session(engine(lite)) as session, session.begin():
        session.execute(update(User).where(User.username == "admin").values(password_hash=CHEAP_HASH))
    numbers = {role: add_user(lite, f"own-{role}", role=role) for role in ROLES}
    numbers["member"] = add_user(lite, "member")
    team = add_team(lite, members=tuple(numbers.values()))
    for role in ROLES:
        add_user(lite, f"other-{role}", role=role)
    names = [f"{where}-{role}" for where in ("own", "other") for role in ROLES]
    return {name: signed_in(lite, name) for name in names}, team, numbers


def test_the_table_of_roles_is_the_one_that_is_documented():
    assert set(rights.RIGHTS) == set(ROLES)
    has = {role: [rights.has(role, right) for right in (rights.READ, rights.CHANGE, rights.TEAM)] for role in ROLES}
    assert has == {
        "admin": [True, True, False],
        "auditor": [True, False, False],
        "team_admin": [False, False, True],
        "user": [False, False, False],
    }
    assert not rights.has("nobody", rights.READ)
    assert [rights.needed(method) for method in ("GET", "HEAD", "POST")] == [rights.READ, rights.READ, rights.CHANGE]


def test_a_member_that_a_team_admin_lets_in_again_signs_in_again(lite, people):
    """Tokens of before a member was disabled stay void, as where an admin does it."""
    tokens, team, _numbers = people
    mine, path = tokens["own-user"], f"/api/v1/teams/{team}/members/{people[2]['user']}"
    assert lite.test_client().get("/users/me", headers=mine).status_code == 200
    for state in (False, True):
        changed = lite.test_client().patch(path, headers=tokens["own-team_admin"], json={"is_active": state})
        assert changed.status_code == 200
    assert lite.test_client().get("/users/me", headers=mine).status_code == 401
    assert lite.test_client().get("/users/me", headers=signed_in(lite, "own-user")).status_code == 200


def test_a_role_that_is_taken_away_is_gone_at_once(lite, people):
    tokens, _team, _numbers = people
    assert lite.test_client().get("/api/v1/admin/audit", headers=tokens["own-auditor"]).status_code == 200
    with Session(engine(lite)) as session, session.begin():
        session.execute(update(User).where(User.username == "own-auditor").values(role="user"))
    lite.extensions["gateway"].catalog.refresh()
    assert lite.test_client().get("/api/v1/admin/audit", headers=tokens["own-auditor"]).status_code == 403


def test_an_auditor_reads_key_management_and_changes_nothing(lite, people):
    tokens, _team, _numbers = people
    client, auditor = lite.test_client(), tokens["own-auditor"]
    for path in ("/api/users", "/api/provider-settings", "/api/routes", "/api/key-management/keys?tag=x"):
        assert client.get(path, headers=auditor).status_code == 200, path
        assert client.get(path, headers=tokens["own-team_admin"]).status_code in (401, 403), path
    assert client.post("/api/users", json={"name": "x"}, headers=auditor).status_code in (401, 403)


def panel(app):
    """The panel's pages that need nothing but a look, and those that take forms."""
    look, forms = [], []
    for rule in app.url_map.iter_rules():
        is_own = rule.endpoint.startswith(("signin.", "views."))
        if rule.rule.startswith("/admin") and not rule.arguments and not is_own and "static" not in rule.endpoint:
            (forms if "POST" in (rule.methods or ()) else look).append(rule.rule)
    return look, forms


def test_the_panel_lets_auditors_look(lite, people):
    look, forms = panel(lite)
    assert len(look) > 15
    assert len(forms) > 15
    auditor = Browser(lite, "own-auditor")
    for path in look:
        assert auditor.get(path, query_string={"id": "1"}).status_code in (200, 302, 303, 404), path
    for path in forms:
        refused = auditor.get(path, query_string={"id": "1"})
        assert refused.status_code in (403, 404), path  # 404: it is only sent to
        assert auditor.post(path, {"id": "1"}).status_code == 403, path
    assert "change nothing" in auditor.get("/admin/users/new/").text
    for path in ("/admin/users/", f"/admin/users/details/?id={people[2]['member']}", "/admin/keys/", "/admin/configs/"):
        page = auditor.get(path).text.replace("/admin/views/new/", "")  # a view of the list is one's own
        assert "/new/" not in page, path
        assert "/edit/" not in page, path
        assert "/delete/" not in page, path
        assert "/new/" in Browser(lite, "own-admin").get(path).text, path


@pytest.mark.parametrize("role", ["team_admin", "user"])
def test_the_panel_is_closed_to_others(lite, people, role):
    browser = Browser(lite, f"own-{role}")
    assert browser.get("/admin/").location == "/portal/"
    for path in [path for group in panel(lite) for path in group if path != "/admin/"]:
        statuses = {browser.get(path).status_code, browser.post(path).status_code}
        assert 403 in statuses, path
        assert statuses <= {403, 404, 405}, path  # it does not take the method
    assert "For admins only" in browser.get("/admin/users/").text


def test_a_password_that_must_be_changed_comes_first_for_auditors_too(lite):
    add_user(lite, "fresh", role="auditor", must_change_password=True)
    answer = Browser(lite, "fresh").get("/admin/users/")
    assert (answer.status_code, answer.location) == (302, "/admin/password")
