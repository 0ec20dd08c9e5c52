"""Workers with leases that are cut off from the database, and everything at once in random order."""

import random
from contextlib import suppress

import pytest

from services import ledger
from services.books.base import BooksUnavailable
from services.errors import AccountingUnavailable, BudgetExceeded, RateLimited
from services.types import Usage
from tests.fakes.lessee import COST, counters, leased, windows
from tests.helpers import assert_books_agree, open_holds, rows
from tests.races.conftest import SOAK

pytestmark = [pytest.mark.parametrize("database", ["postgres"], indirect=True), pytest.mark.usefixtures("later")]


class Line:
    """A worker's way to the database, which can be cut before or after a transaction is stored."""

    def __init__(self, worker):
        self.transact, self.cut = worker.books.transact, ""
        worker.books.transact = self

    def __call__(self, work):
        if self.cut == "before":
            raise BooksUnavailable("gone")
        found = self.transact(work)
        if self.cut == "after":
            raise BooksUnavailable("gone")
        return found


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_database_that_goes_away_costs_nothing(ask, engine, governed, lessee, later, cut):
    """Also when it had stored what it did not answer."""
    governed(10**12)
    worker = lessee()
    worker.do(3)
    worker.leases.flush()
    line = Line(worker)
    lasting, short, brief = worker.admit(3)
    worker.end([short])
    later(0.3)
    line.cut = cut
    with pytest.raises(BooksUnavailable):
        worker.leases.tick()
    worker.end([brief])
    one = worker.admit()
    assert one[0].id not in worker.leases._open, "by the books; while they are away no lease admits"
    line.cut = ""
    worker.leases.tick()
    assert ledger.verify(engine).differences == ()
    assert len(rows(engine)) == 5
    line.cut = cut
    worker.end([lasting])
    with pytest.raises(BooksUnavailable):
        worker.leases.flush()
    line.cut = ""
    worker.end(one)
    worker.do(3)
    worker.leases.close()
    assert windows(ask) == [(10 * COST, 0)]
    assert sorted(used for (used,) in counters(ask)) == [0, 150]
    assert leased(ask) == []
    assert_books_agree(engine)


def test_a_hold_stored_without_an_answer_whose_call_then_ends(ask, engine, governed, lessee, later):
    governed(10**12)
    worker = lessee()
    worker.do(2)
    calls = worker.admit(4)
    later(0.3)
    line = Line(worker)
    line.cut = "after"
    with pytest.raises(BooksUnavailable):
        worker.leases.flush()
    assert open_holds(engine) == 4
    worker.end(calls)
    line.cut = ""
    worker.leases.flush()
    assert (open_holds(engine), len(rows(engine))) == (0, 6)
    assert ledger.verify(engine).differences == ()
    worker.leases.close()
    assert (windows(ask), counters(ask)) == ([(6 * COST, 0)], [(90,), (0,)])


def test_a_lease_taken_without_an_answer_is_set_right(ask, engine, budget, lessee, later):
    budget(10**12)
    worker = lessee()
    worker.do()
    line = Line(worker)
    line.cut = "after"
    one = worker.admit()
    assert (open_holds(engine), len(leased(ask))) == (1, 1)
    line.cut = ""
    later(1.1)
    worker.do()
    worker.leases.close()
    worker.end(one)
    assert (leased(ask), windows(ask)) == ([], [(3 * COST, 0)])
    assert_books_agree(engine)


def test_a_database_that_leases_nothing_now(ask, engine, budget, lessee):
    budget(10**12)
    worker = lessee()
    worker.do()
    line = Line(worker)
    line.cut = "before"
    one = worker.admit()
    assert (open_holds(engine), leased(ask)) == (1, [])
    worker.end(one)
    assert_books_agree(engine)


def test_a_worker_that_leaves_while_the_database_is_away(ask, engine, budget, lessee):
    budget(10**12)
    worker, heir = lessee(), lessee()
    worker.do(3)
    line = Line(worker)
    line.cut = "before"
    worker.accounting.close()
    worker.spool.close()
    assert len(rows(engine)) == 1
    assert heir.accounting.sweep() == 2
    assert (leased(ask), windows(ask)) == ([], [(3 * COST, 0)])
    assert_books_agree(engine)


def test_nothing_is_leased_while_too_much_waits(engine, budget, lessee, monkeypatch):
    budget(10**12)
    monkeypatch.setattr("services.leases.WAITING_MAX", 3)
    worker = lessee()
    worker.do(5)
    one = worker.admit()
    assert open_holds(engine) == 1
    worker.end(one)


def test_the_thread_goes_on_after_a_surprise(engine, budget, lessee, monkeypatch):
    import time

    budget(10**12)
    worker = lessee(is_quiet=False)
    tick, surprises = worker.leases.tick, [BooksUnavailable("gone"), ZeroDivisionError()]

    def surprised():
        if surprises:
            raise surprises.pop()
        tick()

    monkeypatch.setattr(worker.leases, "tick", surprised)
    worker.do(2)
    until_s = time.monotonic() + 60
    while len(rows(engine)) < 2 and time.monotonic() < until_s:
        time.sleep(0.05)
    assert (len(rows(engine)), surprises) == (2, [])


@pytest.mark.parametrize("seed", range(20 if SOAK else 2))
def test_whatever_happens_in_whatever_order_the_books_agree(ask, engine, governed, lessee, later, seed):
    """Two workers that lease, die and are replaced, and one that never leases; after each step all is checked."""
    chance, usd, tokens, at_once = random.Random(seed), 400 * COST, 6000, 90
    governed(usd, tokens, at_once)
    crew = [_Hand(lessee(), chance), _Hand(lessee(), chance), _Hand(lessee(calls_per_s=0), chance)]
    lives = 3
    for _ in range(500 if SOAK else 150):
        hand = chance.choice(crew)
        step = chance.choice(("admit", "admit", "end", "end", "flush", "tick", "lose", "wait", "die"))
        if step == "wait":
            later(chance.choice((0.1, 0.3, 1.5)))
        elif step != "die":
            getattr(hand, step)()
        elif lives:
            lives -= 1
            hand.worker.die()
            crew[crew.index(hand)] = _Hand(lessee(calls_per_s=0.001 * (hand is not crew[2])), chance)
            crew[0].worker.accounting.sweep()
        _check(ask, engine, usd, tokens, at_once)
    for hand in crew:
        hand.worker.end(hand.calls)
        hand.worker.leases.close()
    booked = rows(engine)
    used = sum((row.input_tokens or 0) + (row.output_tokens or 0) for row in booked)
    assert windows(ask) == [(sum(row.cost_nanousd for row in booked), 0), (used, 0)]
    assert counters(ask) == [(used,), (0,)]
    assert_books_agree(engine)


class _Hand:
    """A worker, its calls under way, and what it may do next."""

    def __init__(self, worker, chance):
        self.worker, self.chance, self.calls = worker, chance, []
        self.line = Line(worker)

    def admit(self):
        with suppress(BudgetExceeded, RateLimited):
            for _ in range(self.chance.randrange(20)):
                self.calls += self.worker.admit()

    def end(self):
        for _ in range(self.chance.randrange(len(self.calls) + 1)):
            one = self.calls.pop(self.chance.randrange(len(self.calls)))
            self.worker.end([one], Usage(10, self.chance.randrange(21)))

    def flush(self):
        self.worker.leases.flush()

    def tick(self):
        self.worker.leases.tick()

    def lose(self):
        self.line.cut = self.chance.choice(("before", "after"))
        with suppress(BooksUnavailable):
            self.worker.leases.flush()
        self.line.cut = ""


def _check(ask, engine, usd, tokens, at_once):
    assert ledger.verify(engine).differences == ()
    for (spent, held), limit in zip(windows(ask), (usd, tokens), strict=False):
        assert spent + held <= limit
    if found := ask("SELECT used_amount FROM limit_windows WHERE period_start = 0"):
        assert found[0][0] <= at_once


def test_a_worker_that_cannot_note_and_cannot_store_admits_nothing(engine, budget, lessee, monkeypatch):
    from services.spool import SpoolUnavailable

    budget(10**12)
    worker = lessee()
    worker.do(2)
    calls = worker.admit(2)
    line = Line(worker)
    line.cut = "before"
    monkeypatch.setattr(worker.spool, "keep", lambda *_, **__: (_ for _ in ()).throw(SpoolUnavailable("full")))
    worker.end(calls)
    with pytest.raises(BooksUnavailable):
        worker.leases.flush()
    with pytest.raises(AccountingUnavailable):
        worker.admit()
    line.cut = ""
    worker.leases.flush()
    monkeypatch.undo()
    assert len(rows(engine)) == 4
    assert_books_agree(engine)
