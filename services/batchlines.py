"""The lines of batches, of which each is called once: who makes which call, and what came of it.

    waiting ──claim──▶ running ──answered──▶ completed or failed
       ▲                  │
       └───give back──────┘

A claim gives the line a request id of its own, which is stored before the call is made, and is for a short time that
the worker goes on renewing. An answer is stored with its line before the call is booked. So a line whose worker died
tells what became of it: `lost` asks the books for its request id.

in the books           the line
held                   is left alone: a sweeper books the call first, or its worker is only slow
booked                 its answer is lost with the worker: it fails, and says what was booked
neither                was never admitted: it waits again
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, exists, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import Hold, UsageRecord
from models_batches import Batch, BatchLine
from services.credentials import Sealer
from utils import clock, ids, jsonx, native

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=15)
LARGE_BYTES: Final = 256 * 1024  # sealing that much would hold up the other calls of a worker
MOST_LOST: Final = 100  # lines that are looked at in one go
LOST: Final = "worker_lost"
COMPLETED, FAILED = "completed", "failed"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A line that is to be called now."""

    id: int
    number: int
    start: int
    length: int
    custom_id: str
    request_id: str
    until_s: float  # monotonic: when another worker may take it for lost, unless it was renewed


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a line: `response` with status and body, or an `error` where there was no call. One of them."""

    custom_id: str
    request_id: str = ""
    status: int = 0
    body: bytes = b""  # JSON
    error: dict[str, Any] | None = None

    @property
    def is_good(self) -> bool:
        """Whether it belongs to the output rather than to the errors."""
        return self.error is None and 200 <= self.status < 300  # noqa: PLR2004 - statuses of success

    def line(self, name: str) -> bytes:
        """As a file of results has it, without the end of the line; `name`: of the line, for whoever asks."""
        head = {"id": name, "custom_id": self.custom_id}
        if self.error is not None:
            return jsonx.dumps({**head, "response": None, "error": self.error})
        # The body as it came: only between its tokens can JSON have ends of lines.
        body = self.body.replace(b"\r", b" ").replace(b"\n", b" ")
        about = jsonx.dumps({"status_code": self.status, "request_id": self.request_id}).removesuffix(b"}")
        return jsonx.dumps(head).removesuffix(b"}") + b',"response":' + about + b',"body":' + body + b'},"error":null}'


class Lines:
    """See the module."""

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self._engine, self._sealer = engine, sealer

    def claim(self, batch_id: int, owner: str) -> Claimed | None:
        """The next line of a batch, for this worker; None = none waits, or the batch must not go on now."""
        now = clock.now()
        request_id, until_s = ids.request_id(), clock.monotonic_s() + LEASE.total_seconds()
        next_line = (
            select(BatchLine.id)
            .where(BatchLine.batch_id == batch_id, BatchLine.state == "waiting")
            .order_by(BatchLine.number)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        taken = (
            update(BatchLine)
            .where(BatchLine.id == next_line, BatchLine.state == "waiting", exists().where(*goes_on(batch_id)))
            .values(state="running", request_id=request_id, owner=owner, lease_at=now + LEASE)
            .returning(BatchLine.id, BatchLine.number, BatchLine.start, BatchLine.length, BatchLine.custom_id)
        )
        with self._engine.begin() as connection:
            row = connection.execute(taken).first()
        if row is None:
            return None
        return Claimed(row.id, row.number, row.start, row.length, row.custom_id, request_id, until_s)

    def renew(self, owner: str, numbers: Sequence[int]) -> None:
        """The worker still lives, and goes on with these lines."""
        with self._engine.begin() as connection:
            connection.execute(
                update(BatchLine)
                .where(BatchLine.id.in_(numbers), BatchLine.owner == owner, BatchLine.state == "running")
                .values(lease_at=clock.now() + LEASE)
            )

    def give_back(self, line: Claimed) -> None:
        """It was not called, or nobody was charged for it: it waits again."""
        with self._engine.begin() as connection:
            connection.execute(
                update(BatchLine)
                .where(BatchLine.id == line.id, *_is(line.request_id))
                .values(state="waiting", request_id=None, owner=None, lease_at=None)
            )

    def answered(self, batch_id: int, line: Claimed, result: Result) -> bool:
        """Store what came of a line, once; False = the database does not take it now."""
        try:
            with Session(self._engine) as session, session.begin():
                self._finish(session, (batch_id, line.id), [*_is(line.request_id)], result)
        except SQLAlchemyError as exc:
            log.warning("an answer waits to be stored request_id=%s: %s", line.request_id, type(exc).__name__)
            return False
        return True

    def lost(self, batch_id: int) -> int:
        """Look after the lines of workers that died; returns how many were."""
        over = (BatchLine.batch_id == batch_id, BatchLine.state == "running", BatchLine.lease_at < clock.now())
        columns = (BatchLine.id, BatchLine.custom_id, BatchLine.request_id, UsageRecord.id.label("booked"))
        with Session(self._engine) as session:
            found = session.execute(
                select(*columns)
                .outerjoin(UsageRecord, UsageRecord.request_id == BatchLine.request_id)
                .where(*over, ~exists().where(Hold.request_id == BatchLine.request_id))
                .limit(MOST_LOST)
            ).all()
        for row in found:
            with Session(self._engine) as session, session.begin():
                still = [*_is(row.request_id), BatchLine.lease_at < clock.now()]
                if row.booked is not None:
                    self._finish(session, (batch_id, row.id), still, _lost(row.custom_id, row.request_id))
                    continue
                session.execute(
                    update(BatchLine)
                    .where(BatchLine.id == row.id, *still)
                    .values(state="waiting", request_id=None, owner=None, lease_at=None)
                )
        return len(found)

    def fail_waiting(self, batch_id: int, result: dict[str, Any], most: int) -> int:
        """Give lines that wait a result without calling them, `result` as in Batch.stop; returns how many."""
        with Session(self._engine) as session, session.begin():
            rows = session.execute(
                select(BatchLine.id, BatchLine.custom_id)
                .where(BatchLine.batch_id == batch_id, BatchLine.state == "waiting")
                .order_by(BatchLine.number)
                .limit(most)
                .with_for_update(skip_locked=True)
            ).all()
            status, error = result.get("status", 0), result.get("error")
            body = jsonx.dumps(result["body"]) if error is None else b""
            for row in rows:
                found = Result(row.custom_id, "", status, body, error)
                self._finish(session, (batch_id, row.id), [BatchLine.state == "waiting"], found)
        return len(rows)

    def _finish(
        self, session: Session, where: tuple[int, int], still: Sequence[ColumnElement[bool]], result: Result
    ) -> None:
        batch_id, line_id = where
        whole = result.line(f"batch_req_{batch_id}_{line_id}")
        seal = self._sealer.seal_bytes
        sealed = native.run(seal, whole) if len(whole) > LARGE_BYTES else seal(whole)
        state = COMPLETED if result.is_good else FAILED
        done = session.execute(
            update(BatchLine)
            .where(BatchLine.id == line_id, *still)
            .values(state=state, sealed=sealed, size_bytes=len(whole) + 1, owner=None, lease_at=None)
            .returning(BatchLine.id),
            execution_options={"synchronize_session": False},
        ).first()
        if done is not None:
            counter = Batch.completed if result.is_good else Batch.failed
            session.execute(
                update(Batch).where(Batch.id == batch_id).values({counter: counter + 1}),
                execution_options={"synchronize_session": False},
            )


def goes_on(batch_id: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions: calls of this batch may be made now."""
    now = clock.now()
    is_free = or_(Batch.not_before.is_(None), Batch.not_before <= now)
    return Batch.id == batch_id, Batch.status == "in_progress", Batch.stop.is_(None), is_free, Batch.expires_at > now


def _is(request_id: str | None) -> tuple[ColumnElement[bool], ...]:
    """Conditions: the line is under way as that call."""
    return BatchLine.state == "running", BatchLine.request_id == request_id


def _lost(custom_id: str, request_id: str) -> Result:
    said = (
        f"The worker that made this call ended before its answer was stored. The call is booked as {request_id} "
        "with what it cost, and is not made a second time."
    )
    return Result(custom_id, request_id, error={"code": LOST, "message": said})
