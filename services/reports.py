"""What the panel shows of the books: sums for the overview, log tables page by page, names for numbers.

Read-only. Log tables are never counted and never skipped into: a page starts at a key, and a condition without an
index looks at a bounded number of rows, so that every page costs the same on ten rows and on ten million.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnCollection,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    case,
    func,
    select,
    true,
    type_coerce,
)
from sqlalchemy.orm import InstrumentedAttribute

from models import ApiKey, AuditEntry, LedgerEntry, Team, UsageRecord, User
from services.pricing import PER_MILLION, charge_lines, line_millionths
from services.types import ChargeLine, Price, Usage
from utils import jsonx, money

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
WALK: Final = 20_000  # rows that one page may look at for a condition without an index
MILLIONTHS: Final = money.NANO_PER_USD * PER_MILLION  # of a nano-USD, to the USD
FINE: Final = ("ok", "client_gone")  # outcomes that are no failure of a provider or of the gateway

Condition = ColumnElement[bool]
Also = Callable[[ColumnCollection[str, Any]], Condition]
Cursor = int | str


@dataclass(frozen=True, slots=True)
class Walk:
    """A way through a log table: newest first by a unique, indexed column.

    `where` holds what the index of that column (or one that starts with it) can answer; `also` the rest.
    """

    key: InstrumentedAttribute[Any]
    where: tuple[Condition, ...] = ()
    also: tuple[Also, ...] = ()

    @property
    def table(self) -> Table:
        """Where the rows are."""
        table: Table = self.key.class_.__table__
        return table


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first. A cursor is None when there is nothing on that side."""

    rows: list[Row[Any]]
    newer: Cursor | None = None
    older: Cursor | None = None
    is_cut: bool = False  # the walk ended before the page was full; older rows may still match


@dataclass(frozen=True, slots=True)
class Sums:
    """What calls add up to."""

    calls: int = 0
    failed: int = 0
    tokens: int = 0
    cost_nanousd: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls + other.calls,
            self.failed + other.failed,
            self.tokens + other.tokens,
            self.cost_nanousd + other.cost_nanousd,
        )


@dataclass(frozen=True, slots=True)
class Activity:
    """Two days of calls. `hours` are 24 pairs of start (milliseconds) and sums, the current hour last."""

    day: Sums
    day_before: Sums
    hours: tuple[tuple[int, Sums], ...]


@dataclass(frozen=True, slots=True)
class Names:
    """What ids stand for; one that is missing was deleted."""

    users: Mapping[int, str] = field(default_factory=dict)
    keys: Mapping[int, tuple[str, str]] = field(default_factory=dict)  # name and hint
    teams: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which calls; None or empty = any."""

    user_id: int | None = None
    key_id: int | None = None
    team_id: int | None = None
    model: str = ""
    custom_id: str = ""
    outcome: str = ""
    state: str = ""
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One line of a call's bill: so many units at that rate, which is per million but for the kinds of PER_UNIT."""

    kind: str
    units: int
    rate: int
    cost_usd: Decimal  # exact; only their sum is rounded


def request_ids_from(moment_ms: int) -> str:
    """The smallest request id that can have been given at that moment: ids begin with their milliseconds."""
    return f"req_{max(0, moment_ms):012x}"


def read_page(
    engine: Engine, walk: Walk, *, before: Cursor | None = None, after: Cursor | None = None, size: int = 20
) -> Page:
    """The rows next to a cursor: older than `before`, or newer than `after`, or the newest ones."""
    is_back = after is not None
    limits = (
        walk.key > after if after is not None else walk.key < before if before is not None else true(),
        *walk.where,
    )
    with engine.connect() as connection:
        rows = list(connection.execute(_found(walk, limits, size + 1, is_back=is_back)))
        has_more, rows = len(rows) > size, rows[:size]
        end = None if has_more or not walk.also else _end_of_walk(connection, walk, limits, is_back=is_back)
    edge = getattr(rows[-1], walk.key.key) if has_more else end
    if is_back:
        rows.reverse()
        return Page(
            rows, newer=edge, older=after if not rows else getattr(rows[-1], walk.key.key), is_cut=end is not None
        )
    newer = getattr(rows[0], walk.key.key) if rows and before is not None else None
    return Page(rows, newer=newer, older=edge, is_cut=end is not None)


def read_all(engine: Engine, walk: Walk, *, size: int = 1000) -> Iterator[Row[Any]]:
    """Every row of a walk, newest first; holds no more than one page and no connection in between."""
    before: Cursor | None = None
    while True:
        page = read_page(engine, walk, before=before, size=size)
        yield from page.rows
        if page.older is None:
            return
        before = page.older


def activity(engine: Engine, now_ms: int) -> Activity:
    """The last 24 hours against the 24 before, in one statement over the calls of two days."""
    usage, day_ago = UsageRecord, now_ms - DAY_MS
    began = type_coerce(usage.created_at, BigInteger)
    hour, is_recent = began // HOUR_MS, began >= day_ago
    query = (
        select(
            hour,
            is_recent,
            func.count(),
            func.sum(case((usage.outcome.in_(FINE), 0), else_=1)),
            func.sum(func.coalesce(usage.input_tokens, 0) + func.coalesce(usage.output_tokens, 0)),
            func.sum(usage.cost_nanousd),
        )
        .where(usage.request_id >= request_ids_from(day_ago - DAY_MS), usage.request_id < request_ids_from(now_ms + 1))
        .group_by(hour, is_recent)
    )
    with engine.connect() as connection:
        rows = [tuple(int(value) for value in row) for row in connection.execute(query)]
    this_hour = now_ms // HOUR_MS
    by_hour = {start: Sums() for start in range(this_hour - 23, this_hour + 1)}
    sums = {True: Sums(), False: Sums()}
    for start, recent, *figures in rows:
        sums[bool(recent)] += Sums(*figures)
        if start in by_hour:
            by_hour[start] += Sums(*figures)
    return Activity(sums[True], sums[False], tuple((start * HOUR_MS, found) for start, found in by_hour.items()))


def usage_walk(wanted: UsageFilter) -> Walk:
    """The way through the usage table for a filter.

    Of one user or key there is an index in the order of settling; anything else goes by request id, that is by the
    moment the call began. A span with an end goes by request id too, or the walk would have to find its end first.
    """
    usage = UsageRecord
    span: list[Condition] = []
    if wanted.since_ms is not None:
        span.append(usage.request_id >= request_ids_from(wanted.since_ms))
    if wanted.until_ms is not None:
        span.append(usage.request_id < request_ids_from(wanted.until_ms))
    owner = [
        column == value
        for column, value in ((usage.key_id, wanted.key_id), (usage.user_id, wanted.user_id))
        if value is not None
    ]
    by_owner = bool(owner) and wanted.until_ms is None
    rest = {name: getattr(wanted, name) for name in ("team_id", "model", "custom_id", "outcome", "state")}
    also = [_equals(name, value) for name, value in rest.items() if value]
    if by_owner and wanted.since_ms is not None:
        since = request_ids_from(wanted.since_ms)
        also.append(lambda columns: columns.request_id >= since)
    if owner and not by_owner:
        also += [
            _equals(name, value) for name, value in (("key_id", wanted.key_id), ("user_id", wanted.user_id)) if value
        ]
    return Walk(usage.id, tuple(owner), tuple(also)) if by_owner else Walk(usage.request_id, tuple(span), tuple(also))


def ledger_walk(request_id: str, accounts: Sequence[tuple[str, int]], kind: str) -> Walk:
    """The way through the ledger. Only a request id has an index of its own."""
    entry = LedgerEntry
    also: list[Also] = [_is_account(account, number) for account, number in accounts]
    if kind:
        also.append(_equals("kind", kind))
    return Walk(entry.id, (entry.request_id == request_id,) if request_id else (), tuple(also))


def audit_walk(wanted: Mapping[str, str]) -> Walk:
    """The way through the audit log; `wanted` is column and value."""
    return Walk(AuditEntry.id, also=tuple(_equals(name, value) for name, value in wanted.items()))


def latest_calls(
    engine: Engine, size: int, *, user_id: int | None = None, key_id: int | None = None, team_id: int | None = None
) -> list[Row[Any]]:
    """The latest calls of everybody, or of one user, key or team."""
    return read_page(engine, usage_walk(UsageFilter(user_id, key_id, team_id)), size=size).rows


def names(engine: Engine, users: Iterable[int], keys: Iterable[int | None], teams: Iterable[int | None] = ()) -> Names:
    """The names of these users, keys and teams, in a statement each."""
    wanted = [{number for number in numbers if number is not None} for numbers in (users, keys, teams)]
    columns = ((User.id, User.username), (ApiKey.id, ApiKey.name, ApiKey.hint), (Team.id, Team.name))
    with engine.connect() as connection:
        found_users, found_keys, found_teams = (
            connection.execute(select(*names).where(names[0].in_(numbers))).all() if numbers else []
            for names, numbers in zip(columns, wanted, strict=True)
        )
    return Names(
        {row.id: row.username for row in found_users},
        {row.id: (row.name, row.hint) for row in found_keys},
        {row.id: row.name for row in found_teams},
    )


def bill(row: Any) -> tuple[PriceLine, ...]:
    """How the cost of a usage row came about, by the lines that were added up; empty when it had no price."""
    lines = jsonx.loads(row.charge_lines) if row.charge_lines else _lines_of_rates(row)
    return tuple(
        PriceLine(kind, units, rate, Decimal(line_millionths((kind, units, rate))) / MILLIONTHS)
        for kind, units, rate in lines
    )


def _lines_of_rates(row: Any) -> tuple[ChargeLine, ...]:
    """The lines of a row that was booked without them: of a free model, or before there were any."""
    if row.input_rate is None or row.output_rate is None:
        return ()
    usage = Usage(row.input_tokens, row.output_tokens, row.cache_read_input_tokens, row.cache_creation_input_tokens)
    return charge_lines(usage, Price(row.input_rate, row.output_rate, row.cache_read_rate, row.cache_creation_rate))


def _equals(name: str, value: object) -> Also:
    return lambda columns: columns[name] == value


def _is_account(account: str, number: int) -> Also:
    return lambda columns: (columns.account == account) & (columns.account_id == number)


def _ordered(column: Any, *, is_back: bool) -> Any:
    return column.asc() if is_back else column.desc()


def _found(walk: Walk, limits: tuple[Condition, ...], size: int, *, is_back: bool) -> Select[Any]:
    """The rows of a page; with `also`, picked among the first WALK rows of the walk."""
    rows = select(walk.table).where(*limits).order_by(_ordered(walk.key, is_back=is_back))
    if not walk.also:
        return rows.limit(size)
    seen = rows.limit(WALK).subquery()
    picked = select(seen).where(*(condition(seen.c) for condition in walk.also))
    return picked.order_by(_ordered(seen.c[walk.key.key], is_back=is_back)).limit(size)


def _end_of_walk(connection: Connection, walk: Walk, limits: tuple[Condition, ...], *, is_back: bool) -> Cursor | None:
    """Where a walk had to stop; None = it saw everything there is."""
    query = select(walk.key).where(*limits).order_by(_ordered(walk.key, is_back=is_back)).offset(WALK - 1).limit(1)
    found: Cursor | None = connection.execute(query).scalar()
    return found
