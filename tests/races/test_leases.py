"""Workers that lease from one budget at once, and are killed: nothing is overspent, nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from services import budgets, ledger, limits
from services.audit import Actor
from tests.fakes.lessee import COST, HOLD_USD, NAME, USER, Lessee
from tests.fakes.served import ROOT
from tests.helpers import rows
from tests.races.conftest import SOAK

PROCESSES = 8 if SOAK else 4
CALLS = 20_000 if SOAK else 1_200  # that the budget affords
KILLS = 50 if SOAK else 6
PATIENCE_S = 300 if SOAK else 90

pytestmark = pytest.mark.parametrize("database", ["postgres"], indirect=True)


@pytest.fixture
def workers(engine, tmp_path):
    """Starts processes that hold and book calls; their output is the ids of what was booked."""
    running, url = [], engine.url.render_as_string(hide_password=False)

    def start(*options):
        out = (tmp_path / f"booked-{len(running)}").open("wb")
        command = [sys.executable, "-m", "tests.fakes.lessee", url, str(tmp_path / "spool"), *options]
        running.append((subprocess.Popen(command, stdout=out, cwd=ROOT), out))
        return running[-1][0]

    yield start
    for process, out in running:
        process.kill()
        process.wait()
        out.close()


@pytest.fixture
def booked(tmp_path):
    """The ids of all calls whose settlement returned in a worker."""

    def read():
        lines = [line for path in tmp_path.glob("booked-*") for line in path.read_text().splitlines(keepends=True)]
        return [line.strip() for line in lines if line.endswith("\n")]

    return read


def govern(engine, affordable):
    """One budget of USD that affords so many calls, and two of tokens and three limits that never refuse."""
    usd, much = f"{affordable * COST / 10**9:.9f}", str(10**12)
    for unit, limit, period in (("usd", usd, "total"), ("tokens", much, "month"), ("tokens", much, "total")):
        budgets.put(engine, Actor("t"), scope="user", owner=NAME, unit=unit, limit=limit, period=period)
    for unit, period in (("requests", "month"), ("tokens", "month"), ("concurrent", "none")):
        limits.put(engine, Actor("t"), scope="user", owner=NAME, unit=unit, limit=much, period=period)


def ask(engine, query):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def assert_exact(engine):
    """Nothing is leased or held, every figure follows from the usage rows, and no call is twice there."""
    found = rows(engine)
    cost, tokens = (
        sum(row.cost_nanousd for row in found),
        sum((row.input_tokens or 0) + (row.output_tokens or 0) for row in found),
    )
    assert ask(engine, "SELECT (SELECT count(*) FROM leases), (SELECT count(*) FROM limit_leases)") == [(0, 0)]
    spent = ask(engine, "SELECT w.spent_amount, w.held_amount FROM budget_windows w ORDER BY w.budget_id")
    assert spent == [(cost, 0), (tokens, 0), (tokens, 0)]
    assert sorted(ask(engine, "SELECT used_amount FROM limit_windows")) == [(0,), (len(found),), (tokens,)]
    assert ask(engine, f"SELECT tokens_used, spent_nanousd FROM users WHERE id = {USER}") == [(tokens, cost)]
    report = ledger.verify(engine)
    assert (report.differences, report.open_holds) == ((), 0)
    return found


@pytest.mark.timeout(PATIENCE_S + 60)
@pytest.mark.parametrize("run", range(5 if SOAK else 1))
def test_the_last_dollar_is_reached_by_many_that_lease_and_is_not_passed(engine, workers, booked, run):
    govern(engine, CALLS)
    crowd = [workers("--until-refused", "3") for _ in range(PROCESSES)]
    deadline_s, most = time.monotonic() + PATIENCE_S, 0
    while any(process.poll() is None for process in crowd):
        assert time.monotonic() < deadline_s
        most = max(most, ask(engine, "SELECT coalesce(sum(amount), 0) FROM leases")[0][0])
        for gone, limit in ask(engine, GONE):
            assert gone <= limit
        time.sleep(0.02)
    assert [process.returncode for process in crowd] == [0] * PROCESSES
    assert most > 0, "nothing was leased"
    found = assert_exact(engine)
    assert {row.request_id for row in found} == set(booked())
    spent = len(found) * COST
    assert CALLS * COST - HOLD_USD < spent <= CALLS * COST
    print(f"{len(found)} calls of {CALLS}, most leased {most}, left {CALLS * COST - spent} of a hold of {HOLD_USD}")


GONE = """
SELECT w.spent_amount + w.held_amount, b.limit_amount FROM budget_windows w JOIN budgets b ON b.id = w.budget_id"""


@pytest.mark.timeout(PATIENCE_S + 60)
def test_workers_killed_while_they_lease_lose_nothing(app, engine, tmp_path, workers, booked):
    govern(engine, 10**9)
    crowd, chance = [workers() for _ in range(PROCESSES)], random.Random(3)
    deadline_s = time.monotonic() + PATIENCE_S
    heir = Lessee(engine, tmp_path / "spool")
    for kill in range(KILLS):
        while len(booked()) < (kill + 1) * 150:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        number = chance.randrange(PROCESSES)
        os.kill(crowd[number].pid, signal.SIGKILL)
        crowd[number].wait()
        crowd[number] = workers()
        heir.accounting.sweep()
        assert ledger.verify(engine).differences == ()
    for process in crowd:
        process.kill()
        process.wait()
    while heir.accounting.sweep():
        pass
    heir.close()
    found = {row.request_id: row for row in assert_exact(engine)}
    said = booked()
    lost = set(said) - found.keys()
    assert lost == set()
    assert {found[one].state for one in said} == {"measured"}
    unsaid = len(found) - len(said)
    assert unsaid <= (KILLS + PROCESSES) * 4, "under way, or booked but not said, when their worker died: one a thread"
    print(f"{KILLS} kills, {len(said)} calls, {unsaid} under way")
