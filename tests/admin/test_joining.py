"""The page where people make an account: by a link, by a code, or freely, as registration is set."""

import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from models import AuditEntry, Invitation, User
from services import invitations
from services.audit import Actor
from tests.admin.conftest import Browser, add_team, add_user, rows_of

JOIN = "/admin/join"
GOOD = {"username": "nina", "password": "a good password", "again": "a good password", "invitation": ""}


def invite(app: Flask, **options: Any) -> str:
    return invitations.make(app.extensions["gateway"].engine, Actor("admin", 1), **options).code


def names(app: Flask) -> set[str]:
    return {row.username for row in rows_of(app, User)}


def stranger(app: Flask) -> Browser:
    return Browser(app, None)


def test_an_invitation_gives_an_account_that_is_signed_in(panel_anywhere: Flask) -> None:
    team, code = add_team(panel_anywhere, "research"), invite(panel_anywhere, team="research")
    browser = stranger(panel_anywhere)
    assert browser.post(JOIN, GOOD | {"invitation": code}).status_code == 303
    assert "nina" in browser.get("/portal/").text
    made = next(row for row in rows_of(panel_anywhere, User) if row.username == "nina")
    assert (made.role, made.team_id) == ("user", team)
    assert [row.action for row in rows_of(panel_anywhere, AuditEntry)][-2:] == ["user_register", "login_success"]
    again = stranger(panel_anywhere).post(JOIN, GOOD | {"invitation": code, "username": "otto"})
    assert again.status_code == 422
    assert "otto" not in names(panel_anywhere), "once"


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("invitation", "inv-" + "x" * 32, "invitation"),
        ("username", "ana", "already exists"),
        ("username", "with space", "user name"),
        ("username", "a\0b", "Only characters that can be seen"),
        ("password", "short", "characters"),
        ("again", "another password", "The two passwords are not the same."),
        ("username", "", "required"),
    ],
)
def test_what_is_wrong_is_said_and_uses_nothing_up(panel_app: Flask, field: str, text: str, words: str) -> None:
    add_user(panel_app, "ana")
    before, code = names(panel_app), invite(panel_app)
    answer = stranger(panel_app).post(JOIN, GOOD | {"invitation": code} | {field: text})
    assert answer.status_code == 422
    assert words in answer.text
    assert GOOD["password"] not in answer.text
    assert names(panel_app) == before
    assert [row.used_at for row in rows_of(panel_app, Invitation)] == [None]


@pytest.mark.parametrize(("mode", "status"), [("open", 303), ("invite", 422), ("closed", 403)])
def test_without_an_invitation_it_goes_by_the_setting(
    panel_app: Flask, mode: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = panel_app.extensions["gateway"]
    config = here.config.model_copy(update={"registration": mode})
    monkeypatch.setitem(panel_app.extensions, "gateway", replace(here, config=config))
    assert stranger(panel_app).post(JOIN, GOOD).status_code == status
    assert ("nina" in names(panel_app)) == (mode == "open")
    page = stranger(panel_app).get(JOIN)
    assert page.status_code == (403 if mode == "closed" else 200)
    assert ("Registration is closed" in page.text) == (mode == "closed")
    assert (JOIN in stranger(panel_app).get("/admin/login").text) == (mode != "closed")


def test_whoever_is_in_has_no_need_of_it(panel_admin: Browser) -> None:
    assert panel_admin.get(JOIN).status_code == 302


def test_the_link_of_an_invitation_fills_in_its_code(panel_chromium: Any, panel_served: str, panel_app: Flask) -> None:
    made = Browser(panel_app, "admin").post("/admin/invites/new/", {"role": "user", "team": "", "days": "7"}).text
    (link,) = set(re.findall(r"http://[^<\"]+/admin/join#inv-[A-Za-z0-9]{32}", made))
    context = panel_chromium.new_context(base_url=panel_served)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{JOIN}#{link.partition('#')[2]}")
    assert page.get_by_label("Invitation").input_value() == link.partition("#")[2]
    assert page.url.endswith(JOIN), "the code does not stay in the history"
    page.get_by_label("User name").fill("nina")
    page.get_by_label("Password", exact=False).first.fill("a good password")
    page.get_by_label("Password again").fill("a good password")
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("heading", name="Your account").wait_for()
    assert not any("inv-" in url for url in asked)
    context.close()
