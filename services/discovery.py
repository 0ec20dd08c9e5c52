"""Asks providers which models they have, and offers them under the same names.

A provider that is down keeps the models it had, and asking it never holds up a request for more than a moment.
Models set up by people or by the configuration file are left alone.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, selectinload

from models import Deployment, Model, Provider
from services import costmaps, pricebook, prices
from services.credentials import SealBroken, Sealer
from services.errors import UpstreamError
from services.prices import CatalogueEntry
from services.providers.base import Wire
from services.settlement import clean
from services.tokens import Tokens
from services.transport import Transport
from services.types import Upstream
from utils import clock

log = logging.getLogger(__name__)

WAIT_S: Final = 2.0  # for one provider's list
ON_DEMAND_S: Final = 5.0  # a call for an unknown model makes us ask again, but not more often than this
MAX_NAME_CHARS: Final = 200
TRIES: Final = 3  # to store what a provider has
CANNOT_LIST: Final = "the provider's kind cannot list models"
BAD_HEADER: Final = "its credential or a setting has characters that no header can carry; enter it again"


class Discovery:
    """Keeps the models of providers with `discover` in step with what they list."""

    def __init__(
        self, engine: Engine, sealer: Sealer, transport: Transport, wires: Mapping[str, Wire], tokens: Tokens
    ) -> None:
        self._engine, self._sealer, self._transport, self._wires = engine, sealer, transport, wires
        self._tokens = tokens
        self._asking = threading.Lock()
        self._asked_s = -ON_DEMAND_S

    def ask_due(self, interval_s: float) -> int:
        """Ask the providers nobody has asked for that long; returns how many. Workers share the work."""
        before = datetime.fromtimestamp(clock.now_s(), UTC) - timedelta(seconds=interval_s)
        with Session(self._engine) as session, session.begin():
            due = list(
                session.scalars(
                    update(Provider)
                    .where(
                        Provider.discover,
                        Provider.is_enabled,
                        or_(Provider.discovered_at.is_(None), Provider.discovered_at < before),
                    )
                    .values(discovered_at=datetime.fromtimestamp(clock.now_s(), UTC))
                    .returning(Provider.id)
                )
            )
        self._ask_all(due)
        return len(due)

    def ask_now(self) -> bool:
        """Ask all, for a model nobody knows; False = that was done a moment ago."""
        if clock.monotonic_s() - self._asked_s < ON_DEMAND_S or not self._asking.acquire(blocking=False):
            return False
        try:
            self._asked_s = clock.monotonic_s()
            with Session(self._engine) as session:
                ids = list(session.scalars(select(Provider.id).where(Provider.discover, Provider.is_enabled)))
            self._ask_all(ids)
            return bool(ids)
        finally:
            self._asking.release()

    def _ask_all(self, ids: Sequence[int]) -> None:
        """Ask them one after the other; what goes wrong with one keeps nobody from the others."""
        for provider_id in ids:
            try:
                self.ask(provider_id)
            except OperationalError:
                raise  # the database is away, for the next one too
            except Exception as exc:  # noqa: BLE001 - a start and calls for unknown models depend on getting through
                log.warning("models of provider %s not listed: %s: %s", provider_id, type(exc).__name__, exc)

    def ask(self, provider_id: int) -> str | None:
        """Ask one provider and store what it has; returns what went wrong, in words for an admin."""
        with Session(self._engine) as session:
            provider = session.get(Provider, provider_id)
        if provider is None or provider.kind not in self._wires:
            return CANNOT_LIST
        names, problem = self._listed(provider)
        if problem is None:
            self._store(provider, names)
        self._note(provider_id, problem)
        return problem

    def names(self, provider_id: int) -> tuple[set[str], str | None]:
        """What one provider lists now, and what went wrong; nothing is stored."""
        with Session(self._engine) as session:
            provider = session.get(Provider, provider_id)
        if provider is None or provider.kind not in self._wires:
            return set(), CANNOT_LIST
        return self._listed(provider)

    def _listed(self, provider: Provider) -> tuple[set[str], str | None]:
        try:
            credential = self._sealer.open(provider.credential) if provider.credential is not None else ""
            wire = self._wires[provider.kind]
            upstream = Upstream(
                provider.id, provider.name, provider.kind, provider.base_url, credential, provider.settings
            )
            settings = {**provider.settings, "base_url": provider.base_url}
            path, headers = wire.model_list(settings, self._tokens.credential(wire, upstream))
            names = wire.model_names(self._transport.fetch(upstream, path, headers, timeout_s=WAIT_S))
        except (UpstreamError, SealBroken, UnicodeError) as exc:
            problem = BAD_HEADER if isinstance(exc, UnicodeError) else clean(str(exc))
            log.info("models of provider %s not listed: %s", provider.name, problem)
            return set(), problem
        return {name for name in names if 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()}, None

    def _note(self, provider_id: int, problem: str | None) -> None:
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(Provider)
                .where(Provider.id == provider_id, Provider.discovery_error.is_distinct_from(problem))
                .values(discovery_error=problem)
            )

    def _store(self, asked: Provider, names: set[str]) -> None:
        """Offer what is new, withdraw what is gone, as the provider's settings are now."""
        # The catalogue is read before anything is locked; the first time it is loaded.
        with Session(self._engine) as session:
            new = _to_offer(session, asked, _allowed(asked, names))
            entries = {name: prices.find_entry(asked.kind, asked.base_url, name) for name in new}
        for left in reversed(range(TRIES)):
            try:
                self._change(asked.id, names, entries)
                break
            except IntegrityError:  # another provider brought the same model at the same moment
                if not left:
                    raise

    def _change(self, number: int, listed: set[str], entries: Mapping[str, CatalogueEntry | None]) -> None:
        with Session(self._engine) as session, session.begin():
            provider = costmaps.locked(session, Provider.id == number)
            if provider is None:
                return
            names = _allowed(provider, listed)
            _withdraw(session, provider, names)
            for name, row in _to_offer(session, provider, names).items():
                if name not in entries:
                    continue  # whoever allowed it meanwhile asks too
                if row is None:
                    session.add(made := _new_model(provider, name, entries[name]))
                    session.flush()
                    costmaps.price(made, made.deployments, provider.settings)
                else:
                    self._join(session, row, provider, entries[name])

    @staticmethod
    def _join(session: Session, row: Model, provider: Provider, entry: CatalogueEntry | None) -> None:
        """Another provider has the model too: at its own price, for the one that stands there is the first one's.

        A model that nobody serves has no first one; what stands there is then its price.
        """
        own = costmaps.price_of(provider.settings, row.name) or (entry.price if entry is not None else None)
        if own is None and row.prices and row.deployments:
            log.info("model %s of provider %s not offered: nobody knows its price there", row.name, provider.name)
            return
        row.deployments.append(deployment := Deployment(provider_id=provider.id, upstream_model=row.name))
        if own is not None:
            session.flush()
            row.prices.append(prices.row_of(own, deployment.id))


def _allowed(provider: Provider, names: set[str]) -> set[str]:
    return names & set(provider.settings.get("allowed_models") or names)


def _withdraw(session: Session, provider: Provider, names: set[str]) -> None:
    """Take back what was found at a provider and is not among these any more."""
    query = select(Model).where(Model.managed_by == "discovery").options(selectinload(Model.deployments))
    for model in session.scalars(query).all():
        mine = [deployment for deployment in model.deployments if deployment.provider_id == provider.id]
        if mine and model.name not in names:
            pricebook.drop_deployments(session, model, mine)
            if not model.deployments:
                session.delete(model)


def _to_offer(session: Session, provider: Provider, names: set[str]) -> dict[str, Model | None]:
    """The models that a provider does not serve yet and that discovery may offer there; None = nobody has it."""
    query = select(Model).where(Model.name.in_(names)).options(selectinload(Model.deployments))
    known = {model.name: model for model in session.scalars(query)}
    return {name: known.get(name) for name in sorted(names) if _may_join(known.get(name), provider.id)}


def _may_join(model: Model | None, provider_id: int) -> bool:
    if model is None:
        return True
    return model.managed_by == "discovery" and all(one.provider_id != provider_id for one in model.deployments)


def _new_model(provider: Provider, name: str, entry: CatalogueEntry | None) -> Model:
    model = Model(
        name=name,
        owned_by=provider.name,
        managed_by="discovery",
        fallbacks=[],
        context_window=entry.context_window if entry else None,
        deployments=[Deployment(provider_id=provider.id, upstream_model=name)],
    )
    if entry is not None and entry.price is not None:
        model.prices.append(prices.row_of(entry.price, None))
    return model
