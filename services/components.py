"""Whether the parts are well that calls depend on: what health checks are told, without names or addresses."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from services.accounting import Accounting
from services.health import Health
from services.healthview import WORST
from services.watch import Watch
from utils import clock

log = logging.getLogger(__name__)

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
STATES: Final = (HEALTHY, DEGRADED, UNHEALTHY)  # the later counts
MUTE: Final = "the database does not answer"
MUTE_S: Final = 5.0  # that long somebody has been asking, without an answer
KEEP_S: Final = 1.0  # so that a flood of health checks asks nobody more often
SLOW_MS: Final = 1_000.0  # a database that takes longer is about to refuse calls
LOW_BYTES: Final = 64 * 1024 * 1024  # less than that is left on the disk, and calls will soon be refused


@dataclass(frozen=True, slots=True)
class Component:
    """One part. `latency_ms`: what asking it took; None where nothing is asked."""

    name: str
    status: str = HEALTHY
    latency_ms: float | None = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


Look = Callable[[], Component]


class Components:
    """See the module."""

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators
        self,
        engine: Engine,
        accounting: Accounting,
        health: Health,
        watch: Watch,
        folder: Path,
        version: str,
        more: Iterable[Look],
    ) -> None:
        """`folder`: where what cannot be booked at once is kept; `more`: parts that only some gateways have."""
        self._engine, self._accounting, self._health = engine, accounting, health
        self._watch, self._folder, self._version = watch, folder, version
        self._looks: tuple[Look, ...] = (self._database, self._bookkeeping, self._disk, self._providers, *more)
        self._guard, self._until_s = threading.Lock(), 0.0
        self._kept: tuple[Component, ...] = ()
        self._at = datetime.now(UTC)

    def report(self) -> dict[str, Any]:
        """`status`, the worst of all, with `version`, `timestamp` and the `components`."""
        found, at = self._looked()
        return {
            "status": max((one.status for one in found), key=STATES.index),
            "version": self._version,
            "timestamp": at.isoformat(timespec="milliseconds"),
            "components": [asdict(one) for one in found],
        }

    def why_not_ready(self) -> str:
        """Why no call should be sent here; empty = it may."""
        if self._watch.is_draining:
            return "the server is ending"
        (database, *_others), _at = self._looked()
        return database.message if database.status == UNHEALTHY else ""

    def _looked(self) -> tuple[tuple[Component, ...], datetime]:
        """How the parts were a moment ago; while one request looks again, which may take long, others do not wait."""
        if clock.monotonic_s() >= self._until_s and self._guard.acquire(blocking=not self._kept):
            try:
                if clock.monotonic_s() >= self._until_s:  # else another has just looked
                    self._kept, self._at = tuple(look() for look in self._looks), clock.now()
                    self._until_s = clock.monotonic_s() + KEEP_S
            finally:
                self._guard.release()
        if clock.monotonic_s() > self._until_s + MUTE_S:
            return (Component("database", UNHEALTHY, None, MUTE),), clock.now()
        return self._kept, self._at

    def _database(self) -> Component:
        """Whether it answers."""
        began_s = clock.monotonic_s()
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as exc:
            log.error("the database does not answer: %s", str(exc).partition("\n")[0])  # noqa: TRY400 - it says why
            return Component("database", UNHEALTHY, _since_ms(began_s), MUTE)
        took_ms = _since_ms(began_s)
        if took_ms > SLOW_MS:
            return Component("database", DEGRADED, took_ms, "the database is slow")
        return Component("database", latency_ms=took_ms, details={"kind": self._engine.dialect.name})

    def _bookkeeping(self) -> Component:
        waiting = self._accounting.waiting
        if not waiting:
            return Component("bookkeeping")
        return Component("bookkeeping", DEGRADED, None, "calls wait to be booked", {"waiting": waiting})

    def _disk(self) -> Component:
        try:
            left = shutil.disk_usage(self._folder).free
        except OSError:
            return Component("disk", UNHEALTHY, None, "the instance folder cannot be read")
        if left < LOW_BYTES:
            return Component("disk", DEGRADED, None, "the disk is nearly full", {"free_bytes": left})
        return Component("disk")

    def _providers(self) -> Component:
        """As the worker that answers sees them; which ones they are, `/health/providers` says to who has a key."""
        states = [one["state"] for one in self._health.report().values()]
        counts = {state: states.count(state) for state in WORST if state in states}
        if any(state in counts for state in WORST[2:]):
            return Component("providers", DEGRADED, None, "some are left alone for a while", counts)
        return Component("providers", details=counts)


def limits_elsewhere(check: Callable[[], None]) -> Look:
    """Of Valkey or Redis. Without it limits are counted in the database, so calls go on."""

    def look() -> Component:
        began_s = clock.monotonic_s()
        try:
            check()
        except Exception:  # noqa: BLE001 - whatever its client raises
            return Component("redis", DEGRADED, _since_ms(began_s), "it does not answer; the database counts limits")
        return Component("redis", latency_ms=_since_ms(began_s))

    return look


def _since_ms(began_s: float) -> float:
    return round((clock.monotonic_s() - began_s) * 1000, 2)
