"""Usage rows added up by hour and by day, beside the calls.

Nothing is added up when a call is booked. A job takes the rows that have come since, in the order of their numbers and
a few at a time: their sums, and the number it got to, are stored in one transaction, so that a row is added exactly
once, however the worker ends. Whoever reads adds the rows after that number (`services/activity.py`).

On Postgres a number is given before its row can be seen, so a smaller one may turn up after a larger one. The job
notes the newest number and who is writing to `usage` at that moment; it goes up to that number once all of those have
ended. That needs no guess about how long a transaction can last. SQLite has one writer at a time.

A row that is written anew after it was added up (a worker's late report of a call that was booked in its place) has
left a note by a trigger: what it was, to be taken off, and what it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    ColumnElement,
    Connection,
    Engine,
    Select,
    String,
    Subquery,
    Table,
    TextClause,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from models import UsageRecord
from models_rollups import DelaySpan, ModelSpan, OwnerSpan, RollupState, UsageChange
from services import delays
from services.reports import FINE
from utils import clock

HOUR, DAY = 1, 24  # lengths of spans
SPANS: Final = (HOUR, DAY)
HOUR_S: Final = 3600
DAY_S: Final = DAY * HOUR_S
CHUNK: Final = 500  # rows of one transaction, which takes some 10 ms
PAUSE_S: Final = 0.05  # in which others may write
SERIALIZATION_FAILURE: Final = "40001"
Number = int | ColumnElement[int]

COPIED: Final = tuple(
    column.key for column in UsageChange.__table__.columns if column.key not in {"id", "usage_id", "sign"}
)
WRITERS: Final = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = 'usage'::regclass AND mode = 'RowExclusiveLock' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rows of one table of sums are made of usage rows."""

    table: Table
    is_delay: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key without the span."""
        return tuple(column.name for column in self.table.primary_key if not column.name.startswith("span_"))

    @property
    def sums(self) -> tuple[str, ...]:
        """What is added up."""
        return tuple(column.name for column in self.table.columns if not column.primary_key)


MODELS: Final = Shape(ModelSpan.__table__)  # type: ignore[arg-type]  # of a declared class it is a Table
OWNERS: Final = Shape(OwnerSpan.__table__)  # type: ignore[arg-type]  # the same
DELAYS: Final = Shape(DelaySpan.__table__, is_delay=True)  # type: ignore[arg-type]  # the same
SHAPES: Final = (MODELS, OWNERS, DELAYS)
KEPT_HOURS_S: Final = {OWNERS.table: 3 * DAY_S, DELAYS.table: 200 * DAY_S}  # their days are kept


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection whose statements all see the same moment."""
    with engine.connect() as plain:
        if engine.dialect.name == "sqlite":
            plain.connection.cursor().execute("BEGIN")  # its driver begins none for reading
            yield plain
        else:
            yield plain.execution_options(isolation_level="REPEATABLE READ")


def state(connection: Connection) -> tuple[int, int]:
    """The newest row that is added up, and the newest one there is; 0 = none."""
    newest = select(func.coalesce(func.max(UsageRecord.id), 0)).scalar_subquery()
    row = connection.execute(select(RollupState.folded_id, newest)).one()
    return int(row[0]), int(row[1])


def rows(after: Number, upto: Number | None = None, *only: ColumnElement[bool]) -> Subquery:
    """Usage rows with a larger number, signed +1, and what notes say of the others; times in milliseconds."""
    usage, change = UsageRecord, UsageChange
    newer = and_(usage.id > after, usage.id <= upto if upto is not None else true(), *only)
    return union_all(
        select(_number(1).label("sign"), *_copied(usage)).where(newer),
        select(change.sign, *_copied(change)).where(change.usage_id <= after),
    ).subquery("rows")


def added_up(shape: Shape, found: Subquery, hours: int) -> list[Select[Any]]:
    """What a table of sums should get for these rows, in the order of its columns."""
    start = found.c.created_at // _number(hours * HOUR_S * 1000) * _number(hours * HOUR_S)
    spans = (_number(hours).label("span_hours"), start.label("span_start"))
    sign, is_fine = found.c.sign, or_(*(found.c.outcome == _word(name) for name in FINE))
    if shape.is_delay:
        first = is_fine & found.c.is_stream & found.c.first_byte_ms.is_not(None)
        kinds = (("duration", found.c.duration_ms, is_fine), ("first_byte", found.c.first_byte_ms, first))
        return [
            select(*spans, _word(name).label("metric"), placed.label("bucket"), func.sum(sign).label("calls"))
            .where(condition)
            .group_by(start, placed)
            for name, placed, condition in ((name, bucket(delay), condition) for name, delay, condition in kinds)
        ]
    keys = [func.coalesce(found.c[name], _nothing(shape.table, name)) for name in shape.keys]
    named = [key.label(name) for name, key in zip(shape.keys, keys, strict=True)]
    sums = {"calls": sign, "failed": case((is_fine, _number(0)), else_=sign)}
    sums |= {name: sign * func.coalesce(found.c[name], _number(0)) for name in shape.sums if name not in sums}
    added = (func.sum(sums[name]).label(name) for name in shape.sums)
    return [select(*spans, *named, *added).where(true()).group_by(start, *keys)]


@cache
def inserts(
    database: str, source: Callable[[], Subquery], hours: int, *, only_kept: bool = False
) -> tuple[TextClause, ...]:
    """The statements that add what a source gives to all tables of sums; its values are named, to be given each time.

    With `only_kept`, hours that would be forgotten at once are not made: the many of a gateway that adds up for the
    first time would leave a table of ten times its size behind. As text, since building them takes far longer than
    running them.
    """
    found = []
    for shape in SHAPES:
        given = source()
        queries = added_up(shape, given, hours)
        if only_kept and hours == HOUR and shape.table in KEPT_HOURS_S:
            is_kept = given.c.created_at >= bindparam(_since(shape.table), type_=BigInteger)
            queries = [query.where(is_kept) for query in queries]
        found += [adding(database, shape, query) for query in queries]
    return tuple(found)


def _since(table: Table) -> str:
    """The name of a value: from when on its hours are kept, in milliseconds."""
    return f"since_{table.name}"


def adding(database: str, shape: Shape, query: Select[Any]) -> TextClause:
    """The statement that adds the rows of a query to a table of sums."""
    kind = sqlite if database == "sqlite" else postgresql
    insert = kind.insert(shape.table).from_select(list(query.selected_columns.keys()), query)
    more = {name: shape.table.c[name] + insert.excluded[name] for name in shape.sums}
    added = insert.on_conflict_do_update(index_elements=list(shape.table.primary_key), set_=more)
    return as_text(database, added)


def as_text(database: str, statement: ClauseElement) -> TextClause:
    """A statement as text with the names of its values, so that nothing is built when it runs."""
    kind = sqlite if database == "sqlite" else postgresql
    return text(str(statement.compile(dialect=kind.dialect(paramstyle="named"))))


def new_rows() -> Subquery:
    """The rows of one transaction, by the values `after` and `upto`."""
    return rows(bindparam("after", type_=BigInteger), bindparam("upto", type_=BigInteger))


class Rollups:
    """See the module."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._noted: tuple[int, frozenset[str]] | None = None

    def fold(self) -> int:
        """Add up what has come since; returns how many rows. Of several workers that try, one does it."""
        newest, count = self.settled_id(), 0
        while (taken := self._step(newest)) is not None:
            count += taken
            clock.sleep(PAUSE_S)
        if count:
            self._forget_hours()
        return count

    def settled_id(self) -> int:
        """A number up to which all rows can be seen that there will ever be; see the module."""
        with self._engine.connect() as connection:
            newest = state(connection)[1]
            writing = frozenset(connection.scalars(WRITERS)) if connection.dialect.name == "postgresql" else frozenset()
        if not writing:
            self._noted = None
            return newest
        noted, before = self._noted or (0, frozenset())
        left = before & writing
        self._noted = (noted, left) if left else (newest, writing)
        return 0 if left else noted

    def _step(self, newest: int) -> int | None:
        """One transaction of adding up; returns its number of rows, or None when there is nothing to do here."""
        with self._engine.connect() as connection:
            if self._next(connection, newest) is None:
                return None
        try:
            with locked(self._engine) as (connection, is_ours):
                step = self._next(connection, newest) if is_ours else None
                if step is None:
                    return None
                after, upto, count = step
                values = {"after": after, "upto": upto}
                values |= {
                    _since(table): (int(clock.now_s()) - kept_s) * 1000 for table, kept_s in KEPT_HOURS_S.items()
                }
                kind = connection.dialect.name
                for statement in (one for hours in SPANS for one in inserts(kind, new_rows, hours, only_kept=True)):
                    connection.execute(statement, values)
                connection.execute(delete(UsageChange))
                connection.execute(update(RollupState).values(folded_id=upto))
                return count
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) == SERIALIZATION_FAILURE:  # another worker was quicker
                return None
            raise

    def _next(self, connection: Connection, newest: int) -> tuple[int, int, int] | None:
        """From where, up to where, and how many rows that is; None = nothing has come."""
        after = connection.scalar(select(RollupState.folded_id)) or 0
        some = select(UsageRecord.id).where(UsageRecord.id > after, UsageRecord.id <= newest)
        some_ids = some.order_by(UsageRecord.id).limit(CHUNK).subquery()
        last, count = connection.execute(select(func.max(some_ids.c.id), func.count())).one()
        has_changes = connection.scalar(select(UsageChange.id).limit(1)) is not None
        return (after, last or after, count) if last or has_changes else None

    def _forget_hours(self) -> None:
        """Remove the hours that no page needs any more."""
        now_s = int(clock.now_s())
        for table, kept_s in KEPT_HOURS_S.items():
            is_over = (table.c.span_hours == HOUR) & (table.c.span_start < now_s - kept_s)
            with self._engine.connect() as connection:
                if connection.scalar(select(table.c.span_start).where(is_over).limit(1)) is None:
                    continue
            with self._engine.begin() as connection:
                connection.execute(delete(table).where(is_over))


@contextmanager
def locked(engine: Engine) -> Iterator[tuple[Connection, bool]]:
    """A transaction that sees one moment and has the roll-ups for itself; False = somebody else has them now."""
    with engine.connect() as plain:
        if engine.dialect.name == "sqlite":
            connection = plain
            connection.execute(update(RollupState).values(folded_id=RollupState.folded_id))  # nobody else writes now
            is_ours = True
        else:
            connection = plain.execution_options(isolation_level="REPEATABLE READ")
            mine = select(RollupState.id).with_for_update(skip_locked=True)
            is_ours = connection.scalar(mine) is not None
        yield connection, is_ours
        connection.commit()


def _copied(entity: type[UsageRecord | UsageChange]) -> list[ColumnElement[Any]]:
    columns = entity.__table__.c
    return [
        type_coerce(columns[name], BigInteger).label(name) if name == "created_at" else columns[name] for name in COPIED
    ]


def _nothing(table: Table, name: str) -> ColumnElement[Any]:
    return _number(0) if isinstance(table.c[name].type, BigInteger) else _word("")


def bucket(delay: ColumnElement[Any]) -> ColumnElement[Any]:
    """See delays.bucket_of; whole numbers, and no function that one of the databases lacks."""
    ladder = [
        (
            delay < _number(2 << power),
            _number(delays.EXACT + (power - delays.FIRST_POWER) * delays.STEPS)
            + (delay - _number(1 << power)) // _number(1 << power - 4),
        )
        for power in range(delays.FIRST_POWER, delays.LAST_POWER + 1)
    ]
    return case((delay < _number(delays.EXACT), delay), *ladder, else_=_number(delays.bucket_of(delays.LONGEST_MS)))


# Constants in the text, not values beside it: what is grouped by must be the same expression wherever it stands.
def _number(value: int) -> ColumnElement[int]:
    return literal_column(str(value), BigInteger)


def _word(value: str) -> ColumnElement[str]:
    return literal_column(f"'{value}'", String)
