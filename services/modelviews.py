"""A public model as two other APIs show it: by its one deployment, or by what it costs."""

from datetime import datetime
from typing import Any, Final

from models import Deployment, Model
from services import estimates, prices
from services.errors import ModelNotPriced
from services.types import Price
from utils import money

MADE_WITH: Final = "made_with_model"  # a setting of providers that were made with a model: the type that was given
TYPES: Final = {  # of clients: the kinds of our providers
    "OPENAI": "openai",
    "AZURE_OPENAI": "azure",
    "ANTHROPIC": "anthropic",
    "GEMINI": "gemini",
    "GCP_GEMINI": "gemini",
}
KIND_TYPES: Final = {kind: name for name, kind in reversed(TYPES.items())}  # the first name of each kind


def by_type(row: Model) -> dict[str, Any]:
    """The model by the deployment that is tried first; never with a credential."""
    first = min(row.deployments, key=lambda one: (one.priority, one.id), default=None)
    provider = first.provider if first is not None else None
    return {
        "model_name": row.name,
        "model_type": _type(first) if first is not None else None,
        "model_deployment_name": first.upstream_model if first is not None else None,
        "model_description": row.description,
        "model_endpoint": provider.base_url if provider is not None else None,
        "created_at": row.created_at,
    }


def priced(row: Model, now: datetime) -> dict[str, Any]:
    """The model with USD per thousand tokens, None where nobody said; enabled = calls to it can be served."""
    price, served = _price(row, now), _served(row)
    return {
        "name": row.name,
        "provider": served[0].provider.name if served else row.owned_by,
        "cost_per_1k_prompt_tokens": None if price is None else money.usd_per_1k(price.input_rate),
        "cost_per_1k_completion_tokens": None if price is None else money.usd_per_1k(price.output_rate),
        "context_window": row.context_window,
        "enabled": row.is_enabled and bool(served),
    }


def estimate(row: Model, prompt_tokens: int, completion_tokens: int, now: datetime) -> dict[str, Any]:
    """See estimates.costs.

    Raises:
        ModelNotPriced: nobody said what the model costs.
        InvalidRequest: a number of tokens that no call has.
    """
    price = _price(row, now)
    if price is None:
        raise ModelNotPriced(f"Nobody said what model `{row.name}` costs.", param="model")
    return estimates.costs(row.name, price, prompt_tokens, completion_tokens)


def _type(deployment: Deployment) -> str:
    given = deployment.provider.settings.get(MADE_WITH)
    return str(given) if given in TYPES else KIND_TYPES.get(deployment.provider.kind, deployment.provider.kind.upper())


def _served(row: Model) -> list[Deployment]:
    """The deployments that calls can go to, the first ones first."""
    usable = [one for one in row.deployments if one.is_enabled and one.provider.is_enabled]
    return sorted(usable, key=lambda one: (one.priority, one.id))


def _price(row: Model, now: datetime) -> Price | None:
    """Of the deployments that are tried first the dearest; of a model that nobody serves its own."""
    served = _served(row)
    first: list[int | None] = [one.id for one in served if one.priority == served[0].priority]
    found = [price for number in first or [None] if (price := prices.in_force(row.prices, number, now)) is not None]
    records = [prices.record_of(price) for price in found]
    return max(records, key=lambda price: (price.output_rate, price.input_rate), default=None)
