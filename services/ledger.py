"""Proves that the books agree with themselves, and tells what is in them: `flask ledger verify`, `flask ledger show`.

Every balance is a sum of the append-only ledger, and every ledger charge belongs to one usage row. All sums are
taken in one read transaction, so calls may go on meanwhile.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.orm import Session

from models import Budget, LedgerEntry, User
from services import owners
from utils import jsonx, money

DAY_S: Final = 86_400

WINDOWS: Final = text("SELECT budget_id, period_start, spent_amount, held_amount FROM budget_windows")
# Spent, and given: of a balance, which is a budget that was prepaid.
BUDGET_SUMS: Final = text("""
SELECT account_id, period_start,
  SUM(CASE WHEN kind IN ('charge', 'correction') THEN amount_nanousd + amount_tokens ELSE 0 END),
  SUM(CASE kind WHEN 'top_up' THEN amount_tokens WHEN 'deduct' THEN -amount_tokens ELSE 0 END)
FROM ledger_entries WHERE account = 'budget' GROUP BY account_id, period_start""")
BALANCES: Final = text("""
SELECT b.id, COALESCE(u.username, '#' || b.scope_id), b.limit_amount
FROM budgets b LEFT JOIN users u ON u.id = b.scope_id WHERE b.is_prepaid""")
CEILINGS: Final = text("SELECT id FROM budgets WHERE NOT is_prepaid")
HOLDS: Final = text("SELECT takes FROM holds")
LEASES: Final = text("SELECT budget_id, period_start, SUM(amount) FROM leases GROUP BY budget_id, period_start")
USERS: Final = text("SELECT id, username, spent_nanousd, tokens_used FROM users")
USER_SUMS: Final = text("""
SELECT account_id, SUM(amount_nanousd), SUM(amount_tokens) FROM ledger_entries
WHERE account = 'user' GROUP BY account_id""")
# Per user and day; a day is 86,400,000 ms of UTC.
USAGE_DAYS: Final = text("""
SELECT user_id, created_at / 86400000, SUM(cost_nanousd), SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0))
FROM usage GROUP BY 1, 2""")
CHARGE_DAYS: Final = text("""
SELECT account_id, created_at / 86400000, SUM(amount_nanousd), SUM(amount_tokens) FROM ledger_entries
WHERE account = 'user' AND request_id IS NOT NULL GROUP BY 1, 2""")
# Per budget and day: what its calls were charged to it, and what their usage rows say in the same unit.
BUDGET_DAYS: Final = text("""
SELECT l.account_id, u.created_at / 86400000,
  SUM(l.nanousd), SUM(CASE WHEN l.nanousd <> 0 THEN u.cost_nanousd ELSE 0 END),
  SUM(l.tokens), SUM(CASE WHEN l.tokens <> 0 THEN COALESCE(u.input_tokens, 0) + COALESCE(u.output_tokens, 0) ELSE 0 END)
FROM (
  SELECT account_id, request_id, SUM(amount_nanousd) AS nanousd, SUM(amount_tokens) AS tokens FROM ledger_entries
  WHERE account = 'budget' AND request_id IS NOT NULL GROUP BY account_id, request_id) l
JOIN usage u ON u.request_id = l.request_id GROUP BY 1, 2""")
# Charges without their row, and rows that are charged without a charge.
ORPHANS: Final = text("""
SELECT DISTINCT l.request_id FROM ledger_entries l LEFT JOIN usage u ON u.request_id = l.request_id
WHERE l.request_id IS NOT NULL AND u.id IS NULL LIMIT 20""")
UNCHARGED: Final = text("""
SELECT u.request_id FROM usage u LEFT JOIN ledger_entries l ON l.request_id = u.request_id AND l.account = 'user'
WHERE l.id IS NULL AND u.cost_nanousd + COALESCE(u.input_tokens, 0) + COALESCE(u.output_tokens, 0) > 0 LIMIT 20""")
COUNTS: Final = text("""
SELECT (SELECT COUNT(*) FROM usage), (SELECT COUNT(*) FROM ledger_entries), (SELECT COUNT(*) FROM holds)""")

Window = tuple[int, int]  # number of the budget, start of the period


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared, and each difference in a sentence. Accounts are users and budgets."""

    usage_rows: int
    ledger_entries: int
    open_holds: int
    accounts: int
    days: int  # of accounts: each day on which one of them was used
    differences: tuple[str, ...]


class _Check:
    """The comparisons of one read transaction."""

    def __init__(self, connection: Connection) -> None:
        self._rows = connection.execute
        self.found: list[str] = []
        self.accounts: set[tuple[str, int]] = set()
        self.days: set[tuple[str, int, int]] = set()

    def windows(self) -> None:
        """Spent is what the ledger has, held what open calls and workers have taken."""
        spent, given = self._budget_sums()
        held = self._held()
        for budget, start, window_spent, window_held in self._rows(WINDOWS):
            self.accounts.add(("budget", budget))
            where = f"budget {budget}, period {start}"
            self._compare(f"{where}: spent", window_spent, spent.pop((budget, start), 0), "the ledger")
            self._compare(f"{where}: held", window_held, held.pop((budget, start), 0), "open holds and leases")
        for sums, where in ((spent, "in the ledger"), (held, "held")):
            self.found += [
                f"budget {budget}, period {start}: {amount} {where}, but no window"
                for (budget, start), amount in sums.items()
                if amount
            ]
        self._balances(given)

    def users(self) -> None:
        """The counters of users are sums of the ledger."""
        sums = {user: (int(nanousd), int(tokens)) for user, nanousd, tokens in self._rows(USER_SUMS)}
        for user, name, nanousd, tokens in self._rows(USERS):
            self.accounts.add(("user", user))
            ledger = sums.get(user, (0, 0))
            self._compare(f"user {name}: nano-USD", nanousd, ledger[0], "the ledger")
            self._compare(f"user {name}: tokens", tokens, ledger[1], "the ledger")

    def days_of_users(self) -> None:
        """The charges of each user and day are those of the usage rows."""
        charges = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in self._rows(CHARGE_DAYS)}
        for user, day, nanousd, tokens in self._rows(USAGE_DAYS):
            self.days.add(("user", user, day))
            ledger, where = charges.pop((user, day), (0, 0)), f"user {user}, day {_date(day)}"
            self._compare(f"{where}: nano-USD of usage", int(nanousd), ledger[0], "the ledger")
            self._compare(f"{where}: tokens of usage", int(tokens), ledger[1], "the ledger")
        self.found += [
            f"user {user}, day {_date(day)}: charges of {amounts}, but no usage"
            for (user, day), amounts in charges.items()
            if any(amounts)
        ]

    def days_of_budgets(self) -> None:
        """The charges of each budget and day are what the usage rows of these calls say."""
        for budget, day, nanousd, cost, tokens, used in self._rows(BUDGET_DAYS):
            self.days.add(("budget", budget, day))
            where = f"budget {budget}, day {_date(day)}"
            self._compare(f"{where}: nano-USD in the ledger", nanousd, int(cost), "the usage rows")
            self._compare(f"{where}: tokens in the ledger", tokens, int(used), "the usage rows")

    def requests(self) -> None:
        """No charge without its row, no row without its charge."""
        for (request_id,) in self._rows(ORPHANS):
            self.found.append(f"request {request_id}: charged, but without a usage row")
        for (request_id,) in self._rows(UNCHARGED):
            self.found.append(f"request {request_id}: used, but never charged")

    def _budget_sums(self) -> tuple[dict[Window, int], dict[int, int]]:
        spent: dict[Window, int] = {}
        given: defaultdict[int, int] = defaultdict(int)
        for budget, start, charged, granted in self._rows(BUDGET_SUMS):
            self.accounts.add(("budget", budget))
            spent[budget, start] = int(charged)
            given[budget] += int(granted)
        return spent, given

    def _held(self) -> dict[Window, int]:
        held: defaultdict[Window, int] = defaultdict(int)
        for (takes,) in self._rows(HOLDS):
            for budget, start, amount, *_ in jsonx.loads(takes):
                held[budget, start] += amount
        for budget, start, amount in self._rows(LEASES):
            held[budget, start] += int(amount)
        return held

    def _balances(self, given: dict[int, int]) -> None:
        for budget, name, limit in self._rows(BALANCES):
            self.accounts.add(("budget", budget))
            self._compare(f"balance of user {name}: tokens given", limit, given.get(budget, 0), "the ledger")
        for (budget,) in self._rows(CEILINGS):
            self.accounts.add(("budget", budget))
            if given.get(budget):
                self.found.append(f"budget {budget}: {given[budget]} tokens given, but it is no balance")

    def _compare(self, what: str, stored: Any, expected: int, source: str) -> None:
        if int(stored) != expected:
            self.found.append(f"{what} is {stored}, by {source} it is {expected}")


def verify(engine: Engine) -> Report:
    """Recompute every balance from the ledger, and the ledger from the usage rows, by account and by day."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # Python's driver does not begin one for reading
            check = _Check(connection)
            check.windows()
            check.users()
            check.days_of_users()
            check.days_of_budgets()
            check.requests()
            counts = connection.execute(COUNTS).one()
    usage_rows, entries, holds = (int(count) for count in counts)
    return Report(usage_rows, entries, holds, len(check.accounts), len(check.days), tuple(check.found))


def newest(engine: Engine, owner: tuple[str, str] | None, limit: int) -> list[dict[str, Any]]:
    """The newest movements, newest first: all, or those of a user, key, team or model.

    Of each `number`, `at`, `kind`, `account` and `amount` in words, `request_id`, `actor`, `reason`.

    Raises:
        InvalidRequest, NotFound: see owners.find.
    """
    with Session(engine) as session:
        query = select(LedgerEntry).order_by(LedgerEntry.id.desc()).limit(limit)
        if owner is None:
            found = list(session.scalars(query))
        else:
            accounts = _accounts(session, owner[0], owners.find(session, *owner))
            mine = (LedgerEntry.account, LedgerEntry.account_id)
            # One look-up in the index for each: an OR of them would be sorted, from the first entry on.
            each = [session.scalars(query.where(mine[0] == kind, mine[1] == number)) for kind, number in accounts]
            found = sorted((row for rows in each for row in rows), key=lambda row: -row.id)[:limit]
        called = _names(session, {(row.account, row.account_id) for row in found})
    return [
        {
            "number": row.id,
            "at": row.created_at,
            "kind": row.kind,
            "account": called[row.account, row.account_id],
            "amount": _amount(row),
            "request_id": row.request_id,
            "actor": row.actor,
            "reason": row.reason,
        }
        for row in found
    ]


def _accounts(session: Session, scope: str, number: int) -> list[tuple[str, int]]:
    mine = select(Budget.id).where(Budget.scope == scope, Budget.scope_id == number)
    budgets = [("budget", budget) for budget in session.scalars(mine)]
    return [("user", number), *budgets] if scope == "user" else budgets


def _names(session: Session, accounts: set[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """What these accounts are called; of one that was deleted only the number is left."""
    found = {account: " ".join(map(str, account)) for account in accounts}
    users = select(User.id, User.username).where(User.id.in_([number for kind, number in accounts if kind == "user"]))
    found.update({("user", number): f"user {name}" for number, name in session.execute(users)})
    numbers = [number for kind, number in accounts if kind == "budget"]
    rows = session.scalars(select(Budget).where(Budget.id.in_(numbers))).all()
    called = owners.names(session, [(row.scope, row.scope_id) for row in rows])
    for row in rows:
        whose = f"{row.scope} {called.get((row.scope, row.scope_id), f'#{row.scope_id}')}"
        kind = "balance" if row.is_prepaid else f"budget {row.id} ({row.period})"
        found["budget", row.id] = f"{kind} of {whose}"
    return found


def _amount(row: LedgerEntry) -> str:
    """From the account's side: what it gets is positive, what it spends negative."""
    sign = 1 if row.kind == "top_up" else -1
    parts = [money.show_usd(sign * row.amount_nanousd)] if row.amount_nanousd else []
    if row.amount_tokens or not parts:
        parts.append(f"{sign * row.amount_tokens:,} tokens")
    return ", ".join(parts)


def _date(day: int) -> str:
    """A day since 1970 as people write it."""
    return f"{datetime.fromtimestamp(day * DAY_S, UTC):%Y-%m-%d}"
