"""Asking for more and redeeming codes, on both databases: each is decided or used up once, whoever comes together."""

import re

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, Budget, RaiseRequest, TopUpCode, User
from services import keys, raises
from services.audit import Actor
from services.errors import GatewayError, NotFound
from services.raises import Target
from services.types import Caller
from tests.admin.conftest import Browser, add_budget, add_key, add_team, add_user, row_of, rows_of
from tests.admin.portal import add_request
from tests.callers import bearer
from tests.helpers import chat

CODE = re.compile(r"top-[A-Za-z0-9]{32}")
ASK = {"amount": "50", "reason": "a larger experiment"}
NEW_CODES = {"unit": "tokens", "amount": "5000", "count": "1", "days": "7", "note": "class of 26"}


@pytest.fixture
def ana(panel_anywhere: Flask) -> int:
    return add_user(panel_anywhere, "ana")


def ask(app: Flask, caller: Caller, target: Target, wanted: int) -> None:
    who = Actor(caller.username, caller.user_id)
    raises.ask(app.extensions["gateway"].engine, who, caller, target, wanted, "r")


def caller_of(app: Flask, name: str) -> Caller:
    with Session(app.extensions["gateway"].engine) as session:
        return keys.caller_of(session, session.query(User).filter_by(username=name).one())


def test_a_raise_is_asked_for_approved_and_live(panel_anywhere: Flask, ana: int) -> None:
    app, secret = panel_anywhere, ""
    with app.app_context():
        secret = make_secret(app, ana)
    budget = add_budget(app, "user", ana, 0)
    client, browser, admin = app.test_client(), Browser(app, "ana"), Browser(app, "admin")
    call = {"json": chat(model="echo"), "headers": bearer(secret)}
    add_budget(app, "user", ana, 0, unit="tokens")
    app.extensions["gateway"].catalog.refresh()
    assert client.post("/v1/chat/completions", **call).status_code in (402, 429)
    tokens = rows_of(app, Budget)[-1].id
    asked = browser.post("/portal/requests/new/", {"target": f"budget-{tokens}", "amount": "9000", "reason": "tests"})
    assert asked.status_code == 303
    page = admin.get("/admin/").text
    assert '<span class="nav-badge" title="1 wait for a decision">1</span>' in page
    assert "tests" in admin.get("/admin/raises/?state=open").text
    number = rows_of(app, RaiseRequest)[0].id
    form = {"id": str(number), "decision": "approve", "amount": "8000", "answer": "for now"}
    assert admin.post("/admin/raises/decide/", form).status_code == 303
    assert row_of(app, Budget, tokens).limit_amount == 8000
    assert row_of(app, Budget, budget).limit_amount == 0
    assert client.post("/v1/chat/completions", **call).status_code == 200, "live at once in the worker that decided"
    page = browser.get("/portal/requests/").text
    for text in ("Approved", "for now", "given: 8,000 tokens"):
        assert text in page
    assert "nav-badge" not in admin.get("/admin/").text
    told = admin.post("/admin/raises/decide/", form | {"amount": "1"})
    assert (told.status_code, "was quicker" in told.text) == (422, True)
    assert [row.action for row in rows_of(app, AuditEntry) if row.action.startswith("raise_")] == [
        "raise_request",
        "raise_approve",
    ]


def make_secret(app: Flask, user_id: int) -> str:
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        return str(here.keys.issue(session, user_id, "program").secret)


def test_a_request_is_declined_with_a_reason_only(panel_anywhere: Flask, ana: int) -> None:
    budget, number = add_budget(panel_anywhere, "user", ana), add_request(panel_anywhere, ana)
    admin = Browser(panel_anywhere, "admin")
    silent = admin.post("/admin/raises/decide/", {"id": str(number), "decision": "decline", "amount": "x"})
    assert (silent.status_code, "Say why" in silent.text) == (422, True)
    said = admin.post("/admin/raises/decide/", {"id": str(number), "decision": "decline", "answer": "not this month"})
    assert said.status_code == 303
    assert row_of(panel_anywhere, Budget, budget).limit_amount == 20_000_000_000
    assert "not this month" in Browser(panel_anywhere, "ana").get("/portal/requests/").text


def test_what_cannot_be_asked_for_is_refused(panel_anywhere: Flask, ana: int) -> None:
    app, browser = panel_anywhere, Browser(panel_anywhere, "ana")
    own, foreign = add_budget(app, "user", ana), add_budget(app, "user", add_user(app, "oto"))
    team = add_budget(app, "team", add_team(app, "others"))
    key = add_budget(app, "key", add_key(app, 1))
    for target in (foreign, team, key, 98765):
        assert browser.post("/portal/requests/new/", ASK | {"target": f"budget-{target}"}).status_code == 422
    for amount in ("20", "-1", "x", "NaN", "1e30"):
        sent = browser.post("/portal/requests/new/", ASK | {"target": f"budget-{own}", "amount": amount})
        assert sent.status_code == 422, amount
    assert rows_of(app, RaiseRequest) == []
    caller = caller_of(app, "ana")
    for number in (foreign, team, key, 98765, 2**70):
        with pytest.raises(GatewayError, match="no such budget"):
            ask(app, caller, Target("budget", number), 9**15)


def test_nobody_asks_for_a_balance_that_would_begin_to_limit_them(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "bia")
    browser = Browser(panel_anywhere, "bia")
    assert 'value="balance-0"' not in browser.get("/portal/requests/new/").text
    refused = browser.post("/portal/requests/new/", ASK | {"target": "balance-0", "amount": "1000"})
    assert refused.status_code == 422
    with pytest.raises(NotFound):
        ask(panel_anywhere, caller_of(panel_anywhere, "bia"), Target("balance"), 1000)
    assert rows_of(panel_anywhere, RaiseRequest) == []


def test_a_comma_is_read_as_the_language_writes_it_or_refused(panel_anywhere: Flask) -> None:
    user = add_user(panel_anywhere, "bia")
    budget = add_budget(panel_anywhere, "user", user, 1_000_000_000)
    browser, admin = Browser(panel_anywhere, "bia"), Browser(panel_anywhere, "admin")
    asked = ASK | {"target": f"budget-{budget}", "amount": "2,50"}
    assert browser.post("/portal/requests/new/", asked).status_code == 422
    portuguese = {"accept-language": "pt-BR"}
    assert browser.post("/portal/requests/new/", asked, headers=portuguese).status_code == 303
    (row,) = rows_of(panel_anywhere, RaiseRequest)
    assert row.wanted_amount == 2_500_000_000
    decision = {"id": str(row.id), "decision": "approve", "amount": "2,50", "answer": ""}
    assert admin.post("/admin/raises/decide/", decision).status_code == 422
    assert row_of(panel_anywhere, Budget, budget).limit_amount == 1_000_000_000
    codes = NEW_CODES | {"unit": "usd", "amount": "2,50"}
    assert admin.post("/admin/topups/new/", codes).status_code == 422
    assert rows_of(panel_anywhere, TopUpCode) == []
