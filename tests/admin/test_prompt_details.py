"""The page of a stored prompt: how it is tried and called, what a label's removal does, and two who edit it."""

import html
import json
import re
from typing import Any

from tests.admin.conftest import Browser, add_user
from tests.admin.test_prompt_forms import made
from tests.admin.test_prompt_pages import LIST
from tests.routes.test_dialogs import admin_of, ask
from tests.routes.test_prompts import PROMPTS

USE = re.compile(r'<code id="prompt-use">([^<]*)</code>')
SEEN = re.compile(r'name="seen" value="(\w+)"')


def page(browser: Browser, uuid: str, **more: Any) -> str:
    return browser.get(f"{LIST}details/", query_string={"id": uuid, **more}).text


def example(text: str) -> dict[str, Any]:
    found = USE.search(text)
    assert found is not None
    body: dict[str, Any] = json.loads(html.unescape(found[1]))
    return body


def test_a_prompt_is_tried_and_called_by_what_leads_to_it(panel_admin: Browser) -> None:
    app = panel_admin.app
    add_user(app, "ana")
    public, ana = made(app), Browser(app, "ana")
    assert "/playground/?prompt=greeting@1" in page(ana, public)
    assert example(page(ana, public))["prompt_id"] == "greeting"
    own = {"name": "greeting", "owner": "user", "messages-0-content": "Mine."}
    assert ana.post(f"{LIST}new/", own).status_code == 303
    text = page(ana, public)
    assert f"/playground/?prompt={public}@1" in text
    assert example(text)["prompt_id"] == public
    listed = ask(app, "GET", PROMPTS, headers=admin_of(app)).json
    (private,) = (one["id"] for one in listed if one["owner"] == "user")
    assert "/playground/?prompt=greeting@1" in page(ana, private)
    text = page(panel_admin, private)  # the admin sees it, and cannot use it
    assert "Try it" not in text
    assert example(text)["prompt_id"] == private


def test_the_example_names_the_version_that_is_shown(panel_admin: Browser) -> None:
    uuid = made(panel_admin.app)
    own = f"id={uuid}"
    panel_admin.post(f"{LIST}version/?{own}", {"messages-0-content": "Newer."})
    assert example(page(panel_admin, uuid))["prompt_id"] == "greeting"
    assert example(page(panel_admin, uuid, version=1))["prompt_id"] == "greeting@1"
    panel_admin.post(f"{LIST}label/?{own}", {"label": "production", "version": "1"})
    assert example(page(panel_admin, uuid, version=1))["prompt_id"] == "greeting"
    assert example(page(panel_admin, uuid, version=2))["prompt_id"] == "greeting@2"


def test_the_example_can_be_sent(panel_admin: Browser) -> None:
    names = {"a": "string", "b": "integer", "c": "number", "d": "boolean", "e": "json"}
    variables = [{"name": name, "type": kind} for name, kind in names.items()]
    variables.append({"name": "f", "type": "enum", "options": ["x", "y"]})
    uuid = made(panel_admin.app, variables=variables)
    values = example(page(panel_admin, uuid))["variables"]
    asked = {"variables": values, "model": "fast"}
    answer = ask(panel_admin.app, "POST", f"{PROMPTS}/{uuid}/render", asked, admin_of(panel_admin.app))
    assert answer.status_code == 200, answer.text
    assert values["b"] == 1


def test_what_removing_a_label_does_is_said(panel_admin: Browser) -> None:
    uuid = made(panel_admin.app)
    panel_admin.post(f"{LIST}version/?id={uuid}", {"messages-0-content": "Newer."})
    for label in ("production", "staging"):
        panel_admin.post(f"{LIST}label/?id={uuid}", {"label": label, "version": "1"})
    told = panel_admin.get(f"{LIST}unlabel/?id={uuid}&label=production").text
    assert "Calls that name greeting@production are refused" in told
    assert "Calls that name greeting alone get the newest version, 2" in told
    told = panel_admin.get(f"{LIST}unlabel/?id={uuid}&label=staging").text
    assert "Calls that name greeting@staging are refused" in told
    assert "newest version" not in told


def test_two_who_edit_a_prompt_are_told(panel_anywhere_admin: Browser) -> None:
    app, mine = panel_anywhere_admin.app, panel_anywhere_admin
    add_user(app, "bob", role="admin")
    theirs, path = Browser(app, "bob"), f"{LIST}edit/?id={made(app)}"
    seen = SEEN.search(mine.get(path).text)
    assert seen is not None
    assert theirs.post(path, {"name": "greeting", "description": "Theirs"}).status_code == 303
    typed = {"name": "hello", "description": "", "seen": seen[1]}
    told = mine.post(path, typed)
    assert told.status_code == 422
    for text in ("Somebody else changed this meanwhile", "bob at ", "→ Theirs", 'value="hello"'):
        assert text in told.text
    (row,) = ask(app, "GET", PROMPTS, headers=admin_of(app)).json
    assert (row["name"], row["description"]) == ("greeting", "Theirs")
    newer = SEEN.search(told.text)
    assert newer is not None
    assert mine.post(path, typed | {"seen": newer[1]}).status_code == 303
    (row,) = ask(app, "GET", PROMPTS, headers=admin_of(app)).json
    assert (row["name"], row["description"]) == ("hello", "")


def test_the_list_has_pages_and_a_search(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    add_user(app, "ana")
    ana = Browser(app, "ana")
    assert ana.post(f"{LIST}new/", {"name": "of-ana", "owner": "user", "messages-0-content": "x"}).status_code == 303
    for place in range(20):
        made(app, name=f"p{place:02}", description="50% off" if place == 3 else "")
    first, second = browser.get(LIST).text, browser.get(f"{LIST}?page=2").text
    assert [name in first for name in ("of-ana", "p18", ">p19<")] == [True, True, False]
    assert [name in second for name in ("of-ana", ">p19<", "21 in all")] == [False, True, True]
    for query, name in (("P07", "p07"), ("50%25", "p03"), ("ana", "of-ana")):
        found = browser.get(f"{LIST}?q={query}").text
        assert f">{name}</a>" in found
        assert "1 in all" in found
    assert "Nothing matches" in browser.get(f"{LIST}?q=nowhere").text
    assert "of-ana" not in Browser(app, add_user(app, "bob") and "bob").get(f"{LIST}?q=ana").text
