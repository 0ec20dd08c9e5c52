"""Prepaid tokens of users: what they were given, what is left of it, and every movement.

A balance is the prepaid budget of a user. Its limit is all that was ever given minus what was deducted again, what
calls use of it is spent; so the balance is their difference. A user without such a budget is not limited by one.
Every change of the limit has an entry in the ledger, in the same transaction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine, and_, delete, func, literal, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, LedgerEntry, User
from services import audit
from services.errors import InvalidRequest, NotFound
from services.settlement import clean
from utils import clock

MAX_AMOUNT: Final = 10**12  # tokens of one movement, or of a limit
MAX_GIVEN: Final = 10**15  # tokens of a balance altogether
MAX_REASON: Final = 255
MAX_ID: Final = 2**63 - 1  # of a column
INITIAL: Final = "initial balance"
HAS_ONE: Final = "This user has a balance or a limit already; change that one."
SYSTEM: Final = audit.Actor(audit.SYSTEM)
REASONS: Final = {  # of movements, as histories name them
    "charge": "llm_usage",
    "correction": "llm_usage",
    "top_up": "admin_top_up",
    "deduct": "admin_deduct",
}
SIGNS: Final = {"top_up": 1}  # all others make a balance smaller

_COLUMNS: Final = ("scope", "scope_id", "unit", "period", "is_prepaid")
# A call that was admitted a moment ago may have read the limit before it shrank. On Postgres such statements are
# waited for, a few milliseconds, and new ones wait; on SQLite there is only one writer.
_WAIT_FOR_CALLS: Final = ("SET LOCAL lock_timeout = '1s'", "LOCK TABLE budget_windows IN SHARE MODE")


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a user stands, in tokens. None = unlimited."""

    user_id: int
    balance: int | None  # what is left, with what calls under way hold of it
    held: int
    total_used: int
    limit: int | None  # of all tokens that may be used, prepaid or not
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Movement:
    """One entry of a balance's history; what was used or deducted is negative."""

    id: int
    amount: int
    reason: str  # see REASONS
    note: str | None
    request_id: str | None
    actor_id: int | None
    created_at: datetime


def state(engine: Engine, user_id: int) -> Balance:
    """Where a user stands.

    Raises:
        NotFound: no such user.
    """
    with Session(engine) as session:
        return _state(session, user_id)


def add(engine: Engine, user_id: int, amount: object, actor: audit.Actor, reason: object = None) -> Balance:
    """Top up (a positive amount) or deduct (a negative one). The first top-up makes the user a limited one.

    Raises:
        InvalidRequest: no whole number of tokens, zero or too many of them, a reason that is no short text, or a
            deduction of more than what calls have left; `details` has the numbers.
        NotFound: no such user.
    """
    tokens, why = _check_amount(amount), _check_reason(reason)
    with Session(engine) as session, session.begin():
        _user(session, user_id)
        _move_noted(session, user_id, tokens, actor, why)
        return _state(session, user_id)


def change(  # noqa: PLR0913 - what a form about a balance asks for
    engine: Engine,
    user_id: int,
    amount: object,
    limit: object,
    actor: audit.Actor,
    reason: object = None,
    *,
    is_new: bool = False,
) -> Balance:
    """Move a balance (None: it stays) and set the limit (None: there is none), both or neither.

    Raises:
        InvalidRequest: see `add` and `set_limit`; or with `is_new`, that the user has a balance or a limit already.
        NotFound: no such user.
    """
    tokens = None if amount is None else _check_amount(amount)
    most, why = None if limit is None else _check_limit(limit), _check_reason(reason)
    with Session(engine) as session, session.begin():
        _user(session, user_id)
        if is_new and any(_budget(session, user_id, is_prepaid=is_prepaid) for is_prepaid in (True, False)):
            raise InvalidRequest(HAS_ONE, param="user")
        if tokens is not None:
            _move_noted(session, user_id, tokens, actor, why)
        _limit_noted(session, user_id, most, actor)
        return _state(session, user_id)


def start(session: Session, user_id: int, balance: int | None, limit: int | None) -> None:
    """What a new user begins with; None = unlimited."""
    if balance is not None:
        _give(session, user_id, balance, SYSTEM, INITIAL)
    if limit is not None:
        _set_limit(session, user_id, limit)


def move(session: Session, user_id: int, tokens: int, actor: audit.Actor, reason: str | None) -> None:
    """Change what a user was given, with its entry in the ledger, within the caller's transaction.

    Raises:
        InvalidRequest: see `add`.
    """
    if tokens > 0:
        _give(session, user_id, tokens, actor, reason)
    elif tokens < 0:
        _take(session, user_id, -tokens, actor, reason)


def set_limit(engine: Engine, user_id: int, limit: object, actor: audit.Actor) -> Balance:
    """Limit how many tokens a user may use from now on, or no longer (None). It may be less than is used already.

    Raises:
        InvalidRequest: neither None nor a whole number of tokens from zero on.
        NotFound: no such user.
    """
    tokens = None if limit is None else _check_limit(limit)
    with Session(engine) as session, session.begin():
        _user(session, user_id)
        _limit_noted(session, user_id, tokens, actor, always=True)
        return _state(session, user_id)


def history(engine: Engine, user_id: int, *, skip: int, limit: int) -> list[Movement]:
    """The movements of a user's balance, newest first; none for a user without one.

    Raises:
        NotFound: no such user.
    """
    with Session(engine) as session:
        _user(session, user_id)
        prepaid = _budget(session, user_id, is_prepaid=True)
        if prepaid is None:
            return []
        mine = (LedgerEntry.account == "budget", LedgerEntry.account_id == prepaid.id)
        query = select(LedgerEntry).where(*mine).order_by(LedgerEntry.id.desc()).offset(skip).limit(limit)
        return [
            Movement(
                id=row.id,
                amount=SIGNS.get(row.kind, -1) * row.amount_tokens,
                reason=REASONS[row.kind],
                note=row.reason,
                request_id=row.request_id,
                actor_id=row.actor_id,
                created_at=row.created_at,
            )
            for row in session.scalars(query)
        ]


def _move_noted(session: Session, user_id: int, tokens: int, actor: audit.Actor, why: str | None) -> None:
    move(session, user_id, tokens, actor, why)
    action = "token_topup" if tokens > 0 else "token_deduct"
    audit.note(session, actor, action, "token", user_id, {"tokens": abs(tokens), "reason": why})


def _limit_noted(
    session: Session, user_id: int, tokens: int | None, actor: audit.Actor, *, always: bool = False
) -> None:
    """The limit, with its entry in the audit log where it changes, or always."""
    row = _budget(session, user_id, is_prepaid=False)
    before = row.limit_amount if row is not None else None
    if tokens == before and not always:
        return
    if tokens is None:
        session.execute(delete(Budget).where(_is_of(user_id, is_prepaid=False)))
    else:
        _set_limit(session, user_id, tokens)
    details = {"unit": "tokens", "period": "total", "before": before, "after": tokens}
    audit.note(session, actor, "limit_set", "user", user_id, details)


def left(session: Session, user_id: int) -> int | None:
    """What is left of a user's balance; None = there is none."""
    prepaid = _budget(session, user_id, is_prepaid=True)
    return None if prepaid is None else prepaid.limit_amount - _window(session, prepaid.id)[0]


def _state(session: Session, user_id: int) -> Balance:
    user = _user(session, user_id)
    prepaid, limit = (_budget(session, user_id, is_prepaid=is_prepaid) for is_prepaid in (True, False))
    spent, held = _window(session, prepaid.id) if prepaid is not None else (0, 0)
    return Balance(
        user_id=user_id,
        balance=prepaid.limit_amount - spent if prepaid is not None else None,
        held=held,
        total_used=user.tokens_used,
        limit=limit.limit_amount if limit is not None else None,
        updated_at=max([user.created_at, *(row.updated_at for row in (prepaid, limit) if row is not None)]),
    )


def _check_amount(amount: object) -> int:
    if not isinstance(amount, int) or isinstance(amount, bool) or not 0 < abs(amount) <= MAX_AMOUNT:
        raise InvalidRequest(
            "An amount is a whole number of tokens, at most 1000000000000 and not zero; a negative one is deducted.",
            param="amount",
        )
    return amount


def _check_limit(limit: object) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MAX_AMOUNT:
        raise InvalidRequest(
            "A limit is a whole number of tokens from 0 to 1000000000000, or null for none.", param="limit"
        )
    return limit


def _check_reason(reason: object) -> str | None:
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise InvalidRequest("A reason is a text of at most 255 characters.", param="reason")
    return clean(reason)


def _give(session: Session, user_id: int, tokens: int, actor: audit.Actor, reason: str | None) -> None:
    statement = _insert(session, user_id, tokens, is_prepaid=True)
    given = Budget.limit_amount + statement.excluded.limit_amount
    query = statement.on_conflict_do_update(
        index_elements=_COLUMNS, set_={"limit_amount": given, "updated_at": _now()}, where=given <= MAX_GIVEN
    ).returning(Budget.id)
    budget_id = session.execute(query).scalar()
    if budget_id is None:
        raise InvalidRequest("A balance cannot hold so many tokens.", param="amount")
    _enter(session, "top_up", budget_id, tokens, actor, reason)


def _take(session: Session, user_id: int, tokens: int, actor: audit.Actor, reason: str | None) -> None:
    for statement in _WAIT_FOR_CALLS if session.get_bind().dialect.name == "postgresql" else ():
        session.execute(text(statement))
    gone = (
        select(func.coalesce(func.sum(BudgetWindow.spent_amount + BudgetWindow.held_amount), 0))
        .where(BudgetWindow.budget_id == Budget.id)
        .scalar_subquery()
    )
    query = (
        update(Budget)
        .where(_is_of(user_id, is_prepaid=True), Budget.limit_amount - tokens >= gone)
        .values(limit_amount=Budget.limit_amount - tokens, updated_at=_now())
        .returning(Budget.id)
        .execution_options(synchronize_session=False)
    )
    budget_id = session.execute(query).scalar()
    if budget_id is None:
        raise _too_little(session, user_id, tokens)
    _enter(session, "deduct", budget_id, tokens, actor, reason)


def _too_little(session: Session, user_id: int, tokens: int) -> InvalidRequest:
    prepaid = _budget(session, user_id, is_prepaid=True)
    if prepaid is None:
        return InvalidRequest("This user has no balance that could be made smaller.", param="amount")
    spent, held = _window(session, prepaid.id)
    exc = InvalidRequest("The balance, less what calls under way hold of it, is smaller than that.", param="amount")
    balance = prepaid.limit_amount - spent
    exc.details = {"amount": -tokens, "balance": balance, "held": held, "deductible": max(0, balance - held)}
    return exc


def _set_limit(session: Session, user_id: int, tokens: int) -> None:
    statement = _insert(session, user_id, tokens, is_prepaid=False)
    changed = {"limit_amount": statement.excluded.limit_amount, "updated_at": _now()}
    session.execute(statement.on_conflict_do_update(index_elements=_COLUMNS, set_=changed))


def _insert(session: Session, user_id: int, tokens: int, *, is_prepaid: bool) -> Any:
    """Insert a total budget for a user who is there; the caller says what to do when the budget is there too."""
    make: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = (literal("user"), User.id, literal("tokens"), literal("total"), literal(is_prepaid), literal(tokens))
    return make(Budget).from_select([*_COLUMNS, "limit_amount"], select(*row).where(User.id == user_id))


def _enter(session: Session, kind: str, budget_id: int, tokens: int, actor: audit.Actor, reason: str | None) -> None:
    if tokens:  # a zero moves nothing and leaves no row
        session.add(
            LedgerEntry(
                created_at=_now(),
                kind=kind,
                account="budget",
                account_id=budget_id,
                amount_tokens=tokens,
                actor=clean(actor.name)[:150],
                actor_id=actor.user_id,
                reason=reason,
            )
        )


def _user(session: Session, user_id: int) -> User:
    user = session.get(User, user_id) if user_id <= MAX_ID else None
    if user is None:
        raise NotFound("There is no such user.", param="user_id")
    return user


def _budget(session: Session, user_id: int, *, is_prepaid: bool) -> Budget | None:
    fresh = select(Budget).where(_is_of(user_id, is_prepaid=is_prepaid)).execution_options(populate_existing=True)
    return session.scalar(fresh)


def _is_of(user_id: int, *, is_prepaid: bool) -> Any:
    return and_(
        Budget.scope == "user",
        Budget.scope_id == user_id,
        Budget.unit == "tokens",
        Budget.period == "total",
        Budget.is_prepaid == is_prepaid,
    )


def _window(session: Session, budget_id: int) -> tuple[int, int]:
    """Spent and held of a budget without periods."""
    row = session.execute(
        select(BudgetWindow.spent_amount, BudgetWindow.held_amount).where(
            BudgetWindow.budget_id == budget_id, BudgetWindow.period_start == 0
        )
    ).first()
    return (row[0], row[1]) if row is not None else (0, 0)


def _now() -> datetime:
    return datetime.fromtimestamp(clock.now_s(), UTC)
