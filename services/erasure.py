"""Erasing a person: the account loses its name and all that was said with it; what was used stays, as figures.

The account stays as a row, `erased-<number>`, disabled for ever, since usage and ledger rows count for it and must go
on adding up. A call that is under way is settled as if nothing had happened. What it leaves behind is removed by
`finish`, which looks again for a day.

Entries of the audit log and of the ledger cannot be changed by anybody: they keep the names and addresses that they
were written with (docs/privacy.md).
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Engine, delete, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import (
    Agent,
    Dialog,
    Identity,
    Invitation,
    Message,
    RaiseRequest,
    Refusal,
    SavedView,
    SecondFactor,
    Setting,
    StoredBody,
    StoredItem,
    StoredResponse,
    SystemConfig,
    TopUpCode,
    UsageRecord,
    User,
    WebSession,
)
from models_alerts import Alert
from models_batches import Batch, BatchChunk, BatchFile, BatchLine
from models_kept import KeptAnswer
from models_prompts import Prompt, PromptVersion
from services import people, removal
from services.accounts import ERASED
from services.audit import Actor, note
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, InvalidRequest, NotFound
from utils import clock, jsonx

BATCH: Final = 200
PAUSE_S: Final = 0.005  # in which others may write
LATE: Final = timedelta(days=1)  # so long after it calls of an erased account may still be settled
BEFORE: Final = 1000  # rows of usage that may get a smaller number and be stored later
MARK: Final = "erased."  # how the settings begin that say whom to look for again
EMPTY: Final[Mapping[str, Any]] = {  # what is left of an account
    "display_name": None,
    "password_hash": None,
    "role": "user",
    "is_active": False,
    "disabled_reason": "erased",
    "must_change_password": False,
    "locale": None,
    "team_id": None,
    "tags": None,
    "allowed_models": None,
    "allowed_paths": None,
    "ttl": None,
    "expires_at": None,
}
SAID: Final[Mapping[str, tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]]] = {  # key and owner of rows
    "dialogs": (Dialog.id, Dialog.user_id),  # before their messages, so that none comes after them
    "messages": (Message.number, Message.user_id),
    "agents": (Agent.id, Agent.user_id),
    "items": (StoredItem.id, StoredItem.user_id),
    "answers": (StoredResponse.id, StoredResponse.user_id),
    "texts": (StoredBody.request_id, StoredBody.user_id),
    "kept": (KeptAnswer.digest, KeptAnswer.user_id),
    "refusals": (Refusal.id, Refusal.user_id),
    "batches": (Batch.id, Batch.user_id),  # before their lines, so that none is called any more
    "lines": (BatchLine.id, BatchLine.user_id),
    "files": (BatchFile.id, BatchFile.user_id),
    "chunks": (BatchChunk.id, BatchChunk.user_id),
    "alerts": (Alert.id, Alert.user_id),
}
CALLERS: Final = (UsageRecord.custom_id, UsageRecord.client_metadata, UsageRecord.error)  # what callers put into usage


class Erasure:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def erase(self, actor: Actor, user_id: int, confirmed: object, *, is_own: bool = False) -> dict[str, Any]:
        """Erase the account; `confirmed` is its name, so that nobody erases another one by a slip.

        `is_own`: the person erases the own account, which the policy of the portal may allow.

        Raises:
            NotFound: there is no such account.
            InvalidRequest: that is not its name.
            Conflict: it is one's own without `is_own`, one of the gateway itself, or that of the last admin.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, user_id)
            _check(actor, row, confirmed, is_own=is_own)
            self._anonymise(session, row)
            note(session, actor, "user_erase", "user", user_id)
            people.check_admin_left(session)
            latest = session.scalar(select(func.max(UsageRecord.id)).where(UsageRecord.user_id == user_id)) or 0
            until = round((clock.now() + LATE).timestamp() * 1000)
            told = {"until": until, "after": max(0, latest - BEFORE)}
            session.merge(Setting(key=f"{MARK}{user_id}", value=jsonx.dumps(told).decode()))
        removed = self._scrub(user_id, after=0)
        return {"user_id": user_id, "username": f"{ERASED}{user_id}", "removed": removed}

    def finish(self) -> None:
        """Remove what calls left behind that were under way when their account was erased."""
        with Session(self._engine) as session:
            marks = session.execute(
                select(Setting.key, Setting.value).where(Setting.key.startswith(MARK, autoescape=True))
            ).all()
        for key, value in marks:
            told = jsonx.loads(value)
            self._scrub(int(key.removeprefix(MARK)), after=told["after"])
            if clock.now_ms() > told["until"]:
                with Session(self._engine) as session, session.begin():
                    session.execute(delete(Setting).where(Setting.key == key, Setting.value == value))

    def rewrite(self) -> bool:
        """Write the SQLite file anew, without the bytes of what was deleted. Nobody else can write meanwhile.

        False = the database is no file of ours to rewrite.
        """
        if self._engine.dialect.name != "sqlite":
            return False
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # The index of words keeps those of deleted messages until it is merged.
            connection.exec_driver_sql("INSERT INTO message_texts (message_texts) VALUES ('optimize')")
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        return True

    def _anonymise(self, session: Session, row: User) -> None:
        """The account without name, password, role and keys; whoever uses it is signed out."""
        name, number = row.username, row.id
        people.sign_out(session, number)
        removal.keys_of(session, number)
        removal.prompts(session, Prompt.user_id == number)
        for table in (Identity, SavedView, SecondFactor, WebSession, RaiseRequest):
            session.execute(delete(table).where(table.user_id == number))
        for column, value in EMPTY.items():
            setattr(row, column, value)
        row.username = f"{ERASED}{number}"
        session.flush()
        by: tuple[InstrumentedAttribute[Any], ...] = (
            *(Invitation.created_by, SystemConfig.updated_by),
            *(TopUpCode.created_by, RaiseRequest.decided_by, PromptVersion.author),
        )
        for written in by:
            session.execute(update(written.class_).where(written == name).values({written.key: row.username}))

    def _scrub(self, user_id: int, *, after: int) -> dict[str, int]:
        """Remove what was said, and what callers wrote into usage rows beyond number `after`, a few at a time."""
        removed = {name: self._remove(key, owner == user_id) for name, (key, owner) in SAID.items()}
        removed["usage_notes"] = 0
        while True:
            with Session(self._engine) as session, session.begin():
                noted = or_(*(column.is_not(None) for column in CALLERS))
                wanted = (UsageRecord.user_id == user_id, UsageRecord.id > after, noted)
                found = session.scalars(
                    select(UsageRecord.id).where(*wanted).order_by(UsageRecord.id).limit(BATCH)
                ).all()
                if found:
                    empty = {column.key: None for column in CALLERS}
                    session.execute(update(UsageRecord).where(UsageRecord.id.in_(found)).values(empty))
            removed["usage_notes"] += len(found)
            if len(found) < BATCH:
                return removed
            after = found[-1]
            clock.sleep(PAUSE_S)

    def _remove(self, key: InstrumentedAttribute[Any], is_theirs: Any) -> int:
        removed = 0
        while True:
            with Session(self._engine) as session, session.begin():
                found = session.scalars(select(key).where(is_theirs).limit(BATCH)).all()
                if found:
                    session.execute(delete(key.class_).where(is_theirs, key.in_(found)))
            removed += len(found)
            if len(found) < BATCH:
                return removed
            clock.sleep(PAUSE_S)


def _locked(session: Session, user_id: int) -> User:
    """The account, which nobody else changes until the end of the transaction."""
    lock = update(User).where(User.id == user_id).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    row = session.get(User, user_id)
    if row is None:
        raise NotFound("User not found", param="user_id", code="user_not_found")
    return row


def _check(actor: Actor, row: User, confirmed: object, *, is_own: bool) -> None:
    if row.username in people.KEPT:
        raise Conflict(f"`{row.username}` is an account of the gateway itself.")
    if row.id == actor.user_id and not is_own:
        raise Conflict("You cannot do this to your own account; another admin can.")
    if confirmed != row.username:
        raise InvalidRequest(
            "To erase an account, repeat its name in `username`. This cannot be undone.", param="username"
        )
