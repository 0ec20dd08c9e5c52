"""How batches begin and end: their file is taken in, and when no line is left to do they get files of results.

Every step is guarded by what it found, so that any worker can take it, and take it again after another one died.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Engine, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from models_batches import Batch, BatchFile, BatchLine
from services.batchcheck import Line
from services.batchfiles import OPEN, OUTPUT
from services.batchlines import COMPLETED, FAILED, LEASE, goes_on
from utils import clock, ids

EXPIRED: Final = {
    "error": {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
}
NAMES: Final = {COMPLETED: "output", FAILED: "errors"}
REMOVED: Final = 5000  # lines at once, so that others may write in between


class Ends:
    """See the module. `kept`: how long files of results are; None = until they are deleted."""

    def __init__(self, engine: Engine, kept: timedelta | None) -> None:
        self._engine, self._kept = engine, kept

    def open(self) -> Sequence[Batch]:
        """The batches that are not over."""
        with Session(self._engine) as session:
            return session.scalars(select(Batch).where(Batch.status.in_(OPEN)).order_by(Batch.id)).all()

    def has_waiting(self, batch_id: int) -> bool:
        """Whether a call of it could be made now."""
        waiting = exists().where(BatchLine.batch_id == batch_id, BatchLine.state == "waiting")
        with self._engine.connect() as connection:
            return connection.execute(select(Batch.id).where(*goes_on(batch_id), waiting)).first() is not None

    def take(self, batch: Batch, owner: str) -> bool:
        """Begin to check its file; False = somebody else does, or it is over."""
        now = clock.now()
        is_free = or_(Batch.lease_at.is_(None), Batch.lease_at < now)
        with self._engine.begin() as connection:
            taken = connection.execute(
                update(Batch)
                .where(Batch.id == batch.id, Batch.status == "validating", is_free)
                .values(owner=owner, lease_at=now + LEASE, total=0)
                .returning(Batch.id)
            ).first()
        if taken is None:
            return False
        self._remove_lines(batch.id)  # of a worker that died at it
        return True

    def add(self, batch: Batch, owner: str, lines: Sequence[Line]) -> bool:
        """Store good lines of its file; False = it is no longer ours."""
        with self._engine.begin() as connection:
            ours = connection.execute(
                update(Batch)
                .where(*_mine(batch.id, owner))
                .values(lease_at=clock.now() + LEASE, total=Batch.total + len(lines))
                .returning(Batch.id)
            ).first()
            if ours is not None and lines:
                common = {"batch_id": batch.id, "user_id": batch.user_id, "state": "waiting", "size_bytes": 0}
                names = ("number", "start", "length", "custom_id")
                rows = [common | {name: getattr(line, name) for name in names} for line in lines]
                connection.execute(insert(BatchLine), rows)
        return ours is not None

    def accept(self, batch: Batch, owner: str, model: str) -> None:
        """The file is good: its calls may be made."""
        self._turn(batch, owner, {"status": "in_progress", "in_progress_at": clock.now(), "model": model[:200]})

    def refuse(self, batch: Batch, owner: str, errors: list[dict[str, Any]]) -> None:
        """The file is not: nothing of it is called."""
        self._turn(batch, owner, {"status": "failed", "failed_at": clock.now(), "errors": errors, "total": 0})
        self._remove_lines(batch.id, Batch.status == "failed")

    def stop(self, batch_id: int, result: dict[str, Any]) -> None:
        """Give the lines that wait this result instead of calling them."""
        with self._engine.begin() as connection:
            connection.execute(update(Batch).where(Batch.id == batch_id, Batch.stop.is_(None)).values(stop=result))

    def pause(self, batch_id: int, seconds: float) -> None:
        """Make none of its calls for that long."""
        until = clock.now() + timedelta(seconds=seconds)
        with self._engine.begin() as connection:
            connection.execute(update(Batch).where(Batch.id == batch_id).values(not_before=until))

    def finish(self, batch: Batch) -> bool:
        """End a batch of which no line is left to do, with files of its results; False = there are some."""
        undone = exists().where(BatchLine.batch_id == batch.id, BatchLine.state.in_(("waiting", "running")))
        now = clock.now()
        with Session(self._engine) as session, session.begin():
            mine = (Batch.id == batch.id, Batch.status == batch.status, ~undone)
            moment = {"finalizing_at": now, "status": "finalizing"}
            row = session.execute(update(Batch).where(*mine).values(moment).returning(Batch.stop)).first()
            if row is None:
                return False
            status = "cancelled" if batch.status == "cancelling" else "expired" if row.stop == EXPIRED else "completed"
            files = {state: self._results(session, batch, state) for state in NAMES}
            last = {"status": status, f"{status}_at": now, "lease_at": None, "owner": None}
            last |= {"output_file_id": files[COMPLETED], "error_file_id": files[FAILED]}
            session.execute(update(Batch).where(Batch.id == batch.id).values(last))
        return True

    def _results(self, session: Session, batch: Batch, state: str) -> str | None:
        """The file of its good or bad lines; None where there are none."""
        mine = (BatchLine.batch_id == batch.id, BatchLine.state == state)
        count, size = session.execute(select(func.count(), func.sum(BatchLine.size_bytes)).where(*mine)).one()
        if not count:
            return None
        kept = self._kept if batch.output_seconds is None else timedelta(seconds=batch.output_seconds)
        if kept is not None and self._kept is not None:
            kept = min(kept, self._kept)
        now = clock.now()
        row = BatchFile(
            id=f"file-{ids.random_base62(24)}",
            user_id=batch.user_id,
            key_id=batch.key_id,
            filename=f"{batch.name}_{NAMES[state]}.jsonl",
            purpose=OUTPUT,
            size_bytes=int(size),
            is_whole=True,
            batch_id=batch.id,
            state=state,
            created_at=now,
            expires_at=None if kept is None else now + kept,
        )
        session.add(row)
        session.flush()
        return row.id

    def _turn(self, batch: Batch, owner: str, values: dict[str, Any]) -> None:
        with self._engine.begin() as connection:
            free = {"owner": None, "lease_at": None}
            connection.execute(update(Batch).where(*_mine(batch.id, owner)).values(values | free))

    def _remove_lines(self, batch_id: int, *conditions: Any) -> None:
        while True:
            with self._engine.begin() as connection:
                found = select(BatchLine.id).where(BatchLine.batch_id == batch_id).limit(REMOVED)
                if conditions:
                    found = found.where(exists().where(Batch.id == batch_id, *conditions))
                gone = connection.execute(delete(BatchLine).where(BatchLine.id.in_(found))).rowcount
            if gone < REMOVED:
                return


def _mine(batch_id: int, owner: str) -> tuple[Any, ...]:
    return Batch.id == batch_id, Batch.status == "validating", Batch.owner == owner
