"""Invitations: codes with which somebody may register, each once and for a time.

A code is shown when it is made and never again; what is stored is its SHA-256, which nobody reverses for a text of
190 random bits. It says which role and team the new user gets. It opens nothing once its maker is no admin any more.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from models import Invitation, Team, User
from services import audit, owners
from services.errors import NotFound, PermissionDenied
from utils import clock, ids

PREFIX: Final = "inv-"
RANDOM_CHARS: Final = 32
HINT_CHARS: Final = 8
MAX_CODE: Final = 100
DAYS: Final = 7
MOST_DAYS: Final = 365
OPERATOR: Final = "the operator"  # who invites by command; no user has a name with a space


@dataclass(frozen=True, slots=True)
class Invited:
    """A new invitation; `code` exists only here."""

    code: str
    view: dict[str, Any]


def make(engine: Engine, actor: audit.Actor, *, role: str = "user", team: str = "", days: int = DAYS) -> Invited:
    """A new invitation for a role, into a team (by name; empty: none), for some days.

    Raises:
        NotFound: no such team.
    """
    code, now = PREFIX + ids.random_base62(RANDOM_CHARS), clock.now()
    with Session(engine, expire_on_commit=False) as session, session.begin():
        row = Invitation(
            digest=_digest(code),
            hint=f"{code[:HINT_CHARS]}…",
            role=role,
            team_id=owners.find(session, "team", team) if team else None,
            created_by=OPERATOR if actor.user_id is None else actor.name[:150],
            created_at=now,
            expires_at=now + timedelta(days=days),
        )
        session.add(row)
        after = {"role": role, "team": team or None, "expires_at": audit.moment(row.expires_at)}
        audit.note(session, actor, "invitation_create", "invitation", row.hint, {"after": after})
        return Invited(code, _view(row, team or None, None, now))


def listed(engine: Engine, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """The invitations, newest first; of those that were used, by whom."""
    query = (
        select(Invitation, Team.name, User.username)
        .join(Team, Team.id == Invitation.team_id, isouter=True)
        .join(User, User.id == Invitation.used_by, isouter=True)
        .order_by(Invitation.created_at.desc(), Invitation.digest)
    )
    with Session(engine) as session:
        rows = session.execute(query.offset(skip).limit(limit)).tuples().all()
    now = clock.now()
    return [_view(row, team, username, now) for row, team, username in rows]


def remove(engine: Engine, actor: audit.Actor, number: str) -> None:
    """Withdraw an invitation by its id, or forget one that was used.

    Raises:
        NotFound: there is none with that id.
    """
    gone = delete(Invitation).where(Invitation.digest == number).returning(Invitation.hint)
    with Session(engine) as session, session.begin():
        hint = session.execute(gone).scalar() if number.isascii() and number.isalnum() else None
        if hint is None:
            raise NotFound("There is no such invitation.", param="id")
        audit.note(session, actor, "invitation_delete", "invitation", hint)


def check(engine: Engine, code: object) -> tuple[str, str]:
    """The code and the role it gives, if it opens something now; asked before a stranger's password is hashed.

    Raises:
        PermissionDenied: unknown, used or expired; which one is not said.
    """
    if not isinstance(code, str) or not code.isascii() or len(code) > MAX_CODE:
        raise _invalid()
    with Session(engine) as session:
        row = session.get(Invitation, _digest(code))
        if row is None or row.used_at is not None or row.expires_at <= clock.now():
            raise _invalid()
        _check_maker(session, row)
        return code, row.role


def take(session: Session, code: str) -> Invitation:
    """Use the invitation up, within the transaction that makes its user; of many at once one gets it.

    It must be the first statement of the transaction: whoever comes second waits here, and then finds it used.

    Raises:
        PermissionDenied: see `check`.
    """
    now, digest = clock.now(), _digest(code)
    claim = (
        update(Invitation)
        .where(Invitation.digest == digest, Invitation.used_at.is_(None), Invitation.expires_at > now)
        .values(used_at=now)
        .returning(Invitation.digest)
    )
    if session.execute(claim.execution_options(synchronize_session=False)).first() is None:
        raise _invalid()
    row = session.get_one(Invitation, digest)
    _check_maker(session, row)
    return row


def columns(session: Session, row: Invitation) -> dict[str, Any]:
    """What it says of its user: the role, and the team if that is still there."""
    return {"role": row.role, "team_id": session.scalar(select(Team.id).where(Team.id == row.team_id))}


def _check_maker(session: Session, row: Invitation) -> None:
    is_admin = (User.username == row.created_by, User.role == "admin", User.is_active)
    if row.created_by != OPERATOR and session.scalar(select(User.id).where(*is_admin)) is None:
        raise _invalid()


def _invalid() -> PermissionDenied:
    return PermissionDenied(
        "The invitation is not valid: it is unknown, was used or has expired, or its maker may invite nobody any more.",
        param="invitation",
        code="invitation_invalid",
    )


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def state(row: Invitation, now: datetime) -> str:
    """`open`, `used` or `expired`."""
    return "used" if row.used_at is not None else "expired" if row.expires_at <= now else "open"


def _view(row: Invitation, team: str | None, used_by: str | None, now: datetime) -> dict[str, Any]:
    return {
        "id": row.digest,
        "hint": row.hint,
        "state": state(row, now),
        "role": row.role,
        "team": team,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "used_at": row.used_at,
        "used_by": used_by,
    }
