"""Requests for more: somebody asks for a higher budget or limit, or for tokens; whoever may, decides once.

An approval sets the amount in the transaction that closes the request, so that of two who decide at once one wins and
the other is told. Admins decide everything. A team's admin decides what it may set by itself: budgets of members
without a role, up to the team's own budget of the same unit and period.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Limit, RaiseRequest, User
from services import audit, balances, budgets, limits, portalpolicy, rights
from services.audit import Actor
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from services.types import Caller
from utils import clock, money

OPEN: Final = "open"
MOST_OPEN: Final = 5
MAX_TEXT: Final = 500
MAX_ID: Final = 2**63 - 1
KINDS: Final = ("budget", "limit", "balance")
RESOURCE: Final = "raise_request"
SHOWN: Final = 100
MISSING: Final = "There is no such request."
NO_BALANCE: Final = "You have no token balance, so nothing of that kind limits you."
NO_TARGET: Final = "There is no such budget or limit of yours."
GONE: Final = "The budget or limit is gone meanwhile, so nothing stands in the way; decline the request."
TOO_MANY: Final = "You have as many open requests as one may have; wait for an answer, or withdraw one."
CLOSED: Final = "Requests are closed here; ask an admin."
NOT_MORE: Final = "Ask for more than there is now."
NO_AMOUNT: Final = "This is not an amount that can be asked for."
ABOVE_TEAM: Final = "This is more than the team itself may spend; only admins may give it."
NOT_YOURS: Final = "Only admins may decide this."


@dataclass(frozen=True, slots=True)
class Target:
    """What somebody wants more of; of a balance nothing else is needed."""

    kind: str
    number: int = 0  # of the budget or limit


def ask(engine: Engine, actor: Actor, caller: Caller, target: Target, wanted: int, reason: str) -> RaiseRequest:
    """Ask for more. `wanted`: the new limit in its own unit; of a balance, so many tokens more.

    Raises:
        PermissionDenied: requests are closed.
        NotFound: no such budget or limit applies to the person.
        InvalidRequest: an amount or reason that cannot be.
        Conflict: too many are open.
    """
    text = reason.strip()
    if not 1 <= len(text) <= MAX_TEXT or "\0" in text:
        raise InvalidRequest(f"A reason has 1 to {MAX_TEXT} characters.", param="reason")
    with Session(engine, expire_on_commit=False) as session, session.begin():
        lock = update(User).where(User.id == caller.user_id).values(updated_at=User.updated_at)
        session.execute(lock.execution_options(synchronize_session=False))
        if not portalpolicy.read(session).may_ask:
            raise PermissionDenied(CLOSED)
        row = _row(session, caller, target)
        least, most = _bounds(row)
        if wanted > most:
            raise InvalidRequest(NO_AMOUNT, param="amount")
        if wanted <= least:
            raise InvalidRequest(NOT_MORE, param="amount")
        mine = (RaiseRequest.user_id == caller.user_id, RaiseRequest.state == OPEN)
        if (session.scalar(select(func.count(RaiseRequest.id)).where(*mine)) or 0) >= MOST_OPEN:
            raise Conflict(TOO_MANY)
        row.user_id, row.wanted_amount, row.reason = caller.user_id, wanted, text
        session.add(row)
        session.flush()
        audit.note(session, actor, "raise_request", RESOURCE, row.id, {"after": _described(row)})
        return row


def withdraw(engine: Engine, actor: Actor, user_id: int, number: int) -> None:
    """Take one's own open request back.

    Raises:
        NotFound: there is none, or it is somebody else's.
        Conflict: it was decided already.
    """
    with Session(engine) as session, session.begin():
        row = find(session, user_id, number)
        _close(session, row, actor, "withdrawn", None, None)
        audit.note(session, actor, "raise_withdraw", RESOURCE, row.id)


def find(session: Session, user_id: int, number: int) -> RaiseRequest:
    """One request of the person.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    mine = (RaiseRequest.id == min(max(number, 0), MAX_ID), RaiseRequest.user_id == user_id)
    row = session.scalar(select(RaiseRequest).where(*mine))
    if row is None:
        raise NotFound(MISSING, param="id")
    return row


def of_user(session: Session, user_id: int) -> Sequence[RaiseRequest]:
    """The requests of a person, newest first."""
    query = select(RaiseRequest).where(RaiseRequest.user_id == user_id).order_by(RaiseRequest.id.desc())
    return session.scalars(query.limit(SHOWN)).all()


def open_of_team(session: Session, team_id: int) -> Sequence[tuple[RaiseRequest, User]]:
    """The open requests of a team's members, with who asks, oldest first."""
    query = select(RaiseRequest, User).join(User, User.id == RaiseRequest.user_id)
    wanted = (User.team_id == team_id, RaiseRequest.state == OPEN)
    return session.execute(query.where(*wanted).order_by(RaiseRequest.id).limit(SHOWN)).tuples().all()


def count_open(engine: Engine) -> int:
    """How many wait, as far as a badge can tell: at most 100."""
    waiting = select(RaiseRequest.id).where(RaiseRequest.state == OPEN).limit(SHOWN).subquery()
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(waiting)) or 0


class Raises:
    """Decides requests."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def approve(self, caller: Caller, actor: Actor, number: int, amount: int, answer: str = "") -> RaiseRequest:
        """Set what is asked for, or another amount, and close the request.

        Raises:
            NotFound: no such request, or of nobody that the caller may see.
            PermissionDenied: not for the caller to decide.
            InvalidRequest: an amount that cannot be.
            Conflict: somebody has decided it, or what it was about is gone.
        """
        with changing(self._engine, self._catalog) as session:
            row = self._seen(session, caller, number)
            self._check(session, caller, row, amount)
            _close(session, row, actor, "approved", amount, answer)
            _set(session, actor, row, amount)
            details = {"before": _described(row), "after": {"decided_amount": amount, "answer": answer}}
            audit.note(session, actor, "raise_approve", RESOURCE, row.id, details)
            return row

    def decline(self, caller: Caller, actor: Actor, number: int, answer: str) -> RaiseRequest:
        """Close the request with a reason; nothing changes.

        Raises:
            NotFound, PermissionDenied, Conflict: see `approve`.
            InvalidRequest: no reason.
        """
        if not answer.strip():
            raise InvalidRequest("Say why, so that the person knows what to do.", param="answer")
        with changing(self._engine, self._catalog) as session:
            row = self._seen(session, caller, number)
            self._check(session, caller, row, None)
            _close(session, row, actor, "declined", None, answer)
            details = {"before": _described(row), "after": {"answer": answer}}
            audit.note(session, actor, "raise_decline", RESOURCE, row.id, details)
            return row

    def _seen(self, session: Session, caller: Caller, number: int) -> RaiseRequest:
        query = select(RaiseRequest, User.team_id).join(User, User.id == RaiseRequest.user_id, isouter=True)
        found = session.execute(query.where(RaiseRequest.id == min(max(number, 0), MAX_ID))).first()
        is_team = found is not None and caller.team_id is not None and found[1] == caller.team_id
        may_see = rights.has(caller.role, rights.CHANGE) or (rights.has(caller.role, rights.TEAM) and is_team)
        if found is None or not may_see:
            raise NotFound(MISSING, param="id")
        row: RaiseRequest = found[0]
        return row

    def _check(self, session: Session, caller: Caller, row: RaiseRequest, amount: int | None) -> None:
        if not may_decide(caller, row, _role_of(session, row.user_id)):
            raise PermissionDenied(NOT_YOURS)
        if amount is None:
            return
        if not 0 < amount <= _most(row.kind, row.unit):
            raise InvalidRequest(NO_AMOUNT, param="amount")
        if not rights.has(caller.role, rights.CHANGE) and caller.team_id is not None:
            of_team = budgets.find(session, "team", caller.team_id, row.unit, row.period)
            if of_team is not None and amount > of_team.limit_amount:
                raise PermissionDenied(ABOVE_TEAM)


def may_decide(caller: Caller, row: RaiseRequest, role: str | None) -> bool:
    """Whether the caller, who sees the request of somebody with that role, decides it."""
    is_members_budget = row.kind == "budget" and row.scope == "user" and role == "user"
    is_own = row.user_id == caller.user_id
    by_team = rights.has(caller.role, rights.TEAM) and is_members_budget and not is_own
    return rights.has(caller.role, rights.CHANGE) or by_team


def _role_of(session: Session, user_id: int) -> str | None:
    return session.scalar(select(User.role).where(User.id == user_id))


def _close(
    session: Session, row: RaiseRequest, actor: Actor, state: str, amount: int | None, answer: str | None
) -> None:
    """Of many at once one closes it.

    Raises:
        Conflict: it is closed, by whom and how.
    """
    values = {"state": state, "decided_amount": amount, "decided_by": actor.name[:150], "decided_at": clock.now()}
    values["answer"] = (answer or "").strip()[:MAX_TEXT].replace("\0", "") or None
    claim = update(RaiseRequest).where(RaiseRequest.id == row.id, RaiseRequest.state == OPEN).values(values)
    won = session.execute(claim.returning(RaiseRequest.id).execution_options(synchronize_session=False)).first()
    session.refresh(row)
    if won is None:
        raise Conflict(f"`{row.decided_by}` was quicker; the request is closed.")


def _set(session: Session, actor: Actor, row: RaiseRequest, amount: int) -> None:
    if row.kind == "balance":
        why = f"request {row.id}"
        balances.move(session, row.scope_id, amount, actor, why)
        audit.note(session, actor, "token_topup", "token", row.scope_id, {"tokens": amount, "reason": why})
        return
    if row.kind == "limit":
        limit = limits.find(session, row.scope, row.scope_id, row.unit, row.period)
        if limit is None:
            raise Conflict(GONE)
        limits.change(session, actor, limit, amount)
        return
    budget = budgets.find(session, row.scope, row.scope_id, row.unit, row.period)
    if budget is None:
        raise Conflict(GONE)
    budgets.change(session, actor, budget, amount, budget.timezone)


def _row(session: Session, caller: Caller, target: Target) -> RaiseRequest:
    """The request without its words.

    Raises:
        NotFound: see `ask`.
    """
    if target.kind == "balance":
        left = balances.left(session, caller.user_id)
        if left is None:  # tokens on top of what is unlimited would limit it
            raise NotFound(NO_BALANCE, param="target")
        return RaiseRequest(
            kind="balance", scope="user", scope_id=caller.user_id, unit="tokens", period="total", seen_amount=left
        )
    tables: dict[str, Any] = {"budget": Budget, "limit": Limit}
    kind = tables.get(target.kind)
    found = session.get(kind, target.number) if kind is not None and 0 < target.number <= MAX_ID else None
    is_balance = isinstance(found, Budget) and found.is_prepaid
    if found is None or is_balance or not _is_of(session, caller, found):
        raise NotFound(NO_TARGET, param="target")
    values = {name: getattr(found, name) for name in ("scope", "scope_id", "unit", "period")}
    return RaiseRequest(kind=target.kind, seen_amount=found.limit_amount, **values)


def _is_of(session: Session, caller: Caller, row: Budget | Limit) -> bool:
    """Whether it applies to the person: own, of the team, or of an own key."""
    if (row.scope, row.scope_id) in (("user", caller.user_id), ("team", caller.team_id)):
        return True
    owner = select(ApiKey.user_id).where(ApiKey.id == row.scope_id)
    return row.scope == "key" and session.scalar(owner) == caller.user_id


def _bounds(row: RaiseRequest) -> tuple[int, int]:
    """What is too little, and what is the most."""
    return 0 if row.kind == "balance" else row.seen_amount, _most(row.kind, row.unit)


def _most(kind: str, unit: str) -> int:
    if kind == "balance":
        return balances.MAX_AMOUNT
    return limits.MAX_AMOUNT if kind == "limit" else money.MAX_NANOUSD


def _described(row: RaiseRequest) -> dict[str, Any]:
    names = ("kind", "scope", "scope_id", "unit", "period", "seen_amount", "wanted_amount", "reason")
    return {"user_id": row.user_id, **{name: getattr(row, name) for name in names}}
