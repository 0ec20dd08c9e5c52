"""Every page in both colours and both widths: axe finds nothing serious, whatever its rules of WCAG 2.2 AA can see."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
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


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, out of the package that ships it; nothing is fetched."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    return (Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def opened(chromium: Any, served: str, app: Flask, **options: Any) -> Any:
    """A page of the admin's."""
    context = chromium.new_context(base_url=served, reduced_motion="reduce", bypass_csp=True, **options)
    browser = Browser(app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": served}])
    return context.new_page()


@pytest.fixture
def looks(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[list[Any]]:
    """Pages of the admin's: light and wide, dark on a phone."""
    ways: tuple[Any, ...] = (("light", WIDE), ("dark", PHONE))
    pages = [
        opened(panel_chromium, panel_served, panel_app, color_scheme=colour, viewport=size) for colour, size in ways
    ]
    yield pages
    for page in pages:
        page.context.close()


def problems(page: Any, axe: str) -> list[str]:
    page.evaluate(axe)
    found: list[str] = page.evaluate(RUN)
    return found


@pytest.mark.timeout(300)
def test_axe_finds_nothing_serious_on_any_page(looks: list[Any], panel_app: Flask, axe: str) -> None:
    paths = furnish(panel_app, "An ordinary name")
    found = {}
    for page in looks:
        for path in paths:
            page.goto(path)
            if serious := problems(page, axe):
                found[path, page.viewport_size["width"]] = serious
    assert found == {}


def flash(page: Any, app: Flask) -> None:
    """Two messages for the next page."""
    browser = Browser(app, "admin")
    with browser.client.session_transaction("/admin/") as session:
        session["_flashes"] = [("success", "It worked."), ("error", "It did not.")]
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    page.context.add_cookies([{"name": "admin_session", "value": cookie.value, "domain": "127.0.0.1", "path": "/"}])


def test_axe_finds_nothing_serious_in_what_opens(looks: list[Any], panel_app: Flask, axe: str) -> None:
    """Messages, suggestions, the menu of the account, the sidebar of a phone, a dialog."""
    add_user(panel_app, "ana")
    for page in looks:
        flash(page, panel_app)
        page.goto("/admin/users/")
        page.get_by_text("It worked.").wait_for()
        assert problems(page, axe) == []
        page.get_by_role("button", name="Account and appearance").click()
        assert problems(page, axe) == []
        page.keyboard.press("Escape")
        if page.viewport_size == PHONE:
            page.get_by_role("button", name="Menu").click()
            assert problems(page, axe) == []
            page.goto("/admin/search/")
        page.get_by_role("combobox", name="Search everything").fill("ana")
        page.locator("[role=option]").first.wait_for()
        page.keyboard.press("ArrowDown")
        assert problems(page, axe) == []
        page.goto("/admin/users/")
        page.get_by_role("link", name="Delete ana").click()
        page.get_by_role("dialog").wait_for()
        assert problems(page, axe) == []


def test_what_is_wrong_is_found(looks: list[Any], axe: str) -> None:
    page = looks[0]
    page.goto("/admin/users/")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button><img src=x>')")
    assert {one.partition(":")[0] for one in problems(page, axe)} == {"button-name", "image-alt"}
