"""The form of a policy leaves what one did not touch, and its box for a text says what would become of it."""

import html
import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import Team
from models_policies import Policy
from tests.admin.conftest import Browser, rows_of

RULES = {
    "kinds": {"all": "allow_but_redact", "email": "allow", "pin": "block"},
    "patterns": [
        {"name": "spaced", "definition": " foo ", "action": "block"},
        {"name": "tabbed", "definition": "a\tb\nc\r\nd", "action": "allow_but_warn"},
    ],
    "words": [{"name": "word", "definition": " blue  falcon ", "action": "block"}],
    "judges": [{"name": "judge", "definition": "No\nweapons.\n", "action": "block"}],
}


def stored(app: Flask, rules: dict[str, Any], **columns: Any) -> int:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = Policy(name="mine", rules=rules, **columns)
        session.add(row)
        session.flush()
        return row.id


def sent_by(page: str) -> dict[str, str]:
    """What a browser sends of a form that nobody touched."""
    form = page[page.index('<form method="post"') :]
    found = {}
    for tag, inner in re.findall(r"<textarea([^>]*)>(.*?)</textarea>", form, re.DOTALL):
        text = html.unescape(inner).replace("\r\n", "\n").removeprefix("\n")
        found[re.search(r'name="([^"]*)"', tag)[1]] = text.replace("\n", "\r\n")
    for name, inner in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r"<option[^>]*selected[^>]*>", inner) or re.search(r"<option[^>]*>", inner)
        found[name] = html.unescape(re.search(r'value="([^"]*)"', chosen[0])[1])
    for tag in re.findall(r"<input([^>]*)>", form):
        named = dict(re.findall(r'([a-z-]+)="([^"]*)"', tag))
        if named.get("type") in ("checkbox", "radio") and not re.search(r"\bchecked\b", tag):
            continue
        if "name" in named:
            found[named["name"]] = html.unescape(named.get("value", ""))
    return found


def test_what_one_did_not_touch_stays(panel_anywhere_admin: Browser) -> None:
    browser = panel_anywhere_admin
    number = stored(browser.app, RULES)
    path = f"/admin/policies/edit/?id={number}"
    answer = browser.post(path, sent_by(browser.get(path).text) | {"name": "renamed"})
    assert answer.status_code == 303, answer.text
    (row,) = rows_of(browser.app, Policy)
    assert row.name == "renamed"
    assert {name: row.rules[name] for name in RULES} == RULES


def test_a_policy_of_as_many_rules_as_there_may_be_has_a_form(panel_admin: Browser) -> None:
    many = [{"name": f"w{count}", "definition": f"word {count}", "action": "block"} for count in range(100)]
    number = stored(panel_admin.app, {"words": many})
    assert panel_admin.get(f"/admin/policies/edit/?id={number}").status_code == 200


PIN = {"kinds": {"email": "block"}}
JUDGED = {"judges": RULES["judges"]}
HIDES = {"kinds": {"email": "allow_but_redact"}}
LIMITED = {"size": {"chars": 5, "action": "block"}}


@pytest.mark.parametrize(
    ("rules", "columns", "said", "unsaid"),
    [
        (PIN, {"is_dry_run": True}, "changes nothing", "would be refused"),
        (PIN, {"on_requests": False, "on_answers": True}, "the answer would be refused", "the call would be refused"),
        (HIDES, {"on_requests": False, "on_answers": True}, "mail [EMAIL]", "[EMAIL_1]"),
        (HIDES, {}, "mail [EMAIL_1]", "would be refused"),
        (LIMITED, {}, "the call would be refused", "Nothing.<"),
        (LIMITED, {"on_requests": False, "on_answers": True}, "Nothing.<", "would be refused"),
        (JUDGED, {}, "are not asked here", "Nothing.<"),
        (JUDGED | {"kinds": {"pin": "block"}}, {}, "Nothing.<", "would be refused"),
        ({"words": [{"name": "w", "definition": " ", "action": "block"}]}, {}, "It cannot be read", "Nothing.<"),
    ],
)
def test_the_box_says_what_would_become_of_a_text(
    panel_admin: Browser, rules: dict[str, Any], columns: dict[str, Any], said: str, unsaid: str
) -> None:
    number = stored(panel_admin.app, rules, **columns)
    page = panel_admin.post(f"/admin/policies/test/?id={number}", {"text": "mail ana@example.com"}).text
    assert said in page
    assert unsaid not in page
    assert f"/admin/policies/edit/?id={number}" in page


def test_the_address_of_the_box_leads_back(panel_admin: Browser) -> None:
    number = stored(panel_admin.app, PIN)
    answer = panel_admin.get(f"/admin/policies/test/?id={number}")
    assert answer.status_code == 303
    assert answer.location.endswith(f"/admin/policies/details/?id={number}")
    assert f"/admin/policies/test/?id={number}" in panel_admin.get(answer.location).text


def test_of_two_who_edit_a_policy_the_second_reads_who_changed_what(panel_anywhere_admin: Browser) -> None:
    browser = panel_anywhere_admin
    number = stored(browser.app, PIN)
    path = f"/admin/policies/edit/?id={number}"
    sent = sent_by(browser.get(path).text)
    assert browser.post(path, sent | {"name": "first"}).status_code == 303
    page = browser.post(path, sent | {"name": "second"})
    assert page.status_code == 422
    assert "Somebody else changed this meanwhile" in page.text
    assert "Name: mine → first" in html.unescape(page.text) or "Policy: mine → first" in html.unescape(page.text)


def test_a_policy_tells_what_it_is_bound_to(panel_admin: Browser) -> None:
    app = panel_admin.app
    number = stored(app, PIN)
    assert "nothing" in panel_admin.get("/admin/policies/").text
    panel_admin.post("/admin/teams/new/", {"name": "blue", "scope": "all", "policy": rows_of(app, Policy)[0].uuid})
    (team,) = rows_of(app, Team)
    assert 'data-label="Applies to">1<' in panel_admin.get("/admin/policies/").text
    page = panel_admin.get(f"/admin/policies/details/?id={number}").text
    assert re.search(rf'Team <a href="/admin/teams/details/\?id={team.id}">blue</a>', page)
