"""What calls add up to in spans of any length, by model, key, user or custom id.

A table of sums answers for the hours or days that lie within one span of the report; what is left at the edges, and
whatever the sums do not know, is added up from usage rows. Rows that are not in the sums yet are added too, so the
figures are exact.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    bindparam,
    case,
    func,
    literal_column,
    select,
    type_coerce,
    union_all,
)

from models import UsageRecord
from services import matching, rollups
from services.activity import Part, Sums, parts, read_sums
from services.delays import percentile_ms
from services.errors import AccountingUnavailable, TooMuch
from services.matching import Wanted
from services.reports import FINE, apart
from services.rollups import DAY_S, DELAYS, HOUR_S, KEPT_HOURS_S, MODELS, OWNERS, Shape
from utils import clock

MOST_POINTS: Final = 10_000  # of an answer
MOST_EDGES: Final = 100  # stretches between whole hours or days that are added up from rows
MOST_BEHIND: Final = 200_000  # rows that are not in the sums yet and may be added for an answer
MOST_DELAYS: Final = 200_000  # the newest calls, of which percentiles are found where no sum has them
SUMMED: Final = ("calls", "failed", "input_tokens", "output_tokens", "cost_nanousd", "duration_ms")
BY: Final = {MODELS: {"model"}, OWNERS: {"key_id", "user_id"}}  # what they can tell apart
EMPTY: Final[dict[str, Any]] = {"model": "", "key_id": 0, "user_id": 0, "custom_id": ""}

Stretch = tuple[int, int]  # unix seconds, the end not included


@dataclass(frozen=True, slots=True)
class Point:
    """What the calls of a span, and of one value of each of `by`, add up to."""

    start_s: int
    by: tuple[Any, ...]
    sums: Sums


def points(connection: Connection, wanted: Wanted, step_s: int, by: Sequence[str]) -> list[Point]:
    """Spans of that many seconds in which there was a call, oldest first. The connection sees one moment.

    Raises:
        TooMuch: there are more than MOST_POINTS, or too many rows would be read.
        AccountingUnavailable: the sums are too far behind.
    """
    span = (wanted.start_ms // 1000, wanted.end_ms // 1000)
    shape = _shape(wanted, by)
    left = [span] if shape is None else edges(span, step_s, _grain_s(shape, span, step_s))
    if len(left) > MOST_EDGES or left == [span]:
        shape, left = None, [span]
    found: list[Select[Any]] = []
    if shape is not None:
        whole = [Part(_grain_s(shape, span, step_s) // HOUR_S, *span)]
        if shape is OWNERS and (hours := _hours(span, step_s, left)):
            whole.append(hours)
            begin, end = left.pop()
            left += [one for one in ((begin, hours.start_s), (hours.end_s, end)) if one[0] < one[1]]
        for part in whole:
            found += _of_sums(connection, shape, wanted, step_s, by, part)
    column = _column(connection, wanted, left)
    if left:
        found.append(_of_rows(wanted, left, column, step_s, by))
    rows = union_all(*found).subquery()
    keys = [rows.c.start, *(rows.c[name] for name in by)]
    query = select(*keys, *(func.sum(rows.c[name]) for name in SUMMED)).group_by(*keys).order_by(*keys)
    got = connection.execute(query.having(func.sum(rows.c.calls) > 0).limit(MOST_POINTS + 1)).all()
    if len(got) > MOST_POINTS:
        raise TooMuch(f"There are more than {MOST_POINTS:,} data points; {matching.NARROWER}, or for longer spans.")
    return [Point(int(row[0]), tuple(row[1 : 1 + len(by)]), Sums(*map(int, row[1 + len(by) :]))) for row in got]


def percentiles_ms(connection: Connection, wanted: Wanted, *wanted_parts: float) -> list[float]:
    """How long the calls took that did not fail: each part of them at most so long; 0 = there was none."""
    calls: dict[int, int] = {}
    for bucket, count in _delays(connection, wanted):
        calls[bucket] = calls.get(bucket, 0) + count
    return [percentile_ms(calls, part) or 0.0 for part in wanted_parts]


def edges(span: Stretch, step_s: int, grain_s: int) -> list[Stretch]:
    """The stretches of a span that lie in no whole grain within one step."""
    (start, end), found = span, list[Stretch]()
    if step_s < grain_s:
        return [span]
    for begin in range(start, end, step_s):
        until = min(begin + step_s, end)
        first, last = -(-begin // grain_s) * grain_s, until // grain_s * grain_s
        for one in ((begin, first), (last, until)) if first < last else ((begin, until),):
            if one[0] == one[1]:
                continue
            if found and found[-1][1] == one[0]:
                found[-1] = (found[-1][0], one[1])
            else:
                found.append(one)
    return found


def behind(connection: Connection) -> int:
    """The newest row that is in the sums.

    Raises:
        AccountingUnavailable: too many came after it.
    """
    folded, newest = rollups.state(connection)
    if newest - folded > MOST_BEHIND:
        raise AccountingUnavailable(
            f"The sums behind reports are being made anew; {newest - folded:,} calls are not in them yet."
        )
    return folded


def _shape(wanted: Wanted, by: Sequence[str]) -> Shape | None:
    """The sums that can tell what is wanted; None = none of them."""
    if wanted.has_more or wanted.custom_ids is not None:
        return None
    if set(by) <= BY[MODELS] and not wanted.has_owners:
        return MODELS
    return OWNERS if set(by) <= BY[OWNERS] else None


def _grain_s(shape: Shape, span: Stretch, step_s: int) -> int:
    """The longest spans that leave no edges; hours of owners are kept for a few days only."""
    is_by_day = not (span[0] % DAY_S or span[1] % DAY_S or step_s % DAY_S)
    return DAY_S if is_by_day or shape is OWNERS else HOUR_S


def _hours(span: Stretch, step_s: int, left: Sequence[Stretch]) -> Part | None:
    """The whole hours of the last stretch that is left, where hours of owners are kept still."""
    if not left:
        return None
    (begin, end), kept_from = left[-1], int(clock.now_s()) - KEPT_HOURS_S[OWNERS.table] + DAY_S
    first, last = -(-begin // HOUR_S) * HOUR_S, end // HOUR_S * HOUR_S
    is_in_one_step = (begin - span[0]) // step_s == (end - 1 - span[0]) // step_s
    return Part(rollups.HOUR, first, last) if kept_from <= first < last and is_in_one_step else None


def _of_sums(
    connection: Connection, shape: Shape, wanted: Wanted, step_s: int, by: Sequence[str], part: Part
) -> list[Select[Any]]:
    """The sums of whole spans of the part within a step each, and of rows that came after."""
    start, grain_s = wanted.start_ms // 1000, part.hours * HOUR_S
    newer = rollups.rows(bindparam("after", behind(connection), BigInteger))
    sources: list[FromClause] = [shape.table, *(one.subquery() for one in rollups.added_up(shape, newer, part.hours))]
    found = []
    for source in sources:
        begin = source.c.span_start
        step = (begin - start) // step_s
        query = select(
            (start + step * step_s).label("start"),
            *(source.c[name] for name in by),
            *(source.c[name] for name in SUMMED),
        ).where(
            source.c.span_hours == part.hours,
            begin >= part.start_s,
            begin <= part.end_s - grain_s,
            step == (begin + (grain_s - 1) - start) // step_s,
        )
        for name, values in (("key_id", wanted.keys), ("user_id", wanted.users)):
            if values is not None:
                query = query.where(matching.among(source.c[name], values))
        found.append(query)
    return found


def _column(connection: Connection, wanted: Wanted, left: Sequence[Stretch]) -> str:
    """The column to find rows by: where only edges are left, the time."""
    whole = (wanted.start_ms // 1000, wanted.end_ms // 1000)
    if not left or left[0] != whole:
        return matching.TIME
    column, count = matching.cheapest(connection, wanted)
    matching.check_read(count)
    return column


def _of_rows(wanted: Wanted, stretches: Iterable[Stretch], column: str, step_s: int, by: Sequence[str]) -> Select[Any]:
    """What the usage rows of these stretches add up to, each by itself: one condition of many would read all rows."""
    usage, start = UsageRecord, wanted.start_ms // 1000
    columns = (
        type_coerce(usage.created_at, BigInteger).label("moment"),
        *(getattr(usage, name) for name in by),
        *(usage.outcome, usage.input_tokens, usage.output_tokens, usage.cost_nanousd, usage.duration_ms),
    )
    rows = union_all(
        *(
            select(*columns).where(
                *matching.conditions(replace(wanted, start_ms=first * 1000, end_ms=last * 1000), column)
            )
            for first, last in stretches
        )
    ).subquery()
    step = (rows.c.moment - start * 1000) // (step_s * 1000)
    one, none = literal_column("1", BigInteger), literal_column("0", BigInteger)
    return select(
        (start + step * step_s).label("start"),
        *(func.coalesce(rows.c[name], _nothing(name)).label(name) for name in by),
        one.label("calls"),
        case((rows.c.outcome.in_(FINE), none), else_=one).label("failed"),
        *(func.coalesce(rows.c[name], none).label(name) for name in SUMMED[2:]),
    )


def _nothing(name: str) -> ColumnElement[Any]:
    empty = EMPTY[name]
    return literal_column("''" if empty == "" else str(empty))


def _delays(connection: Connection, wanted: Wanted) -> Iterable[tuple[int, int]]:
    """Buckets of delays and how many calls are in them; a bucket may come more than once."""
    if not wanted.is_all:
        column, count = matching.cheapest(connection, wanted, MOST_DELAYS)
        matching.check_read(count)
        yield from _delays_of_rows(connection, wanted, column, MOST_DELAYS)
        return
    start, end = wanted.start_ms // 1000, wanted.end_ms // 1000
    whole = [part for part in _whole(start, end) if part.start_s < part.end_s]
    if whole:
        for _which, _start, metric, bucket, calls in read_sums(connection, DELAYS, behind(connection), whole, []):
            if metric == "duration":
                yield bucket, calls
    for first, last in _between(whole, start, end):
        edge = replace(wanted, start_ms=first * 1000, end_ms=last * 1000)
        yield from _delays_of_rows(connection, edge, matching.TIME, None)


def _whole(start: int, end: int) -> list[Part]:
    """The whole hours and days of a stretch; of hours only those that are kept."""
    kept_from = int(clock.now_s()) - KEPT_HOURS_S[DELAYS.table] + DAY_S
    first, last = -(-start // HOUR_S) * HOUR_S, end // HOUR_S * HOUR_S
    found = parts(first, last) if first < last else ()
    return [part for part in found if part.hours == rollups.DAY or part.start_s >= kept_from]


def _between(whole: Sequence[Part], start: int, end: int) -> Iterable[Stretch]:
    """What of a stretch lies in none of these parts."""
    for part in whole:
        if start < part.start_s:
            yield start, part.start_s
        start = part.end_s
    if start < end:
        yield start, end


def _delays_of_rows(connection: Connection, wanted: Wanted, column: str, most: int | None) -> Iterable[tuple[int, int]]:
    usage = UsageRecord
    found = select(usage.duration_ms).where(usage.outcome.in_(FINE), *matching.conditions(wanted, column))
    if most is not None:
        order: Any = usage.request_id if column == matching.TIME else apart(usage.__table__.c.request_id)
        found = found.order_by(order.desc()).limit(most)
    rows = found.subquery()
    placed = select(rollups.bucket(rows.c.duration_ms).label("bucket")).subquery()
    for row in connection.execute(select(placed.c.bucket, func.count()).group_by(placed.c.bucket)):
        yield int(row[0]), int(row[1])
