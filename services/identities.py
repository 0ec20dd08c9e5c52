"""Who people of an OpenID provider are here: made at their first sign-in or linked by themselves, with roles by group.

An identity is the issuer with its `sub`. Names and mail addresses can change hands at a provider, so they never lead to
an account: one that is here already is linked by whoever is signed in to it, and by nobody else.
"""

import logging
import re
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from models import Identity, User
from services import audit, balances
from services.accounts import ERASED, RESERVED
from services.catalog import Catalog
from services.changing import changing
from services.errors import AuthenticationFailed, Conflict
from services.openid import Known
from services.people import check_admin_left
from utils import clock

log = logging.getLogger(__name__)

STRENGTH: Final = ("user", "team_admin", "auditor", "admin")  # of several roles the last one counts
ODD: Final = re.compile(r"[\s/\\<>\"'`]+")  # what check_name does not take, of what can be seen
MAX_NAME: Final = 140  # leaves room for a number
MAX_ALIKE: Final = 1000
TRIES: Final = 3
STRANGER: Final = (
    "Nobody here is linked with your identity, and this gateway makes no accounts by itself. If you have an account, "
    "sign in with its password and link it under “Your sign-in”; otherwise ask an admin for one."
)
TAKEN: Final = (
    "There is an account of your name here that is not linked with your identity. If it is yours, sign in with its "
    "password and link it under “Your sign-in”; otherwise ask an admin."
)
DISABLED: Final = "Your account here is disabled; ask an admin."
LINKED_ELSEWHERE: Final = "This identity is linked with another account here."
LINKED_ALREADY: Final = "Your account is linked already; take that link away first."
NO_PASSWORD: Final = "Your account has no password, so without the link you could not sign in any more."  # noqa: S105 - a message, no secret


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say. `roles`: of groups; empty = roles are given here."""

    roles: tuple[tuple[str, str], ...]
    creates_users: bool
    balance: int | None
    token_limit: int | None


class Identities:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog, rules: Rules) -> None:
        self._engine, self._catalog, self._rules = engine, catalog, rules

    def enter(self, actor: audit.Actor, known: Known) -> int:
        """The number of the user whom the provider vouches for, who gets the role of their groups.

        Raises:
            AuthenticationFailed: there is none and none is made, or the account is disabled.
        """
        for left in reversed(range(TRIES)):
            try:
                return self._found(actor, known) or self._made(actor, known)
            except Conflict:
                if not left:
                    raise
                # The same person in another browser, or somebody of the same name, was quicker.
        raise AssertionError  # pragma: no cover - the last try has answered or raised

    def linked(self, user_id: int, issuer: str) -> Identity | None:
        """The identity that signs in as this user."""
        with Session(self._engine) as session:
            return session.scalar(select(Identity).where(Identity.user_id == user_id, Identity.issuer == issuer))

    def link(self, actor: audit.Actor, user_id: int, issuer: str, subject: str) -> None:
        """From now on, whoever this is at the provider signs in as this user.

        Raises:
            Conflict: it is linked with somebody else, or the user with another identity.
        """
        with changing(self._engine, self._catalog) as session:
            _locked(session, user_id)
            row = session.get(Identity, (issuer, subject))
            if row is not None and session.get(User, row.user_id) is not None:
                if row.user_id == user_id:
                    return
                raise Conflict(LINKED_ELSEWHERE, code="identity_taken")
            if session.scalar(select(Identity).where(Identity.user_id == user_id, Identity.issuer == issuer)):
                raise Conflict(LINKED_ALREADY, code="identity_linked")
            _add(session, issuer, subject, user_id)
            audit.note(session, actor, "identity_link", "user", user_id, _told(issuer, subject))

    def unlink(self, actor: audit.Actor, user_id: int, issuer: str) -> None:
        """The user signs in with the password only.

        Raises:
            Conflict: there is no password.
        """
        with changing(self._engine, self._catalog) as session:
            user = _locked(session, user_id)
            if user is not None and user.password_hash is None:
                raise Conflict(NO_PASSWORD, code="no_password")
            wanted = (Identity.user_id == user_id, Identity.issuer == issuer)
            for subject in session.scalars(delete(Identity).where(*wanted).returning(Identity.subject)).all():
                audit.note(session, actor, "identity_unlink", "user", user_id, _told(issuer, subject))

    def _found(self, actor: audit.Actor, known: Known) -> int | None:
        """The user who is linked, with the role of now."""
        query = select(User).join(Identity, Identity.user_id == User.id)
        with Session(self._engine) as session:
            user = session.scalar(query.where(Identity.issuer == known.issuer, Identity.subject == known.subject))
        if user is None:
            return None
        if not user.is_active or (user.expires_at is not None and user.expires_at <= clock.now()):
            raise AuthenticationFailed(DISABLED, code="account_disabled")
        if self._role(known) not in (None, user.role):
            self._change_role(actor, user.id, known)
        return user.id

    def _change_role(self, actor: audit.Actor, user_id: int, known: Known) -> None:
        """The role of the groups; the last admin stays one, since nobody could make another."""
        wanted = self._role(known)
        try:
            with changing(self._engine, self._catalog) as session:
                user = _locked(session, user_id)
                if user is None or wanted is None:
                    return
                before, user.role = user.role, wanted
                session.flush()
                check_admin_left(session)
                details = {"before": {"role": before}, "after": {"role": wanted}}
                audit.note(session, actor, "user_update", "user", user_id, details)
        except Conflict as exc:
            if exc.code != "last_admin":
                raise
            log.warning("user %s is the last admin and stays one, though no group says so any more", user_id)
            with Session(self._engine) as session, session.begin():
                audit.note(session, actor, "role_kept", "user", user_id, {"reason": str(exc), "wanted": wanted})

    def _made(self, actor: audit.Actor, known: Known) -> int:
        """A new user, if that is wanted."""
        if not self._rules.creates_users:
            raise AuthenticationFailed(STRANGER, code="identity_unknown")
        with changing(self._engine, self._catalog) as session:
            role = self._role(known) or STRENGTH[0]
            user = User(username=_name(session, known), password_hash=None, role=role)
            session.add(user)
            session.flush()
            _add(session, known.issuer, known.subject, user.id)
            balances.start(session, user.id, self._rules.balance, self._rules.token_limit)
            details: dict[str, Any] = {"after": {"username": user.username, "role": role}}
            audit.note(session, actor, "user_create", "user", user.id, details | _told(known.issuer, known.subject))
            return user.id

    def _role(self, known: Known) -> str | None:
        """The strongest role of the groups; None = roles are given here."""
        if not self._rules.roles:
            return None
        given = {role for group, role in self._rules.roles if group in known.groups}
        return max(given, key=STRENGTH.index, default=STRENGTH[0])


def _name(session: Session, known: Known) -> str:
    """A free user name that is like the provider's.

    Raises:
        AuthenticationFailed: it is that of an account which nobody of this provider has.
    """
    wanted = ODD.sub("-", known.name)[:MAX_NAME].strip("-") or "user"
    if wanted.lower().startswith(ERASED):  # so are accounts called that were erased, or will be
        wanted = f"user-{wanted}"
    holder = session.scalar(select(User.id).where(User.username == wanted))
    if holder is None and wanted.lower() not in RESERVED:
        return wanted
    is_of_provider = select(Identity).where(Identity.user_id == holder, Identity.issuer == known.issuer)
    if holder is not None and session.scalar(is_of_provider) is None:
        raise AuthenticationFailed(TAKEN, code="username_taken")
    alike = set(session.scalars(select(User.username).where(User.username.startswith(f"{wanted}-", autoescape=True))))
    free = (name for number in range(2, MAX_ALIKE) if (name := f"{wanted}-{number}") not in alike)
    return next(free, wanted)


def _add(session: Session, issuer: str, subject: str, user_id: int) -> None:
    """A new row, which fails where somebody else was quicker; one of a user who is gone gives way."""
    gone = (Identity.issuer == issuer, Identity.subject == subject, Identity.user_id.not_in(select(User.id)))
    session.execute(delete(Identity).where(*gone))
    session.add(Identity(issuer=issuer, subject=subject, user_id=user_id, created_at=clock.now()))
    session.flush()


def _locked(session: Session, user_id: int) -> User | None:
    """The user, whom nobody else changes until the end of the transaction."""
    lock = update(User).where(User.id == user_id).values(updated_at=User.updated_at)
    session.execute(lock.execution_options(synchronize_session=False))
    return session.get(User, user_id)


def _told(issuer: str, subject: str) -> dict[str, Any]:
    return {"issuer": issuer, "subject": subject}
