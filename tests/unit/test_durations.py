"""Lengths of time in Go's form, with days."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import durations

GOOD = [
    ("36h30m", timedelta(hours=36, minutes=30)),
    ("1h", timedelta(hours=1)),
    ("90m", timedelta(minutes=90)),
    ("1.5h", timedelta(minutes=90)),
    (".5h", timedelta(minutes=30)),
    ("1.s", timedelta(seconds=1)),
    ("300ms", timedelta(milliseconds=300)),
    ("5us", timedelta(microseconds=5)),
    ("5\u00b5s", timedelta(microseconds=5)),  # the micro sign
    ("5\u03bcs", timedelta(microseconds=5)),  # the Greek letter
    ("1ns", timedelta(microseconds=1)),
    ("2d", timedelta(days=2)),
    ("1d12h", timedelta(hours=36)),
    ("12h1d", timedelta(hours=36)),
    ("1h1h", timedelta(hours=2)),
    ("+1m", timedelta(minutes=1)),
    ("0", timedelta(0)),
    ("0s", timedelta(0)),
    ("36500d", durations.LONGEST),
]
BAD = [
    *["", " ", "5", "h", ".h", "1", "00", "-1h", "-0s", "1h-1m", "1 h", " 1h", "1h ", "1H", "2D", "1w", "1y", "2mo"],
    *["1e3s", "1_0s", "1,5h", "1.2.3h", "\u0661h", "NaNs", "infs", "0x1h", "1h\n", "two days", "P2D", "36500d1ns"],
    *["36501d", "9" * 39 + "d", "1h" * 21],
]


@pytest.mark.parametrize(("text", "length"), GOOD)
def test_lengths_of_time(text, length):
    assert durations.parse(text) == length


@pytest.mark.parametrize("text", BAD)
def test_what_is_none_is_refused_with_a_reason(text):
    with pytest.raises(ValueError, match=r"is not a length of time|is longer than"):
        durations.parse(text)


@given(st.text(alphabet="0123456789.hmsdnuµ+- ", max_size=41))
def test_no_text_breaks_it(text):
    try:
        found = durations.parse(text)
    except ValueError:
        return
    assert timedelta(0) <= found <= durations.LONGEST
