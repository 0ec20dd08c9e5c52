"""Every page in both colours and both widths: axe finds nothing serious, whatever its rules of WCAG 2.2 AA can see."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from flask import Flask

from tests.admin.conftest import Browser, add_user
from tests.admin.pages import furnish

RUN: Final = """
async () => {
  const found = await axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    resultTypes: ["violations"],
  });
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) =>
    `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary ?? ""}`).join(" | ")}`);
}
"""
PHONE: Final = {"width": 390, "height": 844}
WIDE: Final = {"width": 1440, "height": 900}
LOOKS: Final[tuple[tuple[str, Any], ...]] = (("light", WIDE), ("dark", PHONE))
PARTS: Final = 2  # of the pages, so that two workers of the tests share them


def opened(chromium: Any, served: str, app: Flask, axe: str, **options: Any) -> Any:
    """A page of the admin's; all that it opens has axe."""
    context = chromium.new_context(base_url=served, reduced_motion="reduce", **options)
    context.add_init_script(axe)
    browser = Browser(app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": served}])
    return context.new_page()


@pytest.fixture
def looks(panel_chromium: Any, panel_served: str, panel_app: Flask, axe: str) -> Iterator[list[Any]]:
    """Pages of the admin's: light and wide, dark on a phone."""
    pages = [
        opened(panel_chromium, panel_served, panel_app, axe, color_scheme=colour, viewport=size)
        for colour, size in LOOKS
    ]
    yield pages
    for page in pages:
        page.context.close()


def problems(page: Any) -> list[str]:
    found: list[str] = page.evaluate(RUN)
    return found


def look(page: Any, colour: str, size: Any) -> None:
    """Show the page in a colour and a size, without loading it again."""
    page.emulate_media(color_scheme=colour)
    page.set_viewport_size(size)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(PARTS))
def test_axe_finds_nothing_serious_on_any_page(
    panel_chromium: Any, panel_served: str, panel_app: Flask, axe: str, part: int
) -> None:
    page = opened(panel_chromium, panel_served, panel_app, axe)
    paths = [*dict.fromkeys(furnish(panel_app, "An ordinary name"))]
    found = {}
    for path in paths[part::PARTS]:
        page.goto(path)
        for colour, size in LOOKS:
            look(page, colour, size)
            if serious := problems(page):
                found[path, colour] = serious
    page.context.close()
    assert found == {}


def flash(page: Any, app: Flask) -> None:
    """Two messages for the next page."""
    browser = Browser(app, "admin")
    with browser.client.session_transaction("/admin/") as session:
        session["_flashes"] = [("success", "It worked."), ("error", "It did not.")]
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    page.context.add_cookies([{"name": "admin_session", "value": cookie.value, "domain": "127.0.0.1", "path": "/"}])


def test_axe_finds_nothing_serious_in_what_opens(looks: list[Any], panel_app: Flask) -> None:
    """Messages, suggestions, the menu of the account, the sidebar of a phone, a dialog."""
    add_user(panel_app, "ana")
    for page in looks:
        flash(page, panel_app)
        page.goto("/admin/users/")
        page.get_by_text("It worked.").wait_for()
        assert problems(page) == []
        page.get_by_role("button", name="Account and appearance").click()
        assert problems(page) == []
        page.keyboard.press("Escape")
        if page.viewport_size == PHONE:
            page.get_by_role("button", name="Menu").click()
            assert problems(page) == []
            page.goto("/admin/search/")
        page.get_by_role("combobox", name="Search everything").fill("ana")
        page.locator("[role=option]").first.wait_for()
        page.keyboard.press("ArrowDown")
        assert problems(page) == []
        page.goto("/admin/users/")
        page.get_by_role("link", name="Delete ana").click()
        page.get_by_role("dialog").wait_for()
        assert problems(page) == []


def test_what_is_wrong_is_found(looks: list[Any]) -> None:
    page = looks[0]
    page.goto("/admin/users/")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button><img src=x>')")
    assert {one.partition(":")[0] for one in problems(page)} == {"button-name", "image-alt"}
