"""Proves that the books agree with themselves: `flask ledger verify`.

Every balance is a sum of the append-only ledger, and every ledger charge belongs to one usage row. All sums are
taken in one read transaction, so calls may go on meanwhile.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from utils import jsonx

WINDOWS: Final = text("SELECT budget_id, period_start, spent_amount, held_amount FROM budget_windows")
BUDGET_SUMS: Final = text("""
SELECT account_id, period_start, SUM(amount_nanousd + amount_tokens) FROM ledger_entries
WHERE account = 'budget' GROUP BY account_id, period_start""")
HOLDS: Final = text("SELECT takes FROM holds")
LEASES: Final = text("SELECT budget_id, period_start, amount FROM leases")
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
# Charges without their row, and rows that are charged without a charge.
ORPHANS: Final = text("""
SELECT l.request_id FROM ledger_entries l LEFT JOIN usage u ON u.request_id = l.request_id
WHERE l.request_id IS NOT NULL AND u.id IS NULL LIMIT 20""")
UNCHARGED: Final = text("""
SELECT u.request_id FROM usage u LEFT JOIN ledger_entries l ON l.request_id = u.request_id AND l.account = 'user'
WHERE l.id IS NULL AND u.cost_nanousd + COALESCE(u.input_tokens, 0) + COALESCE(u.output_tokens, 0) > 0 LIMIT 20""")
COUNTS: Final = text("""
SELECT (SELECT COUNT(*) FROM usage), (SELECT COUNT(*) FROM ledger_entries), (SELECT COUNT(*) FROM holds)""")


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared, and each difference in a sentence."""

    usage_rows: int
    ledger_entries: int
    open_holds: int
    differences: tuple[str, ...]


def verify(engine: Engine) -> Report:
    """Recompute every balance from the ledger, and the ledger from the usage rows."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # Python's driver does not begin one for reading
            found = [*_windows(connection), *_users(connection), *_days(connection), *_rows(connection)]
            counts = connection.execute(COUNTS).one()
    return Report(int(counts[0]), int(counts[1]), int(counts[2]), tuple(found))


def _windows(connection: Connection) -> list[str]:
    spent = {(budget, start): int(amount) for budget, start, amount in connection.execute(BUDGET_SUMS)}
    held: defaultdict[tuple[int, int], int] = defaultdict(int)
    for (takes,) in connection.execute(HOLDS):
        for budget, start, amount, *_ in jsonx.loads(takes):
            held[budget, start] += amount
    for budget, start, amount in connection.execute(LEASES):
        held[budget, start] += amount
    found = []
    for budget, start, window_spent, window_held in connection.execute(WINDOWS):
        where = f"budget {budget}, period {start}"
        found += _compare(f"{where}: spent", window_spent, spent.pop((budget, start), 0), "the ledger")
        found += _compare(f"{where}: held", window_held, held.pop((budget, start), 0), "the open holds and leases")
    found += [
        f"budget {budget}, period {start}: {amount} in the ledger, but no window"
        for (budget, start), amount in spent.items()
        if amount
    ]
    return found + [
        f"budget {budget}, period {start}: {amount} held, but no window"
        for (budget, start), amount in held.items()
        if amount
    ]


def _users(connection: Connection) -> list[str]:
    sums = {user: (int(nanousd), int(tokens)) for user, nanousd, tokens in connection.execute(USER_SUMS)}
    found = []
    for user, name, nanousd, tokens in connection.execute(USERS):
        ledger = sums.get(user, (0, 0))
        found += _compare(f"user {name}: nano-USD", nanousd, ledger[0], "the ledger")
        found += _compare(f"user {name}: tokens", tokens, ledger[1], "the ledger")
    return found


def _days(connection: Connection) -> list[str]:
    charges = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(CHARGE_DAYS)}
    found = []
    for user, day, nanousd, tokens in connection.execute(USAGE_DAYS):
        ledger = charges.pop((user, day), (0, 0))
        found += _compare(f"user {user}, day {day}: nano-USD of usage", int(nanousd), ledger[0], "the ledger")
        found += _compare(f"user {user}, day {day}: tokens of usage", int(tokens), ledger[1], "the ledger")
    return found + [
        f"user {user}, day {day}: charges of {amounts}, but no usage"
        for (user, day), amounts in charges.items()
        if any(amounts)
    ]


def _rows(connection: Connection) -> list[str]:
    orphans = [
        f"request {request_id}: charged, but without a usage row" for (request_id,) in connection.execute(ORPHANS)
    ]
    return orphans + [
        f"request {request_id}: used, but never charged" for (request_id,) in connection.execute(UNCHARGED)
    ]


def _compare(what: str, stored: Any, expected: int, source: str) -> list[str]:
    return [] if int(stored) == expected else [f"{what} is {stored}, by {source} it is {expected}"]
