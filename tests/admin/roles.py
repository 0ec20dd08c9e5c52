"""Somebody of each role who looks at the panel: their pages, by tests/matrix/routes.txt, and a browser for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from models import ApiKey
from models_prompts import Prompt
from tests.admin.conftest import Browser, add_user
from tests.admin.pages import furnish, number_of
from tests.admin.portal import furnish_team
from tests.admin.test_browser import WATCH
from tests.matrix.policies import MAY, expected
from tests.matrix.test_roles_by_route import ROWS

NAMES: Final = {"admin": "admin", "auditor": "olga", "team_admin": "lea", "user": "ana"}
LETTERS: Final = {(row.method, row.rule): expected(row.policy) for row in ROWS}
ERRORS: Final = 400


def settle(app: Flask, role: str, text: str) -> list[str]:
    """Furnish the app for somebody of the role, whose own things are theirs; returns the paths of all pages."""
    name = NAMES[role]
    if name != "admin":
        add_user(app, name, role=role)
    pages = furnish(app, text, name)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(ApiKey).values(allowed_ips=None))  # a text is no address: no call could be rehearsed
        if role not in ("admin", "auditor"):  # who see the prompts of others
            session.execute(update(Prompt).values(user_id=number_of(app, name)))
    if role == "team_admin":
        pages += furnish_team(app, number_of(app, name), text)
    return [*dict.fromkeys(pages)]


def letter(app: Flask, role: str, address: str, method: str = "GET") -> str:
    """What tests/matrix says of a role and an address of the app; a letter of tests/matrix/policies.py."""
    path = urlsplit(address).path
    try:
        rule, _values = app.url_map.bind("127.0.0.1").match(path, method, return_rule=True)
    except RequestRedirect as exc:
        return letter(app, role, exc.new_url, method)
    except HTTPException:
        return "g"
    return LETTERS[method, rule.rule][role]


def may_open(app: Flask, role: str, address: str) -> bool:
    """Whether the role may see the page. What belongs to somebody is the reader's own here."""
    return letter(app, role, address) in (MAY, "n") and urlsplit(address).path != "/admin/login"


@contextmanager
def seen_by(chromium: Any, served: str, app: Flask, name: str, **options: Any) -> Iterator[Any]:
    """A page of somebody's, watched: at the end no script has failed and no policy was broken."""
    context = chromium.new_context(base_url=served, reduced_motion="reduce", accept_downloads=True, **options)
    browser, problems = Browser(app, name), []
    browser.get("/portal/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": served}])
    context.add_init_script(WATCH)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("console", lambda said: problems.append(f"{page.url}: {said.text}") if said.type == "error" else None)
    try:
        yield page
        assert page.evaluate("window.__reports") == []
        assert not problems, [str(one)[:200] for one in problems[:6]]
    finally:
        context.close()


def until(page: Any, expression: str, seconds: float = 10) -> None:
    """Wait until the page says so. Playwright's own function polls by `eval`, which the policy of the pages refuses."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"{page.url}: never {expression}"
        page.wait_for_timeout(20)


def left_the_drawer(page: Any) -> None:
    """Wait for the step back in the browser's history by which a drawer closes: it would stop the next navigation."""
    page.locator("#drawer").wait_for(state="hidden")
    until(page, "!(history.state && history.state.drawer)")
