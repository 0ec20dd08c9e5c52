"""What a worker knows at request time: models, deployments, prices, and the callers seen so far.

One immutable snapshot, replaced as a whole when `catalog_version` has changed; triggers raise that number with
every change that matters, whoever makes it. It is replaced too when a price begins or ends by its date. Callers are
looked up at their first call and stay until the next snapshot. Money and counters are never in here.
"""

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, cast

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, selectinload

from models import Budget, CatalogVersion, Limit, Model, Provider, Route
from models_policies import Policy as PolicyRow
from services import audit, budgets, limits, prices, routing, steps
from services.credentials import SealBroken, Sealer
from services.errors import AccountingUnavailable
from services.guards import rules
from services.promptparts import StoredPrompt
from services.types import Caller, Deployment, LimitRef, PublicModel, Upstream
from utils import clock

log = logging.getLogger(__name__)

PATIENCE_S: Final = 2.0  # for a look at the version, which takes a millisecond
UNKNOWN_S: Final = 1.0  # how long an unknown credential is refused without a look-up
UNKNOWN_MAX: Final = 10_000  # a flood of different wrong keys must not fill the memory

Asked = tuple[str, int, int]  # how a prompt was named, by a user, in a team
Found = Caller | str | None  # a caller, why there is none, or nobody
Ceilings = tuple[dict[int, list[Budget]], dict[int, list[LimitRef]]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything as of one version. `callers`, `unknown` and `prompts` fill up while it lives."""

    version: int
    models: Mapping[str, PublicModel] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other names: the models'
    address_limits: tuple[LimitRef, ...] = ()
    ends_s: float = math.inf  # unix seconds: when another price comes into force
    routes: Mapping[str, steps.Route] = field(default_factory=dict)  # by path
    policies: rules.Policies | None = None  # None: there are none
    callers: dict[str, Caller | str] = field(default_factory=dict)
    unknown: dict[str, float] = field(default_factory=dict)
    prompts: dict[Asked, StoredPrompt] = field(default_factory=dict)  # see services/promptbook.py

    def model(self, name: str) -> PublicModel | None:
        """The model of that name, or of that alias."""
        return self.models.get(name) or self.models.get(self.aliases.get(name, ""))


class Catalog:
    """Holds the snapshot of this worker and replaces it when it is out of date."""

    def __init__(self, engine: Engine, sealer: Sealer, *, interval_s: float) -> None:
        self._engine, self._sealer, self._interval_s = engine, sealer, interval_s
        self._snapshot: Snapshot | None = None
        self._checked_s = 0.0
        self._compiled: rules.Compiled = {}
        self._loading = threading.Lock()

    def snapshot(self) -> Snapshot:
        """The snapshot, at most `interval_s` behind the database.

        Raises:
            AccountingUnavailable: there is none yet and the database does not answer.
        """
        asked_s = clock.monotonic_s()
        snapshot = self._snapshot
        if snapshot is not None and asked_s - self._checked_s < self._interval_s:
            return snapshot
        # Nobody goes on with what may be out of date: all wait for the one who looks, unless the database hangs.
        if not self._loading.acquire(timeout=-1 if snapshot is None else PATIENCE_S):
            return cast("Snapshot", snapshot)
        try:
            is_seen = self._snapshot is not None and self._checked_s >= asked_s
            return cast("Snapshot", self._snapshot) if is_seen else self._look()
        finally:
            self._loading.release()

    def refresh(self) -> Snapshot:
        """Look now whether something changed; while the database is away, the last snapshot stays in use.

        A new key changes no version, so what was unknown until now may be known from now on.

        Raises:
            AccountingUnavailable: see `snapshot`.
        """
        with self._loading:
            snapshot = self._look()
        snapshot.unknown.clear()
        return snapshot

    def reload(self, actor: audit.Actor) -> Snapshot:
        """Have every worker read everything anew: this one now, the others when they look at the version next.

        Raises:
            AccountingUnavailable: the database does not answer.
        """
        try:
            with Session(self._engine) as session, session.begin():
                audit.note(session, actor, "models_reload", "system")
            # On its own: everybody else takes this row after the end of the audit log, and nobody the other way round.
            with Session(self._engine) as session, session.begin():
                session.execute(update(CatalogVersion).values(version=CatalogVersion.version + 1))
        except SQLAlchemyError as exc:
            raise AccountingUnavailable("the database does not answer") from exc
        return self.refresh()

    def _look(self) -> Snapshot:
        try:
            version = self._version()
            if self._snapshot is None or self._snapshot.version != version or clock.now_s() >= self._snapshot.ends_s:
                self._snapshot = Snapshot(version, *self._load())
        except SQLAlchemyError as exc:
            log.error("catalog not refreshed: %s", exc.__class__.__name__)  # noqa: TRY400 - the class says enough
            if self._snapshot is None:
                raise AccountingUnavailable("the database does not answer") from exc
        finally:
            self._checked_s = clock.monotonic_s()
        return self._snapshot

    def caller(self, name: str, find: Callable[[], Found]) -> Found:
        """Who stands behind a digest or user name, from the snapshot or by one look-up.

        Raises:
            AccountingUnavailable: the look-up failed.
        """
        snapshot = self.snapshot()
        known = snapshot.callers.get(name)
        if known is not None:
            return known
        if snapshot.unknown.get(name, 0.0) > clock.monotonic_s():
            return None
        try:
            found = find()
        except SQLAlchemyError as exc:
            raise AccountingUnavailable("the database does not answer") from exc
        if found is not None:
            snapshot.callers[name] = found
        else:
            if len(snapshot.unknown) >= UNKNOWN_MAX:
                snapshot.unknown.clear()
            snapshot.unknown[name] = clock.monotonic_s() + UNKNOWN_S
        return found

    def _version(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(select(CatalogVersion.version)).scalar_one()

    def _load(
        self,
    ) -> tuple[
        dict[str, PublicModel],
        dict[str, str],
        tuple[LimitRef, ...],
        float,
        dict[str, steps.Route],
        rules.Policies | None,
    ]:
        now = prices.now()
        with Session(self._engine) as session:
            ceilings = _ceilings(session)
            accounts = session.scalars(select(Provider).where(Provider.is_enabled)).all()
            upstreams = {row.id: self._upstream(row) for row in accounts}
            query = (
                select(Model)
                .where(Model.is_enabled)
                .options(selectinload(Model.deployments), selectinload(Model.prices))
            )
            rows = session.scalars(query.order_by(Model.name)).all()
            until = prices.next_change((price for row in rows for price in row.prices), now)
            models = {row.name: _model(row, upstreams, now, ceilings) for row in rows}
            ends_s = math.inf if until is None else until.timestamp()
            aliases = {alias: model.name for model in models.values() for alias in model.aliases}
            paths = steps.routes(session.scalars(select(Route)), models, accounts)
            kept = select(PolicyRow).where(PolicyRow.is_enabled).options(selectinload(PolicyRow.bindings))
            policies = rules.of_rows(session.scalars(kept.order_by(PolicyRow.id)), self._compiled)
            return models, aliases, tuple(ceilings[1].get(0, ())), ends_s, paths, policies

    def _upstream(self, row: Provider) -> Upstream | None:
        """The provider, or None when its credential cannot be opened: its models then answer nothing."""
        try:
            credential = self._sealer.open(row.credential) if row.credential is not None else ""
        except SealBroken as exc:
            log.error("provider %s is not usable: %s", row.name, exc)  # noqa: TRY400 - the message says enough
            return None
        return Upstream(row.id, row.name, row.kind, row.base_url, credential, row.settings)


def _ceilings(session: Session) -> Ceilings:
    """The budgets of all models and the limits of all models (and of addresses: 0), by the model's number."""
    found: Ceilings = (defaultdict(list), defaultdict(list))
    for budget in session.scalars(select(Budget).where(Budget.scope == "model").order_by(Budget.id)):
        found[0][budget.scope_id].append(budget)
    for limit in session.scalars(select(Limit).where(Limit.scope.in_(("model", "address"))).order_by(Limit.id)):
        found[1][limit.scope_id].append(limits.ref_of(limit))
    return found


def _model(row: Model, upstreams: Mapping[int, Upstream | None], now: datetime, ceilings: Ceilings) -> PublicModel:
    deployments = []
    for deployment in row.deployments:
        upstream = upstreams.get(deployment.provider_id)
        price = prices.in_force(row.prices, deployment.id, now)
        if upstream is not None and deployment.is_enabled:
            deployments.append(
                Deployment(
                    deployment.id,
                    upstream,
                    deployment.upstream_model,
                    deployment.priority,
                    deployment.weight,
                    None if price is None else prices.record_of(price),
                    row.id,
                )
            )
    return PublicModel(
        name=row.name,
        owned_by=row.owned_by,
        created_s=int(row.created_at.timestamp()),
        deployments=tuple(deployments),
        fallbacks=tuple(row.fallbacks),
        context_window=row.context_window,
        max_output_tokens=row.max_output_tokens,
        id=row.id,
        budgets=tuple(budgets.ref_of(budget, row.name) for budget in ceilings[0].get(row.id, ())),
        limits=tuple(ceilings[1].get(row.id, ())),
        aliases=tuple(row.aliases or ()),
        routing=routing.of_record(row.routing),
    )
