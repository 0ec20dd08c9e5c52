"""Which calls reports and lists of events are about: what was asked for as conditions, by the index that reads least.

The sums of the roll-ups say about how many rows each index would read, so nothing is counted to decide it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import ApiKey, UsageRecord, User
from models_rollups import ModelSpan, OwnerSpan
from services import pages
from services.errors import FieldsInvalid, TooMuch
from services.marks import ALLOWED
from services.reports import apart, request_ids_from
from services.rollupproof import MARGIN_MS
from services.rollups import DAY, DAY_S

MOST_KEYS: Final = 10_000  # that tags may mean
MOST_READ: Final = 500_000  # rows that one answer may read
TIME, KEYS, USERS, NAMES = "request_id", "key_id", "user_id", "custom_id"  # columns that an index begins with
NARROWER: Final = "ask for a shorter time, or for fewer keys, users or custom ids"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls; None = any. Times in milliseconds, the end not included."""

    start_ms: int
    end_ms: int
    keys: tuple[int, ...] | None = None
    users: tuple[int, ...] | None = None
    custom_ids: tuple[str, ...] | None = None
    status: int | None = None
    actions: frozenset[str] | None = None
    policies: tuple[int, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing but the time is asked for."""
        return not self.has_owners and self.custom_ids is None and not self.has_more

    @property
    def has_owners(self) -> bool:
        """Whether keys or users are named."""
        return self.keys is not None or self.users is not None

    @property
    def has_more(self) -> bool:
        """Whether something is asked for that no index and no sum knows."""
        return self.status is not None or self.actions is not None or self.policies is not None


def key_numbers(session: Session, uuids: Sequence[str], tags: Sequence[str]) -> tuple[int, ...] | None:
    """The keys of these ids that have all these tags now; None = nobody asked for keys.

    Raises:
        TooMuch: the tags mean more keys than MOST_KEYS.
    """
    if not uuids and not tags:
        return None
    wanted = [*pages.has_all(session, ApiKey.tags, tags), *([ApiKey.uuid.in_(_lowered(uuids))] if uuids else [])]
    found = session.scalars(select(ApiKey.id).where(*wanted).limit(MOST_KEYS + 1)).all()
    if len(found) > MOST_KEYS:
        raise TooMuch(f"These tags are those of more than {MOST_KEYS:,} keys; name keys or more tags.")
    return tuple(found)


def user_numbers(session: Session, names: Sequence[str]) -> tuple[int, ...] | None:
    """The users of these names; None = nobody asked for users."""
    return tuple(session.scalars(select(User.id).where(User.username.in_(names)))) if names else None


def check_span(start: int, end: int) -> None:
    """Whether a time has a length.

    Raises:
        FieldsInvalid: it ends before it begins, or then.
    """
    if start >= end:
        raise FieldsInvalid({"end": f"must be later than start, which is {start}"})


def cheapest(connection: Connection, wanted: Wanted, first: int | None = None) -> tuple[str, int]:
    """The column to go by, and about how many rows that reads; `first`: only so many are looked for, by time.

    Where keys or users are named and only some rows are looked for, going by time is right if theirs are many.
    """
    if wanted.custom_ids is not None:
        some = select(UsageRecord.id).where(among(UsageRecord.custom_id, wanted.custom_ids)).limit(MOST_READ + 1)
        return NAMES, connection.scalar(select(func.count()).select_from(some.subquery())) or 0
    first_s, last_s = (wanted.start_ms // 1000 // DAY_S * DAY_S, wanted.end_ms // 1000)
    span = ModelSpan
    spans = (span.span_hours == DAY, span.span_start >= first_s, span.span_start <= last_s)
    in_time = int(connection.scalar(select(func.coalesce(func.sum(span.calls), 0)).where(*spans)) or 0)
    if not wanted.has_owners:
        return TIME, min(in_time, first or in_time) if not wanted.has_more else in_time
    in_all, theirs = _of_owners(connection, wanted, first_s, last_s)
    by_time = in_time if first is None or wanted.has_more else min(in_time, first * in_time // max(theirs, 1))
    column = KEYS if wanted.keys is not None else USERS
    return (column, in_all) if in_all < by_time else (TIME, by_time)


def check_read(count: int) -> None:
    """Whether so many rows may be read for one answer.

    Raises:
        TooMuch: they are more than MOST_READ.
    """
    if count > MOST_READ:
        raise TooMuch(f"This would read about {count:,} calls, and may read {MOST_READ:,}; {NARROWER}.")


def conditions(wanted: Wanted, by: str, *, skims: bool = False) -> list[ColumnElement[bool]]:
    """Which usage rows, found by that column; `skims`: see `moments`."""
    usage = UsageRecord
    found = [*moments(wanted, usage.request_id, usage.created_at, by, skims=skims)]
    for column, values in ((usage.key_id, wanted.keys), (usage.user_id, wanted.users)):
        if values is not None:
            found.append(among(column if by == column.key else apart(column), values))  # type: ignore[arg-type]  # of columns of one table
    if wanted.custom_ids is not None:
        found.append(among(usage.custom_id, wanted.custom_ids))
    if wanted.status is not None:
        found.append(usage.status == wanted.status)
    if wanted.policies is not None:
        found.append(among(usage.policy_id, wanted.policies))
    if wanted.actions is not None:
        named = usage.action.in_(wanted.actions)
        found.append(or_(named, usage.action.is_(None)) if ALLOWED in wanted.actions else named)
    return found


def moments(
    wanted: Wanted, request_id: Any, created_at: InstrumentedAttribute[Any], by: str, *, skims: bool = False
) -> list[ColumnElement[bool]]:
    """When: exactly by what is stored, and roughly by the ids, of which there is an index.

    `skims`: what is stored is looked at near the ends alone, so that a walk by ids between them reads no rows.
    """
    named = request_id if by == TIME else apart(request_id)
    moment = type_coerce(created_at, BigInteger)
    first, last = wanted.start_ms, wanted.end_ms
    exactly = [moment >= first, moment < last]
    if skims:
        inside = and_(named >= request_ids_from(first + MARGIN_MS), named < request_ids_from(last - MARGIN_MS))
        exactly = [or_(inside, and_(*exactly))]
    return [named >= request_ids_from(first - MARGIN_MS), named < request_ids_from(last + MARGIN_MS), *exactly]


def among(column: Any, values: Collection[Any]) -> ColumnElement[bool]:
    """The column has one of these. Numbers stand in the statement: there may be more than a driver takes as values."""
    is_number = all(isinstance(value, int) for value in values)
    given: BindParameter[Any] = bindparam(None, list(values), expanding=True, literal_execute=is_number, unique=True)
    found: ColumnElement[bool] = column.in_(given)
    return found


def _of_owners(connection: Connection, wanted: Wanted, first_s: int, last_s: int) -> tuple[int, int]:
    """How many calls these keys and users have had in all, and in these days."""
    span = OwnerSpan
    theirs = [
        among(column, values)
        for column, values in ((span.key_id, wanted.keys), (span.user_id, wanted.users))
        if values is not None
    ]
    in_days = func.sum(span.calls).filter(span.span_start >= first_s, span.span_start <= last_s)
    row = connection.execute(
        select(func.coalesce(func.sum(span.calls), 0), func.coalesce(in_days, 0)).where(span.span_hours == DAY, *theirs)
    ).one()
    return int(row[0]), int(row[1])


def _lowered(uuids: Sequence[str]) -> list[str]:
    return [one.lower() for one in uuids]
