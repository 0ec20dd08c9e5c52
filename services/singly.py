"""Providers and models made and changed one at a time, by command.

What may be said of one is an entry of the configuration file, so that both know the same members and refuse the same;
what a name may be is asked where the panel asks it.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from models import Model, Provider
from services import audit, modelbook, modelnames
from services.addresses import is_forbidden
from services.catalog import Catalog
from services.changing import changing
from services.configapply import TURN
from services.configentries import ModelEntry, ProviderEntry
from services.configmodels import MODELS, PROVIDERS, price_model, write_model
from services.configsections import Misplaced, Section, Work
from services.credentials import Sealer
from services.errors import FieldsInvalid, InvalidRequest, NotFound
from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS, name_at
from services.transport import origin_of

ENTRIES: Final[Mapping[str, Any]] = {"provider": ProviderEntry, "model": ModelEntry}
SECTIONS: Final[Mapping[str, Section]] = {"provider": PROVIDERS, "model": MODELS}
COMPATIBLE: Final = "openai"  # the kind that vendors are of


def at_vendor(vendor: str, base_url: str) -> dict[str, Any]:
    """What an entry says of a provider at a known vendor: kind, address, and its name where the address tells none."""
    address = base_url or VENDORS[vendor].base_url
    named = {} if name_at(address) else {"settings": {"vendor": vendor}}
    return {"kind": COMPATIBLE, "base_url": address, **named}


class Singly:
    """See the module. `kind` is `provider` or `model`; every change is audited in its own transaction."""

    def __init__(self, engine: Engine, catalog: Catalog, sealer: Sealer) -> None:
        self._engine, self._catalog, self._sealer = engine, catalog, sealer

    def shown(self, kind: str, name: str) -> dict[str, Any]:
        """One of them as `listed` has it.

        Raises:
            NotFound: there is none of that name.
        """
        with Session(self._engine) as session:
            work = Work(session, self._sealer, {}, audit.Actor("nobody"))
            return _told(work, kind, _found(kind, _rows(work)[kind], name))

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """All by name: what an entry would say, `enabled`, `managed_by`; of a provider `has_key` and never the key."""
        with Session(self._engine) as session:
            work = Work(session, self._sealer, {}, audit.Actor("nobody"))
            return [_told(work, kind, row) for row in _rows(work)[kind].values()]

    def create(self, actor: audit.Actor, kind: str, said: Mapping[str, Any]) -> int:
        """A new one; returns its number.

        A model that its provider has stopped to list, or that is known from the start, is filled instead.

        Raises:
            FieldsInvalid, InvalidRequest: what is said cannot be, or the name is taken.
            Conflict: somebody else made one of that name at the same moment.
        """
        with changing(self._engine, self._catalog) as session:
            work = _begun(session, self._sealer, actor)
            row = _rows(work)[kind].get(str(said.get("name")))
            if row is not None and not (kind == "model" and row.managed_by == "discovery" and not row.deployments):
                raise InvalidRequest(f"There is a {kind} of that name already.", param="name")
            return _store(work, kind, row, said, "create")

    def change(self, actor: audit.Actor, kind: str, name: str, said: Mapping[str, Any]) -> int:
        """Change what is said and nothing else; a model that was discovered is nobody else's from then on.

        Raises:
            NotFound: there is none of that name.
            FieldsInvalid, InvalidRequest: what is said cannot be, the name is taken, or it is managed elsewhere.
        """
        with changing(self._engine, self._catalog) as session:
            work = _begun(session, self._sealer, actor)
            row = _found(kind, _rows(work)[kind], name)
            _check_ours(kind, row)
            return _store(work, kind, row, said, "update")

    def delete_provider(self, actor: audit.Actor, name: str) -> None:
        """The provider, its deployments with their prices, and models that only it had brought.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest: it is managed elsewhere.
        """
        with changing(self._engine, self._catalog) as session:
            work = _begun(session, self._sealer, actor)
            row = _found("provider", _rows(work)["provider"], name)
            _check_ours("provider", row)
            audit.note(session, actor, "provider_delete", "provider", row.id, {"before": _told(work, "provider", row)})
            modelbook.remove_provider(session, row.id)


def _begun(session: Session, sealer: Sealer, actor: audit.Actor) -> Work:
    session.execute(TURN)  # nobody else, nor a file that is applied, changes them until the end of the transaction
    return Work(session, sealer, {}, actor)


def _rows(work: Work) -> dict[str, Mapping[str, Any]]:
    """The rows by kind and name; the providers first, for models name them."""
    return {kind: section.rows(work) for kind, section in SECTIONS.items()}


def _store(work: Work, kind: str, row: Any, said: Mapping[str, Any], verb: str) -> int:
    section = SECTIONS[kind]
    is_empty = row is None or (kind == "model" and not row.deployments)
    before = None if row is None or is_empty else _told(work, kind, row)
    entry = _entry(kind, ({} if is_empty else section.entry_of(work, row).told()) | dict(said))
    had_key = None if row is None or kind == "model" else row.credential
    try:
        row = STORES[kind](work, row, entry)
    except Misplaced as exc:
        raise InvalidRequest(str(exc)) from exc
    row.managed_by = "admin"
    work.session.flush()
    details = audit.differences(before, _told(work, kind, row))
    if kind == "provider" and before is not None and row.credential != had_key:
        details["credential"] = "removed" if row.credential is None else "changed"
    if before is None or details["after"] or "credential" in details:
        audit.note(work.session, work.actor, f"{kind}_{verb}", kind, row.id, details)
    return int(row.id)


def _entry(kind: str, given: Mapping[str, Any]) -> Any:
    try:
        return ENTRIES[kind].model_validate(given)
    except ValidationError as exc:
        raise FieldsInvalid(
            {
                ".".join(map(str, one["loc"])) or kind: one["msg"].removeprefix("Value error, ")
                for one in exc.errors(include_url=False)
            }
        ) from exc


def _store_provider(work: Work, row: Provider | None, entry: ProviderEntry) -> Provider:
    if (row is None or entry.name != row.name) and entry.name in work.providers:
        raise InvalidRequest("There is a provider of that name already.", param="name")
    if not KINDS[entry.kind].is_local and is_forbidden(origin_of(entry.base_url).host):
        raise FieldsInvalid({"base_url": "is link-local, metadata or reserved: nothing is ever called there"})
    stored: Provider = PROVIDERS.store(work, row, entry)
    stored.name = entry.name
    return stored


def _store_model(work: Work, row: Model | None, entry: ModelEntry) -> Model:
    names, before = modelnames.known(work.session), None if row is None else row.name
    modelnames.check_name(names, entry.name, before)
    modelnames.check_aliases({name: names[name] for name in names if name != before}, entry.name, entry.aliases)
    for member, given in (("fallbacks", entry.fallbacks), *entry.routing.fallbacks().items()):
        modelnames.check_fallbacks(names, before or entry.name, given, member)
    served = set() if row is None else _served(row)
    stored = write_model(work, row, entry)
    stored.name = entry.name
    work.session.flush()
    if _served(stored) != served:
        price_model(work, stored, entry)
    elif entry.context_window is not None:
        stored.context_window = entry.context_window if isinstance(entry.context_window, int) else None
    return stored


STORES: Final[Mapping[str, Any]] = {"provider": _store_provider, "model": _store_model}


def _served(row: Model) -> set[tuple[int, str]]:
    return {(one.provider_id, one.upstream_model) for one in row.deployments}


def _told(work: Work, kind: str, row: Any) -> dict[str, Any]:
    """A row as commands and the audit log tell it."""
    if kind == "model" and not row.deployments:
        told: dict[str, Any] = {"name": row.name, "deployments": []}
    else:
        told = SECTIONS[kind].entry_of(work, row).told()
    told |= {"enabled": row.is_enabled, "managed_by": row.managed_by}
    if kind == "provider":
        told.pop("api_key", None)
        told |= {"discover": row.discover, "has_key": row.credential is not None}
    return told


def _found(kind: str, rows: Mapping[str, Any], name: str) -> Any:
    if name not in rows:
        raise NotFound(f"There is no {kind} `{name}`.", param="name")
    return rows[name]


def _check_ours(kind: str, row: Any) -> None:
    if row.managed_by in modelbook.SOURCES:
        source = modelbook.SOURCES[row.managed_by]
        raise InvalidRequest(f"{kind.title()} `{row.name}` comes from {source}; change it there.")
