"""What people of each role come for, in a real browser. Other files have more of it; see docs/compatibility.md."""

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask

from models import ApiKey, Budget, Limit, Model, Provider, Team, User
from tests.admin.conftest import (
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_refusals,
    add_team,
    add_user,
    key_row,
    row_of,
    rows_of,
)
from tests.admin.roles import left_the_drawer, seen_by
from tests.admin.test_portal_browser import call

Opener = Callable[[str], Any]


@pytest.fixture
def opened(panel_chromium: Any, panel_served: str, panel_app: Flask) -> Iterator[Opener]:
    """Opens a page of somebody who is signed in; at the end nothing has failed on any."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(seen_by(panel_chromium, panel_served, panel_app, name))


def exported(page: Any, label: str) -> list[dict[str, str]]:
    """The rows of the file that a list gives, by a choice of its menu."""
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=label).click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_an_auditor_filters_sorts_exports_and_asks_why(opened: Opener, panel_app: Flask) -> None:
    ana = add_user(panel_app, "ana")
    add_user(panel_app, "olga", role="auditor")
    key = add_key(panel_app, ana)
    add_calls(panel_app, 3, user_id=ana, key_id=key, model="fast")
    wanted = add_calls(panel_app, 2, user_id=ana, key_id=key, model="slow")
    rule = f"limit {add_limit(panel_app, 'key', key, 5)}"
    (blocked,) = add_refusals(panel_app, 1, user_id=ana, key_id=key, rule=rule)
    page = opened("olga")
    page.goto("/admin/usage/")
    page.locator("form.toolbar [name=model]").fill("slow")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**model=slow**")
    assert page.locator("tbody tr").count() == 2
    assert {row["request_id"] for row in exported(page, "CSV, everything")} == set(wanted)
    page.keyboard.press("Escape")
    page.locator("tbody [data-drawer]").first.click()
    page.locator("#drawer #request-id").wait_for()
    assert page.locator("#drawer #request-id").inner_text() == wanted[-1]
    page.keyboard.press("Escape")
    left_the_drawer(page)
    page.goto("/admin/users/")
    name = page.get_by_role("columnheader").first
    name.get_by_role("link").click()
    page.locator("th[aria-sort=ascending]").wait_for()
    first = page.locator("tbody .lead-cell").first.inner_text()
    name.get_by_role("link").click()
    page.locator("th[aria-sort=descending]").wait_for()
    assert page.locator("tbody .lead-cell").first.inner_text() != first
    page.goto("/admin/blocked/")
    page.get_by_label("A request was refused: its id").fill(blocked)
    page.get_by_role("button", name="Explain").click()
    page.get_by_role("heading", name="Too many requests").first.wait_for()
    page.get_by_text("An admin can mend it").wait_for()


def test_a_teams_admin_sets_a_budget_makes_a_key_and_stops_a_member(
    opened: Opener, panel_app: Flask, panel_served: str
) -> None:
    ana, lea = add_user(panel_app, "ana"), add_user(panel_app, "lea", role="team_admin")
    team = add_team(panel_app, "crew", (ana, lea))
    add_budget(panel_app, "team", team, 90_000_000_000)
    page = opened("lea")
    page.goto("/portal/")
    page.get_by_role("link", name="Your team").click()
    page.get_by_role("link", name="ana").click()
    page.get_by_label("Limit").fill("12.50")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The budget was saved.").wait_for()
    assert [row.limit_amount for row in rows_of(panel_app, Budget) if row.scope == "user"] == [12_500_000_000]
    page.get_by_label("Name").fill("robot")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    assert call(panel_served, secret) == 200
    page.get_by_role("link", name="I have stored it").click()
    page.get_by_role("link", name="Revoke robot").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_text("The key was revoked.").wait_for()
    assert secret not in page.content()
    assert key_row(panel_app, "robot").revoked_at is not None
    page.get_by_role("link", name="ana").first.click()
    page.get_by_label("Reason").fill("on leave")
    page.get_by_role("button", name="Disable").click()
    page.get_by_text("ana is disabled.").wait_for()
    assert row_of(panel_app, User, ana).disabled_reason == "on leave"


def test_ones_own_key_is_shown_once_rotated_and_deleted_after_asking(
    opened: Opener, panel_app: Flask, panel_served: str
) -> None:
    add_user(panel_app, "ana")
    page = opened("ana")
    page.goto("/portal/keys/new/")
    page.get_by_label("Name").fill("laptop")
    page.keyboard.press("Enter")
    first = page.locator("#secret").inner_text()
    page.reload()
    assert page.locator("#secret").count() == 0
    number = key_row(panel_app, "laptop").id
    page.goto(f"/portal/keys/details/?id={number}")
    page.get_by_role("link", name="Rotate").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    second = page.locator("#secret").inner_text()
    assert first != second
    assert call(panel_served, second) == 200
    page.goto("/portal/keys/")
    page.get_by_role("link", name="Delete laptop").click()
    sure = page.get_by_role("dialog").get_by_role("button", name="Delete")
    sure.wait_for()
    page.keyboard.press("Escape")
    assert row_of(panel_app, ApiKey, number) is not None
    page.get_by_role("link", name="Delete laptop").click()
    sure.click()
    page.get_by_text("was deleted.").wait_for()
    assert row_of(panel_app, ApiKey, number) is None
    assert call(panel_served, second) == 401


def test_what_somebody_asked_for_is_answered_and_read(opened: Opener, panel_app: Flask) -> None:
    budget = add_budget(panel_app, "user", add_user(panel_app, "ana"))
    page, admin = opened("ana"), opened("admin")
    page.goto(f"/portal/requests/new/?target=budget-{budget}")
    page.get_by_label("Wanted").fill("75")
    page.get_by_label("Reason").fill("The thesis")
    page.get_by_role("button", name="Send request").click()
    page.get_by_role("cell", name="The thesis").wait_for()
    assert page.get_by_role("button", name="Withdraw").is_visible()
    admin.goto("/admin/raises/")
    admin.get_by_role("link", name="Decide").click()
    admin.locator("[name=amount]").fill("60")
    admin.locator("[name=answer]").fill("For now")
    admin.get_by_role("button", name="Decide").click()
    admin.get_by_text("The request was approved.").wait_for()
    page.reload()
    page.get_by_text("given: $60.00").wait_for()
    page.get_by_text("For now").wait_for()
    assert page.get_by_role("button", name="Withdraw").count() == 0
    page.goto("/portal/")
    assert page.get_by_text("$60.00").count() >= 1


# What an admin makes, changes, finds, takes home and deletes: fields of the form, then those of a change; how the list
# is narrowed to it, a column of the file, and what proves the change.
CASES: Final[dict[str, dict[str, Any]]] = {
    "users": {
        "table": User,
        "new": {"username": "zoe", "tags": "night"},
        "edit": {"tags": "day"},
        "search": {"search": "zoe"},
        "column": ("username", "zoe"),
        "changed": lambda row: row.tags == ["day"],
    },
    "teams": {
        "table": Team,
        "new": {"name": "crew", "members": "ana"},
        "edit": {"name": "crew two"},
        "search": {"search": "crew"},
        "column": ("name", "crew two"),
        "changed": lambda row: row.name == "crew two",
    },
    "providers": {
        "table": Provider,
        "new": {"name": "acme", "base_url": "http://127.0.0.1:9/v1"},
        "edit": {"base_url": "http://127.0.0.1:9/v2"},
        "search": {"search": "acme"},
        "column": ("name", "acme"),
        "changed": lambda row: row.base_url.endswith("/v2"),
    },
    "models": {
        "table": Model,
        "new": {"name": "zippy", "deployments-0-upstream_model": "up", "input_rate": "1", "output_rate": "2"},
        "edit": {"context_window": "4096"},
        "search": {"search": "zippy"},
        "column": ("name", "zippy"),
        "changed": lambda row: row.context_window == 4096,
    },
    "budgets": {
        "table": Budget,
        "new": {"owner": "ana", "limit": "20"},
        "edit": {"limit": "25"},
        "search": {"scope": "user"},
        "column": ("limit", "25"),
        "changed": lambda row: row.limit_amount == 25_000_000_000,
    },
    "limits": {
        "table": Limit,
        "new": {"owner": "ana", "amount": "20"},
        "edit": {"amount": "25"},
        "search": {"scope": "user"},
        "column": ("limit_amount", "25"),
        "changed": lambda row: row.limit_amount == 25,
    },
}


def fill(page: Any, fields: dict[str, str]) -> None:
    for name, value in fields.items():
        page.locator(f"main form [name='{name}']").fill(value)


def save(page: Any) -> None:
    """Send the form; it is gone when what follows is there."""
    button = page.get_by_role("button", name="Save", exact=True)
    button.click()
    button.wait_for(state="detached")


@pytest.mark.parametrize("view", CASES)
def test_an_admin_makes_changes_finds_exports_and_deletes(opened: Opener, panel_app: Flask, view: str) -> None:
    case = CASES[view]
    add_user(panel_app, "ana")
    add_budget(panel_app, "team", add_team(panel_app, "others"))
    add_limit(panel_app, "address", 0)
    page, before = opened("admin"), {row.id for row in rows_of(panel_app, case["table"])}
    page.goto(f"/admin/{view}/new/")
    fill(page, case["new"])
    save(page)
    (row,) = [row for row in rows_of(panel_app, case["table"]) if row.id not in before]
    page.goto(f"/admin/{view}/edit/?id={row.id}")
    fill(page, case["edit"])
    save(page)
    assert case["changed"](row_of(panel_app, case["table"], row.id))
    page.goto(f"/admin/{view}/")
    many = page.locator("tbody tr").count()
    for name, value in case["search"].items():
        field = page.locator(f"form.toolbar [name={name}]")
        field.select_option(value) if name == "scope" else field.fill(value)
    if "scope" not in case["search"]:
        page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**?*")
    assert (page.locator("tbody tr").count(), many > 1) == (1, True)
    column, value = case["column"]
    assert [one[column] for one in exported(page, "CSV, everything")] == [value]
    page.keyboard.press("Escape")
    page.locator(f"tbody a[href*='/{view}/delete/']").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").wait_for()
    assert row_of(panel_app, case["table"], row.id) is not None
    dialog.get_by_role("button", name="Delete").click()
    page.get_by_text("was deleted.").wait_for()
    assert row_of(panel_app, case["table"], row.id) is None


def test_keys_are_found_exported_revoked_and_deleted(opened: Opener, panel_app: Flask) -> None:
    """Made and rotated they are in test_browser.py and test_walkthrough.py."""
    ana = add_user(panel_app, "ana")
    number = add_key(panel_app, ana, "laptop")
    add_key(panel_app, ana, "server")
    page = opened("admin")
    page.goto("/admin/keys/")
    page.get_by_role("searchbox", name="Search", exact=True).fill("laptop")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**search=laptop**")
    assert [one["name"] for one in exported(page, "CSV, everything")] == ["laptop"]
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Edit laptop").click()
    page.get_by_label("Name").fill("tablet")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="tablet").wait_for()
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    page.get_by_text("was revoked").wait_for()
    page.goto(f"/admin/keys/details/?id={number}")
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("was deleted.").wait_for()
    assert row_of(panel_app, ApiKey, number) is None


@pytest.mark.parametrize("view", ["budgets", "limits"])
def test_cancelling_and_saving_lead_back_to_where_one_came_from(opened: Opener, panel_app: Flask, view: str) -> None:
    ana = add_user(panel_app, "ana")
    add_budget(panel_app, "user", ana)
    add_limit(panel_app, "user", ana)
    page = opened("admin")
    for way in ("new", "edit"):
        page.goto(f"/admin/users/details/?id={ana}")
        page.locator(f"main a[href*='/{view}/{way}/']").click()
        page.get_by_role("link", name="Cancel").click()
        page.wait_for_url(f"**/admin/users/details/?id={ana}")
    page.locator(f"main a[href*='/{view}/edit/']").click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"**/admin/users/details/?id={ana}")
    page.goto(f"/admin/{view}/?scope=user")
    page.locator(f"tbody a[href*='/{view}/edit/']").click()
    page.get_by_role("link", name="Cancel").click()
    page.wait_for_url(f"**/admin/{view}/?scope=user")
