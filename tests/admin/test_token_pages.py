"""Token balances and transactions in the panel: made, changed, never deleted; every movement in the ledger."""

import re

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, Budget, BudgetWindow, LedgerEntry
from services import balances
from services.audit import SYSTEM, Actor
from tests.admin.conftest import Browser, add_user, rows_of
from tests.helpers import assert_books_agree
from utils import clock

NEW, EDIT = "/admin/balances/new/", "/admin/balances/edit/"


def standing(app: Flask, user: int) -> tuple[int | None, int | None]:
    found = balances.state(app.extensions["gateway"].engine, user)
    return found.balance, found.limit


def test_a_balance_is_made_changed_and_never_deleted(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    form = panel_anywhere_admin.get(NEW).text
    assert "Limit (null=unlimited)" in form
    made = panel_anywhere_admin.post(NEW, {"user": "ana", "amount": "1000", "limit": "5000", "reason": "a start"})
    assert made.status_code == 303
    assert standing(app, user) == (1000, 5000)
    page = panel_anywhere_admin.get("/admin/balances/").text
    assert f"ana (#{user})" in page
    assert "Limit (null=unlimited)" in page
    path = f"{EDIT}?id={user}"
    assert (
        panel_anywhere_admin.post(path, {"amount": "-300", "limit": "", "reason": "a gift too large"}).status_code
        == 303
    )
    assert standing(app, user) == (700, None)
    assert panel_anywhere_admin.get(f"/admin/balances/delete/?id={user}").status_code == 404
    assert panel_anywhere_admin.post(f"/admin/balances/delete/?id={user}").status_code == 404
    assert [(row.kind, row.amount_tokens, row.reason) for row in rows_of(app, LedgerEntry)] == [
        ("top_up", 1000, "a start"),
        ("deduct", 300, "a gift too large"),
    ]
    actions = [row.action for row in rows_of(app, AuditEntry)]
    assert [action for action in actions if action.startswith(("token", "limit"))] == [
        "token_topup", "limit_set", "token_deduct", "limit_set",
    ]  # fmt: skip
    assert_books_agree(app.extensions["gateway"].engine)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"user": "nobody", "amount": "5"}, "There is no user of that name."),
        ({"user": "ana"}, "Give a balance, a limit or both."),
        ({"user": "bea", "amount": "5"}, "has a balance or a limit already"),
        ({"user": "ana", "amount": "-5"}, "Number must be between"),
        ({"user": "ana", "limit": "-1"}, "Number must be between"),
        ({"user": "ana", "amount": "many"}, "Not a valid integer value."),
        ({"user": "ana", "amount": str(10**13)}, "Number must be between"),
    ],
)
def test_a_balance_is_not_made(panel_admin: Browser, data: dict[str, str], said: str) -> None:
    app = panel_admin.app
    add_user(app, "ana")
    balances.add(app.extensions["gateway"].engine, add_user(app, "bea"), 10, Actor(SYSTEM))
    answer = panel_admin.post(NEW, data | {"reason": "kept"})
    assert answer.status_code == 422
    assert said in answer.text
    assert 'value="kept"' in answer.text, "what was typed stays"
    assert len(rows_of(app, LedgerEntry)) == 1


def test_both_or_neither_change(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    user = add_user(app, "ana")
    balances.add(app.extensions["gateway"].engine, user, 100, Actor(SYSTEM))
    answer = panel_anywhere_admin.post(f"{EDIT}?id={user}", {"amount": "-101", "limit": "7"})
    assert answer.status_code == 422
    assert "is smaller than that" in answer.text
    assert standing(app, user) == (100, None), "the limit was not set either"


def test_a_limit_that_somebody_else_set_meanwhile_is_not_overwritten(panel_admin: Browser) -> None:
    app = panel_admin.app
    user, engine = add_user(app, "ana"), app.extensions["gateway"].engine
    balances.set_limit(engine, user, 10, Actor(SYSTEM))
    page = panel_admin.get(f"{EDIT}?id={user}").text
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen is not None
    balances.set_limit(engine, user, 20, Actor(SYSTEM))
    assert panel_admin.post(f"{EDIT}?id={user}", {"limit": "30", "seen": seen[1]}).status_code == 422
    assert standing(app, user) == (None, 20)


def test_users_without_tokens_have_no_page(panel_admin: Browser) -> None:
    user = add_user(panel_admin.app, "ana")
    assert panel_admin.get(f"{EDIT}?id={user}").status_code == 404
    assert "Nobody is limited by tokens" in panel_admin.get("/admin/balances/").text


def fill(app: Flask) -> tuple[int, int]:
    engine = app.extensions["gateway"].engine
    ana, bea = add_user(app, "ana"), add_user(app, "bea")
    balances.add(engine, ana, 1_000, Actor(SYSTEM), "for the hackathon")
    balances.add(engine, bea, 500, Actor(SYSTEM))
    balances.add(engine, bea, -50, Actor(SYSTEM), "100%_sure")
    number = next(row.id for row in rows_of(app, Budget) if row.scope_id == ana)
    with Session(engine) as session, session.begin():
        call = {"created_at": clock.now(), "account": "budget", "account_id": number, "amount_tokens": 30}
        session.add(LedgerEntry(kind="charge", request_id="req_1", **call))
        session.add(LedgerEntry(kind="charge", request_id="req_1", **call | {"account": "user", "account_id": ana}))
        session.add(BudgetWindow(budget_id=number, period_start=0, spent_amount=30, held_amount=0))
    return ana, bea


def shown(page: str) -> list[str]:
    return re.findall(r'data-label="Tokens">([^<]*)<', page)


def test_transactions_are_newest_first_and_found_by_user_and_reason(panel_anywhere_admin: Browser) -> None:
    ana, _bea = fill(panel_anywhere_admin.app)

    def search(query: str) -> list[str]:
        return shown(panel_anywhere_admin.get(f"/admin/transactions/{query}").text)

    assert search("") == ["-30", "-50", "500", "1,000"], "what is charged to a user's account is no movement of tokens"
    assert search("?search=an") == ["-30", "1,000"]
    assert search("?search=llm_usage") == ["-30"]
    assert search("?search=top_up") == ["500", "1,000"]
    assert search("?search=HACKATHON") == ["1,000"]
    assert search("?search=%25_") == ["-50"], "signs of patterns are signs"
    assert search("?user=bea") == ["-50", "500"]
    assert search("?user=nobody") == []
    page = panel_anywhere_admin.get("/admin/transactions/").text
    assert f'<a href="/admin/users/details/?id={ana}">ana</a>' in page
    for path in ("new/", "edit/?id=1", "delete/?id=1", "details/?id=1"):
        assert panel_anywhere_admin.get(f"/admin/transactions/{path}").status_code == 404


def test_users_are_listed_with_their_balances(panel_anywhere_admin: Browser) -> None:
    fill(panel_anywhere_admin.app)
    page = panel_anywhere_admin.get("/admin/users/").text
    rows = {row.split("</a>")[0]: row for row in re.findall(r'lead-cell"><a href="[^"]*">(.*?)</tr>', page, re.DOTALL)}
    assert ">970</a>" in rows["ana"]
    assert ">450</a>" in rows["bea"]
    assert "unlimited" in rows["admin"]
