"""What hardly ever happens to the books: budgets that vanish, values that are refused late, files others hold."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from models import Budget
from services import budgets, ledger
from services.admission import ROUNDS
from services.bookings import Booking
from services.books.base import Books, BooksRefused, HoldRefused
from services.types import Take
from tests.books.test_accounting import DEMAND, Failing, accounting, books, budget, call  # noqa: F401 - fixtures
from tests.books.test_books import hold, make_budget, settlement, user, window  # noqa: F401 - fixtures
from tests.helpers import open_holds


def test_a_call_whose_budget_vanishes_in_the_last_round_is_held_all_the_same(gateway, accounting, budget, monkeypatch):  # noqa: F811 - a fixture
    """Others take what it wants, round after round, until somebody deletes the budget: nothing limits it any more."""
    rounds = []

    def reserve(self, row, takes, counts):
        if takes:
            raise HoldRefused
        return self.books.reserve(row, takes, counts)

    def standing(self, take):
        rounds.append(take)
        if len(rounds) == ROUNDS:
            with Session(gateway.engine) as session, session.begin():
                session.execute(delete(Budget))
        return self.books.standing(take)

    monkeypatch.setattr(Failing, "reserve", reserve, raising=False)
    monkeypatch.setattr(Failing, "standing", standing, raising=False)
    one = call(gateway, 1, budget)
    accounting.reserve(one, DEMAND)
    assert len(rounds) == ROUNDS
    assert (open_holds(gateway.engine), one.takes) == (1, ())


def test_a_correction_of_one_budget_leaves_the_other_alone(gateway, session, user, make_budget):  # noqa: F811 - a fixture
    """A free call is booked at 0 in one of its budgets, also when its hold was lost."""
    usd, tokens = make_budget(1_000_000), make_budget(1_000, "tokens")
    bookings = [Booking(usd.id, 0, "usd", 500, 0), Booking(tokens.id, 0, "tokens", 500, 30)]
    assert gateway.books.settle(settlement("r1", user, bookings, cost_nanousd=0))
    assert (window(session, usd), window(session, tokens)) == (None, (30, 0))
    assert ledger.verify(gateway.engine).differences == ()


def test_a_value_refused_after_its_hold_was_lost_spoils_nothing(gateway, session, user, make_budget):  # noqa: F811 - a fixture
    lost = make_budget(1_000_000)
    with pytest.raises(BooksRefused):
        gateway.books.settle(settlement("r1", user, [Booking(lost.id, 0, "usd", 5, 7)], state="nonsense"))
    assert (window(session, lost), ledger.verify(gateway.engine).usage_rows) == (None, 0)


@pytest.mark.parametrize("step", ["transact", "read", "close"])
def test_books_without_a_database_say_so(step):
    arguments = {"transact": [lambda _books: None], "read": ["SELECT 1"], "close": []}[step]
    with pytest.raises(NotImplementedError):
        getattr(Books(), step)(*arguments)


@pytest.fixture
def lite_books(lite, tmp_path):
    return lite.extensions["gateway"].books, Path(tmp_path / "tollhouse.db-queue")


def test_the_head_of_the_queue_is_waited_for(lite_books):
    """Another process stands at the head: the transaction goes through once it leaves, and not before."""
    books, path = lite_books  # noqa: F811 - a fixture
    books.overdue(0)
    queue = os.open(path, os.O_RDWR)
    fcntl.flock(queue, fcntl.LOCK_EX)
    done = threading.Event()

    def reserve():
        books.reserve(hold("r1"), [])
        done.set()

    waiting = threading.Thread(target=reserve)
    waiting.start()
    assert not done.wait(0.1)
    os.close(queue)
    assert done.wait(10)
    waiting.join()
    assert [row.owner for row in books.owned_by("place.1.x")] == ["place.1.x"]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_numbers_of_any_size_share_a_prepared_statement(gateway, session, user, make_budget):  # noqa: F811 - a fixture
    """Planning one of these statements costs Postgres more than running it."""
    one = make_budget(10**15)
    for number in range(40):
        amount = 10 ** (number % 12)
        take = Take(budgets.ref_of(one), 0, amount)
        gateway.books.reserve(hold(f"r{number}", [take]), [take])
        gateway.books.settle(settlement(f"r{number}", user, [Booking(one.id, 0, "usd", amount, amount)]))
    with gateway.books._connected() as connection:
        prepared = connection.execute(b"SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert prepared == (2,)
