"""A session that ends in mid-form: after signing in again everything typed is there, but for secrets."""

import html
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import delete
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import AuditEntry, Model, Provider, User, WebSession
from tests.admin.conftest import CANARY, PASSWORD, Browser, add_model, add_provider, add_user, row_of, rows_of
from utils import clock

OURS = {"sec-fetch-site": "same-origin"}
HIDDEN = re.compile(r'<input type="hidden" name="(draft|next|csrf_token)" value="([^"]*)"')
ACTION = re.compile(r'<form method="post" action="([^"]+)" data-go-on>')
FORM = {"kind": "openai", "name": "<b>acme</b> é\u0645", "base_url": "https://acme.test/v1", "credential": CANARY}


def hidden(answer: TestResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in HIDDEN.findall(answer.text):
        found.setdefault(name, html.unescape(value))
    return found


def end_sessions(app: Flask) -> None:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(delete(WebSession))


def sign_in_again(browser: Browser, page: TestResponse, **data: Any) -> TestResponse:
    return browser.client.post(
        "/admin/login", data={**hidden(page), "username": "admin", "password": PASSWORD, **data}, headers=OURS
    )


def go_on(browser: Browser, page: TestResponse) -> TestResponse:
    found = ACTION.search(page.text)
    assert found is not None, page.text
    return browser.client.post(html.unescape(found[1]), data=hidden(page), headers=OURS)


def test_a_new_provider_is_back_after_signing_in(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    browser.get("/admin/providers/new/")
    before = len(rows_of(app, Provider))
    end_sessions(app)
    page = browser.post("/admin/providers/new/", FORM)
    assert page.status_code == 401
    assert "Your session has ended" in page.text
    assert "acme" not in page.text  # it is sealed
    wrong = sign_in_again(browser, page, password="wrong-password")
    assert wrong.status_code == 401
    assert "draft" in hidden(wrong)
    inside = sign_in_again(browser, wrong)
    assert (inside.status_code, ACTION.search(inside.text)[1]) == (200, "/admin/providers/new/")  # type: ignore[index]  # it was found
    form = go_on(browser, inside)
    assert form.status_code == 200
    assert "You were signed out meanwhile" in form.text
    assert html.escape(FORM["name"]) in form.text
    assert "https://acme.test/v1" in form.text
    assert CANARY not in page.text + inside.text + form.text
    assert len(rows_of(app, Provider)) == before
    sent = browser.client.post("/admin/providers/new/", data={**hidden(form), **FORM}, headers=OURS)
    assert sent.status_code == 303
    assert len(rows_of(app, Provider)) == before + 1


def test_what_is_carried_holds_no_secret(panel_admin: Browser) -> None:
    panel_admin.get("/admin/providers/new/")
    panel_admin.post("/admin/providers/new/", FORM)  # the token is known now
    end_sessions(panel_admin.app)
    page = panel_admin.post("/admin/providers/new/", FORM)
    opened = panel_admin.gateway.sealer.open(hidden(page)["draft"].encode())
    assert "acme.test" in opened
    assert CANARY not in opened
    assert "csrf_token" not in opened
    row = {"username": "zoe", "password_mode": "choose", "password": "a-password-typed"}
    opened = panel_admin.gateway.sealer.open(hidden(panel_admin.post("/admin/users/new/", row))["draft"].encode())
    assert ("zoe" in opened, "a-password-typed" in opened) == (True, False)


def test_an_edit_comes_back_with_what_the_row_looked_like_then(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    number = add_user(app, "ana")
    first = browser.get(f"/admin/users/edit/?id={number}").text
    seen = re.search(r'name="seen" value="(\w+)"', first)
    assert seen is not None
    end_sessions(app)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(User, number).role = "auditor"
    typed = {"role": "team_admin", "team": "", "is_active": "y", "scope": "all", "tags": "night", "seen": seen[1]}
    page = browser.post(f"/admin/users/edit/?id={number}", typed)
    inside = sign_in_again(browser, page)
    form = go_on(browser, inside)
    assert "night" in form.text
    assert '<option selected value="team_admin">' in form.text
    again = browser.client.post(
        f"/admin/users/edit/?id={number}", data={**typed, **hidden(form), "seen": seen[1]}, headers=OURS
    )
    assert again.status_code == 422
    assert "Somebody else changed this meanwhile" in again.text
    assert row_of(app, User, number).role == "auditor"


def test_signed_in_again_in_another_tab(panel_admin: Browser) -> None:
    """The old form has the token of the old session: it is shown again, not obeyed."""
    old = panel_admin.token()
    with panel_admin.client.session_transaction("/admin/") as cookie:
        cookie.pop("csrf_token")
    data = {"csrf_token": old, **FORM}
    form = panel_admin.client.post("/admin/providers/new/", data=data, headers=OURS)
    assert form.status_code == 400
    assert html.escape(FORM["name"]) in form.text
    assert "nothing was saved" in form.text
    assert [row.name for row in rows_of(panel_admin.app, Provider) if "acme" in row.name] == []
    sent = panel_admin.client.post("/admin/providers/new/", data={**FORM, **hidden(form)}, headers=OURS)
    assert sent.status_code == 303


def test_a_cookie_that_is_gone_loses_nothing_either(panel_app: Flask) -> None:
    browser = Browser(panel_app)
    page = browser.client.post("/admin/providers/new/", data=FORM, headers=OURS)
    assert "draft" in hidden(page)
    form = go_on(browser, sign_in_again(browser, page))
    assert html.escape(FORM["name"]) in form.text


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.test"}])
def test_a_page_of_another_site_brings_nothing_back(panel_admin: Browser, headers: dict[str, str]) -> None:
    """Else it could fill in a form that an admin then sends."""
    made = panel_admin.gateway.sealer.seal('{"kind": "draft", "at": 9e9, "form": [["name", "planted"]]}').decode()
    for data in (FORM, {"draft": made}, {"name": "planted"}):
        answer = panel_admin.client.post("/admin/providers/new/", data=data, headers=headers)
        assert answer.status_code in (400, 403)
        assert "planted" not in answer.text
        assert "acme" not in answer.text


def test_what_comes_back_is_shown_and_never_done(panel_admin: Browser) -> None:
    app, number = panel_admin.app, add_user(panel_admin.app, "ana")
    draft = panel_admin.gateway.sealer.seal(
        f'{{"kind": "draft", "at": {clock.now_s()}, "form": [["a", "b"]]}}'
    ).decode()
    before = len(rows_of(app, AuditEntry))
    for path in (f"/admin/users/delete/?id={number}", f"/admin/users/password/?id={number}", "/admin/users/new/"):
        answer = panel_admin.post(
            path, {"draft": draft, "id": str(number), "username": "x", "password_mode": "generate"}
        )
        assert answer.status_code == 200, path
    for path in ("/admin/users/bulk/", "/admin/users/undo/"):
        answer = panel_admin.post(path, {"draft": draft, "id": str(number), "action": "delete"})
        assert answer.status_code in (200, 303)
    assert row_of(app, User, number) is not None
    assert len(rows_of(app, AuditEntry)) == before


@pytest.mark.parametrize(
    "draft", ["", "rubbish", "gAAAAA", "\u0645" * 10], ids=["nothing", "rubbish", "half a seal", "letters of no seal"]
)
def test_a_draft_that_cannot_be_opened_is_said(panel_admin: Browser, draft: str) -> None:
    answer = panel_admin.post("/admin/users/new/", {"draft": draft})
    assert answer.status_code == 200
    assert "could not be brought back" in answer.text


@pytest.mark.parametrize("text", ['{"kind": "draft", "at": 5, "form": []}', '{"kind": "other"}', "[]", "sk-provider"])
def test_a_seal_of_something_else_or_of_long_ago_does_not_do(panel_admin: Browser, text: str) -> None:
    sealed = panel_admin.gateway.sealer.seal(text).decode()
    answer = panel_admin.post("/admin/users/new/", {"draft": sealed})
    assert "could not be brought back" in answer.text


def test_an_empty_form_and_a_question_go_to_the_sign_in_page(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "ana")
    panel_admin.token()
    panel_admin.post("/admin/users/undo/")
    end_sessions(panel_admin.app)
    for path, data in (("/admin/users/new/", {}), ("/admin/users/delete/", {"id": str(number)})):
        answer = panel_admin.post(path, data)
        assert answer.status_code == 302
        assert urlsplit(answer.location).path == "/admin/login"


def test_a_conflict_names_who_changed_what_and_may_be_overruled(panel_anywhere_admin: Browser) -> None:
    app, mine = panel_anywhere_admin.app, panel_anywhere_admin
    add_user(app, "bob", role="admin")
    theirs, number = Browser(app, "bob"), add_user(app, "ana")
    seen = re.search(r'name="seen" value="(\w+)"', mine.get(f"/admin/users/edit/?id={number}").text)
    assert seen is not None
    typed = {"role": "user", "team": "", "is_active": "y", "scope": "all"}
    assert theirs.post(f"/admin/users/edit/?id={number}", {**typed, "role": "auditor"}).status_code == 303
    told = mine.post(f"/admin/users/edit/?id={number}", {**typed, "tags": "night", "seen": seen[1]})
    assert told.status_code == 422
    for text in ("Somebody else changed this meanwhile", "bob at ", "Role: user → auditor", "night"):
        assert text in told.text, text
    now = re.search(r'name="seen" value="(\w+)"', told.text)
    assert now is not None
    again = mine.post(f"/admin/users/edit/?id={number}", {**typed, "tags": "night", "seen": now[1]})
    assert again.status_code == 303
    assert (row_of(app, User, number).role, row_of(app, User, number).tags) == ("user", ["night"])


@pytest.mark.parametrize("seen", ["zz_zz", "_", "0123_ffffffffffffffffffffff", "x" * 500, "a_-1"])
def test_a_mark_that_was_tampered_with_is_only_a_conflict(panel_admin: Browser, seen: str) -> None:
    number = add_user(panel_admin.app, "ana")
    typed = {"role": "user", "team": "", "is_active": "y", "scope": "all", "seen": seen}
    assert panel_admin.post(f"/admin/users/edit/?id={number}", typed).status_code == 422


def test_a_model_with_many_deployments_comes_back_whole(panel_admin: Browser) -> None:
    app, provider = panel_admin.app, add_provider(panel_admin.app)
    number = add_model(app, [provider])
    panel_admin.get(f"/admin/models/edit/?id={number}")
    panel_admin.token()
    panel_admin.post("/admin/models/undo/")
    end_sessions(app)
    typed = {"name": "fast", "is_enabled": "y"}
    for place in range(5):
        typed |= {
            f"deployments-{place}-provider_id": str(provider),
            f"deployments-{place}-upstream_model": f"m-{place}",
        }
    page = panel_admin.post(f"/admin/models/edit/?id={number}", typed)
    form = go_on(panel_admin, sign_in_again(panel_admin, page))
    assert [f'value="m-{place}"' in form.text for place in range(5)] == [True] * 5
    assert len(row_of(app, Model, number).name) == 4
