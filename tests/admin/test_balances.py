"""A balance in the panel is a budget like others; what is changed of it goes through the ledger."""

import re

from flask import Flask
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, LedgerEntry
from services import balances
from services.audit import SYSTEM, Actor
from tests.admin.conftest import Browser, add_budget, add_user, row_of, rows_of
from tests.helpers import assert_books_agree
from utils import clock


def test_the_limit_of_a_balance_changes_with_an_entry(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    engine = app.extensions["gateway"].engine
    balances.add(engine, add_user(app, "ana"), 1_000, Actor(SYSTEM))
    number = rows_of(app, Budget)[0].id
    page = f"/admin/budgets/edit/?id={number}"
    assert panel_anywhere_admin.post(page, {"limit": "1200", "timezone": "UTC"}).status_code == 303
    assert panel_anywhere_admin.post(page, {"limit": "700", "timezone": "UTC"}).status_code == 303
    assert row_of(app, Budget, number).limit_amount == 700
    found = [(entry.kind, entry.amount_tokens, entry.reason) for entry in rows_of(app, LedgerEntry)]
    assert found == [("top_up", 1_000, None), ("top_up", 200, "limit changed"), ("deduct", 500, "limit changed")]
    assert_books_agree(engine)


def test_a_balance_is_not_lowered_below_what_is_gone(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    engine = app.extensions["gateway"].engine
    balances.add(engine, add_user(app, "ana"), 1_000, Actor(SYSTEM))
    number = rows_of(app, Budget)[0].id
    with Session(engine) as session, session.begin():
        session.add(BudgetWindow(budget_id=number, period_start=0, spent_amount=400, held_amount=100))
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", {"limit": "499", "timezone": "UTC"})
    assert answer.status_code == 422
    assert "It cannot be less than 500 tokens" in answer.text
    assert 'aria-describedby="limit-error"' in answer.text, "the field is marked"
    assert "Time zone" not in answer.text
    assert "It may be less than what is spent" not in answer.text
    assert "spent or held by calls: 500." in answer.text
    assert "In total" not in answer.text
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", {"limit": "2000000000000000"})
    assert answer.status_code == 422
    assert 'aria-describedby="limit-error"' in answer.text
    assert row_of(app, Budget, number).limit_amount == 1_000
    answer = panel_anywhere_admin.post(f"/admin/budgets/edit/?id={number}", {"limit": "500"})
    assert answer.status_code == 303


def test_the_ledger_shows_whose_it_is_and_which_way_it_went(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    engine = app.extensions["gateway"].engine
    user = add_user(app, "ana")
    balances.add(engine, user, 1_000, Actor(SYSTEM))
    balances.add(engine, user, -300, Actor(SYSTEM))
    number = rows_of(app, Budget)[0].id
    month = add_budget(app, "user", user)
    with Session(engine) as session, session.begin():
        values = {"account": "budget", "account_id": month, "created_at": clock.now(), "amount_tokens": 0}
        session.add(LedgerEntry(kind="charge", amount_nanousd=2_500_000_000, **values))
        session.add(LedgerEntry(kind="correction", amount_nanousd=-500_000_000, **values))
    page = panel_anywhere_admin.get("/admin/ledger/").text
    assert re.findall(r'data-label="USD">([^<]*)<', page) == ["$0.50", "-$2.50", "$0.00", "$0.00"]
    assert re.findall(r'data-label="Tokens">([^<]*)<', page) == ["0", "0", "-300", "1,000"]
    owner = f'<a href="/admin/users/details/?id={user}">ana</a>'
    assert page.count(owner) == 4
    assert f'Balance <a href="/admin/ledger/?budget={number}">#{number}</a> {owner}' in page
    assert f'Budget <a href="/admin/ledger/?budget={month}">#{month}</a> {owner}' in page
    assert "User, per month" in page


def test_the_ledger_is_in_portuguese_too(panel_app: Flask) -> None:
    add_user(panel_app, "bia", role="admin", locale="pt_BR")
    engine = panel_app.extensions["gateway"].engine
    with Session(engine) as session, session.begin():
        balances.start(session, add_user(panel_app, "ana"), 1_000, None)
    browser = Browser(panel_app, "bia")
    number = rows_of(panel_app, Budget)[0].id
    browser.post(f"/admin/budgets/edit/?id={number}", {"limit": "900"})
    page = browser.get("/admin/ledger/").text
    for text in ("saldo inicial", "limite alterado"):
        assert text in page
    for text in (">top_up<", ">deduct<", "initial balance", "limit changed"):
        assert text not in page
