"""Public models made, listed and removed by name: each with a provider of its own, for clients that know no providers.

A model that is made here brings its provider along, with its credential sealed, in one transaction; deleting the
model takes that provider away again, unless another model is served by it. What a file or the environment manages is
changed there.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from models import Deployment, Model, Price, Provider
from services import audit, costmaps, fields, modelviews, owners, prices
from services.addresses import is_forbidden
from services.catalog import Catalog
from services.changing import changing
from services.credentials import Sealer
from services.errors import Conflict, InvalidRequest, NotFound, UpstreamError
from services.fields import Unfit
from services.modelviews import MADE_WITH, TYPES
from services.providers.kinds import KINDS
from services.transport import origin_of
from utils import native
from utils.settings import fits_header

MAX_CREDENTIAL: Final = 4096
MAX_ENDPOINT: Final = 500
MAX_PROVIDER: Final = 100
MAX_DESCRIPTION: Final = 500
MOST_ALIKE: Final = 1000
SOURCES: Final = {"file": "the configuration file", "environment": "the environment of the gateway"}


def _type(value: Any) -> str:
    if not isinstance(value, str) or value not in TYPES:
        raise Unfit(f"must be one of {', '.join(TYPES)}")
    return str(value)


def _endpoint(value: Any) -> str:
    given: str = fields.text(MAX_ENDPOINT)(value)
    try:
        is_bad = bool(given) and is_forbidden(origin_of(given).host)
    except UpstreamError as exc:
        raise Unfit("must read http(s)://host[:port][/path] and nothing else") from exc
    if is_bad:
        raise Unfit("is link-local, metadata or reserved: nothing is ever called there")
    return given.rstrip("/")


def _credential(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_CREDENTIAL or not fits_header(value):
        raise Unfit(f"may have {MAX_CREDENTIAL} ASCII letters, digits and signs; it goes into a header")
    return value


def _name(value: Any) -> str:
    found: str = fields.text(fields.MAX_MODEL, is_required=True)(value)
    if found != found.strip():
        raise Unfit("must not begin or end with a space")
    return found


MEMBERS: Final[Mapping[str, fields.Parse]] = {
    "model_name": _name,
    "model_type": _type,
    "model_endpoint": _endpoint,
    "model_api_key": _credential,
    "model_deployment_name": fields.text(fields.MAX_MODEL),
    "model_description": fields.text(MAX_DESCRIPTION),
}
REQUIRED: Final = ("model_name", "model_type")


class ModelBook:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog, sealer: Sealer) -> None:
        self._engine, self._catalog, self._sealer = engine, catalog, sealer

    def create(self, actor: audit.Actor, body: Mapping[str, Any]) -> str:
        """A new model with its provider, priced by the catalogue where that knows it; returns its name.

        A model that nobody serves yet, such as one of those that are known from the start, is filled instead.

        Raises:
            FieldsInvalid: members that are missing or wrong.
            InvalidRequest: the name is taken (code `model_exists`).
            Conflict: somebody else made something of that name at the same moment.
        """
        given = fields.read(MEMBERS, body, REQUIRED).values
        name, kind = given["model_name"], TYPES[given["model_type"]]
        base_url = given.get("model_endpoint") or KINDS[kind].base_url
        if not base_url:
            raise InvalidRequest("`model_endpoint` is required for this `model_type`.", param="model_endpoint")
        upstream = given.get("model_deployment_name") or name
        entry = native.run(prices.find_entry, kind, base_url, upstream)  # the catalogue takes a while to load
        try:
            with changing(self._engine, self._catalog) as session:
                row = _vacant(session, name)
                provider = self._provider(session, given, kind, base_url)
                session.add(provider)
                session.flush()
                row.deployments.append(Deployment(provider_id=provider.id, upstream_model=upstream))
                row.description, row.managed_by = given.get("model_description") or None, "admin"
                if entry is not None:
                    row.context_window = entry.context_window
                    if entry.price is not None:
                        prices.supersede(row, {None: entry.price}, prices.now())
                session.flush()
                after = {"name": name, "type": given["model_type"], "endpoint": base_url, "deployment": upstream}
                audit.note(session, actor, "model_create", "model", row.id, {"after": after})
        except Conflict as exc:  # of the model's name, or of its provider's
            with Session(self._engine) as session:
                if session.scalar(select(Model.id).where(Model.name == name)) is None:
                    raise
            raise _taken(name) from exc
        return str(name)

    def delete(self, actor: audit.Actor, name: str) -> None:
        """Remove a model with its prices, budgets and limits, and the provider that was made with it.

        Raises:
            NotFound: there is none of that name, or somebody else was quicker.
            InvalidRequest: it is managed elsewhere, or its provider lists it and would bring it back.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, name)
            _check_ours(row)
            made = [one.provider_id for one in row.deployments if MADE_WITH in one.provider.settings]
            audit.note(session, actor, "model_delete", "model", row.id, {"before": {"name": name}})
            remove(session, row.id)
            used = select(Deployment.provider_id)
            gone = delete(Provider).where(Provider.id.in_(made), Provider.managed_by == "admin", ~Provider.id.in_(used))
            session.execute(gone.execution_options(synchronize_session=False))

    def listed(self, may_use: Callable[[str], bool]) -> list[dict[str, Any]]:
        """The models as `/models/all` shows them, by name: those that the asking user may use."""
        with Session(self._engine) as session:
            return [modelviews.by_type(row) for row in session.scalars(_rows()) if may_use(row.name)]

    def entries(self, may_use: Callable[[str], bool]) -> list[dict[str, Any]]:
        """The models with what they cost, as `/api/v1/models` shows them."""
        now = prices.now()
        with Session(self._engine) as session:
            return [modelviews.priced(row, now) for row in session.scalars(_rows()) if may_use(row.name)]

    def entry(self, name: str, may_use: Callable[[str], bool]) -> dict[str, Any]:
        """One of them.

        Raises:
            NotFound: there is none, or none that the asking user may use.
        """
        with Session(self._engine) as session:
            return modelviews.priced(self._found(session, name, may_use), prices.now())

    def estimate(self, name: str, prompt: int, completion: int, may_use: Callable[[str], bool]) -> dict[str, Any]:
        """What a call with so many tokens would cost, as services/estimates.py says it.

        Raises:
            NotFound: see `entry`.
            ModelNotPriced: nobody said what it costs.
            InvalidRequest: a number of tokens that no call has.
        """
        with Session(self._engine) as session:
            return modelviews.estimate(self._found(session, name, may_use), prompt, completion, prices.now())

    def _found(self, session: Session, name: str, may_use: Callable[[str], bool]) -> Model:
        row: Model | None = session.scalars(_rows().where(Model.name == name)).first() if name.isprintable() else None
        if row is None or not may_use(row.name):
            raise _unknown()
        return row

    def _provider(self, session: Session, given: Mapping[str, Any], kind: str, base_url: str) -> Provider:
        credential = given.get("model_api_key")
        return Provider(
            name=_free_name(session, given["model_name"]),
            kind=kind,
            base_url=base_url,
            credential=self._sealer.seal(credential) if credential else None,
            settings={MADE_WITH: given["model_type"]},
            managed_by="admin",
        )


def remove(session: Session, model_id: int) -> None:
    """The model with deployments, prices, budgets and limits, within the caller's transaction.

    SQLite does not cascade by itself.
    """
    owners.forget(session, "model", [model_id])
    for table in (Price, Deployment):
        session.execute(delete(table).where(table.model_id == model_id).execution_options(synchronize_session=False))
    session.execute(delete(Model).where(Model.id == model_id).execution_options(synchronize_session=False))


def remove_provider(session: Session, provider_id: int) -> None:
    """The provider, its deployments with their prices, and models that only it had brought; as `remove` does."""
    costmaps.locked(session, Provider.id == provider_id)  # before its prices, as who stores a cost map does
    mine = Deployment.provider_id == provider_id
    touched = list(session.scalars(select(Deployment.model_id).where(mine)))
    session.execute(delete(Price).where(Price.deployment_id.in_(select(Deployment.id).where(mine))))
    session.execute(delete(Deployment).where(mine))
    stranded = (Model.id.in_(touched), Model.managed_by == "discovery", ~Model.id.in_(select(Deployment.model_id)))
    session.execute(delete(Price).where(Price.model_id.in_(select(Model.id).where(*stranded))))
    owners.forget(session, "model", select(Model.id).where(*stranded))
    session.execute(delete(Model).where(*stranded).execution_options(synchronize_session=False))
    session.execute(delete(Provider).where(Provider.id == provider_id))


def _rows() -> Any:
    served = selectinload(Model.deployments).joinedload(Deployment.provider)
    return select(Model).options(served, selectinload(Model.prices)).order_by(Model.name)


def _vacant(session: Session, name: str) -> Model:
    """A new row, or one of that name that serves nobody, which nobody else fills at the same moment."""
    lock = update(Model).where(Model.name == name).values(updated_at=Model.updated_at).returning(Model.id)
    number = session.execute(lock.execution_options(synchronize_session=False)).scalar()
    if number is None:
        row = Model(name=name, fallbacks=[], managed_by="admin")
        session.add(row)
        return row
    row = session.get_one(Model, number)
    if row.deployments or row.managed_by != "discovery":
        raise _taken(name)
    return row


def _locked(session: Session, name: str) -> Model:
    lock = update(Model).where(Model.name == name).values(updated_at=Model.updated_at).returning(Model.id)
    found = session.execute(lock.execution_options(synchronize_session=False)) if name.isprintable() else None
    number = found.scalar() if found is not None else None
    if number is None:
        raise _unknown()
    served = selectinload(Model.deployments).options(joinedload(Deployment.provider))
    return session.scalars(select(Model).where(Model.id == number).options(served)).one()


def _check_ours(row: Model) -> None:
    if row.managed_by in SOURCES:
        raise InvalidRequest(f"Model `{row.name}` comes from {SOURCES[row.managed_by]}; change it there.")
    if row.managed_by == "discovery" and row.deployments:
        raise InvalidRequest(f"The provider of model `{row.name}` lists it, so it would come back; disable it instead.")


def _free_name(session: Session, model: str) -> str:
    """A name for the model's provider: the model's own, with a number where that is taken."""
    wanted = model.replace("/", "-").lstrip("-")[: MAX_PROVIDER - len(f"-{MOST_ALIKE}")] or "model"
    alike = set(session.scalars(select(Provider.name).where(Provider.name.startswith(wanted, autoescape=True))))
    names = (wanted, *(f"{wanted}-{number}" for number in range(2, MOST_ALIKE)))
    return next((name for name in names if name not in alike), wanted)


def _taken(name: str) -> InvalidRequest:
    return InvalidRequest(f"Model {name} already exists", param="model_name", code="model_exists")


def _unknown() -> NotFound:
    return NotFound("Model not found", param="model_name", code="model_not_found")
