"""The stretch of time that a page is about: one of a few that end now, or whole days from one date to another.

The address says it, so that it can be shared; the browser session keeps it, so that the next page is about the same.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from flask import request, session

from routes.admin.texts import gettext, lazy_gettext
from services.activity import Period
from services.rollups import DAY, DAY_S, HOUR, HOUR_S
from utils import clock

_ = lazy_gettext

PRESETS: Final = {"24h": _("24 hours"), "7d": _("7 days"), "30d": _("30 days"), "90d": _("90 days")}
DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
DEFAULT: Final = "24h"
MOST_DAYS: Final = 366
KEPT: Final = "range"  # its name in the session
SPANS_OF_LOGS: Final = ("24h", "7d", "30d")  # that the list of calls knows by the same names
BETWEEN: Final = "/"  # two dates, as in ISO 8601


@dataclass(frozen=True, slots=True)
class Range:
    """What was chosen; `name` is one of PRESETS, or two dates. `problem` says why dates that were given are not it."""

    name: str
    period: Period
    problem: str = ""

    @property
    def first(self) -> date:
        """Its first day, in UTC."""
        return _day(self.period.start_s)

    @property
    def last(self) -> date:
        """Its last day."""
        return _day(self.period.end_s - 1)

    @property
    def is_preset(self) -> bool:
        """Whether it ends now, whenever that is."""
        return self.name in PRESETS

    @property
    def of_calls(self) -> dict[str, str]:
        """The same for the address of the list of calls."""
        if self.name in SPANS_OF_LOGS:
            return {"span": self.name}
        ends = {} if self.is_preset else {"until": f"{self.last + timedelta(days=1)}T00:00"}
        return {"since": f"{self.first}T00:00", **ends}


def chosen() -> Range:
    """The range of this page: as the address says, or as the page before had it."""
    given, first, last = (request.args.get(name, "").strip() for name in ("range", "from", "to"))
    problem = ""
    if given in PRESETS:
        return _keep(given)
    if first or last:
        try:
            return _keep(_dates(first, last))
        except ValueError:
            problem = gettext(
                "Dates are written like 2026-05-31, the first before the last, at most %(days)s days.", days=MOST_DAYS
            )
    return _found(session.get(KEPT), problem)


def _keep(name: str) -> Range:
    if session.get(KEPT, DEFAULT) != name:
        session[KEPT] = name
    return _found(name)


def _found(name: Any, problem: str = "") -> Range:
    """The range of that name; of one that nobody could have chosen, the default."""
    now_s = clock.now_s()
    if isinstance(name, str) and BETWEEN in name:
        first, _between, last = name.partition(BETWEEN)
        start_s, end_s = _start_s(date.fromisoformat(first)), _start_s(date.fromisoformat(last)) + DAY_S
        return Range(name, Period.of(start_s, end_s, HOUR if end_s - start_s == DAY_S else DAY, now_s), problem)
    known = name if name in PRESETS else DEFAULT
    if known in DAYS:
        end_s = (int(now_s) // DAY_S + 1) * DAY_S
        return Range(known, Period.of(end_s - DAYS[known] * DAY_S, end_s, DAY, now_s), problem)
    end_s = (int(now_s) // HOUR_S + 1) * HOUR_S
    return Range(known, Period.of(end_s - DAY_S, end_s, HOUR, now_s), problem)


def _dates(first: str, last: str) -> str:
    """The name of the range between two dates; without the last one, up to today.

    Raises:
        ValueError: they are not written as dates, in the wrong order, or too far apart.
    """
    today = _day(int(clock.now_s()))
    ends = date.fromisoformat(last) if last else today
    begins = date.fromisoformat(first) if first else ends
    if not date(2000, 1, 1) <= begins <= ends <= date(2200, 1, 1) or (ends - begins).days >= MOST_DAYS:
        raise ValueError(f"{first} to {last}")
    return f"{begins}{BETWEEN}{ends}"


def _day(moment_s: int) -> date:
    return datetime.fromtimestamp(moment_s, UTC).date()


def _start_s(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
