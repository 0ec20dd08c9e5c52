"""Provider accounts as the key management API sees them: made with a credential, named by a UUID, given to keys.

A provider setting is a row of `providers` that is asked for its models; a key with settings reaches no other account.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import Provider
from services import audit
from services.catalog import Catalog
from services.credentials import Sealer
from services.discovery import Discovery
from services.errors import FieldsInvalid, InvalidRequest, NotFound

MAX_NAME: Final = 100
CREDENTIALS: Final = ("apikey", "apiKey")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a client gives; None = not given."""

    provider: str | None
    credential: str | None
    name: str | None
    allowed_models: list[str] | None


class ProviderSettings:
    """Makes, changes and lists them. `base_urls`: where each provider that can be set up this way is reached."""

    def __init__(
        self, engine: Engine, sealer: Sealer, discovery: Discovery, base_urls: dict[str, str], catalog: Catalog
    ) -> None:
        self._engine, self._sealer, self._discovery, self._catalog = engine, sealer, discovery, catalog
        self._base_urls = base_urls

    def create(self, actor: audit.Actor, given: dict[str, Any]) -> dict[str, Any]:
        """A new setting; its provider is asked for its models at once.

        Raises:
            InvalidRequest: a member that is missing or wrong, or a name that is taken.
        """
        wanted = self._read(given)
        if wanted.provider is None or not wanted.credential:
            raise InvalidRequest("`provider` and `setting.apikey` are required.", param="provider")
        row = Provider(
            name=wanted.name or "",
            kind=wanted.provider,
            base_url=self._base_urls[wanted.provider],
            credential=self._sealer.seal(wanted.credential),
            settings=_settings({}, wanted.allowed_models),
            discover=True,
            managed_by="admin",
        )
        return self._store(actor, row, "provider_create")

    def update(self, actor: audit.Actor, uuid: str, given: dict[str, Any]) -> dict[str, Any]:
        """Change what is given of a setting.

        Raises:
            NotFound: there is none with that id.
            InvalidRequest: see `create`.
        """
        wanted = self._read(given)
        with Session(self._engine, expire_on_commit=False) as session:
            row = session.scalar(select(Provider).where(Provider.uuid == uuid))
        if row is None or row.kind not in self._base_urls:
            raise NotFound(f"There is no provider setting `{uuid}`.", param="id", code="setting_not_found")
        if row.managed_by != "admin":
            raise InvalidRequest(f"Provider `{row.name}` is managed by the {row.managed_by}.", param="id")
        if wanted.provider not in {None, row.kind}:
            raise InvalidRequest("`provider` cannot be changed.", param="provider")
        if wanted.credential:
            row.credential = self._sealer.seal(wanted.credential)
        row.name = wanted.name or row.name
        if wanted.allowed_models is not None:
            row.settings = _settings(row.settings, wanted.allowed_models)
        return self._store(actor, row, "provider_update")

    def listed(self, uuids: Sequence[str]) -> list[dict[str, Any]]:
        """These settings, or all."""
        query = select(Provider).where(Provider.kind.in_(self._base_urls)).order_by(Provider.id)
        with Session(self._engine) as session:
            rows = session.scalars(query.where(Provider.uuid.in_(uuids)) if uuids else query)
            return [shown(row) for row in rows]

    def _store(self, actor: audit.Actor, row: Provider, action: str) -> dict[str, Any]:
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                row = session.merge(row)
                session.flush()
                row.name = row.name or f"{row.kind}-{row.uuid[:8]}"
                after = {"kind": row.kind, "allowed_models": row.settings.get("allowed_models")}
                audit.note(session, actor, action, "provider", row.name, {"after": after})
        except IntegrityError as exc:
            raise InvalidRequest(f"There is a provider `{row.name}` already.", param="name") from exc
        self._discovery.ask(row.id)
        self._catalog.refresh()
        return shown(row)

    def _read(self, given: dict[str, Any]) -> Setting:
        setting = given.get("setting") or {}
        if not isinstance(setting, dict) or unknown(given, "provider", "setting", "name", "allowedModels"):
            raise InvalidRequest("Give `provider`, `setting`, `name` and `allowedModels` only.", param="setting")
        if unknown(setting, *CREDENTIALS):
            raise InvalidRequest("`setting` may have `apikey` only.", param="setting")
        provider, name, models = given.get("provider"), given.get("name"), given.get("allowedModels")
        credential = next((setting[key] for key in CREDENTIALS if key in setting), None)
        if provider is not None and provider not in list(self._base_urls):  # it may be of any type
            raise InvalidRequest(f"`provider` must be one of {', '.join(self._base_urls)}.", param="provider")
        if not _is_text(credential, 500) or not _is_text(name, MAX_NAME):
            raise InvalidRequest("`apikey` and `name` must be texts without control characters.", param="setting")
        if models is not None and not (isinstance(models, list) and all(_is_text(one, 200) and one for one in models)):
            raise InvalidRequest("`allowedModels` must be an array of model names.", param="allowedModels")
        return Setting(provider, credential, name, models)


def numbers(session: Session, given: Sequence[str], member: str) -> list[int]:
    """The provider accounts behind these settings, which that member of a body names.

    Raises:
        FieldsInvalid: one does not exist.
    """
    found = dict(session.execute(select(Provider.uuid, Provider.id).where(Provider.uuid.in_(given))).tuples().all())
    if missing := [uuid for uuid in given if uuid not in found]:
        raise FieldsInvalid({member: f"`{missing[0]}` does not exist"})
    return [found[uuid] for uuid in given]


def uuids(session: Session, ids: Collection[int]) -> dict[int, str]:
    """What the settings of these provider accounts are called."""
    if not ids:
        return {}
    return dict(session.execute(select(Provider.id, Provider.uuid).where(Provider.id.in_(ids))).tuples().all())


def shown(row: Provider) -> dict[str, Any]:
    """A setting as clients see it, without its credential."""
    return {
        "id": row.uuid,
        "provider": row.kind,
        "name": row.name,
        "allowedModels": row.settings.get("allowed_models") or [],
        "createdAt": int(row.created_at.timestamp()),
        "updatedAt": int(row.updated_at.timestamp()),
    }


def unknown(given: dict[str, Any], *names: str) -> list[str]:
    """The members of an object that nobody reads."""
    return sorted(given.keys() - set(names))


def _settings(settings: dict[str, Any], allowed_models: list[str] | None) -> dict[str, Any]:
    kept = {name: value for name, value in settings.items() if name != "allowed_models"}
    return kept | ({"allowed_models": allowed_models} if allowed_models else {})


def _is_text(value: Any, longest: int) -> bool:
    return value is None or (isinstance(value, str) and value.isprintable() and 0 < len(value) <= longest)
