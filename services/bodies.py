"""What calls said and were answered, kept for those keys that ask for it: redacted, sealed, until it expires.

A call hands its texts over when it is booked and goes on; a job of the worker takes what may not be kept out of them
(services/redaction.py), seals them with ENCRYPTION_KEYS and stores them, several at once. Nothing here delays a call
or makes one fail: what the database does not take, or what comes faster than it does, is dropped, counted and logged.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, delete, insert, not_, select
from sqlalchemy.orm import Session

from models import StoredBody, User
from services import rights
from services.accounts import ERASED
from services.audit import Actor, note
from services.credentials import SealBroken, Sealer
from services.errors import NotFound
from services.redaction import MOST_CHARS, Redaction
from services.types import Call, Caller, Chat
from utils import clock, jsonx, native
from utils.forms import Form

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1000  # calls, and …
MOST_WAITING_BYTES: Final = 32 * 1024 * 1024  # … what they may hold until the worker has stored them
BATCH: Final = 20  # calls stored in one transaction
LONGEST_ID: Final = 80
MISSING: Final = "Nothing is stored of a call of this id."


@dataclass(slots=True)
class Record:
    """What is to be kept of one call, as it comes together."""

    store: "Bodies"
    keeps_answer: bool
    sent: bytes | Chat | None  # the request: as it came, or the fields and files of a form
    sent_type: str = ""
    delivered: int | None = None  # pieces of text that were handed on when its caller left
    answer: bytes | str | None = None
    about: Chat | None = None  # the answer's type, and whether it is whole

    def answered(self, call: Call, whole: bytes | None = None) -> None:
        """The call ended: with this answer, or with a stream, of which the text is kept."""
        if self.keeps_answer:
            said = f"[{call.content_type}]" if call.is_binary else "".join(call.pieces[: self.delivered])
            self.answer = whole or said[: MOST_CHARS + 1]
            kind = "text/plain" if not whole or call.is_stream else call.content_type
            self.about = {"type": kind, "is_stream": call.is_stream, "is_whole": call.outcome == "ok"}
        self.store.add(call, self)

    def failed(self, call: Call, error: Chat) -> None:
        """The call ended with an error and nothing else."""
        if self.keeps_answer:
            self.answer = jsonx.dumps(error)
            self.about = {"type": "application/json", "is_stream": False, "is_whole": True}
        self.store.add(call, self)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(len(part) for part in (self.sent, self.answer) if isinstance(part, bytes | str))


class Bodies:
    """The texts that wait, and those in the database."""

    def __init__(self, engine: Engine, sealer: Sealer, redaction: Redaction, *, retention_days: int) -> None:
        self._engine, self._sealer, self._redaction = engine, sealer, redaction
        self._kept = timedelta(days=retention_days)
        self._waiting: deque[tuple[Chat, Record]] = deque()
        self._bytes, self._told = 0, 0
        self._guard = threading.Lock()
        self.dropped = 0  # calls of which nothing was stored although their keys ask for it

    def record(self, caller: Caller, raw: bytes | Chat, content_type: str) -> Record | None:
        """What will be kept of a call of this caller; None = nothing."""
        if not (caller.keeps_request or caller.keeps_response) or not self._kept:
            return None
        return Record(self, caller.keeps_response, raw if caller.keeps_request else None, content_type)

    def add(self, call: Call, record: Record) -> None:
        """Have it stored soon; never waits, never raises."""
        now = clock.now()
        row = {"request_id": call.id, "user_id": call.caller.user_id, "key_id": call.caller.key_id}
        row |= {"created_at": now, "expires_at": now + self._kept}
        with self._guard:
            if len(self._waiting) >= MOST_WAITING or self._bytes + record.size > MOST_WAITING_BYTES:
                self.dropped += 1
                return
            self._bytes += record.size
            self._waiting.append((row, record))

    def flush(self) -> None:
        """Store what waits; what the database does not take is dropped."""
        while batch := self._taken():
            try:
                self._store(native.run(self._sealed, batch))
            except Exception as exc:  # noqa: BLE001 - the database may be away; calls must not be held in memory
                self.dropped += len(batch)
                log.warning("texts of calls were not stored: %s: %s", type(exc).__name__, exc)
        if self.dropped > self._told:
            self._told = self.dropped
            log.warning("texts of %s calls have been dropped since this worker began", self.dropped)

    def find(self, caller: Caller, request_id: str, actor: Actor) -> Chat:
        """What is stored of a call, for whoever made it and for admins; the latter is in the audit log.

        Raises:
            NotFound: nothing is, or it is somebody else's.
        """
        with Session(self._engine) as session, session.begin():
            row = self._of(session, caller, request_id)
            if not _is_own(row, caller):
                note(session, actor, "content_read", "usage", row.request_id, {"owner": row.user_id})
            return self._view(row)

    def read(self, session: Session, actor: Actor, request_id: str) -> Chat | None:
        """The same for an admin at the panel, within its transaction; None = nothing is stored."""
        row = session.get(StoredBody, request_id)
        if row is None or row.expires_at <= clock.now():
            return None
        note(session, actor, "content_read", "usage", request_id, {"owner": row.user_id})
        return self._view(row)

    def until(self, session: Session, request_id: str) -> datetime | None:
        """Until when something is stored of a call; None = nothing is."""
        query = select(StoredBody.expires_at).where(
            StoredBody.request_id == request_id, StoredBody.expires_at > clock.now()
        )
        return session.scalar(query)

    def delete(self, caller: Caller, request_id: str, actor: Actor) -> None:
        """Remove what is stored of a call, for whoever made it and for admins.

        Raises:
            NotFound: nothing is, or it is somebody else's.
        """
        with Session(self._engine) as session, session.begin():
            row = self._of(session, caller, request_id)
            remove(session, actor, row.request_id)

    def opened(self, sealed: bytes | None) -> Any:
        """One stored text; None = there is none."""
        try:
            return None if sealed is None else jsonx.loads(self._sealer.open(sealed))
        except SealBroken:
            return {"is_unreadable": True}

    def _taken(self) -> list[tuple[Chat, Record]]:
        with self._guard:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._bytes -= sum(record.size for _row, record in batch)
        return batch

    def _sealed(self, batch: list[tuple[Chat, Record]]) -> list[Chat]:
        """The rows, with nothing in them that may not be kept."""
        return [row | self._parts(record) for row, record in batch]

    def _parts(self, record: Record) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {"request": None, "response": None}
        if record.sent is not None:
            found["request"] = self._seal(record.sent, {"type": record.sent_type})
        if record.answer is not None and record.about is not None:
            found["response"] = self._seal(record.answer, record.about)
        return found

    def _seal(self, said: bytes | str | Chat, about: Chat) -> bytes:
        kind = about["type"].partition(";")[0].strip().lower()
        is_text = not isinstance(said, bytes) or kind.startswith("text/") or kind.endswith("json") or not kind
        if isinstance(said, bytes) and not is_text:
            said = f"[{kind[:100]}, {len(said)} bytes]"
        kept = self._redaction.clean(said) if isinstance(said, bytes) else self._redaction.clean_value(said)
        told = about | {"type": kind, "body": kept.body, "is_shortened": kept.is_shortened}
        return self._sealer.seal(jsonx.dumps(told).decode())

    def _store(self, rows: list[Chat]) -> None:
        """Insert the rows of users who are there."""
        with Session(self._engine) as session, session.begin():
            owners = {row["user_id"] for row in rows}
            known = session.scalars(
                select(User.id).where(User.id.in_(owners), not_(User.username.startswith(ERASED, autoescape=True)))
            )
            there = set(known)
            if good := [row for row in rows if row["user_id"] in there]:
                session.execute(insert(StoredBody), good)

    def _of(self, session: Session, caller: Caller, request_id: str) -> StoredBody:
        is_id = request_id.isprintable() and len(request_id) <= LONGEST_ID
        row = session.get(StoredBody, request_id) if is_id else None
        is_there = row is not None and row.expires_at > clock.now()
        if row is None or not is_there or not (_is_own(row, caller) or may_read_others(caller)):
            raise NotFound(MISSING, param="request_id")
        return row

    def _view(self, row: StoredBody) -> Chat:
        return {
            "request_id": row.request_id,
            "user_id": row.user_id,
            "key_id": row.key_id,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "request": self.opened(row.request),
            "response": self.opened(row.response),
        }


def of_form(form: Form) -> Chat:
    """A form as it is kept: the fields, and what files it had."""
    files = [
        {"name": file.name, "filename": file.filename, "content": f"[{file.content_type}, {len(file.data)} bytes]"}
        for file in form.uploads
    ]
    return {"fields": [list(one) for one in form.fields], "files": files}


def remove(session: Session, actor: Actor, request_id: str) -> bool:
    """Remove what is stored of a call, within the caller's transaction; whether anything was."""
    gone = session.execute(
        delete(StoredBody).where(StoredBody.request_id == request_id).returning(StoredBody.user_id)
    ).first()
    if gone is not None:
        note(session, actor, "content_delete", "usage", request_id, {"owner": gone.user_id})
    return gone is not None


def may_read_others(caller: Caller) -> bool:
    """Whether this is somebody who has signed in and whose role may read what others said; a key never may."""
    return caller.key_id is None and rights.has(caller.role, rights.CONTENT)


def _is_own(row: StoredBody, caller: Caller) -> bool:
    """A person has what all its keys sent; a key what it sent itself, for an account may have keys of many people."""
    return row.user_id == caller.user_id and caller.key_id in (None, row.key_id)
