"""Where a call is counted: in Valkey, in the database, or in both; and that it is given back wherever it was."""

import os
import threading

import pytest

from services import counters, counting
from services import remote as remotes
from services.accounting import Accounting
from services.books.base import BooksUnavailable, BooksUnsure
from services.errors import AccountingUnavailable, BudgetExceeded, RateLimited
from services.remote import Remote
from services.spool import Spool
from services.types import Demand, LimitRef, Usage
from tests.books.test_accounting import DEMAND, Failing, budget, call, ended  # noqa: F401 - a fixture
from tests.helpers import assert_books_agree, open_holds, rows

HOLD_S = 60
ALL = (
    LimitRef("r", "key", "requests", 10, "day"),
    LimitRef("t", "user", "tokens", 1000, "day"),
    LimitRef("c", "model", "concurrent", 2),
)


@pytest.fixture
def remote(valkey):
    opened = Remote(valkey.url, space="tests", timeout_s=2.0)
    yield opened
    opened.close()


@pytest.fixture
def seasoned(valkey):
    """The server has remembered everything for long, so the database need not count too."""
    valkey.client.set("{tollhouse-tests}:since", 1)


@pytest.fixture
def books(gateway):
    return Failing(gateway.books)


@pytest.fixture
def accounting(gateway, books, remote):
    return Accounting(books, gateway.spool, hold_s=HOLD_S, remote=remote)


def limited(gateway, number=1, limits=ALL, budgets=()):
    one = call(gateway, number, *budgets)
    one.limits = tuple(limits)
    return one


def counted(where, limits=ALL):
    """What counts as used of each limit, in Valkey or in the database."""
    counts = [counting.count(limit, 0, remotes.clock.now_s()) for limit in limits]
    windows = (
        where.look(counts).windows if isinstance(where, Remote) else [where.window(c.limit.subject) for c in counts]
    )
    return [counting.used(one, window) for one, window in zip(counts, windows, strict=True)]


def test_a_call_is_counted_in_valkey_alone_and_corrected_at_its_end(gateway, accounting, remote, seasoned):
    one = limited(gateway)
    accounting.reserve(one, DEMAND)
    assert (counted(remote), counted(gateway.books)) == ([1, 30, 1], [0, 0, 0])
    assert [(room.limit.subject, room.left) for room in one.room] == [("c", 1), ("r", 9), ("t", 970)]
    for _ in range(2):
        accounting.settle(ended(one, Usage(10, 7)))
    assert (counted(remote), counted(gateway.books)) == ([1, 17, 0], [0, 0, 0])
    assert_books_agree(gateway.engine)


def test_while_its_memory_is_young_the_database_counts_too(gateway, accounting, remote, valkey):
    first, second = limited(gateway, 1), limited(gateway, 2)
    accounting.reserve(first, DEMAND)
    accounting.reserve(second, DEMAND)
    assert counted(remote) == counted(gateway.books) == [2, 60, 2]
    with pytest.raises(RateLimited):
        accounting.reserve(limited(gateway, 3), DEMAND)
    accounting.settle(ended(first, Usage(10, 7)))
    assert counted(remote) == counted(gateway.books) == [2, 47, 1]
    valkey.client.flushall()
    with pytest.raises(RateLimited, match="47 are used"):
        accounting.reserve(limited(gateway, 4, [LimitRef("t", "user", "tokens", 76, "day")]), DEMAND)
    third = limited(gateway, 5)
    accounting.reserve(third, DEMAND)
    assert [room.left for room in third.room] == [0, 7, 923], "as the one says that remembers more"
    accounting.settle(ended(second))
    accounting.settle(ended(third))
    assert (counted(remote)[2], counted(gateway.books)) == (0, [3, 17 + 15 + 15, 0])


@pytest.mark.parametrize("is_young", [True, False], ids=["counted in both", "counted in Valkey"])
def test_a_call_that_a_budget_refuses_is_counted_nowhere(gateway, accounting, remote, valkey, budget, is_young):  # noqa: F811 - a fixture
    if not is_young:
        valkey.client.set("{tollhouse-tests}:since", 1)
    limits = [ALL[0], LimitRef("t", "user", "tokens", 10**6, "day"), ALL[2]]
    accounting.reserve(limited(gateway, 1, limits, [budget]), DEMAND)
    before = counted(remote), counted(gateway.books)
    for number, one in enumerate((limits, limits[:1]), 2):
        with pytest.raises(BudgetExceeded):
            accounting.reserve(limited(gateway, number, one, [budget]), Demand(9_000, 1, 995, 4096))
        assert (counted(remote), counted(gateway.books)) == before
    assert open_holds(gateway.engine) == 1


@pytest.mark.parametrize("error", [BooksUnavailable("gone"), BooksUnsure("the line broke")], ids=repr)
def test_a_call_that_the_database_cannot_hold_is_counted_nowhere(gateway, accounting, remote, books, seasoned, error):
    books.error = error
    with pytest.raises(AccountingUnavailable):
        accounting.reserve(limited(gateway), DEMAND)
    assert counted(remote) == [0, 0, 0]
    books.error = None
    accounting.replay()
    assert counted(remote) == [0, 0, 0]


def test_a_dead_workers_call_is_given_back_by_whoever_finds_it(gateway, accounting, remote, seasoned):
    dead, one = Spool(gateway.config.instance_path / "spool"), limited(gateway)
    Accounting(gateway.books, dead, hold_s=HOLD_S, remote=remote).reserve(one, DEMAND)
    os.close(dead._life)
    assert accounting.sweep() == 1
    assert counted(remote) == [1, 0, 0]
    accounting.settle(ended(one, Usage(10, 7)))
    assert rows(gateway.engine)[0].output_tokens == 7
    assert counted(remote) == [1, 0, 0], "the correction of a guess is one of money; the counters were corrected once"
    os.close(dead._file)


def test_what_a_dead_worker_kept_is_given_back_too(gateway, accounting, remote, seasoned):
    dead, one = Spool(gateway.config.instance_path / "spool"), limited(gateway)
    Accounting(gateway.books, dead, hold_s=HOLD_S, remote=remote).reserve(one, DEMAND)
    dead.keep(one.id, ended(one, Usage(10, 7)))
    os.close(dead._life)
    accounting.sweep()
    assert counted(remote) == [1, 17, 0]
    assert_books_agree(gateway.engine)
    os.close(dead._file)


def test_a_call_settled_while_the_database_is_away_is_given_back_at_once(gateway, accounting, remote, books, seasoned):
    one = limited(gateway)
    accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    accounting.settle(ended(one, Usage(10, 7)))
    assert counted(remote) == [1, 17, 0]
    books.error = None
    assert accounting.replay() == 0
    assert counted(remote) == [1, 17, 0]


def test_without_valkey_the_database_counts_and_gives_back(gateway, accounting, remote):
    remote._retry_at_s = float("inf")
    one, two = limited(gateway, 1), limited(gateway, 2)
    accounting.reserve(one, DEMAND)
    accounting.reserve(two, DEMAND)
    with pytest.raises(RateLimited, match="2 are used"):
        accounting.reserve(limited(gateway, 3), DEMAND)
    accounting.settle(ended(one, Usage(10, 7)))
    assert counted(gateway.books) == [2, 47, 1]
    remote._retry_at_s = None
    accounting.settle(ended(two, Usage(10, 7)))
    assert (counted(gateway.books), counted(remote)) == ([2, 34, 0], [0, 0, 0])


def test_a_refusal_and_an_explanation_read_where_the_call_was_counted(gateway, accounting, remote, seasoned):
    limits = [LimitRef("r", "key", "requests", 3, "day")]
    for number in range(3):
        accounting.reserve(limited(gateway, number, limits), DEMAND)
    with pytest.raises(RateLimited, match="the limit is 3 per day, 3 are used"):
        accounting.reserve(limited(gateway, 3, limits), DEMAND)
    _plan, state, refusal = accounting.admission.explain(limited(gateway, 4, limits), DEMAND)
    assert isinstance(refusal, RateLimited)
    assert state.limits[0][1].used_amount == 3
    assert counted(remote, limits) == [3], "to explain is not to count"


def test_a_request_that_is_not_held_is_counted_in_the_same_places(gateway, accounting, remote, valkey, seasoned):
    count = counting.count(ALL[0], 1, remotes.clock.now_s())
    assert accounting.counters.count("req_1", (count,)).counters == {"r": (1, 0)}
    assert (counted(remote)[0], counted(gateway.books)[0]) == (1, 0)
    valkey.client.flushall()
    assert accounting.counters.count("req_2", (count,)).counters == {"r": (1, 0)}
    assert (counted(remote)[0], counted(gateway.books)[0]) == (1, 1), "its memory is young"
    remote._retry_at_s = float("inf")
    assert accounting.counters.count("req_3", (count,)).counters == {"r": (2, 0)}
    assert counted(gateway.books)[0] == 2
    assert accounting.counters.count("req_4", ()).counters == {}


@pytest.mark.parametrize("is_young", [True, False], ids=["counted in both", "counted in Valkey"])
def test_a_worker_that_goes_over_leaves_out_what_it_knows_to_be_used(gateway, accounting, remote, valkey, is_young):
    """So a server that only stumbles costs nothing."""
    if not is_young:
        valkey.client.set("{tollhouse-tests}:since", 1)
    limits = [LimitRef("r", "key", "requests", 10, "day"), LimitRef("t", "user", "tokens", 1000, "day")]
    for number in range(6):
        accounting.reserve(limited(gateway, number, limits), DEMAND)
    remote._retry_at_s = float("inf")
    for number in range(6, 10):
        one = limited(gateway, number, limits)
        accounting.reserve(one, DEMAND)
        assert [room.left for room in one.room] == [9 - number, 1000 - 30 * (number + 1)]
    with pytest.raises(RateLimited, match="the limit is 10 per day, 10 are used"):
        accounting.reserve(limited(gateway, 10, limits), DEMAND)


def test_what_a_worker_knows_is_bounded_and_goes_with_its_period(accounting, remote, seasoned, monkeypatch):
    monkeypatch.setattr(counters, "SEEN_MAX", 3)
    for number in range(6):
        count = counting.count(LimitRef(str(number), "key", "requests", 10, "minute"), 1, 1_790_000_010)
        accounting.counters.count(f"req_{number}", (count,))
    seen = accounting.counters._seen
    assert list(seen._windows) == ["3", "4", "5"]
    moments = [(1_790_000_010, 1), (1_790_000_070, 1), (1_790_000_130, 0)]
    assert [seen.gone(counting.count(count.limit, 1, moment)) for moment, _gone in moments] == [1, 1, 0]


LOSSES = {
    "it was frozen and remembers": lambda server: (server.freeze, server.thaw),
    "it was killed and is empty": lambda server: (server.kill, server.start),
    "it was emptied": lambda server: (server.client.flushall, lambda: None),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("times", [1, 3])
def test_going_over_and_coming_back_admits_at_most_one_window_more(gateway, mortal_valkey, monkeypatch, loss, times):
    """Two workers, one of which notices nothing; as much as possible is asked for at every moment."""
    monkeypatch.setattr(remotes, "RETRY_S", 0.0)
    mortal_valkey.client.set("{tollhouse-tests}:since", 1)
    limits = [LimitRef("r", "key", "requests", 6, "day")]
    opened = [Remote(mortal_valkey.url, space="tests", timeout_s=0.2) for _ in range(2)]
    workers = [Accounting(gateway.books, gateway.spool, hold_s=HOLD_S, remote=one) for one in opened]
    admitted = []

    def ask(worker, most):
        for _ in range(most):
            one = limited(gateway, len(admitted), limits)
            try:
                worker.reserve(one, DEMAND)
            except RateLimited:
                return
            admitted.append(one)
            worker.settle(ended(one))

    ask(workers[0], 2)
    ask(workers[1], 2)
    go, come = loss(mortal_valkey)
    for _ in range(times):
        go()
        ask(workers[0], 4)
        come()
        ask(workers[1], 2)
        ask(workers[0], 2)
    for worker in workers:
        ask(worker, 100)
    assert 6 <= len(admitted) <= 2 * 6
    assert_books_agree(gateway.engine)
    for one in opened:
        one.close()


def test_money_is_none_of_its_business(gateway, remote, valkey, budget):  # noqa: F811 - a fixture
    """A budget is exact while Valkey is emptied over and over under a crowd."""
    accounting = Accounting(gateway.books, gateway.spool, hold_s=HOLD_S, remote=remote)
    limits, admitted, stopped = [LimitRef("r", "key", "requests", 10**6, "day")], [], threading.Event()

    def empty():
        while not stopped.is_set():
            valkey.client.flushall()

    def ask(first):
        for number in range(first, first + 60):
            one = limited(gateway, number, limits, budgets=[budget])
            try:
                accounting.reserve(one, Demand(200, 1, 100, 4096))
            except BudgetExceeded:
                continue
            admitted.append(one)
            accounting.settle(ended(one, Usage(200, 100)))

    emptier = threading.Thread(target=empty)
    emptier.start()
    threads = [threading.Thread(target=ask, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stopped.set()
    emptier.join()
    assert len(admitted) == 10_000 // 300
    assert_books_agree(gateway.engine)
