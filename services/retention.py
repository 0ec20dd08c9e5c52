"""What has been kept long enough goes, a few rows at a time, so that nobody who writes has to wait for it.

Usage and ledger rows are the books and stay. So does the audit log: each entry's digest covers the one before, so
nothing can be taken out of it without breaking the proof of all that follows.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, delete, false, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from config import Config
from models import (
    Dialog,
    Invitation,
    Message,
    Refusal,
    RetiredSecret,
    StoredBody,
    StoredItem,
    StoredResponse,
    WebSession,
)
from models_alerts import Alert, AlertDelivery
from models_batches import Batch, BatchLine
from models_kept import KeptAnswer
from services import reports
from services.accounts import IDLE, LONGEST
from services.batches import ENDED
from utils import clock
from utils.progress import Tell, silent, told

log = logging.getLogger(__name__)

BATCH: Final = 500
LARGE_BATCH: Final = 20  # of what may have a thousand rows each
PAUSE_S: Final = 0.005  # in which others may write
REFUSALS: Final = timedelta(days=30)  # refused calls are kept that long

Column = InstrumentedAttribute[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table that may go; `inner`: the columns by which others hang on them."""

    name: str
    key: Column
    is_over: Callable[[datetime], ColumnElement[bool]]
    inner: tuple[Column, ...] = ()
    batch: int = BATCH


class Retention:
    """See the module. 0 days = kept."""

    def __init__(
        self, engine: Engine, *, dialog_days: int, invitation_days: int, alert_days: int, batch_days: int
    ) -> None:
        self._engine = engine
        dialogs, invitations = timedelta(days=dialog_days), timedelta(days=invitation_days)
        kept, batches = timedelta(days=alert_days), timedelta(days=batch_days)
        self._parts = (
            Part("texts of calls", StoredBody.request_id, lambda now: StoredBody.expires_at <= now),
            Part(
                *("answers", StoredResponse.id, lambda now: StoredResponse.expires_at <= now),
                inner=(StoredItem.response_id,),
            ),
            Part(
                "dialogs",
                Dialog.id,
                lambda now: _is_idle(now) & (Dialog.updated_at <= now - dialogs) if dialogs else false(),
                inner=(Message.dialog_id,),
                batch=LARGE_BATCH,
            ),
            Part(
                "browser sessions",
                WebSession.digest,
                lambda now: or_(WebSession.seen_at < now - IDLE, WebSession.created_at < now - LONGEST),
            ),
            Part("refused calls", Refusal.id, lambda now: Refusal.request_id < oldest_id(now - REFUSALS)),
            Part("alerts", Alert.id, lambda now: _is_told(now - kept), inner=(AlertDelivery.alert_id,)),
            Part("kept answers", KeptAnswer.digest, lambda now: KeptAnswer.expires_at <= now),
            Part("batches", Batch.id, partial(_has_ended, batches), inner=(BatchLine.batch_id,), batch=1),
            Part("retired secrets", RetiredSecret.digest, lambda now: RetiredSecret.expires_at <= now),
            Part(
                "invitations",
                Invitation.digest,
                lambda now: (
                    or_(Invitation.used_at <= now - invitations, Invitation.expires_at <= now - invitations)
                    if invitations
                    else false()
                ),
            ),
        )

    @classmethod
    def of(cls, engine: Engine, config: Config) -> "Retention":
        """As the settings say."""
        return cls(
            engine,
            dialog_days=config.dialogs_retention_days,
            invitation_days=config.invitations_retention_days,
            alert_days=config.alerts_retention_days,
            batch_days=config.batches_retention_days,
        )

    def run(self, *, is_dry: bool = False, tell: Tell = silent) -> dict[str, int]:
        """How many rows of each kind went; of a dry run, how many would."""
        now, parts = clock.now(), told(self._parts, len(self._parts), tell)
        found = {part.name: self._count(part, now) if is_dry else self._remove(part, now) for part in parts}
        if not is_dry and any(found.values()):
            log.info("kept long enough, removed: %s", ", ".join(f"{count} {name}" for name, count in found.items()))
        return found

    def _count(self, part: Part, now: datetime) -> int:
        with Session(self._engine) as session:
            return session.scalar(select(func.count(part.key)).where(part.is_over(now))) or 0

    def _remove(self, part: Part, now: datetime) -> int:
        removed = 0
        while True:
            with Session(self._engine) as session, session.begin():
                found = session.scalars(select(part.key).where(part.is_over(now)).limit(part.batch)).all()
                gone: list[Any] = []
                if found:  # asked again: somebody may have used one meanwhile
                    over = delete(part.key.class_).where(part.key.in_(found), part.is_over(now)).returning(part.key)
                    gone = list(session.scalars(over.execution_options(synchronize_session=False)))
                for column in part.inner if gone else ():
                    session.execute(delete(column.class_).where(column.in_(gone)))
            removed += len(gone)
            if len(found) < part.batch or not gone:
                return removed
            clock.sleep(PAUSE_S)


def _is_told(moment: datetime) -> ColumnElement[bool]:
    """Alerts from before that can go: those of budgets without periods stay, or they would be told again."""
    return (Alert.created_at < moment) & ~Alert.period.startswith("0/")


def _has_ended(kept: timedelta, now: datetime) -> ColumnElement[bool]:
    return Batch.status.in_(ENDED) & (Batch.created_at <= now - kept) if kept else false()


def oldest_id(moment: datetime) -> str:
    """The smallest request id that can have been given at that moment: they are ordered, and have an index."""
    return reports.request_ids_from(round(moment.timestamp() * 1000))


def _is_idle(now: datetime) -> ColumnElement[bool]:
    return or_(Dialog.busy_until.is_(None), Dialog.busy_until <= round(now.timestamp() * 1000))
