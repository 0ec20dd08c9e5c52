"""Storing a configuration file: all of it or nothing, and nothing at all when nothing changed.

Rows that an earlier file made and this one does not name are switched off; rows that people made are left alone,
and a file cannot take their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from models import Deployment, Model, Price, Provider
from services import audit, configfile, pricebook, prices
from services.configfile import ConfigFile, ConfigFileError, ModelEntry, ProviderEntry
from services.credentials import SealBroken, Sealer
from services.providers.kinds import KINDS
from services.types import Price as PriceRecord

SOURCE: Final = prices.FILE


@dataclass(slots=True)
class Changes:
    """What applying did, by kind and name."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    switched_off: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply(engine: Engine, sealer: Sealer, path: Path, environ: Mapping[str, str], actor: audit.Actor) -> Changes:
    """Read a file and store it.

    Raises:
        ConfigFileError: nothing was stored.
    """
    file = configfile.read(path, environ)
    with Session(engine) as session, session.begin():
        changes = _watch_changes(session)
        providers = {row.name: row for row in session.scalars(select(Provider))}
        models = {row.name: row for row in session.scalars(select(Model))}
        problems = [*_taken_names(file, providers, models), *_unknown_providers(file, providers)]
        if problems:
            raise ConfigFileError(str(path), problems)
        for provider_entry in file.providers:
            providers[provider_entry.name] = _provider(
                session, sealer, providers.get(provider_entry.name), provider_entry
            )
        session.flush()
        for model_entry in file.models:
            models[model_entry.name] = _model(session, models.get(model_entry.name), model_entry, providers)
        _switch_off(file, providers, models)
        changes.notes += [
            f"model `{entry.name}` names the fallback `{name}`, which does not exist"
            for entry in file.models
            for name in (*entry.fallbacks, *entry.routing.context_fallbacks, *entry.routing.content_fallbacks)
            if name not in models
        ]
        session.flush()
        if changes.added or changes.changed or changes.switched_off:
            audit.note(
                session,
                actor,
                "config_apply",
                "system",
                path.name,
                {"added": changes.added, "changed": changes.changed, "switched_off": changes.switched_off},
            )
    return changes


def _taken_names(file: ConfigFile, providers: Mapping[str, Provider], models: Mapping[str, Model]) -> list[str]:
    """What people made has its name for good; what was only found, a file may take over."""
    taken = [
        f"provider `{entry.name}`"
        for entry in file.providers
        if entry.name in providers and providers[entry.name].managed_by != SOURCE
    ]
    taken += [
        f"model `{entry.name}`"
        for entry in file.models
        if entry.name in models and models[entry.name].managed_by not in (SOURCE, "discovery", "environment")
    ]
    return [f"{what} was made in the admin panel; rename one of the two" for what in taken]


def _unknown_providers(file: ConfigFile, providers: Mapping[str, Provider]) -> list[str]:
    known = {*providers, *(entry.name for entry in file.providers)}
    return [
        f"model `{entry.name}` is deployed at `{deployment.provider}`, and there is no such provider"
        for entry in file.models
        for deployment in entry.deployments
        if deployment.provider not in known
    ]


def _provider(session: Session, sealer: Sealer, row: Provider | None, entry: ProviderEntry) -> Provider:
    if row is None:
        row = Provider(name=entry.name, managed_by=SOURCE)
        session.add(row)
    row.kind, row.base_url, row.settings, row.is_enabled = entry.kind, entry.base_url, entry.settings, entry.enabled
    row.discover = KINDS[entry.kind].discovers if entry.discover is None else entry.discover
    if not _has_credential(row, sealer, entry.api_key):
        row.credential = sealer.seal(entry.api_key) if entry.api_key else None
    return row


def _has_credential(row: Provider, sealer: Sealer, wanted: str) -> bool:
    """Whether the stored credential is that one already: sealing again would look like a change."""
    try:
        return (sealer.open(row.credential) if row.credential is not None else "") == wanted
    except SealBroken:
        return False


def _model(session: Session, row: Model | None, entry: ModelEntry, providers: Mapping[str, Provider]) -> Model:
    if row is None:
        row = Model(name=entry.name)
        session.add(row)
    row.managed_by, row.is_enabled, row.fallbacks = SOURCE, entry.enabled, entry.fallbacks
    row.max_output_tokens = entry.max_output_tokens
    row.aliases, row.routing = entry.aliases or None, entry.routing.model_dump(exclude_defaults=True) or None
    wanted = {(providers[d.provider].id, d.model): d for d in entry.deployments}
    pricebook.drop_deployments(
        session, row, [d for d in row.deployments if (d.provider_id, d.upstream_model) not in wanted]
    )
    present = {(d.provider_id, d.upstream_model): d for d in row.deployments}
    for key, deployment in wanted.items():
        if key not in present:
            present[key] = Deployment(provider_id=key[0], upstream_model=key[1])
            row.deployments.append(present[key])
        present[key].priority, present[key].weight, present[key].is_enabled = (
            deployment.priority,
            deployment.weight,
            True,
        )
    session.flush()
    by_id = {provider.id: provider for provider in providers.values()}
    entries = {
        d: prices.find_entry(by_id[d.provider_id].kind, by_id[d.provider_id].base_url, d.upstream_model)
        for d in row.deployments
    }
    windows = [found.context_window if found is not None else None for found in entries.values()]
    known = [window for window in windows if window is not None]
    # The window bounds what a call can cost, wherever it goes: the widest counts, and none if one is unknown.
    row.context_window = entry.context_window or (max(known) if len(known) == len(windows) else None)
    now = prices.now()
    if entry.price is not None:
        prices.supersede(row, {None: entry.price.price(SOURCE)}, now)
    else:
        looked_up: dict[int | None, PriceRecord] = {
            d.id: found.price for d, found in entries.items() if found is not None and found.price is not None
        }
        prices.supersede(row, looked_up, now, replaces=_is_ours)
    return row


def _is_ours(price: Price) -> bool:
    """Whether a file that names no price may end it: what people set for such a model stays."""
    return price.source == SOURCE or prices.is_catalogue(price.source)


def _switch_off(file: ConfigFile, providers: Mapping[str, Provider], models: Mapping[str, Model]) -> None:
    named = {*((entry.name, Provider) for entry in file.providers), *((entry.name, Model) for entry in file.models)}
    rows: list[Provider | Model] = [*providers.values(), *models.values()]
    for row in rows:
        if row.managed_by == SOURCE and (row.name, type(row)) not in named:
            row.is_enabled = False


def _watch_changes(session: Session) -> Changes:
    """Fills up with what the session stores, each provider and model once."""
    changes = Changes()
    seen: set[str] = set()

    def note(row: object, what: list[str]) -> None:
        owner = row if isinstance(row, Provider | Model) else getattr(row, "model", None)
        name = f"{'provider' if isinstance(owner, Provider) else 'model'} {getattr(owner, 'name', '')}"
        if owner is not None and name not in seen:
            seen.add(name)
            (what if owner.is_enabled else changes.switched_off).append(name)

    @event.listens_for(session, "before_flush")
    def _before_flush(_session: Session, _context: object, _instances: object) -> None:
        for row in session.new:
            note(row, changes.added if isinstance(row, Provider | Model) else changes.changed)
        for row in [*session.deleted, *(row for row in session.dirty if session.is_modified(row))]:
            note(row, changes.changed)

    return changes
