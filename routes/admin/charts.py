"""Figures as drawings: stacked bars over time. The template draws them; here is only where everything stands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from babel.dates import format_skeleton
from flask_babel import get_locale

from services.activity import Sums

DAY: Final = timedelta(days=1)
HEIGHT: Final = 100
BAR_WIDTH: Final = 10
GAP: Final = 3
MOST_SERIES: Final = 6  # colours that can be told apart; whatever is left is drawn as one
MOST_TICKS: Final = 6
NICE_TOPS: Final = (4, 6, 8, 10, 12, 16, 20, 30)  # times a power of ten; even, since the middle is labelled too


@dataclass(frozen=True, slots=True)
class Bar:
    """One span of time: its place, what it comes to, and the part of each series."""

    start: datetime
    x: int
    sums: Sums
    values: tuple[int, ...]

    @property
    def value(self) -> int:
        """The height of the bar, in the chart's unit."""
        return sum(self.values)


@dataclass(frozen=True, slots=True)
class Series:
    """One colour: of a model, or of all that have none of their own (`name` None). `path` is what SVG draws."""

    name: str | None
    value: int
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, and the value that the top of the chart stands for: nano-USD, or calls when nothing cost anything."""

    bars: tuple[Bar, ...]
    series: tuple[Series, ...]
    top: int
    width: int
    is_money: bool

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Where the axis is labelled, in percent of the width, and with what: days, or hours where all is one day."""
        step = -(-len(self.bars) // MOST_TICKS)
        is_short = len(self.bars) > 1 and self.bars[1].start - self.bars[0].start < DAY
        return [
            (
                round((bar.x + BAR_WIDTH / 2) / self.width * 100, 2),
                f"{bar.start:%H:%M}" if is_short else _day(bar.start),
            )
            for bar in self.bars[::step]
        ]


def stacked(slots: Sequence[tuple[int, Mapping[str, Sums]]], ranking: Sequence[tuple[str, Sums]]) -> Chart:
    """Cost by span and model; calls instead where all of it was free."""
    is_money = any(sums.cost_nanousd for _model, sums in ranking)
    value_of: Callable[[Sums], int] = (lambda sums: sums.cost_nanousd) if is_money else (lambda sums: sums.calls)
    named = [model for model, sums in ranking[:MOST_SERIES] if value_of(sums)]
    has_rest = any(value_of(sums) for model, sums in ranking if model not in named)
    bars = tuple(_bar(place, start, found, named, value_of) for place, (start, found) in enumerate(slots))
    top = nice_top(max((bar.value for bar in bars), default=0))
    names: list[str | None] = [*named, *([None] if has_rest else [])]
    series = tuple(
        Series(name, sum(bar.values[place] for bar in bars), _path(bars, place, top))
        for place, name in enumerate(names)
    )
    return Chart(bars, series, top, max(1, len(bars) * (BAR_WIDTH + GAP) - GAP), is_money)


def nice_top(most: int) -> int:
    """The smallest round number that holds the tallest bar."""
    scale = 1
    while max(NICE_TOPS) * scale < most:
        scale *= 10
    return next(top * scale for top in NICE_TOPS if top * scale >= most)


def _bar(
    place: int, start_s: int, found: Mapping[str, Sums], named: Iterable[str], value_of: Callable[[Sums], int]
) -> Bar:
    values = [value_of(found.get(model, Sums())) for model in named]
    whole = sum(found.values(), Sums())
    start = datetime.fromtimestamp(start_s, UTC)
    return Bar(start, place * (BAR_WIDTH + GAP), whole, (*values, value_of(whole) - sum(values)))


def _day(moment: datetime) -> str:
    return str(format_skeleton("MMMd", moment, locale=get_locale() or "en"))


def _path(bars: Iterable[Bar], place: int, top: int) -> str:
    """The pieces of one series, each on those of the series before."""
    pieces = []
    for bar in bars:
        under, own = sum(bar.values[:place]), bar.values[place]
        if own:
            y, height = HEIGHT * (1 - (under + own) / top), HEIGHT * own / top
            pieces.append(f"M{bar.x} {y:.2f}h{BAR_WIDTH}v{height:.2f}h-{BAR_WIDTH}z")
    return "".join(pieces)
