"""What a provider says we used: its usage or cost export, a CSV file, read line by line into sums by day and model.

A file may be as long as it likes; what is kept is a sum for each day and model. A line that cannot be understood is
noted and left out, a file that cannot be is refused as a whole.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from services.settlement import clean

T = TypeVar("T")

MAX_LINE: Final = 64 * 1024  # bytes
MAX_SUMS: Final = 100_000  # days times models
MAX_NOTED: Final = 20  # lines that are named; the others are counted
MAX_USD: Final = 10**9  # of a line
MAX_COUNT: Final = 10**15
MAX_CELL: Final = 60  # characters of a figure
YEARS: Final = range(2000, 2100)

MEASURES: Final = ("cost", "input_tokens", "output_tokens", "requests")
# Names of columns, in lower case, with _ for whatever is no letter or digit; of several the first one counts.
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "day": (
        *("date", "day", "usage_date", "usage_date_utc", "date_utc", "start_time_iso", "start_time"),
        *("starting_at", "bucket_start", "usage_timestamp", "timestamp", "created_at", "time"),
    ),
    "model": ("model", "model_id", "model_name", "model_version", "model_permaslug", "snapshot_id", "line_item"),
    "cost": ("cost", "cost_usd", "cost_in_usd", "total_cost", "cost_total", "amount_value", "amount_usd", "amount"),
    "currency": ("currency", "amount_currency", "cost_currency"),
    "input_tokens": (
        *("input_tokens", "prompt_tokens", "n_context_tokens_total", "tokens_prompt", "total_input_tokens"),
        "context_tokens",
    ),
    "output_tokens": (
        *("output_tokens", "completion_tokens", "n_generated_tokens_total", "tokens_completion"),
        *("usage_output_tokens", "total_output_tokens", "generated_tokens"),
    ),
    "requests": ("requests", "num_model_requests", "num_requests", "n_requests", "request_count", "calls"),
}
# Input is what these add up to, where no column has all of it.
INPUT_PARTS: Final = (
    *("usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h"),
    *("usage_input_tokens_cache_read", "uncached_input_tokens", "cache_creation_input_tokens"),
    "cache_read_input_tokens",
)

# A comma is taken as one of thousands only where a point follows: `1,234` means one thing here and another there.
_DIGITS: Final = r"(?:\d+|\d{1,3}(?:,\d{3})+(?=\.))(?:\.\d+)?(?:[eE][+-]?\d{1,3})?"
_AMOUNT: Final = re.compile(rf"(-?)(?:(?:US)?\$)?\s?(-?)({_DIGITS})", re.ASCII)
_WHOLE: Final = re.compile(r"(\d+|\d{1,3}(?:,\d{3})+)(\.0+)?", re.ASCII)
_UNIX: Final = re.compile(r"(\d{9,14})(\.\d+)?", re.ASCII)
_SECONDS: Final = 10**11  # a larger number of seconds is one of milliseconds
_DOLLARS: Final = ("", "usd", "us$", "$")

Places = dict[str, tuple[int, ...]]  # where the columns of a line stand, by their names in COLUMNS


class Unusable(Exception):
    """The file cannot be read; the message is a line for people."""


@dataclass(slots=True)
class Figures:
    """Sums of one day and model. Cost in USD, exact."""

    cost: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0


@dataclass(slots=True)
class Statement:
    """What the file says."""

    measures: tuple[str, ...]  # those of MEASURES that it has
    has_models: bool
    sums: dict[tuple[date, str], Figures] = field(default_factory=dict)  # by day and model; "" where it names none
    bad_lines: int = 0
    complaints: list[str] = field(default_factory=list)  # about the first of these


def read(path: Path) -> Statement:
    """The sums of a file.

    Raises:
        Unusable: not there, no text in UTF-8, no CSV with a day and a figure, or too much of something.
    """
    try:
        with path.open("rb") as file:
            return _read(_lines(file))
    except OSError as exc:
        raise Unusable(f"{path}: {exc.strerror or exc}") from exc
    except csv.Error as exc:
        raise Unusable(f"{path} is no CSV file: {exc}") from exc
    except Unusable as exc:
        raise Unusable(f"{path}: {exc}") from exc


def day_of(text: str) -> date:
    """The day, in UTC, of a date or moment: as ISO 8601 writes it, or in seconds or milliseconds since 1970.

    Raises:
        ValueError: it is none, or not of this century.
    """
    found = _moment(text.strip()[:MAX_CELL])
    moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    if moment.year not in YEARS:
        raise ValueError("not of this century")
    return moment.astimezone(UTC).date()


def usd_of(text: str) -> Decimal:
    """An amount in USD; nothing is zero.

    Raises:
        ValueError: none, in another currency, too large, or with a comma that may mean either thing.
    """
    plain = text.strip().removesuffix("USD").removeprefix("USD").strip()
    if not plain:
        return Decimal(0)
    found = _AMOUNT.fullmatch(plain) if len(plain) <= MAX_CELL else None
    if found is None or (found[1] and found[2]):
        raise ValueError("not an amount in USD")
    amount = Decimal(found[3].replace(",", ""))
    if amount > MAX_USD:
        raise ValueError("too large")
    return -amount if found[1] or found[2] else amount


def count_of(text: str) -> int:
    """A whole number; nothing is zero.

    Raises:
        ValueError: none, negative or too large.
    """
    plain = text.strip()
    if not plain:
        return 0
    found = _WHOLE.fullmatch(plain) if len(plain) <= MAX_CELL else None
    if found is None or (number := int(found[1].replace(",", ""))) > MAX_COUNT:
        raise ValueError("not a whole number")
    return number


def _moment(text: str) -> datetime:
    unix = _UNIX.fullmatch(text)
    if unix is None:
        return datetime.fromisoformat(text.removesuffix("UTC").strip())
    number = int(unix[1])
    return datetime.fromtimestamp(number / 1000 if number >= _SECONDS else number, UTC)


def _lines(file: Any) -> Iterator[str]:
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        if len(raw) > MAX_LINE:
            raise Unusable(f"line {number} is longer than {MAX_LINE // 1024} KiB")
        if b"\0" in raw:
            raise Unusable(f"line {number} is no text in UTF-8")
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            raise Unusable(f"line {number} is no text in UTF-8") from exc


def _read(lines: Iterator[str]) -> Statement:
    skipped, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if not first:
        raise Unusable("it is empty")
    delimiter, header = max(((mark, _header(first, mark)) for mark in ",;\t"), key=lambda pair: _known(pair[1]))
    places = _places(header)
    found = Statement(measures=tuple(name for name in MEASURES if name in places), has_models="model" in places)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    for row in rows:
        if any(cell.strip() for cell in row):
            _add(found, row, rows.line_num + skipped, places, len(header))
    if not found.sums:
        raise Unusable(f"none of its {found.bad_lines} lines can be used; {'; '.join(found.complaints[:1])}")
    return found


def _header(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=delimiter))
    return [re.sub(r"[\W_]+", "_", cell.strip().lower()).strip("_") for cell in cells]


def _known(header: list[str]) -> int:
    every = {name for names in COLUMNS.values() for name in names} | set(INPUT_PARTS)
    return len(every.intersection(header))


def _places(header: list[str]) -> Places:
    """Where each column stands: one place, or those of the parts of input.

    Raises:
        Unusable: no day, no figure, or two columns of one name.
    """
    places: Places = {}
    for what, names in COLUMNS.items():
        name = next((name for name in names if name in header), None)
        if name is not None and header.count(name) > 1:
            raise Unusable(f"it has two columns of the name {name}")
        if name is not None:
            places[what] = (header.index(name),)
    parts = tuple(place for place, name in enumerate(header) if name in INPUT_PARTS)
    if parts:
        places.setdefault("input_tokens", parts)
    if "day" not in places or not places.keys() & set(MEASURES):
        missing = "with the day" if "day" not in places else "with a cost, tokens or requests"
        raise Unusable(f"its first line names no column {missing}; docs/accounting.md lists the names")
    return places


def _add(found: Statement, row: list[str], number: int, places: Places, width: int) -> None:
    try:
        key, cost, counts = _figures(row, places, width)
    except ValueError as exc:
        found.bad_lines += 1
        if len(found.complaints) < MAX_NOTED:
            found.complaints.append(f"line {number}: {exc}")
        return
    if key not in found.sums and len(found.sums) >= MAX_SUMS:
        raise Unusable(f"it has more than {MAX_SUMS:,} days and models")
    sums = found.sums.setdefault(key, Figures())
    sums.cost += cost
    sums.input_tokens += counts[0]
    sums.output_tokens += counts[1]
    sums.requests += counts[2]


def _figures(row: list[str], places: Places, width: int) -> tuple[tuple[date, str], Decimal, list[int]]:
    """Day and model, cost, and the counts of a line.

    Raises:
        ValueError: the line cannot be used.
    """
    if len(row) != width:
        raise ValueError(f"{len(row)} fields instead of {width}")
    day = _cell(row, places["day"], day_of, "a day")
    if "currency" in places and row[places["currency"][0]].strip().lower() not in _DOLLARS:
        raise ValueError(f"`{clean(row[places['currency'][0]])[:MAX_CELL]}` is not USD")
    cost = _cell(row, places["cost"], usd_of, "an amount in USD") if "cost" in places else Decimal(0)
    counts = [
        sum(_cell(row, (place,), count_of, "a whole number") for place in places.get(name, ())) for name in MEASURES[1:]
    ]
    return (day, _model(row[places["model"][0]]) if "model" in places else ""), cost, counts


def _cell(row: list[str], places: tuple[int, ...], parse: Callable[[str], T], what: str) -> T:
    text = row[places[0]]
    try:
        return parse(text)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"`{clean(text)[:MAX_CELL]}` is not {what}") from exc


def _model(cell: str) -> str:
    """The model of a line; line items read `model, what of it`."""
    return clean(cell.partition(", ")[0].strip())[:200]
