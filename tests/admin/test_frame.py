"""What every page has around it, in a real browser: the search field, messages that come and go, times, print."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import sleep
from typing import Any

import pytest
from flask import Flask

from routes.admin import guard, show
from routes.admin.users import Users
from services import search
from services.accounts import Person
from tests.admin.conftest import PASSWORD, Browser, add_calls, add_key, add_user
from tests.admin.pages import LISTS

OPTIONS = "[role=option]"


@pytest.fixture
def page(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Any]:
    """A page of the admin, in a browser of São Paulo."""
    context = panel_chromium.new_context(
        base_url=panel_served, viewport={"width": 1440, "height": 900}, timezone_id="America/Sao_Paulo"
    )
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    context.close()
    assert problems == []


def test_the_search_is_used_by_keyboard_alone(page: Any, panel_app: Flask) -> None:
    number = add_user(panel_app, "zoe")
    add_key(panel_app, number, "zoetrope")
    page.goto("/admin/keys/")
    page.keyboard.press("/")
    field = page.get_by_role("combobox", name="Search everything")
    assert field.get_attribute("aria-expanded") == "false"
    page.keyboard.type("zoe")
    page.locator(OPTIONS).first.wait_for()
    assert field.get_attribute("aria-expanded") == "true"
    assert [one.split("\n")[0] for one in page.locator(OPTIONS).all_inner_texts()][::2] == [
        "zoe",
        "Everything that matches",
    ]
    page.keyboard.press("ArrowDown")
    chosen = page.locator(f"{OPTIONS}[aria-selected=true]")
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("ArrowUp")
    assert field.get_attribute("aria-activedescendant") is None, "back in the field"
    page.keyboard.press("Escape")
    assert not page.get_by_role("listbox").is_visible()
    assert field.input_value() == "zoe"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/admin/users/details/?id={number}")


def test_enter_without_a_choice_leads_to_all_results(page: Any, panel_app: Flask) -> None:
    add_user(panel_app, "zoe")
    page.goto("/admin/")
    page.get_by_role("combobox").fill("zo")
    page.get_by_text("Suggestions: 1").wait_for(state="attached")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/search/?q=zo")
    page.get_by_role("link", name="zoe").click()
    page.wait_for_url("**/admin/users/details/**")


def test_only_the_last_question_is_answered(page: Any, panel_app: Flask) -> None:
    """A late answer to what was typed before does not replace the list; what nobody has typed yet is not asked."""
    add_user(panel_app, "zoe")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "suggest" in request.url else None)
    page.goto("/admin/")
    field = page.get_by_role("combobox")
    field.press_sequentially("qqqq", delay=20)
    field.fill("zoe")
    page.locator(OPTIONS).first.wait_for()
    assert page.locator(OPTIONS).first.inner_text().startswith("zoe")
    assert len(asked) <= 2
    field.fill("nobody of that name")
    page.locator(".found-none").wait_for()


def test_a_slow_search_shows_that_something_comes(page: Any, panel_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find", lambda *_arguments: sleep(1.5) or [search.Hit("user", 1, "admin")])
    page.goto("/admin/")
    page.get_by_role("combobox").fill("adm")
    page.locator(".found .skeleton").first.wait_for()
    page.locator(OPTIONS).first.wait_for()
    assert page.locator(".found .skeleton").count() == 0


def test_a_slow_dialog_shows_that_something_comes(page: Any, panel_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    add_user(panel_app, "ana")
    monkeypatch.setattr(Users, "consequences", lambda *_arguments: sleep(1.5) or [])
    page.goto("/admin/users/")
    page.get_by_role("link", name="Delete ana").click()
    dialog = page.get_by_role("dialog")
    dialog.locator(".skeleton").first.wait_for()
    assert dialog.get_attribute("aria-busy") == "true"
    dialog.get_by_role("heading", name="Delete ana?").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Keep it"
    assert dialog.get_attribute("aria-busy") is None
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Delete ana").click()
    dialog.locator(".skeleton").first.wait_for()
    page.keyboard.press("Escape")
    page.wait_for_timeout(2000)
    assert not dialog.is_visible(), "who closes it does not want it any more"


def test_without_javascript_the_field_is_a_form(panel_chromium: Any, panel_served: str, panel_app: Flask) -> None:
    context = panel_chromium.new_context(base_url=panel_served, java_script_enabled=False)
    opened = context.new_page()
    opened.goto("/admin/")
    opened.fill("#username", "admin")
    opened.fill("#password", PASSWORD)
    opened.get_by_role("button", name="Sign in").click()
    field = opened.get_by_role("searchbox", name="Search everything")
    field.fill("admi")
    field.press("Enter")
    opened.get_by_role("link", name="admin", exact=False).first.wait_for()
    assert opened.url.endswith("/admin/search/?q=admi")
    context.close()


def test_a_message_passes_unless_somebody_reads_it(page: Any, panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    page.clock.install()
    page.goto("/admin/users/")
    page.get_by_role("link", name="Delete ana").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    toast = page.locator("[data-note]")
    page.clock.run_for(500)
    assert toast.inner_text().strip() == "ana was deleted."
    toast.hover()
    page.clock.run_for(60_000)
    assert toast.is_visible()
    page.mouse.move(0, 0)
    page.clock.run_for(7_000)
    assert toast.is_visible()
    page.clock.run_for(10_000)
    assert toast.count() == 0


def test_an_error_stays_until_it_is_dismissed(page: Any, panel_app: Flask) -> None:
    browser = Browser(panel_app, "admin")
    with browser.client.session_transaction("/admin/") as session:
        session["_flashes"] = [("error", "It did not work.")]
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    page.context.add_cookies([{"name": "admin_session", "value": cookie.value, "domain": "127.0.0.1", "path": "/"}])
    page.clock.install()
    page.goto("/admin/users/")
    page.clock.run_for(600_000)
    alert = page.get_by_role("alert")
    assert alert.inner_text().strip() == "It did not work."
    alert.get_by_role("button", name="Dismiss").click()
    assert alert.count() == 0


def test_a_moment_is_told_in_the_readers_time_zone_too(page: Any, panel_app: Flask) -> None:
    add_calls(panel_app, 1, created_at=datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC))
    page.goto("/admin/usage/")
    moment = page.locator("main td time").first
    assert moment.get_attribute("title") == "2026-03-01 12:30:05 UTC"
    moment.hover()
    title = moment.get_attribute("title")
    assert title.startswith("Mar 1, 2026, 9:30:05")
    assert title.endswith("\n2026-03-01 12:30:05 UTC")


def test_print_has_the_content_alone_and_whole(page: Any, panel_app: Flask) -> None:
    add_calls(panel_app, 30)
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 700, "height": 900})
    page.goto("/admin/usage/")
    for part in (".sidebar", ".topbar", ".toolbar", ".pager", ".page-actions"):
        assert not page.locator(part).first.is_visible(), part
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('td')).color") == "rgb(0, 0, 0)"
    assert page.locator("thead").is_visible(), "a table, not the cards of a phone"
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.evaluate("getComputedStyle(document.querySelector('.table-scroll')).overflowX") == "visible"


def test_who_wants_no_motion_gets_none(page: Any) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto("/admin/")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<p class=skeleton></p>')")
    assert page.evaluate("getComputedStyle(document.querySelector('.skeleton')).animationName") == "none"


def test_the_groups_of_the_sidebar_have_their_order(panel_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    ui: Any = panel_app.jinja_env.globals["ui"]
    monkeypatch.setattr(guard, "person", lambda: Person(1, "admin", "admin", must_change_password=False, locale=None))
    groups = [group for group, _views in ui.nav()]
    assert groups == [name for name in (None, "Access", "Routing", "People", "Observe", "System") if name in groups]
    listed = {view.endpoint for _group, views in ui.nav() for view in views}
    assert set(LISTS) <= listed
    assert "search" not in listed


def test_large_counts_are_short_with_all_digits_at_hand(panel_app: Flask) -> None:
    with panel_app.test_request_context(headers={"accept-language": "en"}):
        assert [str(show.short(number)) for number in (None, 0, 9_999)] == ["–", "0", "9,999"]  # noqa: RUF001 - a dash
        assert str(show.short(12_345)) == '<span title="12,345">12.3K</span>'
        assert str(show.short(4_500_000)) == '<span title="4,500,000">4.5M</span>'
    with panel_app.test_request_context(headers={"accept-language": "pt-BR"}):
        assert str(show.short(12_345)) == '<span title="12.345">12,3\xa0mil</span>'


@pytest.mark.parametrize(
    ("nanousd", "english", "portuguese"),
    [
        (99_999_990_000_000, "$99,999.99", "$99,999.99"),
        (1_234_567_890_000_000, '<span title="$1,234,567.89">$1.23M</span>', ">$1,23\xa0mi</span>"),
        (-250_000_500_000_000, '<span title="-$250,000.50">-$250K</span>', ">-$250\xa0mil</span>"),
    ],
)
def test_large_sums_are_short_in_figures_with_the_exact_one_at_hand(
    panel_app: Flask, nanousd: int, english: str, portuguese: str
) -> None:
    with panel_app.test_request_context(headers={"accept-language": "en"}):
        assert str(show.short_cash(nanousd)) == english
    with panel_app.test_request_context(headers={"accept-language": "pt-BR"}):
        assert str(show.short_cash(nanousd)).endswith(portuguese)


def test_people_have_no_search_of_what_they_may_not_see(panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    add_user(panel_app, "olga", role="auditor")
    for name, is_offered in (("admin", True), ("olga", True), ("ana", False)):
        assert ("/admin/search/" in Browser(panel_app, name).get("/portal/").text) is is_offered
