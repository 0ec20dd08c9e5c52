"""Hot budgets and limits on Postgres: leased to workers, and back."""

import time

import pytest

from models import Budget
from services import ledger
from services.errors import AccountingUnavailable, BudgetExceeded
from services.settlement import recovered
from services.spool import SpoolUnavailable
from services.types import Demand, Usage
from tests.fakes.lessee import COST, DEMAND, HOLD_TOKENS, HOLD_USD, counters, ended, leased, windows
from tests.helpers import assert_books_agree, open_holds, rows

pytestmark = [pytest.mark.parametrize("database", ["postgres"], indirect=True), pytest.mark.usefixtures("later")]


def test_hot_calls_do_not_touch_the_windows_and_are_booked_together(ask, engine, budget, limit, lessee):
    budget(10**12)
    budget(10**9, "tokens", "day")
    for unit, period in (("requests", "minute"), ("tokens", "hour"), ("concurrent", "none")):
        limit(10**7, unit, period)
    worker = lessee()
    worker.do()  # makes the windows
    before = windows(ask), counters(ask)
    worker.do()
    after = windows(ask), counters(ask)
    assert after != before, "now they are leased"
    calls = worker.admit(20)
    worker.end(calls[:15])
    assert (windows(ask), counters(ask)) == after, "nothing of this is in the database yet"
    assert (open_holds(engine), len(rows(engine))) == (0, 1)
    worker.leases.flush()
    assert len(rows(engine)) == 17
    (spent, held), (tokens, tokens_held) = windows(ask)
    assert (spent, tokens) == (17 * COST, 17 * 15)
    assert [held, tokens_held] == leased(ask)
    assert sum(len(row) for row in ask("SELECT request_id FROM ledger_entries")) == 17 * 3
    assert_books_agree(engine)
    worker.end(calls[15:])
    worker.leases.close()
    assert leased(ask) == ask("SELECT amount FROM limit_leases") == []
    assert windows(ask) == [(22 * COST, 0), (22 * 15, 0)]
    assert sorted(used for (used,) in counters(ask)) == [0, 22, 22 * 15]
    assert ask("SELECT tokens_used, spent_nanousd FROM users WHERE id = 1") == [(22 * 15, 22 * COST)]
    assert_books_agree(engine)


def test_what_is_not_hot_goes_the_exact_way(ask, engine, budget, lessee):
    budget(10**12)
    worker = lessee(calls_per_s=10)
    calls = worker.admit(9)
    assert (open_holds(engine), leased(ask)) == (9, [])
    worker.admit(1)
    assert (open_holds(engine), len(leased(ask))) == (9, 1), "the tenth within a second"
    worker.end(calls)
    assert len(rows(engine)) == 9
    worker.leases.flush()
    assert ledger.verify(engine).differences == ()


def test_an_idle_lease_is_given_back_and_the_next_call_goes_the_exact_way(ask, engine, budget, lessee, later):
    budget(10**12)
    worker = lessee(calls_per_s=2)
    worker.do(4)
    later(0.5)
    worker.leases.tick()
    assert leased(ask) != []
    later(0.6)
    worker.leases.tick()
    assert (leased(ask), windows(ask)) == ([], [(4 * COST, 0)])
    later(1)
    one = worker.admit(1)
    assert open_holds(engine) == 1
    worker.end(one)
    assert_books_agree(engine)


def test_a_lease_is_renewed_and_filled_up_while_it_is_used(ask, budget, lessee, later):
    budget(10**12)
    worker = lessee()
    worker.do(2)
    (first,) = ask("SELECT amount, expires_at FROM leases")
    worker.admit(300)  # more than half of what it has
    worker.leases.tick()
    assert leased(ask)[0] > first[0], "before it is used up"
    ask("UPDATE leases SET expires_at = 0")
    for _ in range(12):
        later(0.9)
        worker.do()
        worker.leases.tick()
    (last,) = ask("SELECT amount, expires_at FROM leases")
    assert last[1] >= first[1]


def test_what_cannot_be_renewed_admits_nothing(ask, engine, budget, lessee, later):
    budget(10**12)
    worker = lessee()
    worker.do(2)
    later(31)
    one = worker.admit()
    assert open_holds(engine) == 1, "the books decide"
    worker.end(one)


@pytest.mark.parametrize(
    ("holds_left", "is_leased"), [pytest.param(64, True, id="64 left"), pytest.param(63, False, id="63 left")]
)
def test_near_the_limit_the_books_alone_decide(ask, engine, budget, lessee, holds_left, is_leased):
    budget(HOLD_TOKENS * (holds_left + 1), "tokens")
    worker = lessee()
    calls = worker.admit(2)
    assert bool(leased(ask)) == is_leased
    assert open_holds(engine) == (1 if is_leased else 2)
    worker.end(calls)


@pytest.mark.parametrize("spare", [0, 1, HOLD_TOKENS - 1])
def test_the_last_tokens_are_reached_and_not_passed(ask, engine, budget, lessee, spare):
    """Two workers with leases; neither is refused for what only the other has leased, once that is given back."""
    limit = 100 * 15 * 8 + spare
    budget(limit, "tokens")
    workers = [lessee(), lessee()]
    calls, refused = 0, 0
    while refused < 4:
        worker = workers[calls % 2]
        calls += 1
        try:
            worker.do()
            refused = 0
        except BudgetExceeded:
            refused += 1
            for one in workers:
                one.leases.flush()
        (gone,) = ask("SELECT spent_amount + held_amount FROM budget_windows")[0]
        assert gone <= limit
    assert leased(ask) == []
    ((spent, held),) = windows(ask)
    assert (held, limit - HOLD_TOKENS < spent <= limit) == (0, True)
    assert len(rows(engine)) * 15 == spent
    assert_books_agree(engine)


def test_calls_that_last_become_holds_like_any_other(ask, engine, budget, limit, lessee, later):
    budget(10**12)
    limit(10**7, "tokens", "hour")
    limit(10**7, "concurrent", "none")
    worker = lessee()
    worker.do(2)
    lasting, short = worker.admit(3), worker.admit(3)
    worker.end(short)
    worker.leases.flush()
    assert open_holds(engine) == 0
    later(0.3)
    worker.leases.flush()
    assert open_holds(engine) == 3
    assert ledger.verify(engine).differences == ()
    worker.end(lasting)
    worker.leases.close()
    assert sorted(used for (used,) in counters(ask)) == [0, 8 * 15]
    assert windows(ask) == [(8 * COST, 0)]
    assert_books_agree(engine)


def test_more_than_held_is_booked_in_full_and_the_budget_then_refuses(ask, engine, budget, limit, lessee):
    budget(100 * HOLD_USD)
    limit(10**7, "tokens", "hour")
    worker = lessee()
    worker.do(3)
    worker.end(worker.admit(), Usage(10, 3000))
    worker.leases.flush()
    with pytest.raises(BudgetExceeded):
        worker.admit()
    worker.leases.close()
    ((spent, held),) = windows(ask)
    assert (spent, held) == (3 * COST + 1500 + 3000 * 600, 0)
    assert counters(ask) == [(3 * 15 + 3010,)]
    assert rows(engine)[-1].is_overrun
    assert_books_agree(engine)


def test_a_limit_lowered_below_the_lease_refuses_after_the_next_flush(ask, engine, budget, lessee):
    budget(10**6, "tokens")
    worker = lessee()
    worker.do(3)
    budget(50, "tokens")
    one = worker.admit()
    worker.end(one)
    worker.leases.flush()
    with pytest.raises(BudgetExceeded):
        worker.admit()
    assert leased(ask) == []
    assert windows(ask) == [(4 * 15, 0)]
    assert_books_agree(engine)


def test_a_budget_deleted_while_it_is_leased(ask, engine, session, budget, lessee, later):
    budget(10**6, "tokens")
    worker = lessee()
    worker.do(2)
    session.query(Budget).delete()
    session.commit()
    calls = worker.admit(2)
    worker.end(calls[:1])
    worker.leases.flush()
    assert leased(ask) == [HOLD_TOKENS], "what the last call holds"
    later(0.3)
    worker.leases.flush()
    assert (leased(ask), open_holds(engine)) == ([], 1)
    worker.end(calls[1:])
    worker.leases.close()
    assert windows(ask) == [(4 * 15, 0)]
    assert_books_agree(engine)


def test_a_worker_that_ends_gives_back_what_is_free_and_books_what_ends(ask, engine, budget, lessee):
    budget(10**12)
    worker = lessee()
    worker.do(2)
    calls = worker.admit(3)
    worker.accounting.drain()
    worker.leases.tick()
    assert leased(ask) == [3 * HOLD_USD]
    late = worker.admit()
    assert open_holds(engine) == 1, "the exact way"
    worker.end([*calls, *late])
    worker.accounting.close()
    assert windows(ask) == [(6 * COST, 0)]
    assert_books_agree(engine)


def test_a_worker_with_its_own_thread_books_within_moments(engine, budget, lessee):
    budget(10**12)
    worker = lessee(is_quiet=False)
    worker.do(300)
    until_s = time.monotonic() + 60
    while len(rows(engine)) < 300 and time.monotonic() < until_s:
        time.sleep(0.05)
    assert len(rows(engine)) == 300


def test_the_settings_say_from_when_on(make_app, database):
    for value, expected in (("0", False), ("200", True)):
        gateway = make_app(database, LEASE_CALLS_PER_S=value, WEB_CONCURRENCY="4").extensions["gateway"]
        heat = gateway.accounting._leases._heat
        assert bool([hot for _ in range(50) if (hot := heat.note(["b1"]))]) == expected


def test_a_full_disk_leaves_the_exact_way(ask, engine, budget, lessee, monkeypatch):
    budget(10**12)
    worker = lessee()
    worker.do(2)

    def full(*_values, **_more):
        raise SpoolUnavailable("the disk is full")

    monkeypatch.setattr(worker.spool, "hold", full)
    one = worker.admit()
    assert open_holds(engine) == 1
    worker.end(one)
    monkeypatch.undo()
    two = worker.admit()
    monkeypatch.setattr(worker.spool, "keep", full)
    worker.end(two)
    with pytest.raises(AccountingUnavailable):
        worker.admit()
    worker.leases.flush()
    three = worker.admit()
    monkeypatch.undo()
    worker.end(three)
    worker.leases.close()
    assert windows(ask) == [(5 * COST, 0)]
    assert_books_agree(engine)


def test_a_call_is_settled_once(engine, budget, lessee):
    budget(10**12)
    worker = lessee()
    worker.do()
    (one,) = worker.admit()
    settlement = ended(one)
    for _ in range(3):
        worker.accounting.settle(settlement)
    worker.leases.flush()
    worker.accounting.settle(settlement)
    assert len(rows(engine)) == 2
    assert_books_agree(engine)


def test_a_call_that_ends_twice_at_once_ends_once(engine, budget, lessee, monkeypatch):
    budget(10**12)
    worker = lessee()
    worker.do()
    (one,) = worker.admit()
    settlement, keep = ended(one), worker.spool.keep

    def meanwhile(*values, **more):
        monkeypatch.setattr(worker.spool, "keep", keep)
        assert worker.leases.settle(settlement)
        keep(*values, **more)

    monkeypatch.setattr(worker.spool, "keep", meanwhile)
    assert worker.leases.settle(settlement)
    worker.leases.flush()
    assert len(rows(engine)) == 2
    assert_books_agree(engine)


def test_a_guess_that_was_booked_meanwhile_is_corrected(ask, engine, budget, lessee, later):
    """Its hold ran out; the worker lives and reports later than anybody waits."""
    budget(10**12)
    worker, other = lessee(), lessee("elsewhere")
    worker.do()
    (one,) = worker.admit()
    later(0.3)
    worker.leases.flush()
    later(61)
    assert other.accounting.sweep() == 1
    assert [row.outcome for row in rows(engine)] == ["ok", "recovered"]
    worker.end([one])
    worker.leases.flush()
    assert [(row.outcome, row.cost_nanousd) for row in rows(engine)] == [("ok", COST)] * 2
    worker.leases.close()
    assert windows(ask) == [(2 * COST, 0)]
    assert_books_agree(engine)


def test_what_a_demand_leaves_open_is_cut_to_what_is_left(ask, budget, lessee):
    budget(10**4, "tokens")
    worker = lessee()
    worker.do(2)
    (one,) = worker.admit(demand=Demand(10, 1, None, 10**6))
    assert one.max_output_tokens == 10**4 - 2 * 15 - 10
    worker.end([one])
    worker.leases.close()
    assert windows(ask) == [(3 * 15, 0)]


def test_recovered_reads_what_a_worker_noted(lessee, budget):
    """The note of a leased call has all that a stored hold has."""
    from services.books.base import HoldRow

    budget(10**12)
    worker = lessee()
    worker.do()
    (one,) = worker.admit(demand=DEMAND)
    notes = worker.spool.peek(worker.spool.owner)
    settlement = recovered(HoldRow(**notes.holds[one.id]), notes)
    assert (settlement.request_id, settlement.state, settlement.bookings[0].held) == (one.id, "void", HOLD_USD)
