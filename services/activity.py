"""What goes through in a period, against the one before: from the roll-ups, and the rows that came after them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    FromClause,
    Select,
    TextClause,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)

from services.rollups import (
    DAY,
    DAY_S,
    DELAYS,
    HOUR,
    HOUR_S,
    MODELS,
    OWNERS,
    Shape,
    added_up,
    as_text,
    rows,
    snapshot,
    state,
)

MOST_ROWS: Final = 30_000  # that a page adds up itself
NOW, BEFORE = 1, 0
KEYS: Final = {MODELS: ("model", "provider"), OWNERS: ("user_id", "key_id"), DELAYS: ("metric", "bucket")}  # read


@dataclass(frozen=True, slots=True)
class Period:
    """Whole hours or whole UTC days, as unix seconds; `before_*` is what it is compared with, as long as its past."""

    start_s: int
    end_s: int
    hours: int  # of a span: 1 or 24
    before_s: int
    before_end_s: int

    @classmethod
    def of(cls, start_s: int, end_s: int, hours: int, now_s: float) -> "Period":
        """A period that may go on: it is compared with the one before, up to the same hour."""
        length, this_hour = end_s - start_s, (int(now_s) // HOUR_S + 1) * HOUR_S
        return cls(start_s, end_s, hours, start_s - length, max(start_s - length, min(end_s, this_hour) - length))

    @property
    def starts(self) -> range:
        """Where its spans begin."""
        return range(self.start_s, self.end_s, self.hours * HOUR_S)


@dataclass(frozen=True, slots=True)
class Sums:
    """What calls add up to."""

    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanousd: int = 0
    duration_ms: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls + other.calls,
            self.failed + other.failed,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_nanousd + other.cost_nanousd,
            self.duration_ms + other.duration_ms,
        )

    @property
    def tokens(self) -> int:
        """Both ways."""
        return self.input_tokens + self.output_tokens

    @property
    def failed_part(self) -> float | None:
        """The share of calls that failed; None = there was no call."""
        return self.failed / self.calls if self.calls else None


class Part(NamedTuple):
    """Spans of one length: from one start up to, not including, another."""

    hours: int
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Activity:
    """See `activity`. Rankings are by cost, then calls; `slots` has every span of the period, oldest first."""

    now: Sums
    before: Sums
    slots: Sequence[tuple[int, Mapping[str, Sums]]]  # start in unix seconds, and sums by model
    models: Sequence[tuple[str, Sums]]
    users: Sequence[tuple[int, Sums]]
    keys: Sequence[tuple[int, Sums]]
    providers: Mapping[str, Sums]
    delays: Mapping[tuple[int, str], Mapping[int, int]]  # NOW or BEFORE and metric: calls by bucket
    behind: int  # about so many of the latest calls are in nothing of this, since the roll-ups have not got to them yet


def activity(engine: Engine, period: Period) -> Activity:
    """All sums of a period in four statements that see the same moment."""
    now = [Part(period.hours, period.start_s, period.end_s)]
    before = list(parts(period.before_s, period.before_end_s))
    with snapshot(engine) as connection:
        folded, newest = state(connection)
        after = None if newest - folded > MOST_ROWS else folded
        models = read_sums(connection, MODELS, after, now, before)
        owners = read_sums(connection, OWNERS, after, now, [])
        delays = read_sums(connection, DELAYS, after, now, before)
    by_model = [(which, start, model, provider, Sums(*sums)) for which, start, model, provider, *sums in models]
    recent = [row[1:] for row in by_model if row[0] == NOW]
    by_delay: dict[tuple[int, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for which, _start, metric, bucket, calls in delays:
        by_delay[which, metric][bucket] += calls
    of_owners = [(user, key, Sums(*sums)) for _which, _start, user, key, *sums in owners]
    return Activity(
        sum((row[-1] for row in recent), Sums()),
        sum((row[-1] for row in by_model if row[0] == BEFORE), Sums()),
        _slots(period, recent),
        _ranked((model, sums) for _start, model, _provider, sums in recent),
        _ranked((user, sums) for user, _key, sums in of_owners),
        _ranked((key, sums) for _user, key, sums in of_owners if key),
        dict(_ranked((provider, sums) for _start, _model, provider, sums in recent if provider)),
        by_delay,
        newest - folded if after is None else 0,
    )


def parts(start_s: int, end_s: int) -> Iterable[Part]:
    """A stretch of whole hours as days, with the hours at its ends that make no day."""
    first_day, last_day = -(-start_s // DAY_S) * DAY_S, end_s // DAY_S * DAY_S
    if first_day >= last_day:
        return (Part(HOUR, start_s, end_s),)
    found = (Part(HOUR, start_s, first_day), Part(DAY, first_day, last_day), Part(HOUR, last_day, end_s))
    return (part for part in found if part.start_s < part.end_s)


def read_sums(
    connection: Connection, shape: Shape, after: int | None, now: Sequence[Part], before: Sequence[Part]
) -> list[tuple[Any, ...]]:
    """Of sums, and of rows after a number: which (NOW or BEFORE), start of the span (of NOW, by model), keys and sums.

    A key may come more than once.
    """
    wanted = [*((NOW, part) for part in now), *((BEFORE, part) for part in before)]
    lengths = tuple((which, part.hours) for which, part in wanted)
    values = {f"start_{place}": part.start_s for place, (_which, part) in enumerate(wanted)}
    values |= {f"end_{place}": part.end_s for place, (_which, part) in enumerate(wanted)}
    statement = _statement(connection.dialect.name, shape, lengths, with_rows=after is not None)
    found = connection.execute(statement, values if after is None else values | {"after": after})
    return [tuple(value if isinstance(value, str) else int(value) for value in row) for row in found]


@cache
def _statement(database: str, shape: Shape, lengths: tuple[tuple[int, int], ...], *, with_rows: bool) -> TextClause:
    """The sums of these parts, each NOW or BEFORE and of spans of so many hours.

    As text, since building it takes longer than running it.
    """
    branches = []
    for place, (which, hours) in enumerate(lengths):
        sources: list[FromClause] = [shape.table]
        if with_rows:
            newer = rows(bindparam("after", type_=BigInteger))
            sources += (query.subquery() for query in added_up(shape, newer, hours))
        branches += [_summed(source, shape, which, hours, place) for source in sources]
    return as_text(database, union_all(*branches))


def _summed(source: FromClause, shape: Shape, which: int, hours: int, place: int) -> Select[Any]:
    own = [source.c.span_start] if which == NOW and shape is MODELS else []
    by = [*own, *(source.c[name] for name in KEYS[shape])]
    start, end = (bindparam(f"{name}_{place}", type_=BigInteger) for name in ("start", "end"))
    return (
        select(
            literal_column(str(which)),
            own[0] if own else literal_column("0"),
            *(source.c[name] for name in KEYS[shape]),
            *(func.sum(source.c[name]) for name in shape.sums),
        )
        .where(source.c.span_hours == literal_column(str(hours)))
        .where(source.c.span_start >= start, source.c.span_start < end)
        .group_by(*by)
    )


def _slots(period: Period, recent: Iterable[tuple[Any, ...]]) -> list[tuple[int, Mapping[str, Sums]]]:
    slots: dict[int, dict[str, Sums]] = {start: {} for start in period.starts}
    for start, model, _provider, sums in recent:
        slots[start][model] = slots[start].get(model, Sums()) + sums
    return list(slots.items())


def _ranked(found: Iterable[tuple[Any, Sums]]) -> list[tuple[Any, Sums]]:
    totals: dict[Any, Sums] = {}
    for name, sums in found:
        totals[name] = totals.get(name, Sums()) + sums
    some = ((name, sums) for name, sums in totals.items() if sums.calls)
    return sorted(some, key=lambda pair: (-pair[1].cost_nanousd, -pair[1].calls, pair[0]))
