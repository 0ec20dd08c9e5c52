"""Proves that the roll-ups say what the usage rows say, and makes them anew where they do not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    String,
    Subquery,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from models import UsageRecord
from models_rollups import RollupState, UsageChange
from services.reports import request_ids_from
from services.rollups import (
    DAY,
    DAY_S,
    HOUR,
    HOUR_S,
    MODELS,
    SHAPES,
    Shape,
    added_up,
    adding,
    inserts,
    locked,
    rows,
    snapshot,
    state,
)
from utils import clock
from utils.progress import Tell, silent, told

PAUSE_S: Final = 0.02  # between the hours that are made anew, so that others may write
MARGIN_MS: Final = 300_000  # a call's id is made at most that long from the moment that is stored with it

Figures = dict[tuple[Any, ...], tuple[int, ...]]  # day and keys: sums


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared, and one line for each figure that differs."""

    days: int
    usage_rows: int
    later_rows: int  # that are not in the roll-ups yet
    differences: tuple[str, ...]


def verify(engine: Engine) -> Report:
    """Add up every usage row and compare, day by day and name by name, with the roll-ups and the rows after them.

    The first day is left out where there are roll-ups of earlier ones: some of its rows may have been removed.
    """
    differences: list[str] = []
    days: set[int] = set()
    calls = 0
    with snapshot(engine) as connection:
        (after, newest), first_s = state(connection), _first_day_s(connection) or 0
        for shape in SHAPES:
            direct = _figures(connection, shape, added_up(shape, rows(0), DAY), first_s)
            for hours in (DAY, HOUR) if shape is MODELS else (DAY,):
                sources = [shape.table.select().where(shape.table.c.span_hours == hours)]
                stored = _figures(connection, shape, [*sources, *added_up(shape, rows(after), hours)], first_s)
                differences += _differences(shape, "days" if hours == DAY else "hours", direct, stored)
            if shape is MODELS:
                days, calls = {key[0] for key in direct}, sum(sums[0] for sums in direct.values())
    return Report(len(days), calls, max(0, newest - after), tuple(differences))


def rebuild(engine: Engine, tell: Tell = silent) -> int:
    """Make the roll-ups anew of every day that usage still has in full, an hour at a time; returns how many days.

    Calls go on meanwhile, and so does adding up. A page that is read while an hour or a day is made still shows it.
    """
    with snapshot(engine) as connection:
        first_s = _first_day_s(connection)
    if first_s is None:
        return 0
    last_s = int(clock.now_s()) // DAY_S * DAY_S
    days = range(first_s, last_s + DAY_S, DAY_S)
    for day_s in told(days, len(days), tell):
        for hour_s in range(day_s, day_s + DAY_S, HOUR_S):
            _in_turn(engine, HOUR, hour_s)
            clock.sleep(PAUSE_S)
        _in_turn(engine, DAY, day_s)
    return len(days)


def _first_day_s(connection: Connection) -> int | None:
    """The first UTC day of which usage has every row; None = it has no rows."""
    oldest = select(type_coerce(UsageRecord.created_at, BigInteger)).order_by(UsageRecord.request_id).limit(1)
    began_ms = connection.scalar(oldest)
    if began_ms is None:
        return None
    day_s = int(began_ms) // 1000 // DAY_S * DAY_S
    c = MODELS.table.c
    earlier = select(c.span_start).where(c.span_hours == DAY, c.span_start < day_s, c.calls != 0).limit(1)
    return day_s if connection.scalar(earlier) is None else day_s + DAY_S


def _figures(connection: Connection, shape: Shape, sources: Iterable[Any], first_s: int) -> Figures:
    """The sums of all sources by day and keys; what comes to nothing is left out."""
    found: Figures = {}
    for row in connection.execute(union_all(*sources)):
        named = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
        day = int(named["span_start"]) // DAY_S * DAY_S
        key = (day, *(named[name] for name in shape.keys))
        sums = (int(named[name]) for name in shape.sums)
        if day >= first_s:
            found[key] = tuple(map(sum, zip(found.get(key, (0,) * len(shape.sums)), sums, strict=True)))
    return {key: sums for key, sums in found.items() if any(sums)}


def _differences(shape: Shape, spans: str, direct: Figures, stored: Figures) -> Iterator[str]:
    for key in sorted(direct.keys() | stored.keys()):
        nothing = (0,) * len(shape.sums)
        pairs = zip(shape.sums, direct.get(key, nothing), stored.get(key, nothing), strict=True)
        wrong = [f"{name} {found} instead of {right}" for name, right, found in pairs if right != found]
        if wrong:
            day, names = datetime.fromtimestamp(key[0], UTC), " ".join(map(repr, key[1:]))
            yield f"{shape.table.name}, {spans}, {day:%Y-%m-%d} {names}: {', '.join(wrong)}"


def _in_turn(engine: Engine, hours: int, start_s: int) -> None:
    """Make one span anew: an hour from its rows, a day from its hours. Waits until nobody else adds up."""
    is_done = False
    while not is_done:
        with locked(engine) as (connection, is_ours):
            if is_ours:
                for table in (shape.table for shape in SHAPES):
                    is_it = (table.c.span_hours == hours) & (table.c.span_start == start_s)
                    connection.execute(delete(table).where(is_it))
                (_fill_hour if hours == HOUR else _fill_day)(connection, start_s)
                is_done = True
        if not is_done:
            clock.sleep(PAUSE_S)


def _fill_hour(connection: Connection, start_s: int) -> None:
    start, end = start_s * 1000, (start_s + HOUR_S) * 1000
    connection.execute(delete(UsageChange).where(UsageChange.created_at >= start, UsageChange.created_at < end))
    values = {
        "upto": connection.scalar(select(RollupState.folded_id)),
        "start": start,
        "end": end,
        "first": request_ids_from(start - MARGIN_MS),
        "last": request_ids_from(end + MARGIN_MS),
    }
    for statement in inserts(connection.dialect.name, _rows_of_hour, HOUR):
        connection.execute(statement, values)


def _rows_of_hour() -> Subquery:
    """The rows of an hour that are added up already; by the values above."""
    began, number = type_coerce(UsageRecord.created_at, BigInteger), UsageRecord.request_id
    start, end, upto = (bindparam(name, type_=BigInteger) for name in ("start", "end", "upto"))
    near = (number >= bindparam("first", type_=String), number < bindparam("last", type_=String))
    return rows(literal_column("0"), upto, *near, began >= start, began < end)


def _fill_day(connection: Connection, start_s: int) -> None:
    for shape in SHAPES:
        connection.execute(adding(connection.dialect.name, shape, _day_of(shape)), {"start": start_s})


def _day_of(shape: Shape) -> Any:
    """The sums of the hours of the day that begins at the value `start`."""
    source, start = shape.table, bindparam("start", type_=BigInteger)
    keys = [source.c[name] for name in shape.keys]
    spans: list[Any] = [literal_column(str(DAY)).label("span_hours"), start.label("span_start")]
    is_hour = source.c.span_hours == literal_column(str(HOUR))
    is_in = is_hour & (source.c.span_start >= start) & (source.c.span_start < start + literal_column(str(DAY_S)))
    sums = (func.sum(source.c[name]).label(name) for name in shape.sums)
    return select(*spans, *keys, *sums).where(is_in).group_by(*keys)
