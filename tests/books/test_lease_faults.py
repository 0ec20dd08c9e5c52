"""Leases of workers that die, that are cut off, and of those whom others took for dead."""

import random
from contextlib import suppress

import pytest
from sqlalchemy import text

from services import ledger
from services.books.base import BooksRefused, BooksUnavailable
from services.errors import AccountingUnavailable, BudgetExceeded, RateLimited
from services.types import Usage
from tests.books.test_books import settlement
from tests.fakes.lessee import COST, HOLD_TOKENS, HOLD_USD, counters, ended, leased, windows
from tests.helpers import assert_books_agree, open_holds, rows
from tests.races.conftest import SOAK

pytestmark = [pytest.mark.parametrize("database", ["postgres"], indirect=True), pytest.mark.usefixtures("later")]


def test_a_dead_worker_loses_nothing_and_its_leases_are_given_back(ask, engine, budget, limit, lessee, later):
    budget(10**12)
    for unit, period in (("requests", "minute"), ("tokens", "hour"), ("concurrent", "none")):
        limit(10**7, unit, period)
    dead, heir = lessee(), lessee()
    dead.do(5)
    dead.leases.flush()
    stored, streaming = dead.admit(2)
    later(0.3)
    dead.leases.flush()
    never_sent, sent, done = dead.admit(3)
    for one in (stored, streaming, sent, done):
        dead.send(one)
    dead.spool.progress(streaming.id, 7)
    dead.end([done], Usage(11, 12))
    assert heir.accounting.sweep() == 0, "it lives"
    assert open_holds(engine) == 2
    dead.die()
    assert heir.accounting.sweep() == 5
    found = {row.request_id: row for row in rows(engine)}
    assert len(found) == 10
    assert [found[one.id].state for one in (never_sent, sent, done, stored, streaming)] == [
        "void",
        "estimated",
        "measured",
        "estimated",
        "estimated",
    ]
    assert (found[done.id].input_tokens, found[streaming.id].output_tokens) == (11, 7)
    tokens = 5 * 15 + 23 + 10 + 10 + 17
    assert sorted(used for (used,) in counters(ask)) == [0, 10, tokens]
    assert leased(ask) == ask("SELECT amount FROM limit_leases") == []
    assert windows(ask) == [(sum(row.cost_nanousd for row in found.values()), 0)]
    assert heir.accounting.sweep() == 0
    assert list(dead.spool._folder.glob(f"{dead.spool._owner}*")) == []
    assert_books_agree(engine)


def test_a_worker_that_died_without_a_word_still_gives_its_lease_back(ask, budget, lessee):
    budget(10**12)
    dead, heir = lessee(), lessee()
    dead.do(2)
    dead.leases.flush()
    dead.die()
    heir.accounting.sweep()
    assert (leased(ask), windows(ask)) == ([], [(2 * COST, 0)])


def test_half_stored_calls_of_a_dead_worker(ask, engine, budget, limit, lessee):
    """Of a call with something hot and something not, the stored hold has one part and the note has all."""
    budget(10**12)
    budget(HOLD_TOKENS * 10, "tokens", "day")
    limit(10**6)
    dead, heir = lessee(), lessee()
    dead.do(2)
    sent, done = dead.admit(2)
    dead.send(sent)
    dead.end([done])
    dead.die()
    assert heir.accounting.sweep() == 3
    assert windows(ask) == [(3 * COST + 1500, 0), (3 * 15 + 10, 0)]
    assert counters(ask) == [(4,)]
    assert_books_agree(engine)


def test_the_leases_of_a_worker_elsewhere_last_until_no_call_of_it_can(ask, engine, budget, lessee, later):
    budget(10**12)
    elsewhere, heir = lessee("elsewhere"), lessee()
    elsewhere.do(3)
    (one,) = elsewhere.admit()
    later(0.3)
    elsewhere.leases.flush()
    held = leased(ask)
    (left_ms,) = ask("SELECT expires_at - extract(epoch FROM now()) * 1000 FROM leases")[0]
    assert 85_000 < left_ms <= 90_000, "30 s of renewal and the longest call"
    elsewhere.die()
    heir.accounting.sweep()
    assert leased(ask) == held, "it may live"
    ask("UPDATE leases SET expires_at = extract(epoch FROM now()) * 1000 - 1")
    later(61)
    assert heir.accounting.sweep() == 1
    assert leased(ask) == []
    found = rows(engine)
    assert [(row.request_id, row.outcome, row.state) for row in found[3:]] == [(one.id, "recovered", "void")]
    assert windows(ask) == [(3 * COST, 0)]
    assert_books_agree(engine)


def test_a_lease_whose_owner_lives_here_is_never_given_back_by_the_clock(ask, budget, lessee):
    budget(10**12)
    worker, other = lessee(), lessee()
    worker.do(2)
    ask("UPDATE leases SET expires_at = 0")
    held = leased(ask)
    other.accounting.sweep()
    assert leased(ask) == held


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


def test_a_lease_that_others_gave_back_admits_nothing_more(ask, engine, budget, lessee):
    """Somebody took this worker for dead; what it admitted is booked all the same."""
    budget(10**6, "tokens")
    worker, other = lessee(), lessee()
    worker.do(2)
    one, two = worker.admit(2)
    other.leases._lease_books.release(worker.spool.owner)
    assert windows(ask) == [(15, 0)]
    worker.end([one])
    worker.leases.flush()
    assert ledger.verify(engine).differences == ()
    worker.end([two])
    worker.leases.flush()
    worker.do(2)
    worker.leases.close()
    assert windows(ask) == [(6 * 15, 0)]
    assert_books_agree(engine)


def test_one_bad_settlement_among_many_spoils_only_itself(ask, engine, budget, lessee):
    budget(10**12)
    worker = lessee()
    worker.do(2)
    calls = worker.admit(5)
    for number, one in enumerate(calls):
        booked = ended(one)
        if number == 2:
            booked = settlement(one.id, 1, booked.bookings, state="nonsense", cost_nanousd=COST)
        worker.accounting.settle(booked)
    worker.leases.flush()
    assert len(rows(engine)) == 6
    assert open_holds(engine) == 1
    assert ledger.verify(engine).differences == ()
    assert worker.accounting.replay() == 1
    worker.leases.close()
    assert windows(ask) == [(6 * COST, HOLD_USD)]


def test_texts_that_the_database_refuses_are_left_out(engine, budget, lessee):
    budget(10**12)
    worker, dead = lessee(), lessee()
    for one in (worker, dead):
        one.do(2)
        one.leases.flush()
        (call,) = one.admit()
        one.accounting.settle(settlement(call.id, 1, ended(call).bookings, upstream_model="a\0b", cost_nanousd=COST))
    worker.leases.flush()
    assert worker.accounting.replay() == 0
    dead.die()
    assert worker.accounting.sweep() == 0, "booked, though not as it was"
    assert [row.upstream_model for row in rows(engine)] == ["gpt-4o-mini"] * 4 + [None] * 2
    worker.leases.close()
    assert_books_agree(engine)


def test_what_cannot_be_booked_stays_with_its_lease_and_the_rest_is_booked(ask, engine, budget, lessee):
    budget(10**12)
    dead, heir = lessee(), lessee()
    dead.do(2)
    good, bad = dead.admit(2)
    dead.end([good])
    dead.accounting.settle(settlement(bad.id, 1, ended(bad).bookings, state="nonsense"))
    dead.spool.hold("req_of_another_version", {"what": "is this"})
    dead.die()
    for _ in range(2):
        heir.accounting.sweep()
        assert len(rows(engine)) == 3
        assert leased(ask) != []
        assert dead.spool._folder.joinpath(f"{dead.spool._owner}.lock").exists()
    assert ledger.verify(engine).differences == ()


def test_a_hold_that_the_database_refuses_stays_with_its_lease(engine, budget, lessee, later, monkeypatch):
    budget(10**12)
    worker = lessee()
    worker.do(2)
    worker.leases.flush()
    calls, book = worker.admit(2), worker.leases._lease_books.book

    def picky(owner, batch):
        if batch.opened:
            raise BooksRefused("no such hold")
        return book(owner, batch)

    monkeypatch.setattr(worker.leases._lease_books, "book", picky)
    later(0.3)
    worker.leases.flush()
    worker.leases.flush()
    assert open_holds(engine) == 0
    worker.end(calls)
    worker.leases.flush()
    assert len(rows(engine)) == 4
    assert ledger.verify(engine).differences == ()


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
    until_s = time.monotonic() + 10
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


def test_what_is_booked_is_not_booked_again_though_its_row_is_gone(ask, engine, budget, lessee):
    """Old rows may be deleted; what a worker noted of them long ago must not bring them back."""
    budget(10**12)
    dead, heir = lessee(), lessee()
    dead.do(4)
    dead.leases.flush()
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM usage"))
    dead.die()
    assert heir.accounting.sweep() == 0
    assert rows(engine) == []
