"""Several budgets and limits on one call, and crowds that reach for all of them at the same moment."""

import json
import time

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Model, Team, User
from services import budgets, limits
from services.audit import Actor
from tests.conftest import TOKEN
from tests.fakes.upstream import Plan, Upstream
from tests.helpers import RATES, add_model, add_provider, chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, crowd, is_busy, wait_until_clean

ME = Actor("tests")
PROCESSES, THREADS = 8, 50
COST = 3 * 150 + 5 * 600  # nano-USD of a call at the first model: 3 words in, 5 out
DEARER = 3  # times as much costs the model that takes over
AFFORDED = 150
FAILS = '{{"status": 500}} '  # the first upstream does; that text is three tokens of input to nobody


class Steady(Upstream):
    """Answers as usual, whatever the text asks for."""

    def _plan(self, body):
        return Plan()


@pytest.fixture
def spare():
    server = Steady().start()
    yield server
    server.stop()


def serve_crowd(serve, database):
    return serve(
        DATABASE_URL=database,
        WORKER_CLASS="gthread",
        WEB_CONCURRENCY=str(PROCESSES),
        THREADS=str(2 * THREADS),  # chance gives one process more callers than another
        DB_POOL_SIZE="8",
    )


def patiently(served, body):
    """One call; while its worker or every connection to the database is busy it is sent again, as SDKs do."""
    while is_busy(answer := ask(served, body, TOKEN)):
        pass
    return answer


def budget(engine, scope, owner, nanousd):
    budgets.put(engine, ME, scope=scope, owner=owner, unit="usd", limit=f"{nanousd / 10**9:.9f}", period="month")


def spent_and_held(engine, scope):
    query = text("""
        SELECT w.spent_amount, w.held_amount FROM budget_windows w JOIN budgets b ON b.id = w.budget_id
        WHERE b.scope = :scope ORDER BY b.id""")
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query, {"scope": scope})]


@pytest.mark.parametrize("strictest", ["key", "user", "team", "model"])
@pytest.mark.parametrize("run", range(5 if SOAK else 1))
def test_the_last_dollar_with_budgets_of_key_user_team_and_model(  # noqa: PLR0915, PLR0917 - one story, many fixtures
    app, engine, database, serve, upstream, spare, strictest, run
):
    if not SOAK and strictest not in ("team", "model"):
        pytest.skip("the other two layers come with TOLLHOUSE_SOAK=1")
    with_upstream(app, upstream)
    rates = {name: rate * DEARER for name, rate in RATES.items()}
    add_model(app, add_provider(app, spare, "spare"), "dear", price=rates)
    with Session(engine) as session, session.begin():
        session.query(Model).filter_by(name="fast").update({"fallbacks": ["dear"]})
        session.add(team := Team(name="blue"))
        session.flush()
        session.query(User).filter_by(username="api-tokens").update({"team_id": team.id})
    owners = {"key": "1", "user": "api-tokens", "team": "blue", "model": "fast"}
    for scope, owner in owners.items():
        budget(engine, scope, owner, AFFORDED * COST * (1 if scope == strictest else 4))
    budget(engine, "model", "dear", AFFORDED * COST * 4)
    for scope in ("key", "user", "team"):
        limits.put(engine, ME, scope=scope, owner=owners[scope], unit="requests", limit=10**6, period="minute")
    served = serve_crowd(serve, database)

    def call(number):
        words = (FAILS if number % 3 == 0 else "") + "one two three"
        return patiently(served, chat(words, max_tokens=20, stream=number % 2 == 0))

    answers = crowd(PROCESSES * THREADS, range(1600 if SOAK else 800), call)
    refusals = 0
    while refusals < 3:  # what is left when nobody holds anything any more and no worker has a share on lease
        answers.append(call(1))
        refusals = 0 if answers[-1][0] == 200 else refusals + 1
        time.sleep(0.5 if refusals else 0)
    wait_until_clean(engine, 10)
    booked = rows(engine)
    by_model = {name: [row for row in booked if row.provider == name] for name in ("fake", "spare")}
    assert len(by_model["fake"]) > 5
    assert len(by_model["spare"]) > 5
    admitted = [status for status, _text in answers if status == 200]
    assert len(booked) == len(admitted) == len(spare.served) + len(by_model["fake"])
    total = sum(row.cost_nanousd for row in booked)
    for scope in ("key", "user", "team"):
        assert spent_and_held(engine, scope) == [(total, 0)]
    fast, dear = spent_and_held(engine, "model")
    assert fast == (sum(row.cost_nanousd for row in by_model["fake"]), 0)
    assert dear == (sum(row.cost_nanousd for row in by_model["spare"]), 0)
    spent = fast[0] if strictest == "model" else total
    assert spent <= AFFORDED * COST, "not beyond it"
    assert spent > AFFORDED * COST - DEARER * (20 * 600 + 200 * 150), "all but less than one hold"
    refused = [json.loads(text)["error"]["message"] for status, text in answers if status != 200]
    assert {status for status, _text in answers} == {200, 429}
    assert [message for message in refused if f"of {strictest} `" in message]
    print(f"{len(admitted)} admitted, {len(refused)} refused, spent {spent} of {AFFORDED * COST} nano-USD")


def test_five_thousand_calls_at_a_limit_of_a_hundred(app, engine, database, serve, upstream):
    """Exactly a hundred in the first window, whichever process they meet."""
    with_upstream(app, upstream)
    limits.put(engine, ME, scope="key", owner="1", unit="requests", limit=100, period="minute" if SOAK else "hour")
    served = serve_crowd(serve, database)
    if SOAK and time.time() % 60 > 15:
        time.sleep(60 - time.time() % 60)  # the whole run within one minute
    began = time.time() // 60
    answers = crowd(200, range(5000 if SOAK else 600), lambda _number: patiently(served, chat("one two three")))
    statuses = [status for status, _text in answers]
    assert began == time.time() // 60 or not SOAK, "too slow a machine for one window"
    assert (statuses.count(200), statuses.count(429)) == (100, len(answers) - 100)
    assert len(upstream.served) == len(rows(engine)) == 100
    wait_until_clean(engine, 10)
