"""Setting and showing budgets. What is spent of them is the books' affair."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, func, inspect, select, tuple_
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow
from services import audit, balances, managed, owners, periods
from services.errors import InvalidRequest, NotFound
from services.types import BudgetRef
from utils import clock, money

UTC: Final = "UTC"
CHANGED: Final = "limit changed"  # why a balance moved
WARN_PERCENT: Final = 80  # from this share of a limit on, calls are warned
STAYS: Final = (
    "The time zone stays as it is while something is spent in this period: another one would begin a new period, "
    "from zero."
)


@dataclass(frozen=True, slots=True)
class State:
    """A budget and what is gone of it in its current period, in its own unit."""

    budget: Budget
    spent: int
    held: int
    ends_s: int | None  # unix seconds; None = it never starts again


def share(state: State) -> float:
    """How much of the limit is gone, 0 to 1 and beyond; a limit of nothing is gone altogether."""
    return (state.spent + state.held) / state.budget.limit_amount if state.budget.limit_amount else 1.0


def level(state: State) -> str:
    """How near the limit it is: "ok", "warning" from its share to warn at, or "exhausted"."""
    gone, row = state.spent + state.held, state.budget
    if gone >= row.limit_amount:
        return "exhausted"
    return "warning" if row.warn_percent is not None and gone * 100 >= row.limit_amount * row.warn_percent else "ok"


def put(  # noqa: PLR0913 - what a budget is made of
    engine: Engine,
    actor: audit.Actor,
    *,
    scope: str,
    owner: str,
    unit: str,
    limit: str,
    period: str,
    timezone: str | None = None,
    warn_percent: int | None = WARN_PERCENT,
) -> None:
    """Make a budget or change its limit, also to less than is spent already. `owner` as services/owners.py reads it.

    Without a time zone it keeps its own; a new one is in UTC.

    Raises:
        InvalidRequest: a value that cannot be; see `change`.
        NotFound: no such owner.
    """
    amount = parse_limit(unit, limit)
    if timezone is not None:
        check_timezone(timezone)
    with Session(engine) as session, session.begin():
        scope_id = owners.find(session, scope, owner)
        row = find(session, scope, scope_id, unit, period)
        if row is None:
            row = Budget(scope=scope, scope_id=scope_id, unit=unit, period=period)
        row.warn_percent = warn_percent
        change(session, actor, row, amount, timezone or row.timezone or UTC)


def remove(engine: Engine, actor: audit.Actor, *, scope: str, owner: str, unit: str, period: str) -> None:
    """Take a budget away; a balance stays with its user.

    Raises:
        NotFound: there is none, or no such owner.
    """
    with Session(engine) as session, session.begin():
        row = find(session, scope, owners.find(session, scope, owner), unit, period)
        if row is None:
            raise NotFound("There is no such budget.", param="limit")
        delete(session, actor, row)


def refs(session: Session, owned: Iterable[tuple[str, int]]) -> tuple[BudgetRef, ...]:
    """Every budget of these (scope, number), in id order."""
    return tuple(ref_of(row) for row in of(session, owned))


def of(session: Session, owned: Iterable[tuple[str, int]]) -> Sequence[Budget]:
    """The rows of the same."""
    applies = tuple_(Budget.scope, Budget.scope_id).in_(list(owned))
    return session.scalars(select(Budget).where(applies).order_by(Budget.id)).all()


def ref_of(row: Budget, owner: str = "") -> BudgetRef:
    """A budget as calls know it."""
    return BudgetRef(
        row.id, row.scope, row.unit, row.period, row.timezone, row.is_prepaid, row.scope_id, row.warn_percent, owner
    )


def find(session: Session, scope: str, scope_id: int, unit: str, period: str) -> Budget | None:
    """The budget of an owner with that unit and period; a balance is none."""
    return session.scalar(
        select(Budget).where(
            Budget.scope == scope,
            Budget.scope_id == scope_id,
            Budget.unit == unit,
            Budget.period == period,
            ~Budget.is_prepaid,
        )
    )


def change(session: Session, actor: audit.Actor, row: Budget, amount: int, timezone: str) -> None:
    """Set the limit of a budget, which may be a new one, within the caller's transaction.

    Raises:
        InvalidRequest: it stands in the configuration file; of a balance, more would be taken than calls have left; or
            another time zone would begin a new period while something is spent or held in this one, and forget that.
    """
    managed.check(session, row)
    is_new = inspect(row).transient
    if not is_new and row.timezone != timezone:
        _check_unspent(session, row, timezone)
    details = {"unit": row.unit, "period": row.period, "before": None if is_new else row.limit_amount, "after": amount}
    if not is_new and row.timezone != timezone:
        details |= {"timezone_before": row.timezone, "timezone_after": timezone}
    warned = inspect(row).attrs.warn_percent.history
    if not is_new and warned.has_changes():
        details |= {"warn_percent_before": next(iter(warned.deleted), None), "warn_percent_after": row.warn_percent}
    if row.is_prepaid and not is_new:
        balances.move(session, row.scope_id, amount - row.limit_amount, actor, CHANGED)
        session.refresh(row)
        row.timezone = timezone
    else:
        row.limit_amount, row.timezone = amount, timezone
        session.add(row)
    audit.note(session, actor, "limit_set", row.scope, row.scope_id, details)


def _check_unspent(session: Session, row: Budget, timezone: str) -> None:
    now_s = clock.now_s()
    start_s = periods.start_s(row.period, row.timezone, now_s)
    window = (BudgetWindow.budget_id == row.id, BudgetWindow.period_start == start_s)
    gone = session.scalar(select(BudgetWindow.spent_amount + BudgetWindow.held_amount).where(*window))
    if gone and periods.start_s(row.period, timezone, now_s) != start_s:
        raise InvalidRequest(STAYS, param="timezone")


def delete(session: Session, actor: audit.Actor, row: Budget) -> None:
    """Take a budget away, within the caller's transaction; what was spent of it stays in the ledger.

    Raises:
        InvalidRequest: it stands in the configuration file.
    """
    managed.check(session, row)
    details = {"unit": row.unit, "period": row.period, "before": row.limit_amount, "after": None}
    audit.note(session, actor, "limit_set", row.scope, row.scope_id, details)
    session.delete(row)


def states(engine: Engine, rows: Sequence[Budget]) -> list[State]:
    """Where these budgets stand in their current periods, in one statement."""
    now_s = clock.now_s()
    starts = {row.id: periods.start_s(row.period, row.timezone, now_s) for row in rows}
    window = tuple_(BudgetWindow.budget_id, BudgetWindow.period_start)
    with Session(engine) as session:
        query = select(BudgetWindow).where(window.in_(list(starts.items())))
        windows = {found.budget_id: found for found in session.scalars(query)} if rows else {}
    return [
        State(
            row,
            windows[row.id].spent_amount if row.id in windows else 0,
            windows[row.id].held_amount if row.id in windows else 0,
            periods.end_s(row.period, row.timezone, now_s),
        )
        for row in rows
    ]


def nearly_spent(engine: Engine, size: int) -> list[State]:
    """The budgets that are past their share to warn at, the fullest first; those that allow nothing are left out."""
    now_s = clock.now_s()
    part = (BudgetWindow.spent_amount + BudgetWindow.held_amount) * 1.0 / Budget.limit_amount
    with Session(engine) as session:
        kinds = session.execute(select(Budget.period, Budget.timezone).distinct()).all()
        starts = [(period, zone, periods.start_s(period, zone, now_s)) for period, zone in kinds]
        is_now = tuple_(Budget.period, Budget.timezone, BudgetWindow.period_start).in_(starts)
        found = session.execute(
            select(Budget, BudgetWindow)
            .join(BudgetWindow, BudgetWindow.budget_id == Budget.id)
            .where(is_now, Budget.limit_amount > 0, part * 100 >= func.coalesce(Budget.warn_percent, 100))
            .order_by(part.desc(), Budget.id)
            .limit(size)
        ).all()
    return [
        State(row, window.spent_amount, window.held_amount, periods.end_s(row.period, row.timezone, now_s))
        for row, window in found
    ]


def parse_limit(unit: str, limit: str) -> int:
    """A limit as people write it, in the budget's own unit.

    Raises:
        InvalidRequest: not a number, negative, too large, or finer than a unit.
    """
    is_usd = unit == "usd"
    try:
        exact = Decimal(limit) * (money.NANO_PER_USD if is_usd else 1)
    except InvalidOperation as exc:
        raise InvalidRequest(f"`{limit}` is not an amount.", param="limit") from exc
    if not exact.is_finite() or not 0 <= exact <= money.MAX_NANOUSD:
        raise InvalidRequest(f"`{limit}` is out of range.", param="limit")
    if exact != int(exact):
        finest = "nine decimals" if is_usd else "no decimals"
        raise InvalidRequest(f"`{limit}` is too fine: it may have {finest}.", param="limit")
    return int(exact)


def check_timezone(name: str) -> str:
    """The name of a time zone.

    Raises:
        InvalidRequest: there is none of that name.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as exc:
        raise InvalidRequest(
            f"`{name}` is not a time zone; use a name such as Europe/Lisbon.", param="timezone"
        ) from exc
    return name


def listed(engine: Engine) -> list[dict[str, Any]]:
    """Every budget: `owner` in words, `unit`, `period` (`balance` if prepaid), `timezone`, `limit`, `spent`, `held`.

    The amounts are nano-USD or tokens, as the unit says.
    """
    with Session(engine) as session:
        rows = session.scalars(select(Budget).order_by(Budget.id)).all()
        called = owners.names(session, [(row.scope, row.scope_id) for row in rows])
    return [
        {
            "owner": owners.label(state.budget, called),
            "unit": state.budget.unit,
            "period": "balance" if state.budget.is_prepaid else state.budget.period,
            "timezone": state.budget.timezone,
            "limit": state.budget.limit_amount,
            "spent": state.spent,
            "held": state.held,
        }
        for state in states(engine, rows)
    ]
