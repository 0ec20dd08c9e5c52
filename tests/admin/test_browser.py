"""In a real browser: planted scripts do not run, the policy is never broken, and the pages work."""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import ApiKey, Limit, Model, Provider, User
from tests.admin.conftest import PASSWORD, Browser, add_key, add_model, add_provider, add_user, key_row, row_of, rows_of
from tests.admin.pages import LISTS, furnish
from tests.admin.payloads import PAYLOADS
from tests.fakes.upstream import Upstream

WATCH = """
window.__reports = [];
document.addEventListener(
  "securitypolicyviolation", (e) => window.__reports.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture
def page(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Any]:
    """A page of the admin, watched for broken policy and errors."""
    context = panel_chromium.new_context(base_url=panel_served, viewport={"width": 1440, "height": 900})
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    context.add_init_script(WATCH)
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    yield opened
    assert opened.problems == []
    context.close()


def check(page: Any, path: str) -> None:
    page.goto(path)
    assert page.evaluate("window.__xss") is None, path
    assert page.evaluate("window.__reports") == [], path


BATCH = 14  # payloads in one text: a long column has them all, a short one the first


@pytest.mark.timeout(600)
def test_planted_scripts_do_not_run_and_the_policy_is_kept(page: Any, panel_app: Flask) -> None:
    """Pages about one thing get them by the batch, lists have all of them one by one."""
    for start in range(0, len(PAYLOADS), BATCH):
        for path in furnish(panel_app, " ".join(PAYLOADS[start : start + BATCH])):
            check(page, path)
    for text in PAYLOADS:
        furnish(panel_app, text)
    for view in LISTS:
        check(page, f"/admin/{view}/?page_size=100")
    for text in PAYLOADS:
        check(page, f"/admin/users/?search={quote(text)}&next={quote(text)}&before={quote(text)}")
        check(page, f"/admin/search/?q={quote(text)}")


class Markup(HTMLParser):
    """Notes every element that could do something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_ours = tag != "script" or (given.get("src") or "").startswith("/static/")
        links = [given.get(name) or "" for name in ("href", "src", "action", "formaction")]
        if (
            tag in ("iframe", "base", "object", "embed", "style", "img")
            or not is_ours
            or any(name.startswith("on") or name in ("style", "srcdoc", "http-equiv") for name in given)
            or any(link and not link.startswith(("/", "#", "?")) for link in links)
        ):
            self.found.append(f"{tag} {attrs}")


@pytest.mark.timeout(300)
def test_payloads_become_text(panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    for text in PAYLOADS[:12]:  # one by one too, where a browser would mend what a parser sees
        for path in furnish(panel_app, text):
            markup = Markup()
            markup.feed(browser.get(path).text)
            assert markup.found == [], path


@pytest.mark.timeout(300)
def test_every_page_fits_a_phone_and_has_one_heading(page: Any, panel_app: Flask) -> None:
    pages = furnish(panel_app, "a-rather-long-name-without-any-place-to-break-it-" * 3)
    for width, height in ((1440, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for path in pages:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert page.locator("h1:visible").count() == 1, path
            assert page.locator("html").get_attribute("lang") == "en"
            assert page.locator("main").count() == 1
            unnamed = page.evaluate(
                "[...document.querySelectorAll('a, button, input:not([type=hidden]), select')].filter((e) =>"
                " !(e.textContent.trim() || e.labels?.length || e.ariaLabel || e.title)).map((e) => e.outerHTML)"
            )
            assert unnamed == [], path


def test_deleting_asks_in_a_dialog(page: Any, panel_app: Flask) -> None:
    number = add_user(panel_app, "ana")
    page.goto("/admin/users/")
    page.get_by_role("link", name="Delete ana").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").inner_text() == "Delete ana?"
    page.keyboard.press("Escape")
    assert row_of(panel_app, User, number) is not None
    page.get_by_role("link", name="Delete ana").click()
    dialog.get_by_role("link", name="Keep it").click()
    assert not dialog.is_visible()
    page.get_by_role("link", name="Delete ana").click()
    dialog.get_by_role("button", name="Delete").click()
    page.get_by_text("ana was deleted.").wait_for()
    assert row_of(panel_app, User, number) is None


def test_without_javascript_there_is_a_page_that_asks(panel_chromium: Any, panel_served: str, panel_app: Flask) -> None:
    number = add_user(panel_app, "ana")
    context = panel_chromium.new_context(base_url=panel_served, java_script_enabled=False)
    opened = context.new_page()
    opened.goto("/admin/")
    opened.fill("#username", "admin")
    opened.fill("#password", PASSWORD)
    opened.get_by_role("button", name="Sign in").click()
    opened.goto("/admin/users/")
    opened.get_by_role("link", name="Delete ana").click()
    assert "/admin/users/delete/" in opened.url
    opened.get_by_role("button", name="Delete").click()
    assert row_of(panel_app, User, number) is None
    context.close()


def test_a_key_is_made_copied_and_gone_with_the_page(page: Any, panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/admin/keys/new/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_label("Owner").fill("ana")
    page.get_by_label("Only these:").check()
    page.get_by_placeholder("Narrow the list").fill("slow")
    assert page.locator(".ticks .form-check:visible").count() == 1
    page.get_by_label("echo-slow").check()
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.get_by_text("Python", exact=True).click()
    assert "from openai import OpenAI" in page.locator(".tab-body:visible").inner_text()
    assert page.evaluate("window.__reports") == []
    row = key_row(panel_app, "laptop")
    assert row.allowed_models == ["echo-slow"]
    page.get_by_role("link", name="I have stored it").click()
    assert secret not in page.content()
    assert isinstance(row, ApiKey)


def test_a_model_with_two_deployments_is_made_by_keyboard_and_mouse(page: Any, panel_app: Flask) -> None:
    for name in ("first", "second"):
        add_provider(panel_app, name)
    page.goto("/admin/models/new/")
    page.get_by_label("Public name").fill("fast")
    page.get_by_label("Model at the provider").fill("up-1")
    page.get_by_role("button", name="Another deployment").click()
    assert page.evaluate("document.activeElement.name") == "deployments-1-upstream_model"
    page.keyboard.type("up-2")
    page.get_by_label("Provider", exact=True).nth(1).select_option(label="second")
    page.get_by_label("Free").check()
    assert not page.get_by_label("Output", exact=True).is_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/models/details/**")
    model = next(row for row in rows_of(panel_app, Model) if row.name == "fast")
    assert model.managed_by == "admin"
    assert "up-2" in page.content()


def test_an_edited_model_shows_no_spare_row(page: Any, panel_app: Flask) -> None:
    number = add_model(panel_app, [add_provider(panel_app)])
    page.goto(f"/admin/models/edit/?id={number}")
    assert page.locator("[data-row]").count() == 1
    page.get_by_role("button", name="Another deployment").click()
    assert page.locator("[data-row]").count() == 2
    page.get_by_role("button", name="Remove this deployment").nth(1).click()
    page.get_by_label("Input", exact=True).fill("0.2")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/models/details/**")


def test_colours_change_at_once_and_last(page: Any) -> None:
    page.goto("/admin/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Account and appearance").click()
    page.get_by_role("button", name="Dark").click()
    assert page.url.endswith("/admin/")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.goto("/admin/users/")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_keyboard_reaches_the_content_and_the_search(page: Any) -> None:
    page.goto("/admin/users/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"


def test_the_menu_opens_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/users/")
    assert not page.get_by_role("link", name="Models").is_visible()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Models").click()
    page.wait_for_url("**/admin/models/")


def test_a_provider_of_the_file_offers_no_change(page: Any, panel_app: Flask) -> None:
    add_provider(panel_app, "mine", managed_by="file")
    with Session(panel_app.extensions["gateway"].engine) as session:
        assert session.query(Provider).count() == 2
    page.goto("/admin/providers/")
    assert page.get_by_role("link", name="Edit mine").count() == 0
    assert page.get_by_text("Configuration file", exact=True).is_visible()


def test_a_key_is_rotated_in_a_dialog_and_its_former_secret_ended(page: Any, panel_app: Flask) -> None:
    number = add_key(panel_app, add_user(panel_app, "ana"), "laptop")
    before = row_of(panel_app, ApiKey, number)
    page.goto(f"/admin/keys/details/?id={number}")
    page.get_by_role("link", name="Rotate").click()
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").inner_text() == "Rotate laptop?"
    dialog.get_by_label("The former secret goes on working for").select_option(label="A week")
    dialog.get_by_role("button", name="Rotate").click()
    page.get_by_role("heading", name="The new secret of laptop").wait_for()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("link", name="I have stored it").click()
    assert secret not in page.content()
    assert row_of(panel_app, ApiKey, number).hint != before.hint
    page.get_by_role("link", name="End now").click()
    page.get_by_role("dialog").get_by_role("button", name="End now").click()
    page.get_by_text("has ended").wait_for()
    assert page.get_by_text("Former secrets").count() == 0
    assert page.evaluate("window.__reports") == []


def test_a_form_shows_only_the_fields_that_apply(page: Any, panel_app: Flask) -> None:
    page.goto("/admin/limits/new/")
    assert page.get_by_label("Name").is_visible()
    page.get_by_label("Counts").select_option(label="Calls at once")
    assert not page.get_by_label("Period").is_visible()
    page.get_by_label("Client address").check()
    assert not page.get_by_label("Name").is_visible()
    page.get_by_label("At most").fill("4")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/limits/")
    (limit,) = rows_of(panel_app, Limit)
    assert (limit.scope, limit.unit, limit.limit_amount) == ("address", "concurrent", 4)
    number = add_user(panel_app, "ana")
    page.goto(f"/admin/users/edit/?id={number}")
    assert not page.get_by_label("Reason").is_visible()
    page.get_by_label("Active: may sign in").uncheck()
    page.get_by_label("Reason").fill("on leave")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("on leave").wait_for()


def test_a_provider_is_added_by_its_vendor_and_tested(page: Any, panel_app: Flask, upstream: Upstream) -> None:
    page.goto("/admin/providers/new/")
    assert page.get_by_label("Organization").is_visible()
    assert not page.get_by_label("Scope").is_visible()
    page.get_by_label("Vendor").select_option(label="Groq")
    assert page.get_by_label("Base URL").input_value() == "https://api.groq.com/openai/v1"
    page.get_by_label("Vendor").select_option(label="vLLM")
    assert page.get_by_label("Base URL").input_value() == "http://localhost:8000/v1"
    page.get_by_label("Base URL").fill(upstream.base_url)
    page.get_by_label("Vendor").select_option(label="Mistral")
    page.get_by_label("Vendor").select_option(label="vLLM")
    assert page.get_by_label("Base URL").input_value() == upstream.base_url, "what somebody typed stays"
    page.get_by_label("Kind").select_option(label="GigaChat")
    assert page.get_by_label("Scope").is_visible()
    assert not page.get_by_label("Vendor").is_visible()
    assert page.get_by_label("Base URL").get_attribute("placeholder") == "https://api.giga.chat/v1"
    page.get_by_label("Kind").select_option(label="OpenAI, or anything compatible")
    page.locator("#name").fill("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Test connection").click()
    page.get_by_text("It works and lists 2 models").wait_for()
    row = next(row for row in rows_of(panel_app, Provider) if row.name == "mine")
    assert (row.base_url, row.settings) == (upstream.base_url, {"vendor": "vllm"})
    assert page.evaluate("window.__reports") == []


def test_without_javascript_the_settings_of_every_kind_are_there(
    panel_chromium: Any, panel_served: str, panel_app: Flask
) -> None:
    context = panel_chromium.new_context(base_url=panel_served, java_script_enabled=False)
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    page = context.new_page()
    page.goto("/admin/providers/new/")
    assert page.get_by_role("group", name="Settings of GigaChat").get_by_label("Scope").is_visible()
    assert page.get_by_role("group", name="Settings of Azure OpenAI").get_by_label("API version").is_visible()
    context.close()


def test_a_team_is_made_with_a_budget(page: Any, panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    page.goto("/admin/teams/")
    page.get_by_role("link", name="Add team").first.click()
    page.get_by_label("Name").fill("research")
    page.get_by_label("Members").fill("ana\nnobody")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("There is no user of these names: nobody.").wait_for()
    assert page.get_by_label("Members").input_value().split() == ["ana", "nobody"]
    page.get_by_label("Members").fill("ana")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Budget", exact=True).click()
    assert page.get_by_label("Team").is_checked()
    assert page.get_by_label("Name").input_value() == "research"
    page.get_by_label("Limit").fill("20")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/teams/details/**")
    assert page.get_by_role("link", name="USD per month").is_visible()
