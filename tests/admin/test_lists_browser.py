"""Lists in a real browser: ticking rows, choosing columns, saving a view, and a session that ends in mid-form."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete
from sqlalchemy.orm import Session

from models import Provider, SavedView, User, WebSession
from tests.admin.conftest import PASSWORD, Browser, add_user, row_of, rows_of


@pytest.fixture
def page(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Any]:
    """A page of the admin."""
    context = panel_chromium.new_context(base_url=panel_served, viewport={"width": 1440, "height": 900})
    browser = Browser(panel_app, "admin")
    browser.get("/admin/")
    cookie = browser.client.get_cookie("admin_session")
    assert cookie is not None
    context.add_cookies([{"name": "admin_session", "value": cookie.value, "url": panel_served}])
    opened, problems = context.new_page(), []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    assert problems == []
    context.close()


def test_rows_are_ticked_disabled_and_put_back(page: Any, panel_app: Flask) -> None:
    ids = [add_user(panel_app, f"user-{place}") for place in range(3)]
    page.goto("/admin/users/?search=user-")
    assert not page.get_by_role("button", name="Disable").is_visible()
    page.get_by_label("Choose user-0").check()
    assert page.get_by_role("status").filter(has_text="1 ticked").is_visible()
    page.get_by_label("All on this page").check()
    assert page.locator('input[name="id"]:checked').count() == 3
    page.get_by_label("Choose user-1").uncheck()
    assert not page.get_by_label("All on this page").is_checked()
    page.get_by_role("button", name="Disable").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Disable 2 rows?"
    page.get_by_label("Reason").fill("left")
    page.get_by_role("button", name="Disable (2)").click()
    assert [row_of(panel_app, User, number).is_active for number in ids] == [False, True, False]
    assert "search=user-" in page.url
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("It is as it was before.").wait_for()
    assert all(row_of(panel_app, User, number).is_active for number in ids)


def test_columns_and_views_by_keyboard(page: Any, panel_app: Flask) -> None:
    add_user(panel_app, "ana", role="auditor")
    page.goto("/admin/users/?role=auditor")
    columns = page.locator("summary", has_text="Columns")
    columns.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Tokens used").uncheck()
    page.get_by_label("Spent").uncheck()
    page.locator("form.drop-body").get_by_role("button", name="Apply").click()
    page.get_by_text("7/9").wait_for()
    assert page.get_by_role("columnheader", name="Spent").count() == 0
    page.locator("summary", has_text="Views").click()
    page.get_by_role("link", name="Save this view").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Auditors")
    page.keyboard.press("Enter")
    page.locator("summary", has_text="Auditors").wait_for()
    assert rows_of(panel_app, SavedView)[-1].settings["filters"] == {"role": "auditor"}
    page.goto("/admin/users/")
    page.locator("summary", has_text="Views").click()
    page.keyboard.press("Escape")
    assert not page.get_by_role("link", name="Auditors").is_visible()
    page.locator("summary", has_text="Views").click()
    page.get_by_role("link", name="Auditors").click()
    page.wait_for_url("**role=auditor**")


def test_nothing_typed_is_lost_with_the_session(page: Any, panel_app: Flask) -> None:
    page.goto("/admin/providers/new/")
    page.locator("[name=name]").fill("acme")
    page.locator("[name=base_url]").fill("https://acme.test/v1")
    page.locator("[name=credential]").fill("sk-typed-secret")
    with Session(panel_app.extensions["gateway"].engine) as session, session.begin():
        session.execute(delete(WebSession))
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Your session has ended").wait_for()
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_text("You were signed out meanwhile").wait_for()
    assert page.url.endswith("/admin/providers/new/")
    assert page.locator("[name=name]").input_value() == "acme"
    assert page.locator("[name=credential]").input_value() == ""
    page.locator("[name=credential]").fill("sk-typed-again")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="acme").wait_for()
    assert [row.base_url for row in rows_of(panel_app, Provider) if row.name == "acme"] == ["https://acme.test/v1"]
