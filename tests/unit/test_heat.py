"""What is hot, and what a leased call uses of its windows."""

import pytest

from services.bookings import Booking, Recount
from services.books.base import HoldRow
from services.books.leases import used_by, without
from services.heat import Heat
from tests.books.test_books import settlement


@pytest.fixture
def at(monkeypatch):
    """Sets the clock."""

    def set_s(seconds):
        monkeypatch.setattr("utils.clock.monotonic_s", lambda: seconds)

    return set_s


def test_a_window_is_hot_from_so_many_calls_in_a_second_until_a_second_without(at):
    heat = Heat(3)
    at(100.1)
    assert [heat.note(["b1", "b2"]) for _ in range(3)] == [[], [], ["b1", "b2"]]
    assert heat.note(["b2", "b3"]) == ["b2"]
    at(101.9)
    assert heat.note(["b1", "b3"]) == ["b1"], "it was in the second before"
    assert heat.is_hot("b2")
    at(102.0)
    assert heat.note(["b1", "b2"]) == []


def test_after_a_pause_nothing_is_hot(at):
    heat = Heat(1)
    at(100.0)
    assert heat.note(["b1"]) == ["b1"]
    heat = Heat(2)
    heat.note(["b1"])
    heat.note(["b1"])
    at(105.0)
    assert heat.note(["b1"]) == []


def test_nothing_is_ever_hot_where_leases_are_off():
    heat = Heat(0)
    assert [heat.note(["b1"]) for _ in range(1000)] == [[]] * 1000


def test_what_a_call_uses_of_its_windows():
    counts = '[["1","requests",60,120,1,false],["2","tokens",0,60,30,false],["3","concurrent",0,0,1],'
    counts += '["4","requests",60,120,1,true]]'
    hold = HoldRow("r1", "w", 0, 0, "[]", counts, "{}")
    booked = settlement(
        "r1",
        1,
        [Booking(7, 60, "usd", 100, 40)],
        recounts=(Recount("2", "tokens", 0, 60, -15), Recount("3", "concurrent", 0, 0, -1)),
    )
    assert used_by(hold, booked) == {("b7", 60, 0): 40, ("1", 60, 120): 1, ("2", 0, 60): 15, ("3", 0, 0): 0}, (
        "what is counted in Redis is no window"
    )


def test_what_is_left_of_a_hold_without_what_is_leased():
    takes = '[[7,60,100,"usd",false,0],[8,0,30,"tokens",false,0]]'
    counts = '[["1","requests",60,120,1,true],["1","requests",60,120,1,false],["3","concurrent",0,0,1,false]]'
    rest = without(HoldRow("r1", "w", 0, 0, takes, counts, "{}"), {("b7", 60, 0), ("1", 60, 120)})
    assert rest.takes == '[[8,0,30,"tokens",false,0]]'
    assert rest.counts == '[["1","requests",60,120,1,true],["3","concurrent",0,0,1,false]]'
