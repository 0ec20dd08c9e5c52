"""The limits of keys and users as one row of plain members: `costLimitInUsd` and its neighbours.

Behind them stand the budgets and limits that everything else sees: the total in USD, the USD budget of the shortest
period, and the limit of requests of the shortest period. Others, such as budgets of tokens, are not touched.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Budget, Limit
from services import audit, budgets, counting, limits
from services.fields import UNITS
from utils import money

PERIODS: Final = tuple(UNITS.values())  # the shortest first
LETTERS: Final = {period: letter for letter, period in UNITS.items()}
TOTAL: Final = "total"
USD: Final = "usd"


@dataclass(slots=True)
class Ceilings:
    """The rows of one key or user; None = no such limit."""

    total: Budget | None = None
    over_time: Budget | None = None
    rate: Limit | None = None

    def shown(self) -> dict[str, Any]:
        """As clients read them; 0 = no limit."""
        return {
            "costLimitInUsd": money.usd(self.total.limit_amount) if self.total else 0,
            "costLimitInUsdOverTime": money.usd(self.over_time.limit_amount) if self.over_time else 0,
            "costLimitInUsdUnit": LETTERS[self.over_time.period] if self.over_time else "",
            "rateLimitOverTime": self.rate.limit_amount if self.rate else 0,
            "rateLimitUnit": LETTERS[self.rate.period] if self.rate else "",
        }


def of(session: Session, scope: str, ids: Collection[int]) -> dict[int, Ceilings]:
    """Those of these keys or users, in two statements."""
    found = {number: Ceilings() for number in ids}
    usd = select(Budget).where(
        Budget.scope == scope,
        Budget.scope_id.in_(ids),
        Budget.unit == USD,
        Budget.period.in_((TOTAL, *PERIODS)),
        ~Budget.is_prepaid,
    )
    for budget in _longest_first(session.scalars(usd)):
        if budget.period == TOTAL:
            found[budget.scope_id].total = budget
        else:
            found[budget.scope_id].over_time = budget
    rates = select(Limit).where(Limit.scope == scope, Limit.scope_id.in_(ids), Limit.unit == counting.REQUESTS)
    for limit in _longest_first(session.scalars(rates)):
        found[limit.scope_id].rate = limit
    return found


def store(session: Session, actor: audit.Actor, scope: str, scope_id: int, values: Mapping[str, Any]) -> None:
    """Make the rows what the members of a body say, within the caller's transaction; 0 takes one away.

    A limit over time replaces the one shown before, also when its period is another. One that is lowered below what
    is spent refuses until it fits again; one that is taken away and given again counts from zero.
    """
    now = of(session, scope, [scope_id])[scope_id]
    if "costLimitInUsd" in values:
        _budget(session, actor, now.total, (scope, scope_id, TOTAL), values["costLimitInUsd"])
    if "costLimitInUsdOverTime" in values:
        period = UNITS.get(values.get("costLimitInUsdUnit", ""), "")
        _budget(session, actor, now.over_time, (scope, scope_id, period), values["costLimitInUsdOverTime"])
    if "rateLimitOverTime" in values:
        period = UNITS.get(values.get("rateLimitUnit", ""), "")
        _rate(session, actor, now.rate, (scope, scope_id, period), values["rateLimitOverTime"])
    session.flush()


def _budget(
    session: Session, actor: audit.Actor, shown: Budget | None, whose: tuple[str, int, str], amount: int
) -> None:
    scope, scope_id, period = whose
    if shown is not None and (not amount or shown.period != period):
        budgets.delete(session, actor, shown)
        session.flush()
    if not amount:
        return
    row = budgets.find(session, scope, scope_id, USD, period)
    if row is None:
        row = Budget(scope=scope, scope_id=scope_id, unit=USD, period=period, timezone="UTC")
    if row.limit_amount != amount:
        budgets.change(session, actor, row, amount, row.timezone)


def _rate(session: Session, actor: audit.Actor, shown: Limit | None, whose: tuple[str, int, str], amount: int) -> None:
    scope, scope_id, period = whose
    if shown is not None and (not amount or shown.period != period):
        limits.delete(session, actor, shown)
        session.flush()
    if not amount:
        return
    row = limits.find(session, scope, scope_id, counting.REQUESTS, period)
    if row is None:
        row = Limit(scope=scope, scope_id=scope_id, unit=counting.REQUESTS, period=period)
    if row.limit_amount != amount:
        limits.change(session, actor, row, amount)


def _longest_first(rows: Iterable[Any]) -> list[Any]:
    """So that the shortest is what stays."""
    return sorted(rows, key=lambda row: -PERIODS.index(row.period) if row.period in PERIODS else -len(PERIODS))
