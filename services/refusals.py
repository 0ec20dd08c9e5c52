"""Calls that were refused, kept for those who ask why: by which rule, with which numbers.

A refused call leaves no usage row. Whoever refuses it hands over what it said and goes on; a job of the worker stores
what came together, a second at a time. Nothing here delays an answer or makes one fail, and a flood of refused calls is
no flood of rows: of each key and rule the first KEPT of a second have rows of their own, the others are counted by the
last of these (`times`). Beyond MOST_WAITING rows, and while the database takes none, refusals are only counted, in one
row of the kind `more`. So the sum of `times` is the number of refused calls.

Only callers who are known have rows: an unknown key, or none, has no refusal here, however often it comes.
"""

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sqlalchemy import Engine, Row, insert, select
from sqlalchemy.orm import Session

from models import Refusal, User
from services.accounts import ERASED
from services.errors import (
    AccountingUnavailable,
    AuthenticationFailed,
    BudgetExceeded,
    GatewayError,
    ModelNotAllowed,
    ModelNotAvailable,
    ModelNotPriced,
    PermissionDenied,
    PolicyViolation,
    RateLimited,
    Unsupported,
)
from services.settlement import clean
from utils import clock, jsonx

log = logging.getLogger(__name__)

KEPT: Final = 5  # rows of one key, rule and second
MOST_WAITING: Final = 200  # rows of one second of a worker
MOST_DETAILS: Final = 2000  # characters
MOST_MODEL: Final = 200
LONGEST_ID: Final = 40
MORE: Final = "more"
OTHER: Final = "other"
DISABLED: Final = "disabled"
KINDS: Final[dict[type[GatewayError], str]] = {  # what refused; the nearest class counts
    BudgetExceeded: "budget",
    RateLimited: "limit",
    ModelNotAllowed: "models",
    ModelNotAvailable: "model",
    ModelNotPriced: "price",
    Unsupported: "content",
    AccountingUnavailable: "books",
    PolicyViolation: "policy",
    PermissionDenied: OTHER,
    AuthenticationFailed: OTHER,
}
CODES: Final = {  # the same, where the code says more than the class
    "address_not_allowed": "addresses",
    "path_not_allowed": "paths",
    "key_expired": "expired",
    "key_revoked": "revoked",
}
NOTED: Final = ("path", "custom_id", "client_metadata")  # columns that a booked call has, too
NAMES: Final = (*dict.fromkeys([*KINDS.values(), *CODES.values()]), DISABLED, MORE)


class Who(Protocol):
    """Who was refused."""

    @property
    def key_id(self) -> int | None: ...  # noqa: D102 - a protocol says only the shape
    @property
    def user_id(self) -> int: ...  # noqa: D102 - the same
    @property
    def team_id(self) -> int | None: ...  # noqa: D102 - the same


@dataclass(slots=True)
class Noted:
    """One refusal, or several alike, that waits to be stored."""

    request_id: str
    moment_ms: int
    kind: str
    user_id: int | None = None
    key_id: int | None = None
    team_id: int | None = None
    model: str | None = None
    rule: str = ""
    status: int = 0
    code: str | None = None
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    noted: Mapping[str, str | None] = field(default_factory=dict)
    times: int = 1

    def row(self) -> dict[str, Any]:
        """As it is stored."""
        told = jsonx.dumps(self.details).decode() if self.details else None
        return {
            "request_id": self.request_id,
            "created_at": datetime.fromtimestamp(self.moment_ms / 1000, UTC),
            "user_id": self.user_id,
            "key_id": self.key_id,
            "team_id": self.team_id,
            "model": clean(self.model)[:MOST_MODEL] if self.model is not None else None,
            "kind": self.kind,
            "rule": clean(self.rule)[:150] if self.rule else None,
            "status": self.status,
            "code": clean(self.code)[:60] if self.code else None,
            "message": clean(self.message),
            "details": told if told is not None and len(told) <= MOST_DETAILS else None,
            **{name: self.noted.get(name) for name in NOTED},
            "times": self.times,
        }


Group = tuple[int | None, int, int, str | None, str]


class Refusals:
    """See the module. Nothing has a thread or a connection before `flush`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[Noted] = []
        self._groups: dict[Group, list[Noted]] = {}
        self._more: Noted | None = None
        self._guard, self._writing = threading.Lock(), threading.Lock()
        self._told = 0
        self.dropped = 0  # that have no row of their own kind, since this worker began

    def note(self, request_id: str, exc: GatewayError) -> None:
        """Have it stored soon; never waits, never raises. Only what `GatewayError.refuse` has marked is a refusal."""
        if exc.refused is None:
            return
        who, model = exc.refused
        group = (who.key_id, who.user_id, exc.status, exc.code, exc.rule)
        with self._guard:
            alike = self._groups.get(group)
            if alike is not None and len(alike) >= KEPT:
                alike[-1].times += 1
            elif len(self._waiting) >= MOST_WAITING:
                self._count(request_id, 1)
            else:
                found = _noted(request_id, exc, who, model)
                self._waiting.append(found)
                self._groups.setdefault(group, []).append(found)

    def flush(self) -> None:
        """Store what waits. Whoever calls this last, as a worker that ends, waits for what another is storing."""
        with self._writing:
            batch = self._taken()
            try:
                if batch:
                    self._store(batch)
            except Exception as exc:  # noqa: BLE001 - the database may be away; answers must not be held in memory
                with self._guard:
                    self._count(batch[-1].request_id, sum(one.times for one in batch))
                log.warning("refused calls were not stored: %s: %s", type(exc).__name__, exc)
        if self.dropped > self._told:
            self._told = self.dropped
            log.warning("%s refused calls have only been counted since this worker began", self.dropped)

    def _count(self, request_id: str, times: int) -> None:
        """Count refusals that have no row of their own, within the guard."""
        self.dropped += times
        if self._more is None:
            self._more = Noted(request_id, clock.now_ms(), MORE, times=0)
        self._more.times += times

    def _taken(self) -> list[Noted]:
        with self._guard:
            batch, self._waiting, self._groups = self._waiting, [], {}
            if self._more is not None:
                batch.append(self._more)
                self._more = None
        return batch

    def _store(self, batch: Iterable[Noted]) -> None:
        """Insert the rows; of those who were erased meanwhile, none."""
        rows = [one.row() for one in batch]
        owners = {row["user_id"] for row in rows if row["user_id"] is not None}
        with Session(self._engine) as session, session.begin():
            erased = select(User.id).where(User.id.in_(owners), User.username.startswith(ERASED, autoescape=True))
            gone = set(session.scalars(erased)) if owners else set()
            if good := [row for row in rows if row["user_id"] not in gone]:
                session.execute(insert(Refusal), good)


def _noted(request_id: str, exc: GatewayError, who: Who, model: str | None) -> Noted:
    return Noted(
        request_id,
        clock.now_ms(),
        kind_of(exc),
        who.user_id,
        who.key_id,
        who.team_id,
        model,
        exc.rule,
        exc.status,
        exc.code,
        str(exc),
        exc.details,
        exc.noted,
    )


def kind_of(exc: GatewayError) -> str:
    """Which of NAMES refused."""
    if exc.rule.startswith("user "):
        return DISABLED
    return CODES.get(exc.code or "") or next((KINDS[one] for one in type(exc).__mro__ if one in KINDS), OTHER)


def find(engine: Engine, request_id: str) -> Row[Any] | None:
    """The refusal of a request; None = none is kept."""
    if not request_id.isprintable() or len(request_id) > LONGEST_ID:
        return None
    table = Refusal.__table__
    with engine.connect() as connection:
        return connection.execute(select(table).where(table.c.request_id == request_id).limit(1)).first()
