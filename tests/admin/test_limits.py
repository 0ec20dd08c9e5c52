"""The pages about limits: setting them, what is used of them, and the ones that the environment gives."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, Limit, LimitWindow
from services import counting, limits
from tests.admin.conftest import (
    Browser,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_team,
    add_user,
    columns_of,
    row_of,
    rows_of,
)
from tests.helpers import chat
from utils import clock


def make(browser: Browser, **data: Any) -> Any:
    form = {"scope": "user", "owner": "ana", "unit": "requests", "period": "minute", "amount": "60", **data}
    return browser.post("/admin/limits/new/", form)


def use(app: Flask, number: int, amount: int) -> None:
    """So much of a limit is used now."""
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        counted = counting.count(limits.ref_of(session.get_one(Limit, number)), 0, clock.now_s())
        row = LimitWindow(subject=str(number), period_start=counted.start, period_end=counted.end)
        row.used_amount, row.previous_amount = amount, 0
        session.add(row)


def test_limits_for_every_layer(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    key, team = add_key(app, user), add_team(app, "research")
    model = add_model(app, [add_provider(app)], "fast")
    wanted = [
        ("user", "ana", "requests", "minute", user),
        ("key", str(key), "tokens", "day", key),
        ("team", "research", "tokens", "month", team),
        ("model", "fast", "requests", "second", model),
        ("address", "", "requests", "hour", 0),
        ("user", "ana", "concurrent", "minute", user),
    ]
    for scope, owner, unit, period, _number in wanted:
        answer = make(panel_anywhere_admin, scope=scope, owner=owner, unit=unit, period=period)
        assert answer.location == "/admin/limits/", answer.text
    found = [(row.scope, row.unit, row.period, row.scope_id, row.limit_amount) for row in rows_of(app, Limit)]
    expected = [
        (scope, unit, "none" if unit == "concurrent" else period, number, 60)
        for scope, _owner, unit, period, number in wanted
    ]
    assert found == expected
    entries = [row for row in rows_of(app, AuditEntry) if row.action == "rate_limit_set"]
    assert [row.resource_type for row in entries] == [scope for scope, *_rest in wanted]
    assert entries[0].details == {"unit": "requests", "period": "minute", "before": None, "after": 60}
    page = panel_anywhere_admin.get("/admin/limits/").text
    for text in ("ana", "prod", "research", "fast", "Each client address", "Calls at once", "Tokens per month"):
        assert text in page, text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"owner": "nobody"}, id="no such user"),
        pytest.param({"owner": ""}, id="no owner"),
        pytest.param({"scope": "team"}, id="no such team"),
        pytest.param({"scope": "planet"}, id="a layer there is not"),
        pytest.param({"amount": ""}, id="no amount"),
        pytest.param({"amount": "-1"}, id="a negative amount"),
        pytest.param({"amount": "1.5"}, id="a fraction"),
        pytest.param({"amount": "1e3"}, id="not written out"),
        pytest.param({"amount": "٣"}, id="digits of another script"),
        pytest.param({"amount": "1000000000001"}, id="more than there is"),
        pytest.param({"unit": "apples"}, id="a unit there is not"),
        pytest.param({"period": "none"}, id="requests without a period"),
        pytest.param({"period": "week"}, id="a period that limits have not"),
    ],
)
def test_a_limit_is_not_stored(panel_admin: Browser, data: dict[str, str]) -> None:
    add_user(panel_admin.app, "ana")
    assert make(panel_admin, **data).status_code == 422
    assert rows_of(panel_admin.app, Limit) == []


def test_a_second_limit_of_the_same_kind_is_refused(panel_anywhere_admin: Browser) -> None:
    add_user(panel_anywhere_admin.app, "ana")
    make(panel_anywhere_admin)
    answer = make(panel_anywhere_admin, amount="1")
    assert (answer.status_code, "such a limit already" in answer.text) == (422, True)
    assert [row.limit_amount for row in rows_of(panel_anywhere_admin.app, Limit)] == [60]


def test_what_is_used_now_what_is_left_and_when_it_resets(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_limit(app, "user", add_user(app, "ana"), 5000, period="day")
    use(app, number, 4321)
    for path in ("/admin/limits/", f"/admin/limits/edit/?id={number}"):
        page = panel_anywhere_admin.get(path).text
        assert "4,321" in page
        assert "/ 5,000" in page
    page = panel_anywhere_admin.get("/admin/limits/").text
    assert "679" in page
    assert "<time" in page


def test_only_the_amount_changes(panel_admin: Browser) -> None:
    app = panel_admin.app
    number = add_limit(app, "user", add_user(app, "ana"))
    before = row_of(app, Limit, number)
    every = dict.fromkeys(columns_of(Limit), "7") | {"scope": "key", "unit": "tokens", "amount": "30"}
    assert panel_admin.post(f"/admin/limits/edit/?id={number}", every).status_code == 303
    after = row_of(app, Limit, number)
    assert after.limit_amount == 30
    for column in columns_of(Limit) - {"limit_amount", "updated_at"}:
        assert getattr(after, column) == getattr(before, column), column
    details = rows_of(app, AuditEntry)[-1].details
    assert (details["before"], details["after"]) == (100, 30)


def test_nobody_overwrites_unseen_what_somebody_else_saved(panel_admin: Browser) -> None:
    app = panel_admin.app
    number = add_limit(app, "user", add_user(app, "ana"))
    page = panel_admin.get(f"/admin/limits/edit/?id={number}").text
    seen = page.split('name="seen" value="')[1].split('"')[0]
    assert panel_admin.post(f"/admin/limits/edit/?id={number}", {"amount": "5"}).status_code == 303
    answer = panel_admin.post(f"/admin/limits/edit/?id={number}", {"amount": "9", "seen": seen})
    assert (answer.status_code, row_of(app, Limit, number).limit_amount) == (422, 5)


def test_a_limit_holds_at_once_and_deleting_lifts_it(panel_anywhere: Flask) -> None:
    here = panel_anywhere.extensions["gateway"]
    user = add_user(panel_anywhere, "ana")
    with Session(here.engine) as session, session.begin():
        secret = here.keys.issue(session, user, "caller").secret
    browser = Browser(panel_anywhere, "admin")
    make(browser, amount="1", period="day")

    def status() -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        body = chat("hello", "echo")
        return panel_anywhere.test_client().post("/v1/chat/completions", json=body, headers=headers).status_code

    assert [status(), status()] == [200, 429]
    (limit,) = rows_of(panel_anywhere, Limit)
    assert "no longer counted" in browser.get(f"/admin/limits/delete/?id={limit.id}").text
    assert browser.post("/admin/limits/delete/", {"id": limit.id}).status_code == 303
    assert status() == 200
    entries = [row for row in rows_of(panel_anywhere, AuditEntry) if "limit" in row.action]
    assert [row.details["after"] for row in entries] == [1, None], "one entry for each change"


def test_limits_of_the_environment_are_shown_and_cannot_be_changed(
    sqlite_database: str, make_app: Callable[..., Flask]
) -> None:
    app = make_app(sqlite_database, RATE_LIMIT_PER_MINUTE="77", RATE_LIMIT_REQUESTS="55", RATE_LIMIT_WINDOW="30")
    browser = Browser(app, "admin")
    page = browser.get("/admin/limits/").text.split("Set by the environment")[1]
    for text in ("77", "RATE_LIMIT_PER_MINUTE", "Each client address", "55", "RATE_LIMIT_REQUESTS", "per 30 s"):
        assert text in page, text
    assert "edit" not in page
    key = browser.get(f"/admin/keys/details/?id={add_key(app, 1)}").text
    assert "each client address: 77 requests per minute" in key


def test_an_empty_list_says_what_a_limit_is_for(panel_admin: Browser) -> None:
    page = panel_admin.get("/admin/limits/").text
    assert "No limit yet" in page
    assert "RATE_LIMIT_PER_MINUTE would limit" in page


def test_the_list_narrows(panel_admin: Browser) -> None:
    app = panel_admin.app
    user = add_user(app, "ana")
    add_limit(app, "user", user)
    add_limit(app, "key", add_key(app, user, "laptop"), unit="tokens", period="day")

    def names(query: str) -> set[str]:
        page = panel_admin.get(f"/admin/limits/?{query}").text
        return {name for name in ("ana", "laptop") if f">{name}</a>" in page}

    assert names("") == {"ana", "laptop"}
    assert names("scope=key") == names("unit=tokens") == names("period=day") == {"laptop"}
    assert names("scope=team") == set()
