"""Hot limits on Postgres, and calls of which only some windows are hot."""

import pytest

from services import ledger
from services.errors import BudgetExceeded, RateLimited
from services.types import Demand
from tests.fakes.lessee import COST, HOLD_TOKENS, counters, windows
from tests.helpers import assert_books_agree, open_holds, rows

pytestmark = [pytest.mark.parametrize("database", ["postgres"], indirect=True), pytest.mark.usefixtures("later")]


def test_a_limit_of_requests_is_reached_and_not_passed(ask, engine, limit, lessee):
    limit(500)
    workers = [lessee(), lessee()]
    admitted = refused = 0
    for number in range(1200):
        try:
            workers[number % 2].do()
            admitted += 1
        except RateLimited:
            refused += 1
            for one in workers if refused < 5 else ():
                one.leases.flush()
    assert admitted == 500
    for one in workers:
        one.leases.close()
    assert counters(ask) == [(500,)]
    assert_books_agree(engine)


def test_calls_at_once_are_limited_exactly_and_slots_come_back(ask, engine, limit, lessee):
    limit(200, "concurrent", "none")
    worker = lessee()
    calls = worker.admit(200)
    with pytest.raises(RateLimited):
        worker.admit()
    worker.end(calls[:150])
    worker.leases.flush()
    assert len(worker.admit(150)) == 150
    with pytest.raises(RateLimited):
        worker.admit()
    assert open_holds(engine) > 0
    worker.leases.close()
    assert counters(ask) == [(200,)]


def test_a_new_period_begins_with_nothing_of_the_one_before(ask, engine, budget, limit, lessee, later):
    budget(10**7, "tokens", "minute")
    limit(10**5, "tokens", "minute")
    worker = lessee()
    begun = worker.admit(5)
    later(31)  # a minute begins
    worker.do(6)
    worker.end(begun)
    worker.leases.close()
    assert windows(ask) == [(5 * 15, 0), (6 * 15, 0)]
    assert ask("SELECT used_amount, previous_amount FROM limit_windows") == [(6 * 15, 5 * 15)]
    assert_books_agree(engine)


def test_some_windows_hot_and_others_not(ask, engine, budget, limit, lessee, later):
    """What is hot is leased; what is not, here because too little is left of it, is in the call's stored hold."""
    budget(10**12)
    budget(HOLD_TOKENS * 10, "tokens", "day")
    limit(10**6)
    worker = lessee()
    worker.do(2)
    worker.leases.flush()
    one, other = worker.admit(2)
    assert ledger.verify(engine).differences == ()
    assert open_holds(engine) == 2
    later(0.3)
    worker.leases.flush()
    assert ask("SELECT DISTINCT json_array_length(takes::json), json_array_length(counts::json) FROM holds") == [(2, 1)]
    assert ledger.verify(engine).differences == ()
    worker.end([one, other])
    with pytest.raises(BudgetExceeded, match="tokens"):
        worker.do(100)
    worker.leases.close()
    used = len(rows(engine))
    assert windows(ask) == [(used * COST, 0), (used * 15, 0)]
    assert counters(ask) == [(used,)]
    assert HOLD_TOKENS * 9 < used * 15 <= HOLD_TOKENS * 10
    assert_books_agree(engine)


def test_a_hot_budget_of_calls_with_a_limit_that_is_not_hot(ask, engine, budget, limit, lessee):
    budget(10**12)
    limit(10**6)
    worker = lessee(calls_per_s=3)
    for _ in range(4):
        worker.end(worker.admit(limits=()))
    (one,) = worker.admit()
    assert ask("SELECT takes, json_array_length(counts::json) FROM holds") == [("[]", 1)]
    assert [(room.limit.unit, room.left) for room in one.room] == [("requests", 10**6 - 1)]
    worker.end([one])
    worker.leases.close()
    assert (windows(ask), counters(ask)) == ([(5 * COST, 0)], [(1,)])
    assert_books_agree(engine)


def test_what_an_admission_tells_of_leased_limits_and_budgets(budget, limit, lessee):
    budget(10**6, "tokens")
    limit(10**4)
    worker = lessee()
    worker.do(9)
    worker.leases.flush()
    (one,) = worker.admit()
    assert [(room.limit.unit, room.left) for room in one.room] == [("requests", 10**4 - 10)]
    assert one.warnings == ()
    budget(400, "tokens")
    worker.leases.flush()
    worker.end([one])
    worker.leases.flush()
    (large,) = worker.admit(demand=Demand(200, 1, 20, 4096))
    assert large.warnings == (), "its own hold is no spending"
    worker.end([large])
    worker.do(11)
    worker.leases.flush()
    assert "budget" in worker.admit()[0].warnings[0]
