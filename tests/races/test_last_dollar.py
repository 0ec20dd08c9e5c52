"""The last dollar: 8 processes with 50 threads each reach for one budget at the same moment."""

import json
import re

import pytest
from sqlalchemy import text

from services import budgets
from services.audit import Actor
from tests.conftest import TOKEN
from tests.helpers import chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, crowd, is_busy, wait_until_clean

PROCESSES, THREADS = 8, 50
CALLS = 1600
COST = 3 * 150 + 5 * 600  # nano-USD of a call: 3 words in, 5 out
AFFORDED = 150
LIMIT_USD = AFFORDED * COST
LIMIT_TOKENS = AFFORDED * 10  # 8 a call: the second budget, which holds more than it spends and is not used up
NUMBERS = re.compile(
    r"limit \S+( tokens)?, spent \S+( tokens)?, held by calls under way \S+( tokens)?, needed \S+( tokens)?\."
)


@pytest.mark.parametrize("run", range(5 if SOAK else 1))
def test_eight_processes_of_fifty_threads_never_overspend_one_budget(app, engine, database, serve, upstream, run):
    with_upstream(app, upstream)
    usd = f"{LIMIT_USD / 10**9:.9f}"
    budgets.put(engine, Actor("tests"), scope="user", owner="api-tokens", unit="usd", limit=usd, period="total")
    budgets.put(
        engine, Actor("tests"), scope="user", owner="api-tokens", unit="tokens", limit=str(LIMIT_TOKENS), period="month"
    )
    served = serve(
        DATABASE_URL=database,
        WORKER_CLASS="gthread",
        WEB_CONCURRENCY=str(PROCESSES),
        THREADS=str(2 * THREADS),  # chance gives one process more callers than another
        DB_POOL_SIZE="8",
    )
    body = chat("one two three", max_tokens=20)

    def call(number):
        while is_busy(answer := ask(served, body | {"stream": number % 2 == 0}, TOKEN)):
            pass  # SDKs try again, and so do we
        return answer

    answers = crowd(PROCESSES * THREADS, range(CALLS), call)
    while (answer := call(0))[0] == 200:  # what is left when nobody holds anything any more
        answers.append(answer)

    wait_until_clean(engine, 10)  # what met a busy database is in the spool for a second
    booked = rows(engine)
    admitted = [status for status, _text in answers if status == 200]
    refused = [(status, json.loads(text)["error"]) for status, text in answers if status != 200]
    assert len(booked) == len(admitted) == len(upstream.served)
    spent, held = _window(engine, "usd")
    assert spent == sum(row.cost_nanousd for row in booked) == len(booked) * COST
    assert LIMIT_USD - 2 * (20 * 600 + 100 * 150) < spent <= LIMIT_USD, "spent to the end, and not beyond it"
    assert held == _window(engine, "tokens")[1] == 0
    assert len(refused) > CALLS / 2
    assert {status for status, _error in refused} <= {402, 429}
    for _status, error in refused:
        assert NUMBERS.search(error["message"]), error
    print(f"{len(admitted)} admitted, {len(refused)} refused, spent {spent} of {LIMIT_USD} nano-USD")


def _window(engine, unit):
    """What is spent and held of the one budget in this unit."""
    query = text("""
        SELECT w.spent_amount, w.held_amount FROM budget_windows w JOIN budgets b ON b.id = w.budget_id
        WHERE b.unit = :unit""")
    with engine.connect() as connection:
        return tuple(connection.execute(query, {"unit": unit}).one())
