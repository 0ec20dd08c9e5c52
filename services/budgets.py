"""Setting and showing budgets. What is spent of them is the books' affair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, inspect, select, tuple_
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, User
from services import audit, periods
from services.errors import InvalidRequest, NotFound
from utils import clock, money


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


def put(  # noqa: PLR0913 - what a budget is made of
    engine: Engine,
    actor: audit.Actor,
    *,
    user: str | None,
    key_id: int | None,
    unit: str,
    limit: str,
    period: str,
    timezone: str = "UTC",
) -> None:
    """Make a budget or change its limit, also to less than is spent already.

    Raises:
        InvalidRequest: both or neither of user and key, or a value that cannot be.
        NotFound: no such user or key.
    """
    amount = parse_limit(unit, limit)
    check_timezone(timezone)
    if (user is None) == (key_id is None):
        raise InvalidRequest("Name a user or a key.", param="user")
    with Session(engine) as session, session.begin():
        scope, scope_id = ("user", _user_id(session, user)) if user is not None else ("key", _key_id(session, key_id))
        row = find(session, scope, scope_id, unit, period)
        if row is None:
            row = Budget(scope=scope, scope_id=scope_id, unit=unit, period=period)
        change(session, actor, row, amount, timezone)


def find(session: Session, scope: str, scope_id: int, unit: str, period: str) -> Budget | None:
    """The budget of a user or key with that unit and period; a balance is none."""
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
    """Set the limit of a budget, which may be a new one, within the caller's transaction."""
    is_new = inspect(row).transient
    details = {"unit": row.unit, "period": row.period, "before": None if is_new else row.limit_amount, "after": amount}
    if not is_new and row.timezone != timezone:
        details |= {"timezone_before": row.timezone, "timezone_after": timezone}
    row.limit_amount, row.timezone = amount, timezone
    session.add(row)
    audit.note(session, actor, "limit_set", row.scope, row.scope_id, details)


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


def lines(engine: Engine) -> Iterator[str]:
    """Every budget in a line of text."""
    now_s = clock.now_s()
    with Session(engine) as session:
        for row in session.scalars(select(Budget).order_by(Budget.id)):
            start = periods.start_s(row.period, row.timezone, now_s)
            window = session.get(BudgetWindow, (row.id, start))
            show = money.show_usd if row.unit == "usd" else "{:,} tokens".format
            spent, held = (window.spent_amount, window.held_amount) if window else (0, 0)
            kind = "balance" if row.is_prepaid else row.period
            figures = f"limit {show(row.limit_amount)}, spent {show(spent)}, held {show(held)}"
            yield f"{row.scope} {row.scope_id}  {kind}: {figures}"


def _user_id(session: Session, name: str) -> int:
    found = session.scalar(select(User.id).where(User.username == name))
    if found is None:
        raise NotFound(f"There is no user `{name}`.", param="user")
    return found


def _key_id(session: Session, key_id: int | None) -> int:
    found = session.scalar(select(ApiKey.id).where(ApiKey.id == key_id))
    if found is None:
        raise NotFound(f"There is no key {key_id}.", param="key")
    return found
