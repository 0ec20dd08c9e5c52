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
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, selectinload

from models import Deployment, Model, Provider
from services import costmaps, pricebook, prices
from services.credentials import SealBroken, Sealer
from services.errors import UpstreamError
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
            wanted = set(provider.settings.get("allowed_models") or names)
            self._store(provider, names & wanted)
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

    def _store(self, provider: Provider, names: set[str]) -> None:
        """Offer what is new, withdraw what is gone."""
        with Session(self._engine) as session, session.begin():
            offered = session.scalars(
                select(Model).where(Model.managed_by == "discovery").options(selectinload(Model.deployments))
            ).all()
            for model in offered:
                mine = [deployment for deployment in model.deployments if deployment.provider_id == provider.id]
                if mine and model.name not in names:
                    pricebook.drop_deployments(session, model, mine)
                    if not model.deployments:
                        session.delete(model)
            known = {
                model.name: model
                for model in session.scalars(
                    select(Model).where(Model.name.in_(names)).options(selectinload(Model.deployments))
                )
            }
            for name in sorted(names):
                row = known.get(name)
                if row is None:
                    session.add(made := _new_model(provider, name))
                    session.flush()
                    costmaps.price(made, made.deployments, provider.settings)
                elif row.managed_by == "discovery" and all(d.provider_id != provider.id for d in row.deployments):
                    self._join(session, row, provider)

    @staticmethod
    def _join(session: Session, row: Model, provider: Provider) -> None:
        """Another provider has the model too: at its own price, for the one that stands there is the first one's.

        A model that nobody serves has no first one; what stands there is then its price.
        """
        entry = prices.find_entry(provider.kind, provider.base_url, row.name)
        own = costmaps.price_of(provider.settings, row.name) or (entry.price if entry is not None else None)
        if own is None and row.prices and row.deployments:
            log.info("model %s of provider %s not offered: nobody knows its price there", row.name, provider.name)
            return
        row.deployments.append(deployment := Deployment(provider_id=provider.id, upstream_model=row.name))
        if own is not None:
            session.flush()
            row.prices.append(prices.row_of(own, deployment.id))


def _new_model(provider: Provider, name: str) -> Model:
    entry = prices.find_entry(provider.kind, provider.base_url, name)
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
