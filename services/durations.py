"""Lengths of time as clients of the key management API write them: Go's form, and days beside it."""

import re
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final

MAX_CHARS: Final = 40
LONGEST: Final = timedelta(days=36_500)
_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # the micro sign
    "\u03bcs": 10**3,  # the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3_600 * 10**9,
    "d": 86_400 * 10**9,
}
_PART: Final = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(sorted(_NS, key=len, reverse=True))})", re.ASCII)
_WHOLE: Final = re.compile(rf"\+?(?:{_PART.pattern})+", re.ASCII)


def parse(text: str) -> timedelta:
    """`36h30m`, `1.5h`, `300ms`, `2d`, `1d12h`, `0` -> the time; a fraction of a microsecond counts as a whole one.

    Raises:
        ValueError: anything else, a negative one, or longer than LONGEST; the message may be shown.
    """
    if len(text) > MAX_CHARS or not (_WHOLE.fullmatch(text) or text == "0"):
        raise ValueError(f"`{text[:MAX_CHARS]}` is not a length of time such as 36h30m, 90m or 2d")
    ns = sum(Decimal(number) * _NS[unit] for number, unit in _PART.findall(text))
    if ns > LONGEST // timedelta(microseconds=1) * 1000:
        raise ValueError(f"`{text}` is longer than {LONGEST.days} days")
    return timedelta(microseconds=int((Decimal(ns) / 1000).to_integral_value(ROUND_CEILING)))
