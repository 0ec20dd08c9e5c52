"""Calls as events, read page by page: those that were booked, and those that a policy refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Subquery,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    type_coerce,
    union_all,
)

from models import Refusal, StoredBody, UsageRecord
from services import matching
from services.errors import TooMuch
from services.marks import BLOCKED
from services.matching import Wanted
from services.reports import apart
from utils import clock

POLICIES: Final = "policy"  # the kind of refusals by a policy, see services/refusals.py
MOST_SORTED: Final = 200_000  # calls that may be counted, or sorted by what they cost
CHUNK: Final = 100  # events that are read at once where all are wanted
COLUMNS: Final = (
    *("request_id", "key_id", "user_id", "cost_nanousd", "provider", "model", "status", "input_tokens"),
    *("output_tokens", "duration_ms", "path", "custom_id", "client_metadata", "action", "policy_id", "route_id"),
)
SHOWN: Final = ("created_ms", *COLUMNS)  # of every row, in this order
OF_REFUSALS: Final[dict[str, ColumnElement[Any]]] = {  # what a call that was never made has besides its own columns
    "cost_nanousd": literal_column("0"),
    "duration_ms": literal_column("0"),
    "action": literal_column(f"'{BLOCKED}'"),
    "policy_id": cast(func.substr(Refusal.rule, len("policy ") + 1), BigInteger),
}

Source = tuple[type[UsageRecord | Refusal], Select[Any]]  # a table, and what of it matches


@dataclass(frozen=True, slots=True)
class Order:
    """By when, or by cost; the latest or the dearest first, unless it says otherwise."""

    by_cost: bool = False
    is_rising: bool = False


def page(connection: Connection, wanted: Wanted, order: Order, limit: int, offset: int) -> list[Row[Any]]:
    """So many events from there on.

    Raises:
        TooMuch: too many calls would be read, or sorted by cost.
    """
    if order.by_cost:
        _check_sorted(connection, wanted)
    column, count = matching.cheapest(connection, wanted, None if order.by_cost else offset + limit)
    if order.by_cost or column != matching.TIME or wanted.has_more:
        matching.check_read(count)
    sources = _present(connection, wanted, column)
    if order.by_cost or not offset:
        found = _ordered(sources, column, order, offset + limit).offset(offset).limit(limit)
        return list(connection.execute(found).all())
    # Those before the page are passed by their ids alone.
    bare = _sources(wanted, column, skims=True)[: len(sources)]
    after = connection.scalar(_ordered(bare, column, order, offset, is_bare=True).offset(offset - 1).limit(1))
    if after is None:
        return []
    return list(connection.execute(_ordered(sources, column, order, limit, after).limit(limit)).all())


def count(connection: Connection, wanted: Wanted) -> int:
    """How many events there are.

    Raises:
        TooMuch: more than MOST_SORTED, or too many calls would be read.
    """
    return _check_sorted(connection, wanted)


def every(connection: Connection, wanted: Wanted, order: Order, after: str | None) -> list[Row[Any]]:
    """The next few events by their time, after the one with that request id; empty = that was all."""
    column = matching.cheapest(connection, wanted, CHUNK)[0]
    found = _ordered(_sources(wanted, column), column, order, CHUNK, after).limit(CHUNK)
    return list(connection.execute(found).all())


def with_texts(connection: Connection, wanted: Wanted, order: Order, most: int) -> Iterator[Row[Any]]:
    """Events whose texts are stored, with `stored_request` and `stored_response`, sealed; so many at most."""
    stored, usage = StoredBody, UsageRecord
    texts = (stored.request.label("stored_request"), stored.response.label("stored_response"))
    span = matching.moments(wanted, stored.request_id, usage.created_at, matching.TIME)
    query = (
        select(*_columns(), *texts)
        .join(stored, stored.request_id == usage.request_id)
        .where(*span, stored.expires_at > clock.now(), *matching.conditions(wanted, ""))
    )
    key = stored.request_id
    query = query.order_by(key.asc() if order.is_rising else key.desc()).limit(most)
    yield from connection.execution_options(yield_per=CHUNK).execute(query)


def _check_sorted(connection: Connection, wanted: Wanted) -> int:
    """How many events match, if they are few enough to be sorted."""
    column, reads = matching.cheapest(connection, wanted, MOST_SORTED if not wanted.has_more else None)
    matching.check_read(reads)
    counted = 0
    for _table, one in _sources(wanted, column):
        some = one.with_only_columns(literal_column("1")).limit(MOST_SORTED + 1).subquery()
        counted += connection.scalar(select(func.count()).select_from(some)) or 0
    if counted > MOST_SORTED:
        raise TooMuch(f"These are more than {MOST_SORTED:,} calls, too many to count or sort; {matching.NARROWER}.")
    return counted


def _present(connection: Connection, wanted: Wanted, column: str) -> list[Source]:
    """The sources of a page: without refused calls where none matches, so that nothing need be merged."""
    booked, *others = _sources(wanted, column)
    found = [(table, one) for table, one in others if connection.scalar(select(one.exists()))]
    return [booked, *found]


def _ordered(
    sources: list[Source], column: str, order: Order, most: int, after: str | None = None, *, is_bare: bool = False
) -> Select[Any]:
    """The events in their order, or only their ids (`is_bare`); of each source only as many as can be wanted."""
    parts = []
    for table, found in sources:
        key: Any = table.request_id if column == matching.TIME else apart(table.__table__.c.request_id)
        beyond = () if after is None else (key > after if order.is_rising else key < after,)
        some = found.where(*beyond)
        if is_bare:
            some = some.with_only_columns(table.request_id)
        if not order.by_cost:
            some = some.order_by(key.asc() if order.is_rising else key.desc()).limit(most)
            if len(sources) == 1:
                return some
        parts.append(some.subquery())
    rows: Subquery = parts[0] if len(parts) == 1 else union_all(*(select(part) for part in parts)).subquery()
    first = [rows.c.cost_nanousd] if order.by_cost else []
    keys = [*first, rows.c.request_id]
    return select(rows).order_by(*(key.asc() if order.is_rising else key.desc() for key in keys))


def _columns() -> list[Any]:
    usage = UsageRecord.__table__.c
    return [type_coerce(usage.created_at, BigInteger).label("created_ms"), *(usage[name] for name in COLUMNS)]


def _sources(wanted: Wanted, column: str, *, skims: bool = False) -> list[Source]:
    """Booked calls and refused ones, as far as any can match; `skims`: see matching.moments."""
    booked = select(*_columns()).where(*matching.conditions(wanted, column, skims=skims))
    may_be_refused = wanted.actions is None or BLOCKED in wanted.actions
    return [(UsageRecord, booked), *([(Refusal, _refused(wanted, column))] if may_be_refused else [])]


def _refused(wanted: Wanted, column: str) -> Select[Any]:
    """Calls that a policy refused before they were booked."""
    refusal, own = Refusal, Refusal.__table__.c
    types = UsageRecord.__table__.c
    told = [OF_REFUSALS.get(name, own[name] if name in own else cast(null(), types[name].type)) for name in COLUMNS]
    moment = type_coerce(own.created_at, BigInteger).label("created_ms")
    where: list[ColumnElement[bool]] = [
        *matching.moments(wanted, refusal.request_id, refusal.created_at, column),
        refusal.kind == POLICIES,
        ~exists().where(UsageRecord.request_id == refusal.request_id),
    ]
    for one, values in ((own.key_id, wanted.keys), (own.user_id, wanted.users)):
        if values is not None:
            where.append(matching.among(apart(one), values))
    if wanted.custom_ids is not None:
        where.append(matching.among(own.custom_id, wanted.custom_ids))
    if wanted.status is not None:
        where.append(own.status == wanted.status)
    if wanted.policies is not None:
        where.append(own.rule.in_([f"policy {number}" for number in wanted.policies]))
    named = [value.label(name) for name, value in zip(COLUMNS, told, strict=True)]
    return select(moment, *named).where(*where)
