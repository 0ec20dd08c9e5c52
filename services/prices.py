"""What models cost according to the offline catalogue, `genai-prices`; rows in our database override it.

The catalogue takes 30 MB of memory, so it is loaded only where prices are stored: at start, when models are
discovered, when an admin asks. Requests read the stored rows.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from models import Price as PriceRow
from services.pricing import FREE
from services.types import Price
from utils import money

FREE_KINDS = ("echo", "ollama")  # one's own machine: tokens are counted and cost nothing


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model as the catalogue knows it."""

    price: Price | None
    context_window: int | None


def find_entry(kind: str, base_url: str, model: str) -> CatalogueEntry | None:
    """The catalogue's entry for a model at a provider's address; None = it knows neither.

    Of a price with tiers the first one is taken.
    """
    if kind in FREE_KINDS:
        return CatalogueEntry(FREE, None)
    import genai_prices  # noqa: PLC0415 - see the module docstring

    try:
        found = genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_api_url=base_url)
    except LookupError:
        return None
    rates = found.model_price
    source = f"genai-prices {genai_prices.__version__}"
    return CatalogueEntry(_price(rates, source), found.model.context_window)


def row_of(price: Price, deployment_id: int | None = None) -> PriceRow:
    """The price as a row that is not stored yet; without a deployment it is the whole model's."""
    return PriceRow(
        deployment_id=deployment_id,
        is_free=price.is_free,
        input_rate=price.input_rate,
        output_rate=price.output_rate,
        cache_read_rate=price.cache_read_rate,
        cache_creation_rate=price.cache_creation_rate,
        source=price.source,
    )


def _price(rates: Any, source: str) -> Price | None:
    """The price in our units; None for models that are not priced by text tokens."""
    input_rate, output_rate = _rate(rates.input_mtok), _rate(rates.output_mtok)
    if input_rate is None:
        return None
    return Price(
        input_rate,
        output_rate or 0,
        _rate(rates.cache_read_mtok),
        _rate(rates.cache_write_mtok),
        is_free=not input_rate and not output_rate,
        source=source,
    )


def _rate(per_million: Any) -> int | None:
    if per_million is None:
        return None
    usd = per_million if isinstance(per_million, Decimal) else per_million.base
    return money.nanousd(usd)
