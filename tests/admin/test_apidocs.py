"""The pages about the API in a real browser: they show the routes, keep the policy and ask nobody else."""

from typing import Any

import pytest

LOGO = "https://cdn.redoc.ly/"  # of ReDoc's maker; the policy keeps the browser from asking for it
EVAL = "script-src eval"  # ReDoc tries whether it may make code out of text, is refused, and does without
REPORTS = """
window.__reports = [];
document.addEventListener(
  "securitypolicyviolation", (e) => window.__reports.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("path", "shown"), [("/docs", ".opblock-tag"), ("/redoc", "a[href$='/post_v1_chat_completions']")]
)
def test_a_page_shows_the_routes(panel_chromium: Any, panel_served: str, path: str, shown: str) -> None:
    context = panel_chromium.new_context(base_url=panel_served)
    context.add_init_script(REPORTS)
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path)
    page.wait_for_selector(shown, state="attached", timeout=120_000)
    page.wait_for_load_state("networkidle")
    assert errors == []
    assert {url for url in asked if not url.startswith((panel_served, "blob:", "data:", LOGO))} == set()
    assert [one for one in page.evaluate("window.__reports") if LOGO not in one and one != EVAL] == []
    context.close()


@pytest.mark.timeout(300)
def test_a_request_can_be_tried(panel_chromium: Any, panel_served: str) -> None:
    context = panel_chromium.new_context(base_url=panel_served)
    page = context.new_page()
    page.goto("/docs#/The%20gateway/get_health")
    page.locator("#operations-The_gateway-get_health .try-out__btn").click(timeout=120_000)
    page.locator("#operations-The_gateway-get_health .execute").click()
    page.wait_for_selector("#operations-The_gateway-get_health .live-responses-table", timeout=60_000)
    assert '"healthy"' in page.locator(".live-responses-table").inner_text()
    context.close()
