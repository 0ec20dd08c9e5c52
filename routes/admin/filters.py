"""What the filters of the logs mean: spans of time, people by their names, keys by their hints."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine

from routes.admin.owned import number_of
from routes.admin.tables import Choice
from routes.admin.texts import lazy_gettext
from services import reports
from utils import clock

_ = lazy_gettext

SPANS_MS: Final = {"1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000}
SPAN: Final = Choice(
    "span",
    _("Time"),
    [("1h", _("Last hour")), ("24h", _("Last 24 hours")), ("7d", _("Last 7 days")), ("30d", _("Last 30 days"))],
)
NOBODY: Final = -1  # an id that no row has


def since_of(span: str) -> int | None:
    """When a span of SPANS_MS begins, in milliseconds; None = it is none."""
    return clock.now_ms() - SPANS_MS[span] if span else None


def number_named(scope: str, given: str) -> int | None:
    """The number of a user or team by name, or as #123 for one that was deleted; None = nobody was named."""
    if not given:
        return None
    number = given.removeprefix("#")
    is_number = number != given and number.isascii() and number.isdigit() and len(number) < len(str(2**63))
    return number_of(scope, given) or (int(number) if is_number else NOBODY)


def key_named(given: str) -> int | None:
    """The number of a key by number or hint; None = none was named."""
    return (number_of("key", given) or NOBODY) if given else None


def moment_ms(given: str) -> int | None:
    """A moment as a browser sends it, in UTC."""
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, round(aware.timestamp() * 1000))


def names_of_rows(engine: Engine, rows: Iterable[Any]) -> reports.Names:
    """What the users, keys and teams of these rows are called."""
    found = list(rows)
    users, keys, teams = ([getattr(row, name) for row in found] for name in ("user_id", "key_id", "team_id"))
    return reports.names(engine, users, keys, teams)
