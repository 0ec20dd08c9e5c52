"""Providers and models of the configuration file, with deployments and prices."""

import re
import zlib
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from models import Deployment, Model, Price, Provider
from services import modelbook, pricebook, prices, pricewords
from services.configentries import (
    ENVIRONMENT,
    UNKNOWN,
    DeploymentEntry,
    ModelEntry,
    PriceEntry,
    ProviderEntry,
    RoutingEntry,
)
from services.configsections import MINE, Misplaced, Section, Work
from services.credentials import SealBroken
from services.pricing import FREE
from services.providers.kinds import KINDS
from services.types import Price as PriceRecord
from utils import money
from utils.settings import fits_header

SOURCE: Final = prices.FILE
PLAIN_NAME: Final = re.compile(r"[a-z0-9-]+")
OWNER: Final = "tollhouse"


def variable_of(provider: str) -> str:
    """The variable that a file names for the key of a provider; no two providers share one."""
    name = re.sub(r"[^A-Z0-9]+", "_", provider.upper()).strip("_")
    unique = "" if PLAIN_NAME.fullmatch(provider) else f"_{zlib.crc32(provider.encode()):08X}"
    return f"PROVIDER_{name}{unique}_API_KEY"


def _providers(work: Work) -> dict[str, Provider]:
    work.providers = {row.name: row for row in work.session.scalars(select(Provider).order_by(Provider.name))}
    return work.providers


def _provider_entry(work: Work, row: Provider) -> ProviderEntry:
    return ProviderEntry(
        name=row.name,
        kind=row.kind,
        base_url=row.base_url,
        api_key=f"{ENVIRONMENT}{variable_of(row.name)}" if row.credential is not None else "",
        settings=row.settings,
        discover=row.discover,
        enabled=row.is_enabled,
    )


def _store_provider(work: Work, row: Provider | None, entry: ProviderEntry) -> Provider:
    key = _api_key(work, row, entry)
    row = row or Provider(name=entry.name, managed_by=SOURCE)
    row.kind, row.base_url, row.settings, row.is_enabled = entry.kind, entry.base_url, entry.settings, entry.enabled
    row.discover = KINDS[entry.kind].discovers if entry.discover is None else entry.discover
    if key is not None and not _has_credential(work, row, key):
        row.credential = work.sealer.seal(key) if key else None
    work.session.add(row)
    work.providers[row.name] = row
    return row


def _api_key(work: Work, row: Provider | None, entry: ProviderEntry) -> str | None:
    """The key that an entry says; None = the stored one stays."""
    if not entry.api_key.startswith(ENVIRONMENT):
        return entry.api_key
    name = entry.api_key.removeprefix(ENVIRONMENT)
    key = work.environ.get(name, "")
    if not key and (row is None or row.credential is None):
        raise Misplaced((("api_key",), f"the variable `{name}` is not set, and no key is stored"))
    if not fits_header(key):
        raise Misplaced((("api_key",), f"the variable `{name}` has characters that no header can carry"))
    return key or None


def _has_credential(work: Work, row: Provider, wanted: str) -> bool:
    """Whether the stored credential is that one already: sealing again would look like a change."""
    try:
        return (work.sealer.open(row.credential) if row.credential is not None else "") == wanted
    except SealBroken:
        return False


def _is_provider_alike(work: Work, row: Provider, entry: ProviderEntry) -> bool:
    key = _api_key(work, row, entry)
    return key is None or _has_credential(work, row, key)


def _remove_provider(work: Work, row: Provider) -> None:
    used = select(Model.name).join(Deployment).where(Deployment.provider_id == row.id, Model.managed_by != "discovery")
    names = sorted(set(work.session.scalars(used)))
    if names:
        raise Misplaced(((), f"provider `{row.name}` cannot be removed: model `{names[0]}` is deployed there"))
    modelbook.remove_provider(work.session, row.id)


def _models(work: Work) -> dict[str, Model]:
    query = select(Model).options(selectinload(Model.deployments), selectinload(Model.prices)).order_by(Model.name)
    work.models = {row.name: row for row in work.session.scalars(query)}
    return work.models


def _model_entry(work: Work, row: Model) -> ModelEntry:
    names, now = {provider.id: provider for provider in work.providers.values()}, prices.now()
    return ModelEntry(
        name=row.name,
        description=row.description or None,
        owned_by=None if row.owned_by == OWNER else row.owned_by,
        deployments=[
            DeploymentEntry(
                provider=names[d.provider_id].name,
                model=d.upstream_model,
                priority=d.priority,
                weight=d.weight,
                enabled=d.is_enabled,
                price=_price_entry(row, d.id, now, is_local=names[d.provider_id].kind in prices.FREE_KINDS),
            )
            for d in row.deployments
        ],
        fallbacks=row.fallbacks,
        aliases=row.aliases or [],
        routing=RoutingEntry(**(row.routing or {})),
        price=_price_entry(row, None, now),
        context_window=row.context_window or UNKNOWN,
        max_output_tokens=row.max_output_tokens,
        enabled=row.is_enabled,
    )


def _price_entry(row: Model, level: int | None, now: datetime, *, is_local: bool = False) -> PriceEntry | None:
    """The price that people or a file set at this level; what was looked up is looked up again elsewhere."""
    record = _set_price(row, level, now)
    if record is None or (is_local and record.source == FREE.source):
        return None
    if record.is_free:
        return PriceEntry(free=True)
    each = {"per_request": record.request_nanousd, "per_image": record.image_nanousd}
    tiers = [
        {"above": tier.above}
        | _rates({name: rate for name, rate in _rates_of(tier).items() if rate != getattr(record, name)})
        for tier in record.tiers
    ]
    amounts = {name: money.usd(amount) for name, amount in each.items() if amount}
    return PriceEntry.model_validate({**_rates(_rates_of(record)), **amounts, "tiers": tiers})


def _set_price(row: Model, level: int | None, now: datetime) -> PriceRecord | None:
    found = prices.in_force([price for price in row.prices if price.deployment_id == level], level, now)
    record = None if found is None else prices.record_of(found)
    is_looked_up = record is not None and prices.is_catalogue(record.source) and record.source != FREE.source
    return None if is_looked_up else record


def _rates_of(record: Any) -> dict[str, int | None]:
    return {name: getattr(record, name) for name in prices.RATE_NAMES}


def _rates(given: dict[str, int | None]) -> dict[str, Any]:
    words = {rate: f"{kind}{pricewords.MILLION}" for kind, rate in pricewords.KINDS.items()}
    return {words[name]: money.usd(rate) for name, rate in given.items() if rate is not None}


def _store_model(work: Work, row: Model | None, entry: ModelEntry) -> Model:
    row = write_model(work, row, entry)
    row.managed_by = SOURCE
    work.session.flush()
    price_model(work, row, entry)
    return row


def write_model(work: Work, row: Model | None, entry: ModelEntry) -> Model:
    """Put into the row, or a new one, what an entry says of a model, but for prices and the window.

    Raises:
        Misplaced: it is deployed at a provider that there is not.
    """
    _check_places(work, entry)
    is_new = row is None
    row = row or Model(name=entry.name)
    row.is_enabled, row.fallbacks = entry.enabled, entry.fallbacks
    row.max_output_tokens, row.description = entry.max_output_tokens, entry.description
    row.aliases, row.routing = entry.aliases or None, entry.routing.model_dump(exclude_defaults=True) or None
    if entry.owned_by is not None or is_new:
        row.owned_by = entry.owned_by or OWNER
    work.session.add(row)
    work.models[row.name] = row
    _deploy(work, row, entry)
    return row


def _check_places(work: Work, entry: ModelEntry) -> None:
    named = {one.name for one in work.file.providers}
    unknown = [(n, d) for n, d in enumerate(entry.deployments) if d.provider not in work.providers]
    if unknown:
        raise Misplaced(
            *(
                (
                    ("deployments", n),
                    f"model `{entry.name}` is deployed at `{d.provider}`, and there is no such provider",
                )
                for n, d in unknown
                if d.provider not in named  # what is wrong with one of the file was said
            )
        )


def _deploy(work: Work, row: Model, entry: ModelEntry) -> None:
    wanted = {(work.providers[d.provider].id, d.model): d for d in entry.deployments}
    gone = [d for d in row.deployments if (d.provider_id, d.upstream_model) not in wanted]
    pricebook.drop_deployments(work.session, row, gone)
    present = {(d.provider_id, d.upstream_model): d for d in row.deployments}
    for key, said in wanted.items():
        if key not in present:
            present[key] = Deployment(provider_id=key[0], upstream_model=key[1])
            row.deployments.append(present[key])
        present[key].priority, present[key].weight, present[key].is_enabled = said.priority, said.weight, said.enabled


def price_model(work: Work, row: Model, entry: ModelEntry) -> None:
    """Prices as the entry says them; where it says none, and of the window, what the catalogue knows."""
    by_id, now = {provider.id: provider for provider in work.providers.values()}, prices.now()
    entries = {
        d: prices.find_entry(by_id[d.provider_id].kind, by_id[d.provider_id].base_url, d.upstream_model)
        for d in row.deployments
    }
    windows = [found.context_window if found is not None else None for found in entries.values()]
    known = [window for window in windows if window is not None]
    # The window bounds what a call can cost, wherever it goes: the widest counts, and none if one is unknown.
    widest = max(known) if len(known) == len(windows) else None
    row.context_window = widest if entry.context_window is None else _number(entry.context_window)
    numbers = {(by_id[d.provider_id].name, d.upstream_model): d.id for d in row.deployments}
    levels: dict[int | None, PriceEntry] = {
        numbers[d.provider, d.model]: d.price for d in entry.deployments if d.price is not None
    }
    if entry.price is not None:
        levels[None] = entry.price
    wanted: dict[int | None, PriceRecord] = {
        level: _as_stored(row, level, one.price(SOURCE), now) for level, one in levels.items()
    }
    if entry.price is not None:
        prices.supersede(row, wanted, now)
        return
    looked_up: dict[int | None, PriceRecord] = {
        d.id: found.price for d, found in entries.items() if found is not None and found.price is not None
    }
    prices.supersede(
        row, looked_up | wanted, now, replaces=lambda price: _is_ours(price) or price.deployment_id in wanted
    )


def _number(window: int | str) -> int | None:
    return window if isinstance(window, int) else None


def _as_stored(row: Model, level: int | None, price: PriceRecord, now: datetime) -> PriceRecord:
    """The price with the source of what is in force, where that says the same: it is none that a file would change."""
    present = _set_price(row, level, now)
    is_same = present is not None and replace(present, source=price.source) == price
    return present if present is not None and is_same else price


def _is_ours(price: Price) -> bool:
    """Whether a file that names no price may end it: what people set for such a model stays."""
    return price.source == SOURCE or prices.is_catalogue(price.source)


def _described(section_entry: Any) -> Any:
    return lambda work, row: section_entry(work, row).told() | {"managed_by": row.managed_by}


PROVIDERS: Final = Section(
    name="providers",
    kind="provider",
    rows=_providers,
    key_of=lambda _work, entry: entry.name,
    called=lambda entry: entry.name,
    entry_of=_provider_entry,
    store=_store_provider,
    remove=_remove_provider,
    described=_described(_provider_entry),
    is_alike=_is_provider_alike,
    unsaid=("api_key",),
)
MODELS: Final = Section(
    name="models",
    kind="model",
    rows=_models,
    key_of=lambda _work, entry: entry.name,
    called=lambda entry: entry.name,
    entry_of=_model_entry,
    store=_store_model,
    remove=lambda work, row: modelbook.remove(work.session, row.id),
    described=_described(_model_entry),
    takes=MINE | {"discovery", "environment"},
    unsaid=("owned_by",),
)
