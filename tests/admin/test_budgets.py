"""The pages about budgets: setting and lowering them, what is left, and that the books still agree."""

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import inspect
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, BudgetWindow
from services import periods
from tests.admin.conftest import Browser, add_budget, add_key, add_user, columns_of, row_of, rows_of
from tests.helpers import assert_books_agree
from utils import clock


def make(browser: Browser, **data: Any) -> Any:
    form = {"scope": "user", "owner": "ana", "unit": "usd", "limit": "20", "period": "month", "timezone": "UTC", **data}
    return browser.post("/admin/budgets/new/", form)


def spend(app: Flask, budget_id: int, spent: int, held: int = 0, period: str = "month") -> None:
    start = periods.start_s(period, "UTC", clock.now_s())
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.add(BudgetWindow(budget_id=budget_id, period_start=start, spent_amount=spent, held_amount=held))


def test_budgets_for_users_and_keys(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    key = add_key(app, user)
    assert make(panel_anywhere_admin).location == "/admin/budgets/"
    tokens = {"scope": "key", "owner": str(key), "unit": "tokens", "limit": "5000", "period": "day"}
    assert make(panel_anywhere_admin, **tokens, timezone="America/Sao_Paulo").status_code == 303
    found = [(b.scope, b.scope_id, b.unit, b.period, b.timezone, b.limit_amount) for b in rows_of(app, Budget)]
    assert found == [
        ("user", user, "usd", "month", "UTC", 20_000_000_000),
        ("key", key, "tokens", "day", "America/Sao_Paulo", 5000),
    ]
    entry = rows_of(app, AuditEntry)[-1]
    assert (entry.action, entry.resource_type, entry.resource_id) == ("limit_set", "key", str(key))
    assert (entry.details["before"], entry.details["after"]) == (None, 5000)


def test_a_key_is_found_by_its_hint(panel_admin: Browser) -> None:
    key = add_key(panel_admin.app, add_user(panel_admin.app, "ana"))
    hint = row_of(panel_admin.app, ApiKey, key).hint
    assert make(panel_admin, scope="key", owner=hint).status_code == 303
    assert rows_of(panel_admin.app, Budget)[0].scope_id == key


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"owner": "nobody"}, id="no such user"),
        pytest.param({"scope": "key", "owner": "99999"}, id="no such key"),
        pytest.param({"scope": "team"}, id="a scope there is not"),
        pytest.param({"limit": ""}, id="no limit"),
        pytest.param({"limit": "lots"}, id="no amount"),
        pytest.param({"limit": "-5"}, id="a negative amount"),
        pytest.param({"limit": "1e40"}, id="more than there is"),
        pytest.param({"unit": "tokens", "limit": "1.5"}, id="half a token"),
        pytest.param({"unit": "apples"}, id="a unit there is not"),
        pytest.param({"period": "fortnight"}, id="a period there is not"),
        pytest.param({"timezone": "Mars/Olympus"}, id="a time zone there is not"),
        pytest.param({"timezone": "../../etc/passwd"}, id="a path as time zone"),
    ],
)
def test_a_budget_is_not_stored(panel_admin: Browser, data: dict[str, str]) -> None:
    add_user(panel_admin.app, "ana")
    assert make(panel_admin, **data).status_code == 422
    assert rows_of(panel_admin.app, Budget) == []


def test_a_second_budget_of_the_same_kind_is_refused(panel_anywhere_admin: Browser) -> None:
    add_user(panel_anywhere_admin.app, "ana")
    make(panel_anywhere_admin)
    answer = make(panel_anywhere_admin, limit="1")
    assert answer.status_code == 422
    assert "such a budget already" in answer.text
    assert [row.limit_amount for row in rows_of(panel_anywhere_admin.app, Budget)] == [20_000_000_000]


def test_a_limit_may_be_lowered_below_what_is_spent(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_budget(app, "user", add_user(app, "ana"))
    spend(app, number, 12_000_000_000, 500_000_000)
    page = panel_anywhere_admin.get(f"/admin/budgets/edit/?id={number}").text
    assert "$12.00" in page
    assert "+ $0.50 held" in page
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", {"limit": "10", "timezone": "UTC"})
    assert answer.status_code == 303
    assert row_of(app, Budget, number).limit_amount == 10_000_000_000
    assert "-$2.50" in panel_anywhere_admin.get("/admin/budgets/").text
    details = rows_of(app, AuditEntry)[-1].details
    assert (details["before"], details["after"]) == (20_000_000_000, 10_000_000_000)


def test_only_limit_time_zone_and_warning_change(panel_admin: Browser) -> None:
    number = add_budget(panel_admin.app, "user", add_user(panel_admin.app, "ana"))
    before = row_of(panel_admin.app, Budget, number)
    every = dict.fromkeys(inspect(Budget).columns.keys(), "7") | {"scope": "key", "is_prepaid": "y"}
    every |= {"limit": "20", "timezone": "UTC", "warn_percent": "80"}
    answer = panel_admin.post(f"/admin/budgets/edit/?id={number}", every)
    assert answer.status_code == 303
    after = row_of(panel_admin.app, Budget, number)
    for column in columns_of(Budget) - {"updated_at"}:
        assert getattr(after, column) == getattr(before, column), column


def test_deleting_keeps_what_was_spent_in_the_ledger(panel_anywhere: Flask) -> None:
    here = panel_anywhere.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, 1, "caller")
    number = add_budget(panel_anywhere, "key", issued.id, 1_000_000, unit="tokens")
    here.catalog.refresh()
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {issued.secret}"}
    assert panel_anywhere.test_client().post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    browser = Browser(panel_anywhere, "admin")
    assert "no longer measured" in browser.get(f"/admin/budgets/delete/?id={number}").text
    assert browser.post("/admin/budgets/delete/", {"id": number}).status_code == 303
    assert rows_of(panel_anywhere, Budget) == []
    assert f"#{number}" in browser.get(f"/admin/ledger/?budget={number}").text
    assert rows_of(panel_anywhere, AuditEntry)[-1].details["before"]["limit_amount"] == 1_000_000
    assert_books_agree(here.engine)
