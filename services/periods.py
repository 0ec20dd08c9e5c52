"""Calendar periods of budgets. A period is named by the moment it starts, so nothing ever needs a reset."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

TOTAL: Final = "total"
_FLOORS: Final[dict[str, Callable[[datetime], datetime]]] = {
    "second": lambda t: t.replace(microsecond=0),
    "minute": lambda t: t.replace(second=0, microsecond=0),
    "hour": lambda t: t.replace(minute=0, second=0, microsecond=0),
    "day": lambda t: _midnight(t),  # noqa: PLW0108 - defined below
    "week": lambda t: _midnight(t - timedelta(days=t.weekday())),
    "month": lambda t: _midnight(t.replace(day=1)),
}
_NEXT: Final[dict[str, timedelta]] = {  # a step that surely lands in the next period, and not beyond it
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1, hours=6),
    "week": timedelta(days=7, hours=6),
    "month": timedelta(days=32),
}
PERIODS: Final = (TOTAL, *_FLOORS)


def start_s(period: str, timezone: str, now_s: float) -> int:
    """When the period that holds `now_s` began, unix seconds; 0 for a budget without periods."""
    return 0 if period == TOTAL else _start_s(period, timezone, int(now_s))


def end_s(period: str, timezone: str, now_s: float) -> int | None:
    """When the next period begins, unix seconds; None for a budget without periods."""
    if period == TOTAL:
        return None
    floor = _floor(period, _local(timezone, int(now_s))).astimezone(UTC)  # a fraction could round up into the next
    return int(_floor(period, (floor + _NEXT[period]).astimezone(ZoneInfo(timezone))).timestamp())


@lru_cache(maxsize=1024)
def _start_s(period: str, timezone: str, second: int) -> int:
    return int(_floor(period, _local(timezone, second)).timestamp())


def _local(timezone: str, now_s: float) -> datetime:
    return datetime.fromtimestamp(now_s, ZoneInfo(timezone))


def _floor(period: str, moment: datetime) -> datetime:
    return _FLOORS[period](moment)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
