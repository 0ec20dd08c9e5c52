"""The forms of stored prompts: they lose and change nothing, and what is refused is said at its field."""

import re
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


ODD = {
    "messages": [{"role": "user", "content": "\n a\r\nb \n{{kind}} {{words}} {{none}} {{data}}\n"}],
    "variables": [
        {"name": "kind", "type": "enum", "options": ["a, b", " c ", '"d"', "e\nf", "é\u200b"], "default": " c "},
        {"name": "words", "default": " a\nb ", "description": "one\ntwo "},
        {"name": "none", "default": "", "is_required": False},
        {"name": "data", "type": "json", "default": {"a": 1.0, "b": None}},
    ],
    "parameters": {"stop_sequences": [" END ", "\n#", '"'], "temperature": 0.5},
}
KEPT = ("messages", "variables", "parameters", "model")


def version_of(app: Flask, uuid: str, number: int) -> dict[str, Any]:
    found = ask(app, "GET", f"{PROMPTS}/{uuid}/versions/{number}", headers=admin_of(app)).json
    return {name: found[name] for name in KEPT}


def test_a_new_version_changes_only_what_was_changed(panel_app: Flask, panel_served: str, panel_chromium: Any) -> None:
    browser, uuid = Browser(panel_app, "admin"), made(panel_app, **ODD)
    page = opened(browser, panel_served, panel_chromium)
    page.goto(f"/portal/prompts/version/?id={uuid}")
    page.get_by_label("What is new").fill("Nothing")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/details/**")
    assert version_of(panel_app, uuid, 2) == version_of(panel_app, uuid, 1)
    page.goto(f"/portal/prompts/version/?id={uuid}&version=1")
    page.locator("[name=variables-0-allowed]").fill('x, "y, z"')
    page.locator("[name=variables-0-default]").fill("x")
    page.get_by_role("button", name="Remove this variable").nth(2).click()
    page.locator("[name=messages-0-content]").fill("{{kind}} {{words}} {{data}}")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/details/**")
    first, third = version_of(panel_app, uuid, 1)["variables"], version_of(panel_app, uuid, 3)["variables"]
    assert (third[0]["options"], third[0]["default"]) == (["x", "y, z"], "x")
    assert third[1:] == [first[1], first[3]]
    page.context.close()


def opened(browser: Browser, url: str, chromium: Any, width: int = 1440) -> Any:
    """A page of a real browser, signed in."""
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context = chromium.new_context(base_url=url, viewport={"width": width, "height": 900})
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": url}])
    return context.new_page()


WRONG = [
    ({"variables-0-name": "", "variables-0-default": "x"}, "variables-0-name", "Give the variable a name"),
    ({"variables-0-name": "", "variables-0-type": "integer"}, "variables-0-name", "Give the variable a name"),
    ({"variables-0-name": "1x"}, "variables-0-name", "at most 63 letters"),
    ({"variables-1-name": "name"}, "variables-1-name", "Another variable has this name"),
    ({"variables-0-type": "integer", "variables-0-default": "x"}, "variables-0-default", "variables.0.default"),
    ({"variables-0-type": "enum"}, "variables-0-allowed", "variables.0.options"),
    ({"variables-0-type": "enum", "variables-0-allowed": '"a, b'}, "variables-0-allowed", "no text in quotes"),
    ({"variables-0-type": "enum", "variables-0-allowed": "a" * 201}, "variables-0-allowed", "At most 100 choices"),
    ({"messages-0-content": "{{other}}"}, "messages-0-content", "which is no variable"),
    ({"messages-0-content": ""}, "messages-0-content", "at least one message"),
    ({"messages-1-content": "{{7*7}}"}, "messages-1-content", "at character 1"),
    ({"stop_sequences": "x" * 501}, "stop_sequences", "500"),
    ({"stop_sequences": '"x'}, "stop_sequences", "no text in quotes"),
]


@pytest.mark.parametrize(("typed", "field", "said"), WRONG, ids=[f"{case[1]} {case[2]}" for case in WRONG])
def test_what_is_refused_is_said_at_its_field(
    panel_admin: Browser, typed: dict[str, str], field: str, said: str
) -> None:
    answer = panel_admin.post(f"{LIST}new/", FORM | typed)
    assert answer.status_code == 422
    assert "Please look at the marked fields" in answer.text
    told = re.search(rf'id="{field}-error">([^<]*)<', answer.text)
    assert told is not None, answer.text
    assert said in told[1]
    assert re.search(
        rf'class="[^"]*is-invalid"[^>]* id="{field}"|id="{field}"[^>]* class="[^"]*is-invalid"', answer.text
    )


def test_a_row_too_many_is_refused(panel_admin: Browser) -> None:
    many = {f"variables-{place}-name": f"v{place}" for place in range(51)}
    assert panel_admin.post(f"{LIST}new/", FORM | {"messages-0-content": "Hello."} | many).status_code == 422
    del many["variables-50-name"]
    assert panel_admin.post(f"{LIST}new/", FORM | {"messages-0-content": "Hello."} | many).status_code == 303
    page = panel_admin.get(f"{LIST}version/?id={made_id(panel_admin.app)}").text
    assert 'name="variables-50-name"' in page


def made_id(app: Flask) -> str:
    (row,) = ask(app, "GET", PROMPTS, headers=admin_of(app)).json
    return str(row["id"])


CUT = """() => [...document.querySelectorAll(".prompt-variable select")].filter((field) => {
  const style = getComputedStyle(field), text = document.createElement("canvas").getContext("2d");
  text.font = style.font;
  const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return [...field.options].some((one) => text.measureText(one.text).width > room);
}).map((field) => field.name)"""


@pytest.mark.parametrize("language", ["en", "pt-BR"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_choices_of_a_variable_fit(
    panel_app: Flask, panel_served: str, panel_chromium: Any, width: int, language: str
) -> None:
    page = opened(Browser(panel_app, "admin"), panel_served, panel_chromium, width)
    page.set_extra_http_headers({"accept-language": language})
    page.goto(f"{LIST}new/")
    assert page.locator(".prompt-variable select").count() == 2
    assert page.evaluate(CUT) == []
    page.context.close()
