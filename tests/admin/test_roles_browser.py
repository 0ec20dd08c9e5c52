"""Every page in a real browser as each role that may see it: nothing fails, nothing offered is refused."""

import re
from html import unescape
from typing import Any, Final
from urllib.parse import parse_qsl

import pytest
from flask import Flask

from tests.admin.conftest import Browser, add_user
from tests.admin.pages import LISTS
from tests.admin.roles import ERRORS, NAMES, letter, may_open, seen_by, settle
from tests.admin.test_accessible import PHONE, WIDE, look, problems

OTHERS: Final = [role for role in NAMES if role != "admin"]  # axe sees the admin's pages in test_accessible.py
LOOKS: Final = ((PHONE, "light"), (WIDE, "dark"), (PHONE, "dark"), (WIDE, "light"))
WIDTH: Final = "document.documentElement.scrollWidth"
OFFERED: Final = """
() => [
  ...[...document.querySelectorAll("a[href]")].map((e) => ["GET", e.getAttribute("href"), e.href]),
  ...[...document.querySelectorAll("form")].map((e) => [(e.getAttribute("method") ?? "get").toUpperCase(),
    e.getAttribute("action") ?? "", new URL(e.getAttribute("action") ?? "", location).href]),
  ...[...document.querySelectorAll("[formaction]")].map((e) => ["POST", e.getAttribute("formaction"), e.formAction]),
].filter(([, given, whole]) => !given.startsWith("#") && whole.startsWith(location.origin))
 .map(([method, , whole]) => [method, whole.slice(location.origin.length).split("#")[0]])
"""


class Follower:
    """Follows what pages offer to somebody, each address once."""

    def __init__(self, app: Flask, role: str) -> None:
        self.app, self.role = app, role
        self.browser = Browser(app, NAMES[role])
        self.told: dict[tuple[str, ...], bool] = {}

    def refusals(self, offered: list[list[str]]) -> list[str]:
        """What of it leads to an error."""
        return [f"{method} {path}" for method, path in map(tuple, offered) if not self._works(method, path)]

    def _works(self, method: str, path: str) -> bool:
        page, _mark, query = path.partition("?")
        alike = (method, page, *sorted(name for name, _value in parse_qsl(query)))  # a role is refused all or none
        if alike not in self.told:
            self.told[alike] = self._try(method, path)
        return self.told[alike]

    def _try(self, method: str, path: str) -> bool:
        if method != "GET":
            return letter(self.app, self.role, path, method) not in "fg"
        answer = self.browser.get(path, follow_redirects=True)
        answer.close()
        return answer.status_code < ERRORS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", OTHERS)
def test_every_page_of_a_role_works_and_offers_nothing_refused(
    panel_chromium: Any, panel_served: str, panel_app: Flask, axe: str, role: str
) -> None:
    pages = settle(panel_app, role, "An ordinary name")
    follower, found = Follower(panel_app, role), {}
    with seen_by(panel_chromium, panel_served, panel_app, NAMES[role]) as page:
        page.context.add_init_script(axe)
        for place, path in enumerate(one for one in pages if may_open(panel_app, role, one)):
            size, colour = LOOKS[place % len(LOOKS)]
            look(page, colour, PHONE)
            status = page.goto(path).status
            found[path] = [
                *([f"{status}"] if status != 200 else []),
                *follower.refusals(page.evaluate(OFFERED)),
                *page.evaluate("window.__reports"),
                *(["wider than a phone"] if page.evaluate(WIDTH) > PHONE["width"] else []),
                *([] if page.locator("h1:visible").count() == 1 else ["not one heading"]),
            ]
            look(page, colour, size)
            found[path] += problems(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("role", OTHERS)
def test_other_pages_answer_as_the_matrix_says(panel_app: Flask, role: str) -> None:
    statuses = {"f": 403, "h": 303, "g": 404}
    pages = [path for path in settle(panel_app, role, "An ordinary name") if not may_open(panel_app, role, path)]
    browser = Browser(panel_app, NAMES[role])
    assert len(pages) > 10
    for path in pages:
        answer = browser.get(path)
        wanted = statuses[letter(panel_app, role, path)]
        assert answer.status_code // 100 * 100 == wanted // 100 * 100, path


LINK: Final = re.compile(r'<a\b[^>]*\bhref="(/[^"#]*)')
FORM: Final = re.compile(r'<form\b[^>]*method="post"[^>]*action="([^"#]+)')


def test_lists_of_nothing_offer_an_auditor_nothing_refused(panel_app: Flask) -> None:
    add_user(panel_app, NAMES["auditor"], role="auditor")
    follower, found = Follower(panel_app, "auditor"), {}
    for view in LISTS:
        for query in ("", "?search=nothing-is-called-that"):
            text = follower.browser.get(f"/admin/{view}/{query}").text
            links = [["GET", unescape(href)] for href in LINK.findall(text)]
            found[view + query] = follower.refusals(links + [["POST", unescape(to)] for to in FORM.findall(text)])
    assert {page: wrong for page, wrong in found.items() if wrong} == {}
