"""What models cost at one provider account, as clients of the key management API say it: USD per thousand tokens.

A cost map stays in the settings of its provider, in whole nano-USD per million tokens, and becomes a price of the
account's own deployments: when it is given for all that are there, and when a model is found for that one. So a price
that people set afterwards counts, until the next cost map. Whoever stores a cost map or makes prices of it holds the
lock of its provider (`locked`), so that the prices are those of the cost map that is stored.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session, selectinload

from models import Deployment, Model, Provider
from models import Price as PriceRow
from services import prices, pricewords
from services.fields import MAX_ENTRIES, MAX_MODEL, Unfit
from services.types import Price
from utils import money

SOURCE: Final = "costMap"  # of the prices
STORED: Final = "cost_map"  # in the settings of a provider
PROMPT, COMPLETION, EMBEDDINGS = "promptCostPerModel", "completionCostPerModel", "embeddingsCostPerModel"
MEMBERS: Final = (PROMPT, COMPLETION, EMBEDDINGS)
PER_1K: Final = money.NANO_PER_USD * 1000  # nano-USD per million tokens, in a USD per thousand
MOST_USD: Final = Decimal(pricewords.MOST) / PER_1K

Rates = dict[str, dict[str, int]]  # by member and model


def read(given: Any) -> Rates | None:
    """A cost map as it is stored; None = not given.

    Raises:
        Unfit: it cannot be; `at` leads to what is wrong.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise Unfit(f"must be an object with {', '.join(MEMBERS)}")
    if unknown := sorted(given.keys() - set(MEMBERS)):
        raise Unfit("is not known here", f".{unknown[0][:MAX_MODEL]}")
    found = {member: _rates(member, given.get(member)) for member in MEMBERS}
    for one, other in ((PROMPT, COMPLETION), (COMPLETION, PROMPT)):
        if missing := sorted(found[one].keys() - found[other].keys()):
            raise Unfit("is needed too; a chat costs both ways", f".{other}.{missing[0]}")
    if twice := sorted(found[PROMPT].keys() & found[EMBEDDINGS].keys()):
        raise Unfit("has prices of a chat already", f".{EMBEDDINGS}.{twice[0]}")
    for member, others in ((PROMPT, found[COMPLETION]), (EMBEDDINGS, {})):
        if free := sorted(model for model, rate in found[member].items() if not rate and not others.get(model)):
            raise Unfit("is zero; a model that costs nothing is marked as free", f".{member}.{free[0]}")
    return {member: rates for member, rates in found.items() if rates}


def shown(settings: Mapping[str, Any]) -> dict[str, dict[str, Decimal]] | None:
    """The cost map of a provider as clients see it; None = it has none."""
    kept: Rates = settings.get(STORED) or {}
    if not kept:
        return None
    return {
        member: {model: Decimal(rate) / PER_1K for model, rate in kept.get(member, {}).items()} for member in MEMBERS
    }


def price_of(settings: Mapping[str, Any], upstream_model: str) -> Price | None:
    """What a model costs by the cost map of its provider; None = that does not say."""
    kept: Rates = settings.get(STORED) or {}
    rates = [kept.get(member, {}).get(upstream_model) for member in MEMBERS]
    prompt, completion, embeddings = rates
    if embeddings is not None:
        return Price(embeddings, 0, source=SOURCE)
    return None if prompt is None or completion is None else Price(prompt, completion, source=SOURCE)


def locked(session: Session, which: ColumnElement[bool]) -> Provider | None:
    """The provider account as it is stored now, which nobody else changes until the end of the transaction."""
    lock = update(Provider).where(which).values(updated_at=Provider.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    return session.scalar(select(Provider).where(which).execution_options(populate_existing=True))


def apply(session: Session, provider: Provider) -> None:
    """Make the cost map the prices of all deployments at its provider, and end those of an earlier one.

    The provider is `locked`. A price that stands in the configuration file stays: it is changed there.
    """
    mine = select(Deployment.model_id).where(Deployment.provider_id == provider.id)
    served = selectinload(Model.deployments), selectinload(Model.prices)
    for model in session.scalars(select(Model).where(Model.id.in_(mine)).options(*served)):
        price(model, (one for one in model.deployments if one.provider_id == provider.id), provider.settings)


def price(model: Model, deployments: Iterable[Deployment], settings: Mapping[str, Any]) -> None:
    """The same for these deployments of a model."""
    now = prices.now()
    for one in deployments:
        mine = [row for row in model.prices if row.deployment_id == one.id]
        own = prices.in_force(mine, one.id, now)
        if own is not None and own.source == prices.FILE:
            continue
        wanted = price_of(settings, one.upstream_model)
        _end(mine, now, only_later=wanted is not None)
        if wanted is not None:
            prices.supersede(model, {one.id: wanted}, now, replaces=_is_of(one.id))


def _end(rows: Iterable[PriceRow], now: datetime, *, only_later: bool) -> None:
    """End the prices of earlier cost maps, also those to come: a host whose clock was ahead had stored them."""
    for row in rows:
        if row.source != SOURCE or (only_later and row.valid_from_at <= now):
            continue
        if row.valid_until_at is None or row.valid_until_at > now:
            row.valid_until_at = max(now, row.valid_from_at)


def _is_of(level: int) -> Callable[[PriceRow], bool]:
    return lambda row: row.deployment_id == level


def _rates(member: str, given: Any) -> dict[str, int]:
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > MAX_ENTRIES:
        raise Unfit(f"must be an object of {MAX_ENTRIES} models at most, each with USD per 1k tokens", f".{member}")
    return {model: _rate(member, model, usd) for model, usd in given.items()}


def _rate(member: str, model: str, usd: Any) -> int:
    if not model.strip() or len(model) > MAX_MODEL or not model.isprintable():
        raise Unfit(f"names must have 1 to {MAX_MODEL} printable characters", f".{member}")
    if isinstance(usd, bool) or not isinstance(usd, int | Decimal):
        raise Unfit("must be a number", f".{member}.{model}")
    if not 0 <= usd <= MOST_USD:
        raise Unfit(f"must be from 0 to {MOST_USD:f} USD per 1k tokens", f".{member}.{model}")
    rate = Decimal(usd) * PER_1K
    if rate != rate.to_integral_value():
        raise Unfit("may have 12 decimals", f".{member}.{model}")
    return int(rate)
