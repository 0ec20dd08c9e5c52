"""The arithmetic of limits: which period a moment belongs to, what of the one before still counts, when there is room.

Seconds, minutes and hours slide: of the period before, that share still counts which a window ending now still
covers. So a burst at the end of one minute and another at the start of the next do not add up to twice the limit.
Days and months begin at midnight UTC and do not slide.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from services.errors import RateLimited
from services.types import Caller, Count, LimitRef, WindowState

NONE: Final = "none"
SLIDING: Final = {"second": 1, "minute": 60, "hour": 3600}
PERIODS: Final = (NONE, *SLIDING, "day", "month")
DAY: Final = 86_400
PPM: Final = 1_000_000
LATER_S: Final = 1  # when to ask again for a call of others to end
REQUESTS, TOKENS, CONCURRENT = "requests", "tokens", "concurrent"
SHORT: Final = {"none": "at once", "second": "per second", "minute": "per minute", "hour": "per hour"}


@dataclass(frozen=True, slots=True)
class Room:
    """A limit as an admission left it."""

    limit: LimitRef
    left: int
    resets_in_s: float  # until the whole limit is there again, if nothing more comes; 0 for calls under way

    @property
    def share(self) -> float:
        """How much of the limit is left, 0 to 1."""
        return self.left / self.limit.amount if self.limit.amount else 0.0


def count(limit: LimitRef, amount: int, now_s: float) -> Count:
    """What one call counts against the limit now."""
    if limit.unit == CONCURRENT:
        return Count(limit, amount, 0, 0, 0)
    if limit.period == "month":
        moment = datetime.fromtimestamp(now_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = moment.replace(year=moment.year + moment.month // 12, month=moment.month % 12 + 1)
        return Count(limit, amount, int(moment.timestamp()), int(following.timestamp()), 0)
    length = limit.seconds or SLIDING.get(limit.period, DAY)
    start = int(now_s // length) * length
    slides = limit.period != "day"
    left_ppm = -int(-(start + length - now_s) * PPM // length) if slides else 0
    return Count(limit, amount, start, start + length, left_ppm)


def used(counted: Count, window: WindowState) -> int:
    """What of the limit counts as used, by the stored counter; the same rule as in the statement that counts."""
    if window.period_start >= counted.start:
        return counted.used(window.used_amount, window.previous_amount)
    return counted.used(0, window.used_amount) if window.period_end == counted.start else 0


def wait_s(counted: Count, window: WindowState, now_s: float) -> float:
    """Seconds until the amount would fit if nothing else came; infinite where it never does."""
    if counted.amount > counted.limit.amount:
        return float("inf")
    if used(counted, window) + counted.amount <= counted.limit.amount:
        return 0.0
    if counted.limit.unit == CONCURRENT:
        return LATER_S
    has_begun = window.period_start >= counted.start
    current = window.used_amount if has_begun else 0
    previous = window.previous_amount if has_begun else window.used_amount
    length, spare = counted.end - counted.start, counted.limit.amount - counted.amount
    if not counted.left_ppm:
        return counted.end - now_s
    if current <= spare:  # it is the share of the period before that must shrink
        return max(0.0, counted.end - now_s - length * (spare - current) / previous) if previous else 0.0
    return counted.end - now_s + max(0.0, length * (1 - spare / current))


def room(counted: Count, current: int, previous: int, now_s: float) -> Room:
    """The limit after it was counted."""
    left = max(0, counted.limit.amount - counted.used(current, previous))
    slides_s = counted.end - counted.start if counted.left_ppm else 0
    resets_in_s = max(0.0, counted.end - now_s) + slides_s if counted.limit.unit != CONCURRENT else 0.0
    return Room(counted.limit, left, resets_in_s)


def settled(left: Room, amount: int, tokens: int) -> Room:
    """The limit after a call that had counted that amount has ended, with so many tokens used."""
    back = {REQUESTS: 0, TOKENS: amount - tokens}.get(left.limit.unit, amount)
    return replace(left, left=max(0, min(left.limit.amount, left.left + back)))


def longest(pairs: Iterable[tuple[Count, WindowState]], now_s: float) -> tuple[Count, WindowState]:
    """The one of these limits that keeps a caller waiting longest."""
    return max(pairs, key=lambda pair: wait_s(pair[0], pair[1], now_s))


def refusal(
    caller: Caller, counted: Count, window: WindowState, now_s: float, *, model: str = "", is_least: bool = False
) -> RateLimited:
    """What a caller reads whose limit has no room: which layer, its numbers, when to come again.

    `is_least`: the amount is the least that the call could be sent with, not the most that it may use.
    """
    limit = counted.limit
    wait = wait_s(counted, window, now_s)
    whose = {
        "user": f"user `{caller.username}`",
        "key": f"key `{caller.key_hint}` (#{caller.key_id})",
        "team": f"team `{caller.team}`",
        "model": f"model `{model}`",
        "address": "this client address",
    }[limit.scope]
    what = "calls" if limit.unit == CONCURRENT else limit.unit
    span = span_of(limit)
    gone = used(counted, window)
    most = "at least" if is_least else "up to"
    needed = f", this call needs {most} {counted.amount:,}" if limit.unit == TOKENS else ""
    verb = "is" if gone == 1 else "are"
    again = "It will never fit." if math.isinf(wait) else f"Try again in {max(1, math.ceil(wait))} s."
    found = RateLimited(
        f"Too many {what} for {whose}: the limit is {limit.amount:,} {span}, {gone:,} {verb} used{needed}. {again}",
        wait_s=wait,
        room=Room(limit, max(0, limit.amount - gone), 0.0 if wait == float("inf") else wait),
        details={
            "scope": limit.scope,
            "unit": limit.unit,
            "period": limit.period,
            "limit": limit.amount,
            "used": gone,
            "window_seconds": counted.end - counted.start,
        },
    )
    found.rule = f"limit {limit.subject}"
    return found


def span_of(limit: LimitRef) -> str:
    """The period of a limit in words."""
    if limit.seconds:
        return f"per {limit.seconds} s"
    return SHORT.get(limit.period, f"per {limit.period}")
