"""What a call would cost: an estimate for people who plan, from the prices that are in force."""

from decimal import Decimal
from typing import Any, Final

from services.catalog import Catalog
from services.errors import InvalidRequest, ModelNotPriced, NotFound
from services.pricing import PER_MILLION, charge_lines, line_millionths
from services.types import Price, Usage
from utils import money

MOST_TOKENS: Final = 2**31
MILLIONTHS: Final = money.NANO_PER_USD * PER_MILLION  # of a nano-USD, to the USD


def estimate(catalog: Catalog, model: str, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """The cost of a call with so many tokens at the deployment that is tried first; the dearest of equals.

    {"model_name", "prompt_tokens", "completion_tokens", "prompt_cost", "completion_cost", "total_cost"}: costs in
    USD, as exact decimals. What each request costs is in the total only; a booked call is rounded to nano-USD.

    Raises:
        NotFound: no such model.
        ModelNotPriced: nobody said what it costs.
        InvalidRequest: a number of tokens that no call has.
        AccountingUnavailable: the catalogue of models cannot be read.
    """
    return costs(model, _price(catalog, model), prompt_tokens, completion_tokens)


def costs(model: str, price: Price, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """The same at a price.

    Raises:
        InvalidRequest: see `estimate`.
    """
    for name, tokens in (("prompt_tokens", prompt_tokens), ("completion_tokens", completion_tokens)):
        if not 0 <= tokens <= MOST_TOKENS:
            raise InvalidRequest(f"`{name}` must be between 0 and {MOST_TOKENS}.", param=name)
    usage = Usage(prompt_tokens, completion_tokens)
    lines = {what: _usd(line_millionths((what, units, rate))) for what, units, rate in charge_lines(usage, price)}
    return {
        "model_name": model,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "prompt_cost": lines.get("input", Decimal(0)),
        "completion_cost": lines.get("output", Decimal(0)),
        "total_cost": sum(lines.values(), Decimal(0)),
    }


def unit_prices(catalog: Catalog, model: str) -> dict[str, Decimal]:
    """USD for input and output of a model, per thousand and per million tokens: {"prompt_per_1k", …}.

    Raises:
        NotFound, ModelNotPriced, AccountingUnavailable: see `estimate`.
    """
    price = _price(catalog, model)
    return {
        "prompt_per_1k": money.usd_per_1k(price.input_rate),
        "completion_per_1k": money.usd_per_1k(price.output_rate),
        "prompt_per_million": money.usd(price.input_rate),
        "completion_per_million": money.usd(price.output_rate),
    }


def _price(catalog: Catalog, model: str) -> Price:
    found = catalog.snapshot().models.get(model)
    if found is None:
        raise NotFound(f"There is no model `{model}`.", param="model")
    first = min((deployment.priority for deployment in found.deployments), default=0)
    prices = [one.price for one in found.deployments if one.priority == first and one.price is not None]
    if not prices:
        raise ModelNotPriced(f"Nobody said what model `{model}` costs.", param="model")
    return max(prices, key=lambda price: (price.output_rate, price.input_rate))


def _usd(millionths: int) -> Decimal:
    return Decimal(millionths) / MILLIONTHS
