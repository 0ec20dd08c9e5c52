"""Users as somebody else knows them: which account here stands for a subject there, made at first sight where allowed.

An account that is there already is never taken over by its name: only an operator links one to a subject.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import Identity, User
from services import audit, balances
from services.accounts import KEY_OWNER, SERVICE_ACCOUNT, check_name, voided
from services.audit import Actor
from services.errors import Conflict, InvalidRequest, NotFound

BACK_END: Final = "back end"  # the issuer of who shares a secret with us or signs people in for us
MAX_SUBJECT: Final = 255
MAX_ISSUER: Final = 500
MADE_BY: Final = Actor("outside sign-in")  # no user name has a space


@dataclass(frozen=True, slots=True)
class Claimed:
    """Who somebody is, in the words of an outside issuer that we believe."""

    issuer: str
    subject: str
    names: tuple[str, ...] = ()  # how it may be called here, best first
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class Joining:
    """Whether strangers get an account at first sight, and what they begin with; None = unlimited."""

    is_open: bool
    balance: int | None = None
    limit: int | None = None


class Outsiders:
    """See the module."""

    def __init__(self, engine: Engine, joining: Joining) -> None:
        self._engine, self._joining = engine, joining

    @contextmanager
    def user(self, who: Claimed) -> Iterator[tuple[Session, User | None]]:
        """The account of somebody with its session; made now if it may be. None: there is none."""
        if self._number(who) is None and self._joining.is_open:
            self._make(who)
        with Session(self._engine) as session:
            yield session, session.scalar(_of(who.issuer, who.subject))

    def enter(self, who: Claimed) -> int | None:
        """The number of the account of somebody who has just signed in there; staff of there is an admin here.

        A role other than `user` was given here and stays. None: there is no account.
        """
        with self.user(who) as (session, user):
            if user is None:
                return None
            if who.is_admin and user.role == "user":
                user.role = "admin"
                details = {"before": {"role": "user"}, "after": {"role": "admin"}}
                audit.note(session, MADE_BY, "user_update", "user", user.id, details)
            number = user.id
            session.commit()
            return number

    def admit(self, who: Claimed) -> bool:
        """An account for somebody, whoever may join by themselves; False = there is one already."""
        is_new = self._number(who) is None
        if is_new:
            self._make(who)
        return is_new

    def link(self, actor: Actor, username: str, issuer: str, subject: str) -> None:
        """Have an account that is there already stand for a subject.

        Raises:
            NotFound: no such user.
            Conflict: the subject has an account, or the account is one of the gateway's own.
            InvalidRequest: what is no subject or no issuer.
        """
        if not is_subject(subject) or not issuer or len(issuer) > MAX_ISSUER or not issuer.isprintable():
            raise InvalidRequest("A subject has 1 to 255 characters, an issuer 1 to 500.", param="subject")
        try:
            with Session(self._engine) as session, session.begin():
                user = session.scalar(select(User).where(User.username == username)) if username.isprintable() else None
                if user is None:
                    raise NotFound("User not found", param="username", code="user_not_found")
                if username in (SERVICE_ACCOUNT, KEY_OWNER):
                    raise Conflict(f"`{username}` is an account of the gateway itself.")
                session.add(Identity(issuer=issuer, subject=subject, user_id=user.id))
                details = {"after": {"issuer": issuer, "subject": subject}}
                audit.note(session, actor, "identity_link", "user", user.id, details)
        except IntegrityError as exc:
            raise Conflict(f"`{subject}` of `{issuer}` has an account here already.") from exc

    def unlink(self, actor: Actor, issuer: str, subject: str) -> None:
        """Forget whom a subject stands for; a worker that has seen it forgets within two seconds.

        Raises:
            NotFound: nobody.
        """
        with Session(self._engine) as session, session.begin():
            mine = (Identity.issuer == issuer, Identity.subject == subject)
            user_id = session.scalar(delete(Identity).where(*mine).returning(Identity.user_id))
            if user_id is None:
                raise NotFound(f"`{subject}` of `{issuer}` has no account here.")
            details = {"before": {"issuer": issuer, "subject": subject}}
            audit.note(session, actor, "identity_unlink", "user", user_id, details)
            # Changes what every worker knows, and voids what was made before.
            session.execute(update(User).where(User.id == user_id).values(**voided()))

    def listed(self) -> list[dict[str, Any]]:
        """All of them by user name: `username`, `issuer`, `subject`, `created_at`."""
        query = select(Identity, User.username).join(User, User.id == Identity.user_id)
        with Session(self._engine) as session:
            rows = session.execute(query.order_by(User.username, Identity.issuer, Identity.subject)).tuples()
            return [
                {"username": name, "issuer": row.issuer, "subject": row.subject, "created_at": row.created_at}
                for row, name in rows
            ]

    def _number(self, who: Claimed) -> int | None:
        with Session(self._engine) as session:
            mine = (Identity.issuer == who.issuer, Identity.subject == who.subject)
            return session.scalar(select(Identity.user_id).where(*mine))

    def _make(self, who: Claimed) -> None:
        """A new account; whoever is second at the same moment finds the first one's."""
        for name in _names(who):
            try:
                with Session(self._engine) as session, session.begin():
                    if session.scalar(select(User.id).where(User.username == name)) is not None:
                        continue
                    self._add(session, who, name)
            except IntegrityError:
                if self._number(who) is not None:
                    return
            else:
                return

    def _add(self, session: Session, who: Claimed, name: str) -> None:
        role = "admin" if who.is_admin else "user"
        user = User(username=name, role=role)
        session.add(user)
        session.flush()
        session.add(Identity(issuer=who.issuer, subject=who.subject, user_id=user.id))
        balances.start(session, user.id, self._joining.balance, self._joining.limit)
        details = {"after": {"username": name, "role": role, "issuer": who.issuer, "subject": who.subject}}
        audit.note(session, MADE_BY, "user_create", "user", user.id, details)


def is_subject(text: str) -> bool:
    """Whether that can be stored as a subject."""
    return 0 < len(text) <= MAX_SUBJECT and text.isprintable()


def _of(issuer: str, subject: str) -> Any:
    joined = select(User).join(Identity, Identity.user_id == User.id)
    return joined.where(Identity.issuer == issuer, Identity.subject == subject)


def _names(who: Claimed) -> Iterator[str]:
    """Names that the account may get; the last one is nobody else's."""
    unique = hashlib.sha256(f"{who.issuer}\n{who.subject}".encode()).hexdigest()[:12]
    for name in (*who.names, f"user-{who.subject}", f"user-{unique}"):
        try:
            yield check_name(name)
        except InvalidRequest:
            continue
