"""Leases of workers that die, or whom others took for dead, and what the database refuses."""

import pytest
from sqlalchemy import text

from services import ledger
from services.books.base import BooksRefused
from services.types import Usage
from tests.books.test_books import settlement
from tests.fakes.lessee import COST, HOLD_TOKENS, HOLD_USD, counters, ended, leased, windows
from tests.helpers import assert_books_agree, open_holds, rows

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
