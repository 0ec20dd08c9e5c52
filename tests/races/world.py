"""The product's side of tests/races/test_machine.py: rows to begin with, workers that can die, what the books say."""

import os
from collections import defaultdict

from sqlalchemy import text

from models import ApiKey, Budget, Limit, Team, User
from models import Model as ModelRow
from services.accounting import Accounting
from services.books.base import BooksUnavailable
from services.spool import Spool
from tests.races.books_model import DAY, MINUTE, Ceiling, Limited, Rates
from utils import jsonx

HOLD_S = 600
RATES = (Rates(150_000_000, 600_000_000), Rates(2_500_000_000, 10_000_000_001), Rates(0, 0))
CEILINGS = (  # scope, unit, period, limit
    ("key", "usd", "total", 6_000_000),
    ("user", "usd", "day", 4_000_000),
    ("user", "tokens", "total", 4_000),
    ("team", "usd", "month", 5_000_000),
    ("model", "tokens", "day", 900),
    ("model", "usd", "total", 4_000_000),
)
LIMITS = (  # scope, unit, period, amount
    ("key", "tokens", "minute", 2_000),
    ("user", "requests", "minute", 9),
    ("user", "concurrent", "none", 7),
    ("team", "tokens", "day", 8_000),
    ("model", "requests", "day", 25),
)
LENGTHS = {"none": 0, "minute": MINUTE, "day": DAY}
PERIODS = {seconds: period for period, seconds in LENGTHS.items()}
SPENT = text("""
    SELECT account_id, period_start, SUM(amount_nanousd + amount_tokens) FROM ledger_entries
    WHERE account = 'budget' AND account_id >= :first AND kind IN ('charge', 'correction') GROUP BY 1, 2""")
WINDOWS = text(
    "SELECT budget_id, period_start, spent_amount, held_amount FROM budget_windows WHERE budget_id >= :first"
)
ROWS = text("""
    SELECT request_id, outcome, cost_nanousd, COALESCE(input_tokens, 0), COALESCE(output_tokens, 0),
           input_rate, output_rate
    FROM usage WHERE user_id = :user""")
HOLDS = text("SELECT request_id, takes FROM holds")
COUNTERS = text("SELECT tokens_used, spent_nanousd FROM users WHERE id = :user")


class Books:
    """The gateway's books, which can be away."""

    def __init__(self, books):
        self.books, self.is_away = books, False

    def __getattr__(self, name):
        if self.is_away:
            raise BooksUnavailable("gone")
        return getattr(self.books, name)


class Worker:
    """A process that serves: its spool, and its own way to the books."""

    def __init__(self, gateway):
        self.spool, self.books = Spool(gateway.config.instance_path / "spool"), Books(gateway.books)
        self.accounting = Accounting(self.books, self.spool, hold_s=HOLD_S)
        self.is_alive = bool(self.spool.owner)

    def die(self):
        """As the operating system does it: the lock is free, the files stay."""
        os.close(self.spool._life)
        os.close(self.spool._file)
        self.is_alive = False


class World:
    """One user with two keys in a team, and three models: a cheap one, a dear one, a free one."""

    def __init__(self, session, name, model):
        """Stores the rows; their images go into the model of the books."""
        team = _stored(session, Team(name=name))
        self.user = _stored(session, User(username=name, team_id=team))
        self.models = [_stored(session, ModelRow(name=f"{name}-{number}")) for number in range(len(RATES))]
        self.keys = [
            _stored(session, ApiKey(user_id=self.user, name="k", digest=f"{name}{number}", hint="h"))
            for number in range(2)
        ]
        owners = {"key": self.keys, "user": [self.user], "team": [team], "model": self.models}
        for scope, unit, period, amount in CEILINGS:
            for owner in owners[scope]:
                row = Budget(scope=scope, scope_id=owner, unit=unit, period=period, limit_amount=amount)
                model.budgets.append(Ceiling(_stored(session, row), scope, unit, period, amount, owner))
        for scope, unit, period, amount in LIMITS:
            for owner in owners[scope]:
                limit = Limit(scope=scope, scope_id=owner, unit=unit, period=period, limit_amount=amount)
                subject = str(_stored(session, limit))
                model.counters.append(Limited(subject, scope, owner, unit, LENGTHS[period], amount))
        self.first = model.budgets[0].id


class Seen:
    """What the books say of a world; sums by budget and period, without what is nothing."""

    def __init__(self, connection, world):
        about = {"first": world.first, "user": world.user}
        windows = connection.execute(WINDOWS, about).all()
        self.spent = some({(row[0], row[1]): row[2] for row in windows})
        self.held = some({(row[0], row[1]): row[3] for row in windows})
        self.charged = some({(row[0], row[1]): int(row[2]) for row in connection.execute(SPENT, about)})
        self.rows = {row[0]: tuple(row[1:]) for row in connection.execute(ROWS, about)}
        self.counters = tuple(connection.execute(COUNTERS, about).one())
        holds = connection.execute(HOLDS).all()
        self.open = {request_id for request_id, _takes in holds}
        taken = defaultdict(int)
        for _request_id, takes in holds:
            for budget, start, amount, *_more in jsonx.loads(takes):
                taken[budget, start] += amount
        self.taken = some(taken)


def some(sums):
    """Without what is nothing."""
    return {at: amount for at, amount in sums.items() if amount}


def _stored(session, row):
    """The number of a row that is in the database now."""
    session.add(row)
    session.flush()
    return row.id
