"""A balance in the panel is a budget like others; what is changed of it goes through the ledger."""

from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, LedgerEntry
from services import balances
from services.audit import SYSTEM, Actor
from tests.admin.conftest import Browser, add_user, row_of, rows_of
from tests.helpers import assert_books_agree


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
