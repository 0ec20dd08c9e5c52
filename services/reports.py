"""What the panel shows of the books: log tables page by page, names for numbers.

Read-only. Log tables are never counted and never skipped into: a page starts at a key, and a condition without an
index looks at a bounded number of rows, so that every page costs the same on ten rows and on ten million.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    ColumnCollection,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    String,
    Table,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute

from models import ApiKey, AuditEntry, LedgerEntry, Refusal, Team, UsageRecord, User
from models_books import NOT_OK
from services.pricing import PER_MILLION, charge_lines, line_millionths
from services.types import ChargeLine, Price, Usage
from utils import jsonx, money

WALK: Final = 20_000  # rows that one page may look at for a condition without an index
CHARGES: Final = 50  # of one call; there is one for each budget
OWNERS: Final = ("batch_id", "key_id", "user_id")
UNINDEXED: Final = ("team_id", "model", "custom_id", "outcome", "state", "provider")  # filters of calls
LABELS: Final = ("id", "name", "hint")
FINE: Final = ("ok", "client_gone", "blocked")  # outcomes that are no failure of a provider or of the gateway
MILLIONTHS: Final = money.NANO_PER_USD * PER_MILLION  # of a nano-USD, to the USD

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
    columns: tuple[Any, ...] = ()  # what of each row; empty = all, which is too much where texts are long

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
    batch_id: int | None = None
    team_id: int | None = None
    model: str = ""
    custom_id: str = ""
    outcome: str = ""
    state: str = ""
    provider: str = ""
    request_id: str = ""
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
        end = _end_of_walk(connection, walk, limits, is_back=is_back) if walk.also else None
        rows = list(connection.execute(_found(walk, limits, end, size + 1, is_back=is_back)))
    has_more, rows = len(rows) > size, rows[:size]
    edge, is_cut = getattr(rows[-1], walk.key.key) if has_more else end, end is not None and not has_more
    if is_back:
        rows.reverse()
        return Page(rows, newer=edge, older=after if not rows else getattr(rows[-1], walk.key.key), is_cut=is_cut)
    newer = getattr(rows[0], walk.key.key) if rows and before is not None else None
    return Page(rows, newer=newer, older=edge, is_cut=is_cut)


def read_all(engine: Engine, walk: Walk, *, size: int = 1000) -> Iterator[Row[Any]]:
    """Every row of a walk, newest first; holds no more than one page and no connection in between."""
    before: Cursor | None = None
    while True:
        page = read_page(engine, walk, before=before, size=size)
        yield from page.rows
        if page.older is None:
            return
        before = page.older


def usage_walk(wanted: UsageFilter) -> Walk:
    """The way through the usage table for a filter.

    Of one user, key or batch there is an index in the order of settling; anything else goes by request id, that is by
    the moment the call began. A span with an end goes by request id too, or the walk would have to find its end first.
    Of the calls that did not simply succeed there is an index by outcome and request id.
    """
    usage = UsageRecord
    span: list[Condition] = [usage.request_id == wanted.request_id] if wanted.request_id else []
    if wanted.since_ms is not None:
        span.append(usage.request_id >= request_ids_from(wanted.since_ms))
    if wanted.until_ms is not None:
        span.append(usage.request_id < request_ids_from(wanted.until_ms))
    owner = [
        column == value
        for column, value in (
            (usage.batch_id, wanted.batch_id),
            (usage.key_id, wanted.key_id),
            (usage.user_id, wanted.user_id),
        )
        if value is not None
    ]
    by_owner = bool(owner) and wanted.until_ms is None and not wanted.request_id
    indexed = "outcome" if not by_owner and wanted.outcome not in ("", "ok") else ""
    if indexed:
        span += [usage.outcome == wanted.outcome, NOT_OK]
    also = [_equals(name, value) for name in UNINDEXED if name != indexed and (value := getattr(wanted, name))]
    if by_owner and wanted.since_ms is not None:
        since = request_ids_from(wanted.since_ms)
        also.append(lambda columns: apart(columns.request_id) >= since)
    if owner and not by_owner:
        also += [_equals(name, value) for name in OWNERS if (value := getattr(wanted, name))]
    return Walk(usage.id, tuple(owner), tuple(also)) if by_owner else Walk(usage.request_id, tuple(span), tuple(also))


def live_walk(wanted: UsageFilter, after: int, until: int) -> Walk:
    """The way through what was settled after one row, up to another: by the order of settling, whatever began when."""
    usage, also = UsageRecord, [_equals(name, value) for name in UNINDEXED if (value := getattr(wanted, name))]
    owners = ((usage.key_id, wanted.key_id), (usage.user_id, wanted.user_id))
    owner = [column == value for column, value in owners if value is not None]
    if wanted.request_id:
        also.append(_equals("request_id", wanted.request_id))
    if wanted.since_ms is not None:
        since = request_ids_from(wanted.since_ms)
        also.append(lambda columns: apart(columns.request_id) >= since)
    if wanted.until_ms is not None:
        end = request_ids_from(wanted.until_ms)
        also.append(lambda columns: apart(columns.request_id) < end)
    return Walk(usage.id, (usage.id > after, usage.id <= until, *owner), tuple(also))


def newest_usage(engine: Engine) -> int:
    """The number of the row that was settled last; 0 = there is none."""
    with engine.connect() as connection:
        return connection.execute(select(func.max(UsageRecord.id))).scalar() or 0


def charges_of(engine: Engine, request_id: str) -> list[Row[Any]]:
    """What budgets were charged for a call."""
    table = LedgerEntry.__table__
    mine = (table.c.request_id == request_id, table.c.account == "budget")
    with engine.connect() as connection:
        return list(connection.execute(select(table).where(*mine).order_by(table.c.id).limit(CHARGES)))


def refusal_walk(wanted: Mapping[str, Any], since_ms: int | None) -> Walk:
    """The way through the refused calls; `wanted` is column and value. Of one user or key there is an index."""
    table = Refusal
    indexed = {"key_id": table.key_id, "user_id": table.user_id, "request_id": table.request_id}
    where = [indexed[name] == value for name, value in wanted.items() if name in indexed]
    also = [_equals(name, value) for name, value in wanted.items() if name not in indexed]
    if since_ms is not None:
        since = request_ids_from(since_ms)
        also.append(lambda columns: apart(columns.request_id) >= since)
    return Walk(table.id, tuple(where), tuple(also))


def ledger_walk(request_id: str, accounts: Sequence[tuple[str, int]], kind: str) -> Walk:
    """The way through the ledger. Only a request id has an index of its own."""
    entry = LedgerEntry
    also: list[Also] = [_is_account(account, number) for account, number in accounts]
    if kind:
        also.append(_equals("kind", kind))
    return Walk(entry.id, (entry.request_id == request_id,) if request_id else (), tuple(also))


def audit_walk(wanted: Mapping[str, str], search: str = "") -> Walk:
    """The way through the audit log; `wanted` is column and value, `search` a part of an action or of a resource."""
    also = [_equals(name, value) for name, value in wanted.items()]
    if search:
        also.append(lambda found: _contains(search, found.action, found.resource_type, found.resource_id))
    return Walk(AuditEntry.id, also=tuple(also))


def latest_calls(
    engine: Engine, size: int, *, user_id: int | None = None, key_id: int | None = None, team_id: int | None = None
) -> list[Row[Any]]:
    """The latest calls of everybody, or of one user, key or team."""
    return read_page(engine, usage_walk(UsageFilter(user_id, key_id, team_id)), size=size).rows


def names(engine: Engine, users: Iterable[int], keys: Iterable[int | None], teams: Iterable[int | None] = ()) -> Names:
    """The names of these users, keys and teams, in one statement."""
    wanted = [{number for number in numbers if number is not None} for numbers in (users, keys, teams)]
    none = literal(None, String)
    columns = ((User.id, User.username, none), (ApiKey.id, ApiKey.name, ApiKey.hint), (Team.id, Team.name, none))
    parts = [
        select(
            literal(place).label("place"), *(one.label(label) for one, label in zip(row, LABELS, strict=True))
        ).where(row[0].in_(numbers))
        for place, (row, numbers) in enumerate(zip(columns, wanted, strict=True))
        if numbers
    ]
    found: list[list[Any]] = [[], [], []]
    if parts:
        with engine.connect() as connection:
            for row in connection.execute(union_all(*parts)):
                found[row.place].append(row)
    return Names(
        {row.id: row.name for row in found[0]},
        {row.id: (row.name, row.hint) for row in found[1]},
        {row.id: row.name for row in found[2]},
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


def apart(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The value of a column, of which no index knows: a walk goes by its key, and sorts nothing."""
    return column + 0 if isinstance(column.type, Integer) else column.concat("")


def _equals(name: str, value: object) -> Also:
    return lambda columns: apart(columns[name]) == value


def _contains(search: str, *columns: ColumnElement[Any]) -> Condition:
    return or_(*(column.icontains(search, autoescape=True) for column in columns))


def _is_account(account: str, number: int) -> Also:
    return lambda columns: (apart(columns.account) == account) & (apart(columns.account_id) == number)


def _ordered(column: Any, *, is_back: bool) -> Any:
    return column.asc() if is_back else column.desc()


def _found(walk: Walk, limits: tuple[Condition, ...], end: Cursor | None, size: int, *, is_back: bool) -> Select[Any]:
    """The rows of a page; `end`: where the walk stops.

    With a bound SQLite stops at the last row that is wanted; of a limited subquery it would read all rows. What else
    is wanted must be kept `apart` from indexes, or a database may find by one of them and sort.
    """
    also = [condition(walk.table.c) for condition in walk.also]
    if end is not None:
        also.append(walk.key <= end if is_back else walk.key >= end)
    rows = select(*(walk.columns or (walk.table,))).where(*limits, *also)
    return rows.order_by(_ordered(walk.key, is_back=is_back)).limit(size)


def _end_of_walk(connection: Connection, walk: Walk, limits: tuple[Condition, ...], *, is_back: bool) -> Cursor | None:
    """The last of the first WALK rows; None = there are fewer, and a page may see them all."""
    query = select(walk.key).where(*limits).order_by(_ordered(walk.key, is_back=is_back)).offset(WALK - 1).limit(1)
    found: Cursor | None = connection.execute(query).scalar()
    return found
