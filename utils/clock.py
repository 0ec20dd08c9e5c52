"""The two clocks. Wall time for what is stored and shown, monotonic time for durations."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Wall clock, milliseconds since 1970 in UTC."""
    return time.time_ns() // 1_000_000


def now_s() -> float:
    """Wall clock, seconds since 1970 in UTC."""
    return time.time()


def now() -> datetime:
    """Wall clock, as a moment in UTC."""
    return datetime.fromtimestamp(now_s(), UTC)


def monotonic_s() -> float:
    """Seconds from an arbitrary start; never goes back, so durations are taken from it."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Let others run for that long; 0 = one turn. Cooperative under gevent."""
    time.sleep(seconds)
