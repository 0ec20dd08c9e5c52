"""Provider accounts as the key management API sees them: made with a credential, named by a UUID, given to keys.

A provider setting is a row of `providers` that is asked for its models; a key with settings reaches no other account.
Every change is one transaction with its prices and its entry in the audit log; the provider is asked after it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import Provider
from services import audit, costmaps
from services.catalog import Catalog
from services.changing import changing
from services.credentials import Sealer
from services.discovery import Discovery
from services.errors import Conflict, FieldsInvalid, InvalidRequest, NotFound
from services.fields import Unfit
from utils import ids
from utils.settings import fits_header

MAX_NAME: Final = 100
MAX_MODEL: Final = 200
MAX_CREDENTIAL: Final = 500
CREDENTIALS: Final = ("apikey", "apiKey")
MEMBERS: Final = ("provider", "setting", "name", "allowedModels", "costMap")
KEPT: Final = ("allowed_models", costmaps.STORED)  # in the settings of the row
BAD_CREDENTIAL: Final = f"must be 1 to {MAX_CREDENTIAL} ASCII letters, digits and signs; it goes into a header"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a client gives; None = not given."""

    provider: str | None
    credential: str | None
    name: str | None
    allowed_models: list[str] | None
    cost_map: costmaps.Rates | None


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
            FieldsInvalid: members that are missing or wrong.
            Conflict: the name is taken (code `duplicate_setting`).
        """
        wanted = self._read(given, ("provider", "setting.apikey"))
        kind, uuid = wanted.provider or "", ids.uuid()  # it is there
        row = Provider(
            uuid=uuid,
            name=f"{kind}-{uuid[:8]}",
            kind=kind,
            base_url=self._base_urls[kind],
            settings={},
            discover=True,
            managed_by="admin",
        )
        with changing(self._engine, self._catalog) as session:
            session.add(row)
            self._fill(session, row, wanted)
            _note(session, actor, "provider_create", row)
        return self._asked(row)

    def update(self, actor: audit.Actor, uuid: str, given: dict[str, Any]) -> dict[str, Any]:
        """Change what is given of a setting.

        Raises:
            NotFound: there is none with that id.
            FieldsInvalid, Conflict: see `create`.
            InvalidRequest: it is not for clients to change.
        """
        wanted = self._read(given)
        with changing(self._engine, self._catalog) as session:
            row = self._locked(session, uuid)
            if wanted.provider not in {None, row.kind}:
                raise InvalidRequest("`provider` cannot be changed.", param="provider")
            self._fill(session, row, wanted)
            if wanted.cost_map is not None:
                costmaps.apply(session, row)
            _note(session, actor, "provider_update", row)
        return self._asked(row)

    def listed(self, uuids: Sequence[str]) -> list[dict[str, Any]]:
        """These settings, or all."""
        query = select(Provider).where(Provider.kind.in_(self._base_urls)).order_by(Provider.id)
        with Session(self._engine) as session:
            rows = session.scalars(query.where(Provider.uuid.in_(uuids)) if uuids else query)
            return [shown(row) for row in rows]

    def _locked(self, session: Session, uuid: str) -> Provider:
        """The setting, which nobody else changes until the end of the transaction.

        Raises:
            NotFound: there is none with that id.
            InvalidRequest: it is not for clients to change.
        """
        is_one = uuid.isascii() and uuid.isprintable()
        row = costmaps.locked(session, Provider.uuid == uuid) if is_one else None
        if row is None or row.kind not in self._base_urls:
            raise NotFound(f"There is no provider setting `{uuid}`.", param="id", code="setting_not_found")
        if row.managed_by != "admin":
            raise InvalidRequest(f"Provider `{row.name}` is managed by the {row.managed_by}.", param="id")
        return row

    def _fill(self, session: Session, row: Provider, wanted: Setting) -> None:
        """Set what is given.

        Raises:
            Conflict: the name is taken.
        """
        row.name = name = wanted.name or row.name
        if wanted.credential:
            row.credential = self._sealer.seal(wanted.credential)
        row.settings = _settings(row.settings, wanted)
        try:
            session.flush()
        except IntegrityError as exc:
            raise Conflict(f"There is a provider `{name}` already.", param="name", code="duplicate_setting") from exc

    def _asked(self, row: Provider) -> dict[str, Any]:
        """The setting as it was stored; its provider is asked now, when nothing is locked any more."""
        self._discovery.ask(row.id)
        self._catalog.refresh()
        return shown(row)

    def _read(self, given: dict[str, Any], required: tuple[str, ...] = ()) -> Setting:
        """What a body says.

        Raises:
            FieldsInvalid: with all that is wrong, each with its reason.
        """
        provider, setting = given.get("provider"), given.get("setting")
        inside: dict[str, Any] = setting if isinstance(setting, dict) else {}
        credential = next((inside[key] for key in CREDENTIALS if key in inside), None)
        name, models = given.get("name"), given.get("allowedModels")
        wrong = {member[:MAX_NAME]: "is not known here" for member in unknown(given, *MEMBERS)}
        wrong |= {f"setting.{one[:MAX_NAME]}": "is not known here" for one in unknown(inside, *CREDENTIALS)}
        checks = {
            # It may be of any type, so it is looked for in a list.
            "provider": (provider is None or provider in list(self._base_urls), self._one_of()),
            "setting": (setting is None or isinstance(setting, dict), 'must be an object such as {"apikey": "…"}'),
            "setting.apikey": (_is_text(credential, MAX_CREDENTIAL) and fits_header(credential or ""), BAD_CREDENTIAL),
            "name": (_is_text(name, MAX_NAME), f"must be a text of 1 to {MAX_NAME} printable characters"),
            "allowedModels": (_are_models(models), "must be a list of model names"),
        }
        wrong |= {member: why for member, (is_good, why) in checks.items() if not is_good}
        cost_map = None
        try:
            cost_map = costmaps.read(given.get("costMap"))
        except Unfit as exc:
            wrong[f"costMap{exc.at}"] = str(exc)
        missing = {"provider": not provider, "setting.apikey": not credential and "setting" not in wrong}
        wrong |= {one: "is required" for one in required if missing[one] and one not in wrong}
        if wrong:
            raise FieldsInvalid(wrong)
        return Setting(provider, credential, name, models, cost_map)

    def _one_of(self) -> str:
        return f"must be one of {', '.join(self._base_urls)}"


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
        "costMap": costmaps.shown(row.settings),
        "createdAt": int(row.created_at.timestamp()),
        "updatedAt": int(row.updated_at.timestamp()),
    }


def unknown(given: dict[str, Any], *names: str) -> list[str]:
    """The members of an object that nobody reads."""
    return sorted(given.keys() - set(names))


def _note(session: Session, actor: audit.Actor, action: str, row: Provider) -> None:
    after = {"kind": row.kind, **{name: row.settings.get(name) for name in KEPT}}
    audit.note(session, actor, action, "provider", row.name, {"after": after})


def _settings(settings: dict[str, Any], wanted: Setting) -> dict[str, Any]:
    """The settings with what is given; an empty list or map takes away what is there."""
    given = dict(zip(KEPT, (wanted.allowed_models, wanted.cost_map), strict=True))
    kept = {name: value for name, value in settings.items() if given.get(name) is None}
    return kept | {name: value for name, value in given.items() if value}


def _are_models(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(_is_text(one, MAX_MODEL) and one for one in value))


def _is_text(value: Any, longest: int) -> bool:
    return value is None or (isinstance(value, str) and value.isprintable() and 0 < len(value) <= longest)
