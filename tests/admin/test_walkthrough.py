"""In a real browser: a first answer by keyboard alone, and what is made, changed, found and deleted on each page."""

import json
import time
import urllib.request
from typing import Any

import pytest
from flask import Flask

from models import Agent, ApiKey, Budget, Dialog, Message, Model, Provider, Route, UsageRecord
from tests.admin.conftest import PASSWORD, add_key, add_user, row_of, rows_of
from tests.admin.test_browser import page  # noqa: F401 - a fixture
from tests.admin.test_dialog_pages import add_dialog
from tests.conftest import TOKEN
from tests.fakes.upstream import Upstream

MOST_S = 120


class Keyboard:
    """Somebody without a mouse: moves with Tab, types, presses."""

    def __init__(self, opened: Any) -> None:
        self.page = opened

    def to(self, found: Any) -> None:
        """Press Tab until the focus is there."""
        wanted = found.first.element_handle()
        for _ in range(150):
            if wanted.evaluate("(e) => document.activeElement === e"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no way there by keyboard: {found}")

    def type(self, found: Any, text: str) -> None:
        self.to(found)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def press(self, found: Any, key: str = "Enter") -> None:
        self.to(found)
        self.page.keyboard.press(key)


def ask(address: str, secret: str, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}).encode()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["choices"][0]["message"]["content"])


@pytest.mark.timeout(180)
def test_from_a_fresh_gateway_to_a_first_answer_by_keyboard(
    panel_chromium: Any, panel_served: str, panel_app: Flask, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    context = panel_chromium.new_context(base_url=panel_served, viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    hands, began = Keyboard(opened), time.monotonic()
    opened.goto("/admin/")
    hands.type(opened.locator("#username"), "admin")
    hands.type(opened.locator("#password"), PASSWORD)
    opened.keyboard.press("Enter")
    opened.get_by_text("1 of 5 done").wait_for()

    hands.press(opened.locator("#steps").get_by_role("link", name="Add a provider"))
    hands.type(opened.locator("#name"), "acme")
    hands.type(opened.get_by_label("Base URL"), upstream.base_url)
    hands.press(opened.get_by_role("button", name="Save and test"))
    opened.get_by_text("It works and lists 2 models").wait_for()
    hands.press(opened.get_by_role("link", name="Back to the first steps"))

    hands.press(opened.locator("#steps").get_by_role("link", name="Choose models"))
    hands.press(opened.get_by_role("checkbox", name="gpt-4o-mini"), "Space")
    hands.type(opened.get_by_label("Input price of gpt-4o-mini"), "0.15")
    hands.type(opened.get_by_label("Output price of gpt-4o-mini"), "0.60")
    hands.press(opened.get_by_role("button", name="Add the ticked models"))
    opened.get_by_text("1 models were added.").wait_for()
    hands.press(opened.get_by_role("link", name="Back to the first steps"))

    hands.press(opened.locator("#steps").get_by_role("link", name="Create key"))
    hands.press(opened.get_by_role("button", name="Create with defaults"))
    secret = opened.locator("#secret").inner_text()
    hands.press(opened.get_by_role("button", name="Send a first call"))
    opened.locator("[data-answer]").get_by_text("ms)").wait_for()
    assert ask(panel_served, secret, "gpt-4o-mini")
    hands.press(opened.get_by_role("link", name="Back to the first steps"))
    opened.get_by_text("Everything is set up.").wait_for()
    took = time.monotonic() - began
    with capsys.disabled():
        print(f"\nfrom signing in to the first answer, by keyboard: {took:.1f} s")
    assert took < MOST_S
    assert [row.model for row in rows_of(panel_app, UsageRecord)][:1] == ["gpt-4o-mini"]
    assert {"acme"} <= {row.name for row in rows_of(panel_app, Provider)}
    context.close()


def test_the_page_notices_the_first_call(page: Any, panel_served: str) -> None:  # noqa: F811 - the fixture
    page.goto("/admin/steps/")
    assert page.locator("#first-call").is_visible()
    ask(panel_served, TOKEN, "echo")
    page.locator("li.is-done", has_text="Send the first call").wait_for(timeout=60_000)
    assert page.get_by_text("2 of 5 done").is_visible()
    assert page.evaluate("window.__reports") == []


def test_the_summary_of_a_key_follows_what_is_typed(page: Any, panel_app: Flask) -> None:  # noqa: F811 - the fixture
    page.goto("/admin/keys/new/")
    summary = page.locator("[data-summary]")
    page.get_by_label("Name").fill("<i>mobile</i>")
    page.get_by_label("Only these:").check()
    page.get_by_label("echo", exact=True).check()
    page.get_by_label("Budget in USD").fill("20")
    page.get_by_label("Requests at most").fill("60")
    page.get_by_label("Or so long after it was made").fill("30d")
    for said in ("<i>mobile</i>", "echo", "20 Per month", "60 Per minute", "30d"):
        assert summary.get_by_text(said, exact=True).count() == 1, said
    page.get_by_label("Every model, also future ones").check()
    assert summary.get_by_text("all", exact=True).count() == 1
    page.get_by_label("Only these:").check()
    page.get_by_label("Budget in USD").press("Enter")  # sends all of it, not the defaults
    page.get_by_text("Copy the key now").wait_for()
    page.get_by_text("Anthropic SDK").first.click()
    assert page.locator("#in-anthropic").is_visible()
    page.get_by_role("button", name="Send a first call").click()
    page.locator("[data-answer]").get_by_text("Hello!").wait_for()
    assert page.evaluate("window.__reports") == []
    row = rows_of(panel_app, ApiKey)[-1]
    assert (row.name, row.allowed_models, row.ttl) == ("<i>mobile</i>", ["echo"], "30d")
    assert [budget.limit_amount for budget in rows_of(panel_app, Budget)] == [20_000_000_000]


def delete(page: Any, name: str) -> None:  # noqa: F811 - not the fixture but what it gives
    page.get_by_role("link", name=f"Delete {name}").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    page.get_by_text("was deleted.").wait_for()


def narrow(page: Any, label: str, text: str) -> None:  # noqa: F811 - not the fixture but what it gives
    page.get_by_role("search").get_by_label(label, exact=True).first.fill(text)
    page.get_by_role("button", name="Apply").click()


def test_balances_and_transactions(page: Any, panel_app: Flask) -> None:  # noqa: F811 - the fixture
    number = add_user(panel_app, "ana")
    page.goto("/admin/balances/")
    page.get_by_role("link", name="Add balance").first.click()
    page.locator("#user").fill("ana")
    page.get_by_label("Balance, tokens").fill("1000")
    page.get_by_role("button", name="Save").click()
    page.get_by_text(f"ana (#{number}) was saved.").wait_for()
    page.get_by_role("link", name=f"Edit ana (#{number})").click()
    page.get_by_label("Add or deduct, tokens").fill("-400")
    page.get_by_label("Limit (null=unlimited)").fill("9000")
    page.get_by_label("Reason").fill("too much")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("cell", name="600", exact=True).wait_for()
    assert page.get_by_role("link", name="Delete").count() == 0
    page.get_by_role("link", name=f"Transactions of ana (#{number})").click()
    narrow(page, "Search", "too much")
    assert page.locator("tbody tr").count() == 1
    assert page.get_by_role("cell", name="-400").is_visible()
    assert page.evaluate("window.__reports") == []


def test_dialogs_and_messages(page: Any, panel_app: Flask) -> None:  # noqa: F811 - the fixture
    ana = add_user(panel_app, "ana")
    number, _other = add_dialog(panel_app, ana, "Plans"), add_dialog(panel_app, ana, "Taxes")
    page.goto("/admin/dialogs/")
    narrow(page, "Search", "plan")
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("link", name="Edit Plans").click()
    page.get_by_label("Title").fill("Plans for 2027")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Plans for 2027").wait_for()
    page.get_by_role("link", name="All").click()
    assert page.locator("tbody tr").count() == 2
    delete(page, "Message")
    page.goto(f"/admin/messages/?dialog={number}")
    assert page.locator("tbody tr").count() == 1
    page.goto("/admin/dialogs/")
    delete(page, "Plans for 2027")
    assert row_of(panel_app, Dialog, number) is None
    assert len(page.locator("tbody tr").all()) == 1
    assert [row.dialog_id for row in rows_of(panel_app, Message)] == [_other, _other]
    assert page.evaluate("window.__reports") == []


def test_agents_and_routes(page: Any, panel_app: Flask) -> None:  # noqa: F811 - the fixture
    add_key(panel_app, add_user(panel_app, "ana"), "app")
    page.goto("/admin/agents/new/")
    page.get_by_label("Name").fill("terse")
    page.get_by_label("Temperature, 0 to 1").fill("0.1")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="terse").wait_for()
    page.goto("/admin/agents/")
    narrow(page, "Search", "ters")
    page.get_by_role("link", name="Edit terse").click()
    page.get_by_label("Description").fill("Short answers")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Short answers").wait_for()
    page.goto("/admin/agents/")
    delete(page, "terse")
    assert rows_of(panel_app, Agent) == []
    page.goto("/admin/routes/new/")
    page.get_by_label("Name").fill("Support")
    page.locator("#path").fill("/support")
    page.locator("#steps-0-provider").select_option("echo")
    page.locator("#steps-0-model").fill("echo")
    page.get_by_role("button", name="Another step").click()
    page.locator("#steps-1-provider").select_option("echo")
    page.locator("#steps-1-model").fill("echo-slow")
    page.get_by_role("checkbox", name="app").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Support").wait_for()
    assert [len(row.steps) for row in rows_of(panel_app, Route)] == [2]
    page.goto("/admin/routes/")
    narrow(page, "Search", "supp")
    delete(page, "Support")
    assert rows_of(panel_app, Route) == []
    assert page.evaluate("window.__reports") == []


def test_models_are_found_by_provider_and_cost_is_there_per_1k(page: Any, panel_app: Flask) -> None:  # noqa: F811 - the fixture
    assert rows_of(panel_app, Model)
    page.goto("/admin/models/")
    for column in ("Cost/1K prompt", "Cost/1K completion", "Context", "State", "Changed"):
        assert page.get_by_role("columnheader", name=column).count() == 1, column
    narrow(page, "Search", "echo")
    assert page.locator("tbody tr").count() >= 1
