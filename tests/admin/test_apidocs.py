"""The pages about the API in a real browser: they show the routes, keep the policy and ask nobody else."""

from typing import Any

import pytest

REPORTS = """
window.__reports = [];
document.addEventListener(
  "securitypolicyviolation", (e) => window.__reports.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("path", "shown"), [("/docs", ".opblock-tag"), ("/redoc", "a[href*='get_v1_models']")])
def test_a_page_shows_the_routes(panel_chromium: Any, panel_served: str, path: str, shown: str) -> None:
    context = panel_chromium.new_context(base_url=panel_served)
    context.add_init_script(REPORTS)
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    context.on("response", lambda answer: asked.append(answer.url))
    page.goto(path)
    page.wait_for_selector(shown, state="attached", timeout=120_000)
    print(page.evaluate("window.__reports"))
    page.screenshot(path=f"/tmp/openapi/shot-{path[1:]}.png")
    print(page.locator("body").inner_text()[:600])
    assert errors == []
    assert {url for url in asked if not url.startswith((panel_served, "blob:", "data:"))} == set()
    context.close()
