"""Periods come from the clock."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import periods


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("second", "UTC", "2026-11-21T10:20:30.5", "2026-11-21T10:20:30", "2026-11-21T10:20:31"),
        ("minute", "UTC", "2026-11-21T10:20:30", "2026-11-21T10:20:00", "2026-11-21T10:21:00"),
        ("hour", "UTC", "2026-11-21T10:20:30", "2026-11-21T10:00:00", "2026-11-21T11:00:00"),
        ("day", "UTC", "2026-11-21T10:20:30", "2026-11-21T00:00:00", "2026-11-22T00:00:00"),
        ("week", "UTC", "2026-11-21T10:20:30", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        ("month", "UTC", "2026-11-21T10:20:30", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        ("month", "UTC", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("day", "America/Sao_Paulo", "2026-11-21T02:00:00", "2026-11-20T03:00:00", "2026-11-21T03:00:00"),
        ("day", "Europe/Berlin", "2026-03-29T10:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"),
        ("day", "Europe/Berlin", "2026-10-25T10:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),
        ("month", "Asia/Kathmandu", "2026-10-31T19:00:00", "2026-10-31T18:15:00", "2026-11-30T18:15:00"),
    ],
)
def test_period(period, zone, now, start, end):
    assert periods.start_s(period, zone, at(now)) == at(start)
    assert periods.end_s(period, zone, at(now)) == at(end)


def test_a_total_has_no_period():
    assert periods.start_s("total", "UTC", 1e9) == 0
    assert periods.end_s("total", "UTC", 1e9) is None


@given(
    st.floats(1e9, 4e9),
    st.sampled_from(["second", "minute", "hour", "day", "week", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_a_moment_lies_in_its_period_and_the_next_begins_where_it_ends(now, period, zone):
    start, end = periods.start_s(period, zone, now), periods.end_s(period, zone, now)
    assert start <= now < end
    assert periods.start_s(period, zone, end - 1) == start
    assert periods.start_s(period, zone, end) == end
