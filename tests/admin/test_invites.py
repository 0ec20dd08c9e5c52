"""The page of invitations: making one, whose code is shown once and works, and withdrawing it."""

import re

import pytest
from flask import Flask

from models import AuditEntry, Invitation, User
from tests.admin.conftest import Browser, add_team, add_user, rows_of

LIST, NEW, DELETE = "/admin/invites/", "/admin/invites/new/", "/admin/invites/delete/"
CODE = re.compile(r"inv-[A-Za-z0-9]{32}")


@pytest.fixture
def admin(panel_app: Flask) -> Browser:
    return Browser(panel_app, "admin")


def invite(admin: Browser, **form: object) -> str:
    page = admin.post(NEW, {"role": "user", "team": "", "days": "7", **form})
    assert page.status_code == 200
    (code,) = set(CODE.findall(page.text))
    return code


def register(app: Flask, code: str, name: str = "nina") -> int:
    body = {"username": name, "password": "a good password", "invitation": code}
    return app.test_client().post("/register", json=body).status_code


def test_an_empty_list_says_what_it_is_for(admin: Browser) -> None:
    page = admin.get(LIST).text
    assert "No invitation yet" in page
    assert "can register once" in page


def test_a_code_is_shown_once_and_gives_role_and_team(panel_app: Flask, admin: Browser) -> None:
    team = add_team(panel_app, "research")
    code = invite(admin, role="auditor", team="research", days="3")
    page = admin.get(LIST).text
    assert code not in page
    assert f"{code[:8]}…" in page
    assert "research" in page
    assert code not in repr([row.details for row in rows_of(panel_app, AuditEntry)])
    assert register(panel_app, code) == 201
    made = next(row for row in rows_of(panel_app, User) if row.username == "nina")
    assert (made.role, made.team_id) == ("auditor", team)
    page = admin.get(LIST).text
    assert "Used" in page
    assert "nina" in page
    assert register(panel_app, code, "otto") == 403, "once"


def test_withdrawing_asks_first_and_ends_the_code(panel_app: Flask, admin: Browser) -> None:
    code = invite(admin)
    number = rows_of(panel_app, Invitation)[0].digest
    asked = admin.get(f"{DELETE}?id={number}").text
    assert "Nobody can register with its code any more." in asked
    assert len(rows_of(panel_app, Invitation)) == 1
    assert admin.post(DELETE, {"id": number}).status_code == 303
    assert rows_of(panel_app, Invitation) == []
    assert register(panel_app, code) == 403
    actions = [row.action for row in rows_of(panel_app, AuditEntry) if row.resource_type == "invitation"]
    assert actions == ["invitation_create", "invitation_delete"]
    assert admin.post(DELETE, {"id": number}).status_code == 404


def test_the_list_is_narrowed_by_state_and_searched(panel_app: Flask, admin: Browser) -> None:
    used, kept = invite(admin), invite(admin)
    register(panel_app, used)
    for state, here, gone in (("used", used, kept), ("open", kept, used)):
        page = admin.get(f"{LIST}?state={state}").text
        assert (here[:8] in page, gone[:8] in page) == (True, False)
    assert "Nothing matches" in admin.get(f"{LIST}?state=expired").text
    assert kept[:8] in admin.get(f"{LIST}?search={kept[:8]}").text
    assert used[:8] not in admin.get(f"{LIST}?search={kept[:8]}").text


@pytest.mark.parametrize(
    "form", [{"role": "king"}, {"team": "nowhere"}, {"days": "0"}, {"days": "366"}, {"days": "soon"}, {"days": ""}]
)
def test_what_an_invitation_cannot_be_is_said_at_the_field(
    panel_app: Flask, admin: Browser, form: dict[str, str]
) -> None:
    answer = admin.post(NEW, {"role": "user", "team": "", "days": "7", **form})
    assert answer.status_code == 422
    assert "invalid-feedback" in answer.text
    assert rows_of(panel_app, Invitation) == []


@pytest.mark.parametrize("number", ["", "1", "x" * 64, "a\0b", "ö", "%00"])
def test_what_is_not_there_cannot_be_withdrawn(admin: Browser, number: str) -> None:
    assert admin.get(DELETE, query_string={"id": number}).status_code == 404


def test_where_registration_is_closed_nobody_is_invited(panel_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    config = panel_app.extensions["gateway"].config
    monkeypatch.setattr(type(config), "registration_mode", property(lambda _self: "closed"))
    admin = Browser(panel_app, "admin")
    answer = admin.post(NEW, {"role": "user", "team": "", "days": "7"})
    assert (answer.status_code, "set REGISTRATION=invite" in answer.text) == (422, True)
    assert "Registration is closed" in admin.get(LIST).text


def test_auditors_look_and_make_none(panel_app: Flask, admin: Browser) -> None:
    invite(admin)
    add_user(panel_app, "vera", role="auditor")
    auditor = Browser(panel_app, "vera")
    assert "inv-" in auditor.get(LIST).text
    assert "Invite</a>" not in auditor.get(LIST).text
    assert auditor.get(NEW).status_code == 403
    assert auditor.post(NEW, {"role": "admin", "team": "", "days": "7"}).status_code == 403
    assert auditor.post(DELETE, {"id": rows_of(panel_app, Invitation)[0].digest}).status_code == 403
