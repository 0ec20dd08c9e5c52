"""The browsers in which a person is signed in: seeing them, and ending one or all others."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from models import User, WebSession
from services import audit
from services.accounts import IDLE, LONGEST, digest_of, voided
from services.catalog import Catalog
from services.changing import changing
from services.errors import NotFound
from utils import clock

MARK_CHARS: Final = 16  # of the digest, to name a session by; it opens nothing
MOST: Final = 100
MISSING: Final = "This browser is signed out already."


@dataclass(frozen=True, slots=True)
class Browser:
    """A session; `mark` names it."""

    mark: str
    is_this: bool
    ip_address: str | None
    user_agent: str
    created_at: datetime
    seen_at: datetime


def listed(engine: Engine, user_id: int, token: str) -> list[Browser]:
    """The sessions that are good now, the one with this token first, then those seen last."""
    now, own = clock.now(), digest_of(token)
    alive = (WebSession.user_id == user_id, WebSession.seen_at > now - IDLE, WebSession.created_at > now - LONGEST)
    with Session(engine) as session:
        query = select(WebSession).where(*alive).order_by(WebSession.seen_at.desc()).limit(MOST)
        found = [
            Browser(
                row.digest[:MARK_CHARS],
                row.digest == own,
                row.ip_address,
                row.user_agent or "",
                row.created_at,
                row.seen_at,
            )
            for row in session.scalars(query)
        ]
    return sorted(found, key=lambda browser: not browser.is_this)


def end(engine: Engine, actor: audit.Actor, user_id: int, mark: str) -> None:
    """Sign one browser of the person out.

    Raises:
        NotFound: it is signed out already, or somebody else's.
    """
    is_mark = len(mark) == MARK_CHARS and mark.isascii() and mark.isalnum()
    named = WebSession.digest.startswith(mark if is_mark else "-")
    if _end(engine, actor, user_id, named) == 0:
        raise NotFound(MISSING, param="session")


def end_others(engine: Engine, actor: audit.Actor, user_id: int, token: str) -> int:
    """Sign every browser of the person out but the one with this token; returns how many."""
    return _end(engine, actor, user_id, WebSession.digest != digest_of(token))


def end_tokens(engine: Engine, catalog: Catalog, actor: audit.Actor, user_id: int) -> None:
    """Void every token of the person, in all workers within two seconds; browsers and keys go on."""
    with changing(engine, catalog) as session:
        raised = update(User).where(User.id == user_id).values(**voided())
        session.execute(raised.execution_options(synchronize_session=False))
        audit.note(session, actor, "tokens_end", "user", user_id)


def _end(engine: Engine, actor: audit.Actor, user_id: int, which: Any) -> int:
    with Session(engine) as session, session.begin():
        gone = delete(WebSession).where(WebSession.user_id == user_id, which).returning(WebSession.ip_address)
        count = len(session.execute(gone).all())
        if count:
            audit.note(session, actor, "session_end", "user", user_id, {"sessions": count})
        return count
