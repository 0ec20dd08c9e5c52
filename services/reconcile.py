"""Compares what we booked with what a provider says: by day and upstream model, and altogether."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from models import Provider, UsageRecord
from services.errors import InvalidRequest, NotFound
from services.invoices import Figures, Statement
from utils import money

# Rows of calls that no provider took or answered are void: it does not know of them either.
OURS: Final = text("""
SELECT created_at / 86400000, COALESCE(upstream_model, ''), SUM(cost_nanousd), SUM(COALESCE(input_tokens, 0)),
  SUM(COALESCE(output_tokens, 0)), COUNT(*)
FROM usage
WHERE created_at >= :since_ms AND created_at < :until_ms AND state <> 'void'
  AND (:provider = '' OR provider = :provider)
GROUP BY 1, 2""")
DATED: Final = re.compile(r"[-@:]\d{4}-?\d{2}-?\d{2}$")
NAMED: Final = 20  # days or models that a note lists
DAY: Final = timedelta(days=1)
EPOCH: Final = date(1970, 1, 1)
DAY_MS: Final = 86_400_000
HEAD: Final = ("day", "model", "what", "ours", "theirs", "difference", "%")

Sums = dict[tuple[date, str], Figures]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure on both sides. Cost in nano-USD."""

    day: date | None  # None: altogether
    model: str
    what: str  # one of invoices.MEASURES
    ours: int
    theirs: int
    is_within: bool  # the tolerance

    @property
    def percent(self) -> Decimal | None:
        """By how much of theirs we differ; None = they have nothing."""
        return Decimal(self.ours - self.theirs) * 100 / self.theirs if self.theirs else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it; `notes` are lines for people."""

    first: date
    last: date
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    tolerance: Decimal
    bad_lines: int

    @property
    def beyond(self) -> int:
        """How many figures differ by more than the tolerance."""
        return sum(not line.is_within for line in self.lines)

    @property
    def agrees(self) -> bool:
        """Whether all figures do, and all of the file was understood."""
        return not self.beyond and not self.bad_lines


def compare(
    engine: Engine,
    statement: Statement,
    *,
    provider: str = "",
    first: date | None = None,
    last: date | None = None,
    tolerance: Decimal,
) -> Comparison:
    """Ours and theirs on the days of the statement, or on those given. `tolerance` in percent of their figure.

    Raises:
        NotFound: no provider of that name, now or in the books.
        InvalidRequest: there is nothing to compare on these days.
    """
    days = [day for day, _model in statement.sums]
    first, last = first or min(days), last or max(days)
    if first > last:
        raise InvalidRequest(f"There is no day from {first} to {last}.", param="to")
    theirs = {key: figures for key, figures in statement.sums.items() if first <= key[0] <= last}
    ours = _ours(engine, provider, first, last, by_model=statement.has_models)
    if not ours and not theirs:
        raise InvalidRequest(f"Neither side has anything from {first} to {last}.", param="from")
    called = _called({model for _day, model in ours}, {model for _day, model in theirs})
    ours, theirs = _renamed(ours, called), _renamed(theirs, called)
    lines = [
        _line(day, model, what, ours.get((day, model)), theirs.get((day, model)), tolerance)
        for day, model in sorted(ours.keys() | theirs.keys())
        for what in statement.measures
    ]
    totals = (_summed(ours), _summed(theirs))
    lines += [_line(None, "", what, *totals, tolerance) for what in statement.measures]
    unsaid = statement.bad_lines - len(statement.complaints)
    notes = [*statement.complaints, *([f"and {unsaid:,} more lines that cannot be used"] if unsaid else [])]
    notes += _one_sided("day", [{str(day) for day, _model in sums} for sums in (ours, theirs)])
    if statement.has_models:
        notes += _one_sided("model", [{model for _day, model in sums} for sums in (ours, theirs)])
    return Comparison(first, last, tuple(lines), tuple(notes), tolerance, statement.bad_lines)


def percent(given: str) -> Decimal:
    """A tolerance as people write it.

    Raises:
        InvalidRequest: no number from 0 to 100.
    """
    try:
        found = Decimal(given.removesuffix("%"))
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 <= found <= 100:  # noqa: PLR2004 - percent
        raise InvalidRequest(f"`{given}` is not a percentage from 0 to 100.", param="tolerance")
    return found


def table(found: Comparison) -> Iterator[str]:
    """The comparison in lines of text."""
    rows = [HEAD, *(_cells(line) for line in found.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        yield "  ".join([*left, *right]).rstrip()
    yield from found.notes
    span = f"from {found.first} to {found.last}"
    if found.agrees:
        yield f"All {len(found.lines):,} figures {span} agree within {found.tolerance}%."
    else:
        yield (
            f"{found.beyond:,} of {len(found.lines):,} figures {span} differ by more than {found.tolerance}%; "
            f"{found.bad_lines:,} lines cannot be used."
        )


def _ours(engine: Engine, provider: str, first: date, last: date, *, by_model: bool) -> Sums:
    with Session(engine) as session:
        known = select(Provider.id).where(Provider.name == provider)
        booked = select(UsageRecord.id).where(UsageRecord.provider == provider).limit(1)
        if provider and session.scalar(known) is None and session.scalar(booked) is None:
            raise NotFound(f"There is no provider `{provider}`.", param="provider")
        span = {"since_ms": _ms(first), "until_ms": _ms(last + DAY), "provider": provider}
        sums: Sums = {}
        for day, model, *figures in session.execute(OURS, span):
            key = (datetime.fromtimestamp(day * DAY_MS // 1000, UTC).date(), model if by_model else "")
            _add(sums.setdefault(key, Figures()), *figures)
    return sums


def _ms(day: date) -> int:
    return (day - EPOCH).days * DAY_MS


def _add(sums: Figures, nanousd: Any, input_tokens: Any, output_tokens: Any, requests: Any) -> None:
    sums.cost += money.usd(int(nanousd))
    sums.input_tokens += int(input_tokens)
    sums.output_tokens += int(output_tokens)
    sums.requests += int(requests)


def _called(ours: set[str], theirs: set[str]) -> dict[str, str]:
    """Under which name each model is compared.

    Providers bill `gpt-4o-2024-08-06` for what was sent as `gpt-4o`, or the other way round: names that differ only in
    a date or in what stands before a slash are one model, unless both sides have the same of them.
    """
    bases: dict[str, tuple[set[str], set[str]]] = {}
    for side, names in enumerate((ours, theirs)):
        for name in names:
            bases.setdefault(_base(name), (set(), set()))[side].add(name)
    return {name: name if mine == yours else base for base, (mine, yours) in bases.items() for name in mine | yours}


def _base(name: str) -> str:
    return DATED.sub("", name.rpartition("/")[2])


def _renamed(sums: Sums, called: dict[str, str]) -> Sums:
    found: Sums = {}
    for (day, model), figures in sums.items():
        _join(found.setdefault((day, called[model]), Figures()), figures)
    return found


def _summed(sums: Sums) -> Figures:
    found = Figures()
    for figures in sums.values():
        _join(found, figures)
    return found


def _join(one: Figures, other: Figures) -> None:
    one.cost += other.cost
    one.input_tokens += other.input_tokens
    one.output_tokens += other.output_tokens
    one.requests += other.requests


def _line(
    day: date | None, model: str, what: str, ours: Figures | None, theirs: Figures | None, tolerance: Decimal
) -> Line:
    mine, yours = _value(ours, what), _value(theirs, what)
    return Line(day, model, what, mine, yours, abs(mine - yours) * 100 <= tolerance * abs(yours))


def _value(figures: Figures | None, what: str) -> int:
    if figures is None:
        return 0
    if what == "cost":
        return int((figures.cost * money.NANO_PER_USD).to_integral_value(ROUND_HALF_UP))
    return int(getattr(figures, what))


def _one_sided(kind: str, sides: list[set[str]]) -> Iterator[str]:
    """Days or models that only one side has at all."""
    mine, yours = sides
    for whose, names in (("we have", mine - yours), ("the provider has", yours - mine)):
        if names:
            first = [name or "(no name)" for name in sorted(names)[:NAMED]]
            more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            yield f"Only {whose} the {kind}{'s' if len(names) > 1 else ''} {', '.join(first)}{more}."


def _cells(line: Line) -> tuple[str, ...]:
    show = money.show_usd if line.what == "cost" else "{:,}".format
    percent = "-" if line.percent is None else f"{line.percent:.2f}"
    return (
        "total" if line.day is None else str(line.day),
        line.model,
        line.what,
        show(line.ours),
        show(line.theirs),
        show(line.ours - line.theirs),
        percent if line.is_within else f"{percent} !",
    )
