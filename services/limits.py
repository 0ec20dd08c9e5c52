"""Limits as they are set: so many requests, tokens or concurrent calls for a user, key, team, model or address.

How much of one is used, services/counters.py knows; see docs/limits.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, func, inspect, select, tuple_
from sqlalchemy.orm import Session

from models import Limit, LimitLease, LimitWindow
from services import audit, counting, managed, owners
from services.counters import RemoteAway
from services.errors import InvalidRequest, NotFound
from services.types import LimitRef, WindowState
from utils import clock

if TYPE_CHECKING:
    from services.remote import Remote

UNITS: Final = ("requests", "tokens", "concurrent")
SCOPES: Final = (*owners.SCOPES, "address")
MAX_AMOUNT: Final = 10**12


@dataclass(frozen=True, slots=True)
class State:
    """A limit and what counts as used of it now; None for addresses, of which each has a count of its own."""

    limit: Limit
    used: int | None
    resets_s: int | None  # unix seconds when nothing of it counts any more; None = nothing does, or calls are under way


def put(  # noqa: PLR0913 - what a limit is made of
    engine: Engine, actor: audit.Actor, *, scope: str, owner: str, unit: str, limit: str | int, period: str
) -> None:
    """Make a limit or change its amount. `owner` as services/owners.py reads it; of an address it is not looked at.

    Raises:
        InvalidRequest: a value that cannot be.
        NotFound: no such owner.
    """
    amount = parse_amount(limit)
    check_kind(unit, period)
    with Session(engine) as session, session.begin():
        scope_id = 0 if scope == "address" else owners.find(session, scope, owner)
        row = find(session, scope, scope_id, unit, period)
        change(session, actor, row or Limit(scope=scope, scope_id=scope_id, unit=unit, period=period), amount)


def remove(engine: Engine, actor: audit.Actor, *, scope: str, owner: str, unit: str, period: str) -> None:
    """Take a limit away.

    Raises:
        NotFound: there is none.
    """
    with Session(engine) as session, session.begin():
        row = find(session, scope, 0 if scope == "address" else owners.find(session, scope, owner), unit, period)
        if row is None:
            raise NotFound("There is no such limit.", param="limit")
        delete(session, actor, row)


def find(session: Session, scope: str, scope_id: int, unit: str, period: str) -> Limit | None:
    """The limit of an owner with that unit and period."""
    return session.scalar(
        select(Limit).where(
            Limit.scope == scope, Limit.scope_id == scope_id, Limit.unit == unit, Limit.period == period
        )
    )


def change(session: Session, actor: audit.Actor, row: Limit, amount: int) -> None:
    """Set the amount of a limit, which may be a new one, within the caller's transaction.

    Raises:
        InvalidRequest: it stands in the configuration file.
    """
    managed.check(session, row)
    before = None if inspect(row).transient else row.limit_amount
    row.limit_amount = amount
    session.add(row)
    details = {"unit": row.unit, "period": row.period, "before": before, "after": amount}
    audit.note(session, actor, "rate_limit_set", row.scope, row.scope_id or None, details)


def delete(session: Session, actor: audit.Actor, row: Limit) -> None:
    """Take a limit away, within the caller's transaction; what was counted is forgotten with time.

    Raises:
        InvalidRequest: it stands in the configuration file.
    """
    managed.check(session, row)
    details = {"unit": row.unit, "period": row.period, "before": row.limit_amount, "after": None}
    audit.note(session, actor, "rate_limit_set", row.scope, row.scope_id or None, details)
    session.delete(row)


def reset(session: Session, actor: audit.Actor, subject: str) -> int:
    """Begin a counter of requests anew, within the caller's transaction; returns what it had.

    What workers hold as shares of it stays counted. Counters of tokens and of calls under way are not for this: calls
    that end give back to them what they took.
    """
    row = session.get(LimitWindow, subject, with_for_update=True)
    before = row.used_amount + row.previous_amount if row is not None else 0
    if row is not None:
        mine = (LimitLease.subject == subject, LimitLease.period_start == row.period_start)
        row.used_amount = session.scalar(select(func.coalesce(func.sum(LimitLease.amount), 0)).where(*mine)) or 0
        row.previous_amount = 0
    audit.note(session, actor, "rate_limit_reset", "limit", subject, {"before": before})
    return before


def refs(session: Session, owned: Iterable[tuple[str, int]]) -> tuple[LimitRef, ...]:
    """The limits of these (scope, number), in the order in which they are counted."""
    return tuple(ref_of(row) for row in of(session, owned))


def of(session: Session, owned: Iterable[tuple[str, int]]) -> Sequence[Limit]:
    """The rows of the same."""
    wanted = tuple_(Limit.scope, Limit.scope_id).in_(list(owned))
    return session.scalars(select(Limit).where(wanted).order_by(Limit.id)).all()


def ref_of(row: Limit) -> LimitRef:
    """A limit as calls know it. Of an address the subject is completed by each call."""
    return LimitRef(subject_of(row), row.scope, row.unit, row.limit_amount, row.period)


def subject_of(row: Limit) -> str:
    """The name of the limit's counter; of addresses the beginning of it."""
    return str(row.id) if row.scope != "address" else f"{row.id}/"


def used(engine: Engine, rows: Iterable[Limit], remote: "Remote | None" = None) -> Mapping[int, int]:
    """How much of these limits counts as used now, by number; an address has no single figure and is left out."""
    owned = [row for row in rows if row.scope != "address"]
    counts = {str(row.id): counting.count(ref_of(row), 0, clock.now_s()) for row in owned}
    with Session(engine) as session:
        stored = session.scalars(select(LimitWindow).where(LimitWindow.subject.in_(list(counts))))
        found = {int(row.subject): counting.used(counts[row.subject], _state(row)) for row in stored}
    if remote is not None and counts:
        with suppress(RemoteAway):
            windows = remote.look(list(counts.values())).windows
            for (subject, count), window in zip(counts.items(), windows, strict=True):
                found[int(subject)] = max(found.get(int(subject), 0), counting.used(count, window))
    return found


def states(engine: Engine, rows: Sequence[Limit], remote: "Remote | None" = None) -> list[State]:
    """Where these limits stand now."""
    now_s = clock.now_s()
    gone = used(engine, rows, remote) if rows else {}
    return [State(row, *_now(row, gone.get(row.id, 0), now_s)) for row in rows]


def _now(row: Limit, amount: int, now_s: float) -> tuple[int | None, int | None]:
    if row.scope == "address":
        return None, None
    if row.unit == counting.CONCURRENT or not amount:
        return amount, None
    counted = counting.count(ref_of(row), 0, now_s)
    return amount, counted.end + (counted.end - counted.start if counted.left_ppm else 0)


def _state(row: LimitWindow) -> WindowState:
    return WindowState(row.period_start, row.period_end, row.used_amount, row.previous_amount)


def parse_amount(limit: str | int) -> int:
    """An amount as people write it.

    Raises:
        InvalidRequest: not a whole number, negative, or too large.
    """
    text = str(limit).strip()
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_AMOUNT:
        raise InvalidRequest(f"`{text[:40]}` is not a whole number from 0 to {MAX_AMOUNT}.", param="limit")
    return int(text)


def check_kind(unit: str, period: str) -> None:
    """Whether unit and period go together.

    Raises:
        InvalidRequest: they do not.
    """
    if unit not in UNITS:
        raise InvalidRequest(f"`{unit}` is none of {', '.join(UNITS)}.", param="unit")
    if period not in counting.PERIODS:
        raise InvalidRequest(f"`{period}` is none of {', '.join(counting.PERIODS)}.", param="period")
    if (unit == "concurrent") != (period == counting.NONE):
        raise InvalidRequest("Concurrent calls have the period `none`, everything else has another.", param="period")


def listed(engine: Engine, remote: "Remote | None" = None) -> list[dict[str, Any]]:
    """Every limit: `owner` in words, `unit`, `period`, `limit`, `used` (None where each address has a count)."""
    with Session(engine) as session:
        rows = session.scalars(select(Limit).order_by(Limit.id)).all()
        called = owners.names(session, [(row.scope, row.scope_id) for row in rows])
    gone = used(engine, rows, remote)
    return [
        {
            "owner": "every address" if row.scope == "address" else owners.label(row, called),
            "unit": row.unit,
            "period": row.period,
            "limit": row.limit_amount,
            "used": None if row.scope == "address" else gone.get(row.id, 0),
        }
        for row in rows
    ]
