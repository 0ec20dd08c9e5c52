"""The pages about teams: members, models, budgets and limits that they share, and what deleting one leaves."""

import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, Budget, Limit, Team, User
from tests.admin.conftest import Browser, add_budget, add_key, add_limit, add_team, add_user, row_of, rows_of, user_of
from tests.fakes.upstream import Upstream
from tests.helpers import assert_books_agree, chat, last, with_upstream


def make(browser: Browser, **data: Any) -> Any:
    return browser.post("/admin/teams/new/", {"name": "research", "scope": "all", "members": "", **data})


def secret_of(app: Flask, user: int) -> str:
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, user, "of a member").secret
    here.catalog.refresh()
    return str(issued)


def call(app: Flask, secret: str, model: str = "echo") -> Any:
    headers = {"Authorization": f"Bearer {secret}"}
    return app.test_client().post("/v1/chat/completions", json=chat("hello", model), headers=headers, buffered=True)


def test_a_team_is_made_with_its_members(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, bo = add_user(app, "ana"), add_user(app, "bo")
    answer = make(panel_anywhere_admin, members=" ana \n\nbo\nana", scope="some", allowed_models=["echo", "echo-slow"])
    (team,) = rows_of(app, Team)
    assert answer.location == f"/admin/teams/details/?id={team.id}"
    assert (team.name, team.allowed_models) == ("research", ["echo", "echo-slow"])
    assert [row_of(app, User, number).team_id for number in (ana, bo)] == [team.id, team.id]
    entry = rows_of(app, AuditEntry)[-1]
    assert (entry.action, entry.resource_type, entry.resource_id) == ("team_create", "team", str(team.id))
    assert entry.details["after"]["members"] == ["ana", "bo"]
    page = panel_anywhere_admin.get("/admin/teams/").text
    assert "research" in page
    assert "echo, echo-slow" in page


def test_members_come_go_and_leave_another_team(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, bo, eva = (add_user(app, name) for name in ("ana", "bo", "eva"))
    team, other = add_team(app, "research", (ana, bo)), add_team(app, "support", (eva,))
    form = {"name": "lab", "scope": "all", "members": "bo\neva"}
    assert panel_anywhere_admin.post(f"/admin/teams/edit/?id={team}", form).status_code == 303
    assert [row_of(app, User, number).team_id for number in (ana, bo, eva)] == [None, team, team]
    assert row_of(app, Team, team).name == "lab"
    details = rows_of(app, AuditEntry)[-1].details
    assert (details["before"]["members"], details["after"]["members"]) == (["ana", "bo"], ["bo", "eva"])
    assert "Nobody yet" in panel_anywhere_admin.get(f"/admin/teams/details/?id={other}").text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param({"name": ""}, "This field is required", id="no name"),
        pytest.param({"name": "x" * 151}, "between 1 and 150", id="a long name"),
        pytest.param({"name": "a\u202eb"}, "can be seen", id="a character nobody sees"),
        pytest.param({"name": "taken"}, "There is a team of that name already", id="a taken name"),
        pytest.param({"members": "ana\nnobody\n<b>"}, "names: &lt;b&gt;, nobody", id="members there are not"),
        pytest.param({"members": "ana\n" * 5001}, "too many lines", id="more members than a form takes"),
        pytest.param({"scope": "some"}, "Choose at least one model", id="no model at all"),
        pytest.param({"scope": "some", "allowed_models": ["no-such"]}, "does not exist", id="a model there is not"),
    ],
)
def test_a_team_is_not_stored(panel_admin: Browser, data: dict[str, Any], said: str) -> None:
    ana = add_user(panel_admin.app, "ana")
    add_team(panel_admin.app, "taken")
    answer = make(panel_admin, **data)
    assert answer.status_code == 422
    assert said in answer.text
    assert [row.name for row in rows_of(panel_admin.app, Team)] == ["taken"]
    assert row_of(panel_admin.app, User, ana).team_id is None


def test_nobody_overwrites_unseen_what_somebody_else_saved(panel_admin: Browser) -> None:
    app = panel_admin.app
    team = add_team(app, "research", (add_user(app, "ana"),))
    page = panel_admin.get(f"/admin/teams/edit/?id={team}").text
    seen = page.split('name="seen" value="')[1].split('"')[0]
    add_user(app, "bo", team_id=team)
    form = {"name": "research", "scope": "all", "members": "ana", "seen": seen}
    answer = panel_admin.post(f"/admin/teams/edit/?id={team}", form)
    assert (answer.status_code, "Somebody else changed this" in answer.text) == (422, True)
    bo = user_of(app, "bo")
    assert bo is not None
    assert bo.team_id == team


def test_members_may_use_what_the_team_may(panel_anywhere: Flask) -> None:
    secret = secret_of(panel_anywhere, add_user(panel_anywhere, "ana"))
    assert call(panel_anywhere, secret).status_code == 200
    make(Browser(panel_anywhere, "admin"), members="ana", scope="some", allowed_models=["echo-json"])
    assert call(panel_anywhere, secret).status_code == 403
    assert call(panel_anywhere, secret, "echo-json").status_code == 200


def test_deleting_a_team_leaves_its_members_and_nothing_else(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana")
    team, other = add_team(app, "research", (ana,)), add_team(app, "support")
    for scope, number in (("team", team), ("team", other), ("user", ana)):
        add_budget(app, scope, number)
        add_limit(app, scope, number)
    question = panel_anywhere_admin.get(f"/admin/teams/delete/?id={team}").text
    assert "Members that stay, without a team: 1." in question
    assert panel_anywhere_admin.post("/admin/teams/delete/", {"id": team}).location == "/admin/teams/"
    assert row_of(app, Team, team) is None
    assert row_of(app, User, ana).team_id is None
    for table in (Budget, Limit):
        assert [(row.scope, row.scope_id) for row in rows_of(app, table)] == [("team", other), ("user", ana)]
    entry = rows_of(app, AuditEntry)[-1]
    assert (entry.action, entry.details["before"]["members"]) == ("team_delete", ["ana"])


def test_a_call_under_way_is_settled_when_its_team_is_gone(panel_anywhere: Flask, upstream: Upstream) -> None:
    app = with_upstream(panel_anywhere, upstream)
    ana = add_user(app, "ana")
    team = add_team(app, "research", (ana,))
    add_budget(app, "team", team)
    add_limit(app, "team", team, unit="concurrent", period="none")
    secret = secret_of(app, ana)
    upstream.will(first_s=1.0)
    answers: list[Any] = []
    calling = threading.Thread(target=lambda: answers.append(call(app, secret, "fast")))
    calling.start()
    while not upstream.served:
        calling.join(0.01)
    assert Browser(app, "admin").post("/admin/teams/delete/", {"id": team}).status_code == 303
    calling.join()
    assert answers[0].status_code == 200
    engine = app.extensions["gateway"].engine
    assert (last(engine).team_id, last(engine).state) == (team, "measured")
    assert_books_agree(engine)
    assert f"#{team}" in Browser(app, "admin").get("/admin/usage/").text


def test_the_page_of_a_team_shows_members_and_where_its_ceilings_stand(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana")
    team = add_team(app, "research", (ana,), allowed_models=["echo"])
    add_key(app, ana)
    add_budget(app, "team", team)
    add_limit(app, "team", team, 250)
    page = panel_anywhere_admin.get(f"/admin/teams/details/?id={team}").text
    for text in ("ana", "$20.00", "/ 250", "Requests per minute", "USD per month"):
        assert text in page
    assert "research" in panel_anywhere_admin.get("/admin/users/?team=research").text
    assert "Nothing matches" in panel_anywhere_admin.get("/admin/users/?team=nobodys").text


def test_an_empty_list_says_what_a_team_is_for(panel_admin: Browser) -> None:
    page = panel_admin.get("/admin/teams/").text
    assert "No team yet" in page
    assert "/admin/teams/new/" in page
