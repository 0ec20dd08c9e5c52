"""Budgets, limits and workers that lease them, for a clock that stands still."""

import pytest
from sqlalchemy import text

from services import budgets, limits
from services.audit import Actor
from tests.fakes.lessee import NAME, Lessee, refs
from utils import clock

NOW_S = 1_790_000_070.0


@pytest.fixture
def engine(app):
    return app.extensions["gateway"].engine


@pytest.fixture
def ask(engine):
    """Rows of a query."""

    def run(query, **values):
        with engine.begin() as connection:
            result = connection.execute(text(query), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest.fixture
def budget(engine):
    """Makes budgets of the user; amounts in nano-USD or tokens."""

    def make(limit, unit="usd", period="total"):
        shown = f"{limit / 10**9:.9f}" if unit == "usd" else str(limit)
        budgets.put(engine, Actor("t"), scope="user", owner=NAME, unit=unit, limit=shown, period=period)

    return make


@pytest.fixture
def limit(engine):
    """Makes limits of the user."""

    def make(amount, unit="requests", period="minute"):
        limits.put(engine, Actor("t"), scope="user", owner=NAME, unit=unit, limit=amount, period=period)

    return make


@pytest.fixture
def governed(budget, limit):
    """Sets a budget of USD, perhaps one of tokens, a limit of tokens and one of calls at once."""

    def make(usd, tokens=None, at_once=10**7):
        budget(usd)
        if tokens:
            budget(tokens, "tokens", "month")
        limit(10**9, "tokens", "month")
        limit(at_once, "concurrent", "none")

    return make


@pytest.fixture
def lessee(engine, tmp_path):
    """Makes workers for which everything is hot from the first call on."""
    made = []

    def make(folder="spool", **options):
        found = refs(engine)
        made.append(Lessee(engine, tmp_path / folder, budgets_=found[0], limits_=found[1], **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def later(monkeypatch):
    """Time stands still, in the middle of a minute, but for what this lets pass."""
    monkeypatch.setattr("services.shares.RETRY_S", 0.0)
    start_s, passed = clock.monotonic_s(), [0.0]
    monkeypatch.setattr("utils.clock.monotonic_s", lambda: start_s + passed[0])
    monkeypatch.setattr("utils.clock.now_s", lambda: NOW_S + passed[0])
    monkeypatch.setattr("utils.clock.now_ms", lambda: round((NOW_S + passed[0]) * 1000))

    def wait(seconds):
        passed[0] += seconds

    return wait
