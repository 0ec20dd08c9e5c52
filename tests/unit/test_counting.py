"""The arithmetic of limits: periods, sliding windows, waiting."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import counting
from services.counting import Room
from services.types import LimitRef, WindowState
from tests.calls import CALLER

NOW = datetime(2026, 11, 21, 10, 30, 15, tzinfo=UTC).timestamp()


def limit(period="minute", amount=100, unit="requests", seconds=0):
    return LimitRef("1", "key", unit, amount, period, seconds)


@pytest.mark.parametrize(
    ("ref", "start", "end", "left_ppm"),
    [
        (limit("second"), 15, 16, 1_000_000),
        (limit("minute"), 0, 60, 750_000),
        (limit("hour"), -1800, 1800, 495_834),
        (limit("day"), -37_800, 48_600, 0),
        (limit("none", seconds=10), 10, 20, 500_000),
    ],
)
def test_a_moment_belongs_to_a_period(ref, start, end, left_ppm):
    minute = NOW - 15
    found = counting.count(ref, 1, NOW)
    assert (found.start - minute, found.end - minute, found.left_ppm) == (start, end, left_ppm)


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), (2026, 1, 1), (2026, 2, 1)),
        (datetime(2028, 2, 29, tzinfo=UTC), (2028, 2, 1), (2028, 3, 1)),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_months_have_their_own_lengths(moment, start, end):
    found = counting.count(limit("month"), 1, moment.timestamp())
    assert found.start == datetime(*start, tzinfo=UTC).timestamp()
    assert (found.end, found.left_ppm) == (datetime(*end, tzinfo=UTC).timestamp(), 0)


def test_calls_under_way_have_no_period():
    assert counting.count(limit("none", unit="concurrent"), 1, NOW).end == 0


@pytest.mark.parametrize(
    ("window", "used"),
    [
        (WindowState(0, 60, 30, 40), 60),  # 30 of this minute and three quarters of the 40 before
        (WindowState(-60, 0, 40, 99), 30),  # the row is of the minute before
        (WindowState(-120, -60, 40, 99), 0),
        (WindowState(60, 120, 30, 40), 60),  # a clock that is ahead has been here
        (WindowState(), 0),
    ],
)
def test_what_counts_of_a_stored_counter(window, used):
    minute = int(NOW) - 15
    if window != WindowState():
        window = replace(window, period_start=window.period_start + minute, period_end=window.period_end + minute)
    assert counting.used(counting.count(limit(), 1, NOW), window) == used


@given(
    st.integers(1, 200),
    st.integers(1, 50),
    st.integers(0, 200),
    st.integers(0, 200),
    st.floats(0, 59.9),
    st.sampled_from([0, -60]),
)
def test_after_the_wait_there_is_room_and_not_much_earlier(ceiling, amount, current, previous, second, shift):
    minute = int(NOW) - 15
    counted = counting.count(limit(amount=ceiling), amount, minute + second)
    window = WindowState(minute + shift, minute + 60 + shift, current, previous)
    wait = counting.wait_s(counted, window, minute + second)
    if amount > ceiling:
        assert wait == float("inf")
        return

    def has_room(after_s):
        later = counting.count(limit(amount=ceiling), amount, minute + second + after_s)
        return counting.used(later, window) + amount <= ceiling

    if has_room(0):
        assert wait == 0
        return
    assert has_room(wait + 0.001)
    assert not has_room(max(0.0, wait - 0.7))


def test_what_fits_now_need_not_wait_for_tomorrow():
    day = int(NOW) // 86_400 * 86_400
    counted = counting.count(limit("day"), 10, NOW)
    assert counting.wait_s(counted, WindowState(day, day + 86_400, 90, 0), NOW) == 0
    assert counting.wait_s(counted, WindowState(day, day + 86_400, 91, 0), NOW) == day + 86_400 - NOW


@pytest.mark.parametrize(("unit", "words", "after"), [("concurrent", "1 s", 1), ("requests", "45 s", 45)])
def test_a_refusal_and_its_header_name_the_same_second(unit, words, after):
    minute = NOW - 15
    counted = counting.count(limit("none" if unit == "concurrent" else "day", 1, unit), 1, NOW)
    if unit == "requests":
        counted = replace(counted, start=int(minute), end=int(minute) + 60)
    found = counting.refusal(CALLER, counted, WindowState(counted.start, counted.end, 1, 0), NOW)
    assert str(found).endswith(f"Try again in {words}.")
    assert found.retry_after_s == found.details["retry_after"] == after


@pytest.mark.parametrize(
    ("unit", "amount", "tokens", "left"),
    [("requests", 1, 8, 40), ("tokens", 30, 8, 62), ("tokens", 30, 99, 0), ("concurrent", 1, 8, 41)],
)
def test_what_an_ended_call_leaves_of_a_limit(unit, amount, tokens, left):
    assert counting.settled(Room(limit(unit=unit), 40, 5.0), amount, tokens) == Room(limit(unit=unit), left, 5.0)


def test_the_words_for_a_period():
    assert counting.span_of(limit("day")) == "per day"
    assert counting.span_of(limit("none", unit="concurrent")) == "at once"
    assert counting.span_of(limit("none", seconds=90)) == "per 90 s"
