"""The forms of stored prompts: they lose and change nothing, and what is refused is said at its field."""

from typing import Any

import pytest
from flask import Flask

from tests.admin.conftest import Browser
from tests.admin.test_drafts import end_sessions, go_on, sign_in_again
from tests.admin.test_prompt_pages import FORM, LIST
from tests.routes.test_dialogs import admin_of, ask
from tests.routes.test_prompts import PROMPTS

VERSION = {name: value for name, value in FORM.items() if name not in ("name", "owner")}


def made(app: Flask, **members: Any) -> str:
    """The id of a new prompt for everybody."""
    body = {"name": "greeting", "owner": "everyone", "messages": [{"role": "user", "content": "Hello."}], **members}
    answer = ask(app, "POST", PROMPTS, body, admin_of(app))
    assert answer.status_code == 201, answer.text
    return str(answer.json["id"])


@pytest.mark.parametrize("page", ["new", "version", "edit"])
def test_what_was_typed_is_back_after_signing_in(panel_admin: Browser, page: str) -> None:
    path = f"{LIST}{page}/" + ("" if page == "new" else f"?id={made(panel_admin.app)}")
    panel_admin.token()
    panel_admin.post(path, {})  # the token is known now
    end_sessions(panel_admin.app)
    typed = {**FORM, "messages-0-content": "Typed and {{name}}.", "name": "typed-name", "description": "typed-words"}
    if page == "version":
        typed["messages-1-content"] = "The last of two."
    form = go_on(panel_admin, sign_in_again(panel_admin, panel_admin.post(path, typed)))
    assert "What you typed is back" in form.text
    expected = {"edit": ("typed-name", "typed-words")}.get(page, ("Typed and {{name}}.",))
    for text in expected + (("The last of two.", "messages-2-content") if page == "version" else ()):
        assert text in form.text


def test_other_forms_of_the_portal_are_back_too(panel_admin: Browser) -> None:
    panel_admin.token()
    panel_admin.post("/portal/keys/new/", {})
    end_sessions(panel_admin.app)
    page = panel_admin.post("/portal/keys/new/", {"name": "typed-name", "lives": "30"})
    assert "typed-name" in go_on(panel_admin, sign_in_again(panel_admin, page)).text
