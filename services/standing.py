"""What admins see of everybody's use at a glance: sums over all calls, and where each user stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, case, func, select
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, Dialog, UsageRecord, User
from services import balances
from services.reports import FINE, request_ids_from

TOP_MODELS: Final = 10


@dataclass(frozen=True, slots=True)
class Sums:
    """What calls of a span add up to. Latency is that of calls that went well, 0 without any."""

    total_tokens: int
    active_users: int
    top_models: list[tuple[str, int]]  # by tokens, most first
    avg_latency_ms: float


def sums(engine: Engine, since: datetime | None = None, until: datetime | None = None) -> Sums:
    """The sums over calls that began from `since` on and before `until`; None = without that end."""
    usage = UsageRecord
    tokens = func.coalesce(func.sum(func.coalesce(usage.input_tokens, 0) + func.coalesce(usage.output_tokens, 0)), 0)
    span = []  # request ids begin with their moment and have an index
    if since is not None:
        span.append(usage.request_id >= request_ids_from(_ms(since)))
    if until is not None:
        span.append(usage.request_id < request_ids_from(_ms(until)))
    latency = func.avg(case((usage.outcome.in_(FINE), usage.duration_ms)))
    total = select(tokens, func.count(func.distinct(usage.user_id)), latency).where(*span)
    models = select(usage.model, tokens).where(*span).group_by(usage.model).order_by(tokens.desc(), usage.model)
    with engine.connect() as connection:
        used, users, average = connection.execute(total).one()
        top = connection.execute(models.limit(TOP_MODELS)).all()
    return Sums(int(used), users, [(name, int(number)) for name, number in top], round(float(average or 0), 1))


def users(engine: Engine, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """Where users stand, in the order of their numbers, in a bounded number of statements. Amounts are tokens."""
    with Session(engine) as session:
        rows = session.scalars(select(User).order_by(User.id).offset(skip).limit(limit)).all()
        return _stands(session, rows)


def user(engine: Engine, user_id: int) -> dict[str, Any]:
    """The same of one user, with the moment it was last active.

    Raises:
        NotFound: no such user.
    """
    balances.state(engine, user_id)
    with Session(engine) as session:
        found = _stands(session, session.scalars(select(User).where(User.id == user_id)).all())[0]
        calls = select(UsageRecord.created_at).where(UsageRecord.user_id == user_id).order_by(UsageRecord.id.desc())
        dialogs = select(func.max(Dialog.updated_at)).where(Dialog.user_id == user_id)
        moments = [session.scalar(calls.limit(1)), session.scalar(dialogs)]
        return found | {"last_activity": max((moment for moment in moments if moment is not None), default=None)}


def _stands(session: Session, rows: Sequence[User]) -> list[dict[str, Any]]:
    numbers = [row.id for row in rows]
    counted = select(Dialog.user_id, func.count()).where(Dialog.user_id.in_(numbers)).group_by(Dialog.user_id)
    dialogs = dict(session.execute(counted).tuples().all())
    is_theirs = (Budget.scope == "user", Budget.scope_id.in_(numbers), Budget.unit == "tokens")
    is_zero = (BudgetWindow.budget_id == Budget.id) & (BudgetWindow.period_start == 0)
    query = (
        select(Budget.scope_id, Budget.is_prepaid, Budget.limit_amount, func.coalesce(BudgetWindow.spent_amount, 0))
        .join(BudgetWindow, is_zero, isouter=True)
        .where(*is_theirs, Budget.period == "total")
    )
    amounts = {(owner, is_prepaid): (most, spent) for owner, is_prepaid, most, spent in session.execute(query)}
    prepaid = {owner: most - spent for (owner, is_prepaid), (most, spent) in amounts.items() if is_prepaid}
    limits = {owner: most for (owner, is_prepaid), (most, _spent) in amounts.items() if not is_prepaid}
    return [
        {
            "user_id": row.id,
            "username": row.username,
            "dialog_count": dialogs.get(row.id, 0),
            "total_tokens_used": row.tokens_used,
            "balance": prepaid.get(row.id),
            "limit": limits.get(row.id),
        }
        for row in rows
    ]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
