"""The portal in a real browser: a person, an admin and a team's admin do what they came for; the policy is kept."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from models import Budget
from tests.admin.conftest import Browser, add_budget, add_team, add_user, row_of, rows_of
from tests.admin.portal import add_dialog, add_request
from tests.admin.roles import until
from tests.admin.test_browser import WATCH

PHONE = {"width": 390, "height": 844}
Opener = Callable[[str], Any]


@pytest.fixture
def opened(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Opener]:
    """Opens a page of somebody who is signed in, watched for broken policy and errors."""
    contexts: list[Any] = []
    problems: list[str] = []

    def page_of(name: str) -> Any:
        browser = Browser(panel_app, name)
        browser.get("/portal/")
        cookie = browser.client.get_cookie("admin_session")
        assert cookie is not None
        context = panel_chromium.new_context(base_url=panel_served, accept_downloads=True)
        context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
        context.add_init_script(WATCH)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        return page

    yield page_of
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.__reports") == [], page.url
        context.close()
    assert problems == []


def call(served: str, secret: str) -> int:
    body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{served}/v1/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_a_person_makes_a_key_asks_for_more_redeems_and_leaves(
    opened: Opener, panel_served: str, panel_app: Flask
) -> None:
    ana = add_user(panel_app, "ana")
    budget = add_budget(panel_app, "user", ana, 5, unit="tokens", period="day")
    page, admin, elsewhere = opened("ana"), opened("admin"), opened("ana")
    page.goto("/portal/")
    page.get_by_role("link", name="Create key").first.click()
    page.get_by_label("Name").fill("laptop")
    page.keyboard.press("Enter")
    secret = page.locator("#secret").inner_text()
    assert call(panel_served, secret) == 402, "the budget is too small"
    page.goto("/portal/")
    page.locator(f"a[href$='budget-{budget}']").click()
    page.get_by_label("Wanted").fill("50000")
    page.get_by_label("Reason").fill("The first experiment")
    page.get_by_role("button", name="Send request").click()
    admin.goto("/admin/")
    admin.locator("a.nav-item", has_text="Requests").click()
    admin.get_by_role("link", name="Decide").click()
    admin.get_by_role("button", name="Decide").click()
    admin.get_by_text("The request was approved.").wait_for()
    assert row_of(panel_app, Budget, budget).limit_amount == 50_000
    assert call(panel_served, secret) == 200
    admin.goto("/admin/topups/new/")
    admin.get_by_label("Amount of each").fill("700000")
    admin.get_by_role("button", name="Make codes").click()
    code = admin.locator("#secret").inner_text().strip()
    page.goto("/portal/top-up/")
    page.get_by_label("Code").fill(code)
    page.keyboard.press("Enter")
    page.get_by_text("You got 700,000 tokens.").wait_for()
    page.goto("/portal/profile/")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export my data").click()
    assert download.value.suggested_filename == "export.jsonl"
    page.get_by_role("button", name="Sign out all others").click()
    page.get_by_text("other browsers were signed out.").wait_for()
    elsewhere.goto("/portal/")
    assert "/admin/login" in elsewhere.url


def test_a_dialog_goes_on_word_by_word_and_on_a_phone(opened: Opener, panel_app: Flask) -> None:
    dialog = add_dialog(panel_app, add_user(panel_app, "ana"), "about whales")
    page = opened("ana")
    page.set_viewport_size(PHONE)
    page.goto(f"/portal/dialogs/details/?id={dialog}")
    page.get_by_label("Message", exact=True).fill("and <b>dolphins</b>?")
    page.get_by_role("button", name="Send").click()
    until(page, "document.querySelectorAll('.said-assistant').length === 2")
    until(page, "document.getElementById('content').value === ''")
    assert page.locator(".said b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_answers_of_a_dialog_are_read_as_markdown_and_questions_as_they_are(opened: Opener, panel_app: Flask) -> None:
    text = "**bold** <b>markup</b>\n\n```python\nprint(1)\n```"
    dialog = add_dialog(panel_app, add_user(panel_app, "ana"), text)
    page = opened("ana")
    page.goto(f"/portal/dialogs/details/?id={dialog}")
    answer = page.locator(".said-assistant")
    assert answer.locator("strong", has_text="bold").count() == 1
    assert "<b>markup</b>" in answer.inner_text()
    assert answer.locator("code").inner_text() == "print(1)"
    assert answer.get_by_role("button", name="Copy").count() == 1
    assert page.locator(".said-user .said-text").inner_text() == text
    assert page.locator(".said b").count() == 0


def test_a_teams_admin_answers_a_member(opened: Opener, panel_app: Flask) -> None:
    ana, lea = add_user(panel_app, "ana"), add_user(panel_app, "lea", role="team_admin")
    add_team(panel_app, "crew", (ana, lea))
    add_budget(panel_app, "user", ana)
    add_request(panel_app, ana)
    page = opened("lea")
    page.goto("/portal/")
    page.get_by_role("link", name="Your team").click()
    page.get_by_role("link", name="Requests", exact=True).click()
    assert page.get_by_label("Amount").input_value() == "50"
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("The request was approved.").wait_for()
    assert [row.limit_amount for row in rows_of(panel_app, Budget)] == [50_000_000_000]
    for path in ("", "member/", "keys/", "budgets/"):
        page.set_viewport_size(PHONE)
        page.goto(f"/portal/team/{path}" + (f"?id={ana}" if path == "member/" else ""))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        assert page.locator("h1:visible").count() == 1
