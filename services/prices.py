"""Prices as rows: which one is in force, how one follows another, and what the offline catalogue says.

Rows that people, a file or an import made go before those of the catalogue (`genai-prices`), a deployment's own before
its model's, and among these the newest that is valid. Rows are only ever added and ended, so the past stays readable.

The catalogue takes 30 MB of memory, so it is loaded only where prices are stored: at start, when models are
discovered, when an admin asks. Requests read the stored rows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from models import Model
from models import Price as PriceRow
from services import pricewords
from services.pricing import FREE
from services.providers.kinds import KINDS
from services.types import Price, Rates, Tier
from utils import clock, money

CATALOGUE: Final = "genai-prices"
FILE: Final = "file"  # source of the prices that stand in the configuration file
FREE_KINDS: Final = frozenset(name for name, kind in KINDS.items() if kind.is_free)
MOST_USD: Final = pricewords.MOST // money.NANO_PER_USD
RATE_NAMES: Final = tuple(field.name for field in fields(Rates))
UNITS: Final = {  # the catalogue's name of a price per million tokens: ours
    "input_mtok": "input_rate",
    "output_mtok": "output_rate",
    "cache_read_mtok": "cache_read_rate",
    "cache_write_mtok": "cache_creation_rate",
    "cache_write_1h_mtok": "cache_creation_1h_rate",
    "input_audio_mtok": "input_audio_rate",
    "output_audio_mtok": "output_audio_rate",
    "output_reasoning_mtok": "reasoning_rate",
}
UNTOLD: Final = {  # tokens that no provider reports to us apart from the kind they are part of
    "input_image_mtok": "input_mtok",
    "input_video_mtok": "input_mtok",
    "output_image_mtok": "output_mtok",
    "output_video_mtok": "output_mtok",
}


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model as the catalogue knows it. No price: it is not priced by what we can count."""

    price: Price | None
    context_window: int | None


def find_entry(kind: str, base_url: str, model: str, at: datetime | None = None) -> CatalogueEntry | None:
    """The catalogue's entry for a model at a provider's address, with the price of a day; None = it knows neither."""
    if kind in FREE_KINDS:
        return CatalogueEntry(FREE, None)
    import genai_prices  # noqa: PLC0415 - see the module docstring
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - see the module docstring

    return entry_in(get_snapshot(), base_url, model, source=f"{CATALOGUE} {genai_prices.__version__}", at=at)


def entry_in(
    catalogue: Any, base_url: str, model: str, *, source: str, at: datetime | None = None
) -> CatalogueEntry | None:
    """See `find_entry`; from any snapshot of the catalogue's data."""
    try:
        _provider, found = catalogue.find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return CatalogueEntry(_price(_of_the_day(found, at or now()), source), found.context_window)


def catalogue_provider(base_url: str) -> str | None:
    """What the catalogue calls the provider at an address; None = it does not know it."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - see the module docstring

    try:
        return str(get_snapshot().find_provider(None, None, base_url).id)
    except LookupError:
        return None


def now() -> datetime:
    """This moment, as fine as the database keeps moments."""
    return datetime.fromtimestamp(clock.now_ms() / 1000, UTC)


def is_catalogue(source: str) -> bool:
    """Whether a price was looked up, and not said by people, a file or an import."""
    return source == FREE.source or source.startswith(f"{CATALOGUE} ")


def in_force(rows: Iterable[PriceRow], deployment_id: int | None, now: datetime) -> PriceRow | None:
    """The row that says what a deployment (None: any without a price of its own) costs at that moment."""
    valid = [row for row in rows if row.deployment_id in (None, deployment_id) and _is_valid(row, now)]
    return max(valid, key=_rank, default=None)


def next_change(rows: Iterable[PriceRow], now: datetime) -> datetime | None:
    """The first moment after this one at which another row may be in force."""
    moments = [moment for row in rows for moment in (row.valid_from_at, row.valid_until_at) if moment is not None]
    return min((moment for moment in moments if moment > now), default=None)


def supersede(
    model: Model,
    wanted: Mapping[int | None, Price],
    now: datetime,
    *,
    replaces: Callable[[PriceRow], bool] = lambda _row: True,
) -> bool:
    """From now on, let these be the prices by deployment (None: the whole model); whether that changed anything.

    Of the rows that are valid now, those are ended that `replaces` picks and that are not wanted; others stay, and so
    do rows of the past and of the future.
    """
    kept, changed = set(), False
    for row in model.prices:
        price = wanted.get(row.deployment_id)
        if not _is_valid(row, now):
            continue
        if price is not None and row.deployment_id not in kept and is_same(record_of(row), price):
            kept.add(row.deployment_id)
        elif replaces(row):
            row.valid_until_at, changed = now, True
    for deployment_id in wanted.keys() - kept:
        model.prices.append(row_of(wanted[deployment_id], deployment_id, valid_from=now))
        changed = True
    return changed


def is_same(one: Price, other: Price) -> bool:
    """Whether both say the same; of what was looked up, when does not matter."""
    if is_catalogue(one.source) and is_catalogue(other.source):
        other = replace(other, source=one.source)
    return one == other


def record_of(row: PriceRow) -> Price:
    """A row as calls know it. Tiers are stored as what differs from the rates below them all."""
    rates = {name: getattr(row, name) for name in RATE_NAMES}
    tiers = sorted((Tier(**rates | tier) for tier in row.tiers or ()), key=lambda tier: tier.above)
    return Price(
        **rates,
        request_nanousd=row.request_nanousd or 0,  # rows that are not stored yet have no defaults
        image_nanousd=row.image_nanousd or 0,
        tiers=tuple(tiers),
        is_free=bool(row.is_free),
        source=row.source,
    )


def row_of(price: Price, deployment_id: int | None = None, valid_from: datetime | None = None) -> PriceRow:
    """The price as a row that is not stored yet; without a deployment it is the whole model's, without a moment now."""
    tiers = [
        {"above": tier.above}
        | {name: getattr(tier, name) for name in RATE_NAMES if getattr(tier, name) != getattr(price, name)}
        for tier in price.tiers
    ]
    return PriceRow(
        **{name: getattr(price, name) for name in RATE_NAMES},
        deployment_id=deployment_id,
        is_free=price.is_free,
        request_nanousd=price.request_nanousd,
        image_nanousd=price.image_nanousd,
        tiers=tiers or None,
        source=price.source,
        **({} if valid_from is None else {"valid_from_at": valid_from}),
    )


def _is_valid(row: PriceRow, now: datetime) -> bool:
    return row.valid_from_at <= now and (row.valid_until_at is None or row.valid_until_at > now)


def _rank(row: PriceRow) -> tuple[bool, bool, datetime, int]:
    return not is_catalogue(row.source), row.deployment_id is not None, row.valid_from_at, row.id or 0


def _of_the_day(model: Any, moment: datetime) -> Any:
    """The rates of a day; of those that change with the hour the dearest, for a row has no hours."""
    day = moment.astimezone(UTC)
    hours = [day.replace(hour=hour, minute=minute) for hour in range(24) for minute in (0, 30)]
    return max(
        (model.get_prices(hour) for hour in hours), key=lambda rates: (_usd(rates.output_mtok), _usd(rates.input_mtok))
    )


def _price(rates: Any, source: str) -> Price | None:
    """The catalogue's rates in our units; None where it does not price tokens, or prices some that we cannot tell.

    A model that is priced by something else (by the second, the page, the character) has no rate of tokens, and one
    whose rates are all zero while something else costs would be free by mistake.
    """
    if rates.input_mtok is None or any(
        _usd(getattr(rates, kind)) > _usd(getattr(rates, of)) for kind, of in UNTOLD.items()
    ):
        return None
    known = {ours: getattr(rates, theirs) for theirs, ours in UNITS.items() if getattr(rates, theirs) is not None}
    request = _usd(rates.requests_kcount) / 1000
    if not any(map(_usd, known.values())) and not request:
        is_free = not any(_usd(value) for value in vars(rates).values() if value is not None)
        return replace(FREE, source=source) if is_free else None
    starts = sorted({tier.start for value in known.values() for tier in getattr(value, "tiers", ())})
    amounts = [request, *(_usd(value, start) for value in known.values() for start in (-1, *starts))]
    if not all(0 <= amount <= MOST_USD for amount in amounts):
        return None  # nobody means that; a broken catalogue is no reason to book millions
    return Price(
        **_rates(known),
        request_nanousd=money.nanousd(request),
        tiers=tuple(Tier(**_rates(known, start), above=start) for start in starts),
        source=source,
    )


def _rates(known: Mapping[str, Any], above: int = -1) -> dict[str, Any]:
    """Our rates for calls with more than that many input tokens."""
    return {"output_rate": 0} | {ours: money.nanousd(_usd(value, above)) for ours, value in known.items()}


def _usd(value: Any, above: int = -1) -> Any:
    """A price of the catalogue for calls with more than that many input tokens; zero where there is none."""
    if value is None:
        return 0
    found = getattr(value, "base", value)
    for tier in getattr(value, "tiers", ()):
        if tier.start <= above:
            found = tier.price
    return found
