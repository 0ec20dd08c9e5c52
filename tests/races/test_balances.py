"""One balance, eight processes: admins top it up and deduct from it while calls use it, all at once."""

import http.client
import json
import threading
from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import Budget, LedgerEntry
from services import balances
from services.audit import Actor
from services.bookings import Booking
from services.books.base import BooksUnavailable, HoldRefused
from services.errors import InvalidRequest
from services.types import BudgetRef, Take, Usage
from tests.books.test_books import hold, settlement
from tests.conftest import PASSWORD
from tests.helpers import chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, crowd, wait_until_clean

PROCESSES, THREADS = 8, 8
ROUNDS = 4000 if SOAK else 240
INITIAL, GIVEN, TAKEN, USED = 400, 60, 90, 8  # tokens; a call uses 3 and 5, and holds some 130
SPENT = Usage(60, 40)
KINDS = ("call", "top up", "call", "deduct")


@pytest.mark.parametrize("run", range(5 if SOAK else 1))
def test_balances_add_up_and_never_go_below_zero(make_app, database, serve, upstream, run):
    app = with_upstream(make_app(database, INITIAL_TOKEN_BALANCE=str(INITIAL)), upstream)
    engine, client = app.extensions["gateway"].engine, app.test_client()
    key = client.post("/register", json={"username": "maria", "password": "senha-da-maria"}).json["api_key"]
    admin = client.post("/login", json={"username": "admin", "password": PASSWORD}).json["access_token"]
    with engine.connect() as connection:
        user = connection.execute(text("SELECT id FROM users WHERE username = 'maria'")).scalar_one()
    served = serve(
        DATABASE_URL=database,
        WORKER_CLASS="gthread",
        WEB_CONCURRENCY=str(PROCESSES),
        THREADS=str(THREADS),
        DB_POOL_SIZE="8",
        DB_MAX_OVERFLOW="0",
    )
    path = f"/api/v1/admin/users/{user}/tokens"

    def move(number):
        kind = KINDS[number % len(KINDS)]
        while True:
            if kind == "call":
                status, body = ask(served, chat("one two three", max_tokens=20), key)
            else:
                status, body = _post(served, path, {"amount": GIVEN if kind == "top up" else -TAKEN}, admin)
            if status != 503:  # a busy database; nothing was stored, so everybody tries again
                return kind, status, body

    with _Watching(engine) as watch:
        done = crowd(PROCESSES * THREADS, range(ROUNDS), move)
    wait_until_clean(engine, 10)

    counted = Counter((kind, status) for kind, status, _body in done)
    assert counted.keys() <= {("call", 200), ("call", 402), ("top up", 200), ("deduct", 200), ("deduct", 400)}
    calls, ups, downs = counted["call", 200], counted["top up", 200], counted["deduct", 200]
    assert ups == ROUNDS / 4
    assert calls > 0
    assert downs > 0
    assert counted["call", 402] + counted["deduct", 400] > 0, "there was enough for everybody"
    state = balances.state(engine, user)
    assert (state.balance, state.held) == (INITIAL + ups * GIVEN - downs * TAKEN - calls * USED, 0)
    assert state.balance >= 0
    assert watch.least >= 0, "more was held and spent than was given"
    assert watch.looks > 10
    assert len([row for row in rows(engine) if row.state == "measured"]) == calls == len(upstream.served)
    with Session(engine) as session:
        found = session.query(LedgerEntry.kind, LedgerEntry.amount_tokens).filter_by(account="budget")
        assert Counter(tuple(entry) for entry in found) == {
            ("top_up", INITIAL): 1,
            ("top_up", GIVEN): ups,
            ("deduct", TAKEN): downs,
            ("charge", USED): calls,
        }
    print(f"{dict(counted)}, {watch.looks} looks, never less than {watch.least} left, {state.balance} in the end")


def test_first_top_ups_of_one_user_make_one_balance(gateway, engine):
    """Whoever is first makes the balance, the others add to it."""
    crowd(8, range(24), lambda number: _patiently(lambda: balances.add(engine, 1, 5, Actor(f"admin {number}"))))
    assert balances.state(engine, 1).balance == 24 * 5
    wait_until_clean(engine, 1)


def test_a_call_and_a_deduction_never_both_take_the_last_token(gateway, engine):
    """The call may have read the limit before the deduction made it smaller."""
    wins = Counter()
    for number in range(2000 if SOAK else 150):
        before = balances.add(engine, 1, 100, Actor("tests"))
        assert (before.balance, before.held) == (100, 0)
        with Session(engine) as session:
            budget = session.query(Budget).one()
        take = Take(BudgetRef(budget.id, "user", "tokens", "total", "UTC", is_prepaid=True), 0, 100)
        takers = {
            "call": lambda take=take, number=number: gateway.books.reserve(hold(f"r{number}", [take]), [take]),
            "deduction": lambda: balances.add(engine, 1, -100, Actor("tests")),
        }
        winners = crowd(2, takers, lambda who, takers=takers: _won(who, takers[who]))
        assert len(set(winners) - {None}) == 1, winners
        winner = next(who for who in winners if who)
        wins[winner] += 1
        if winner == "call":
            gateway.books.settle(settlement(f"r{number}", 1, [Booking(budget.id, 0, "tokens", 100, 100)], usage=SPENT))
    assert len(wins) == 2, wins
    wait_until_clean(engine, 1)
    print(dict(wins))


def _won(who, take):
    try:
        _patiently(take)
    except (HoldRefused, InvalidRequest):
        return None
    return who


def _patiently(move):
    """Until the database is not too busy for it."""
    while True:
        try:
            return move()
        except (OperationalError, BooksUnavailable):
            continue


class _Watching(threading.Thread):
    """Looks at the one balance again and again; `least` is what was left when there was least."""

    LEFT = text("""
        SELECT b.limit_amount - w.spent_amount - w.held_amount FROM budgets b
        JOIN budget_windows w ON w.budget_id = b.id WHERE b.is_prepaid""")

    def __init__(self, engine):
        super().__init__()
        self.engine, self.ends, self.least, self.looks = engine, threading.Event(), 0, 0

    def run(self):
        while not self.ends.wait(0.002):
            with self.engine.connect() as connection:
                left = connection.execute(self.LEFT).scalar()
            if left is not None:
                self.least, self.looks = left if not self.looks else min(self.least, left), self.looks + 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_more):
        self.ends.set()
        self.join()


def _post(served, path, body, token):
    """One request of an admin on a connection of its own: status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
