"""pgbouncer in transaction mode before Postgres: a connection is somebody else's after each transaction."""

import re
import secrets
import threading
import time

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services import budgets, ledger
from services.audit import Actor
from services.books.base import BooksUnavailable
from services.books.statements import UNHOLD
from services.migrating import migration_lock
from tests.books.test_books import hold
from tests.conftest import TOKEN, pooled
from tests.helpers import chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, crowd, is_busy, wait_until_clean

COST = 3 * 150 + 5 * 600  # nano-USD of a call: 3 words in, 5 out
AFFORDED, CALLS, CALLERS, WORKERS = 60, 240, 24, 3
PROMISED_S = 2.0
TRANSACTION = {"DB_POOLING": "transaction"}
LEASES = {"exact": "0", "leased": "1"}  # LEASE_CALLS_PER_S


@pytest.fixture
def direct(postgres_server, templates):
    """A migrated database without the pooler."""
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {templates('postgres')} STRATEGY file_copy".encode())
    yield f"{postgres_server.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
def database(direct, pooler):
    """The same through the pooler, which has four connections for everybody."""
    return pooled(pooler, direct)


@pytest.fixture
def app(database, make_app):
    return make_app(database, **TRANSACTION)


@pytest.mark.parametrize("kind", LEASES if SOAK else ["leased"])
def test_a_budget_a_limit_and_a_revocation_are_exact_through_it(app, database, serve, upstream, kind):
    here = app.extensions["gateway"]
    with_upstream(app, upstream)
    limit = f"{AFFORDED * COST / 10**9:.9f}"
    budgets.put(here.engine, Actor("tests"), scope="user", owner="api-tokens", unit="usd", limit=limit, period="total")
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, 1, "leaving")
    served = serve(DATABASE_URL=database, WEB_CONCURRENCY=str(WORKERS), LEASE_CALLS_PER_S=LEASES[kind], **TRANSACTION)

    def call(number):
        body = chat("one two three", max_tokens=20, stream=number % 2 == 0)
        while is_busy(answer := ask(served, body, TOKEN)):
            pass  # a crowd before four connections
        return answer[0]

    found = crowd(CALLERS, range(CALLS), call)
    while (status := call(0)) == 200:  # what is left when nobody holds anything any more
        found.append(status)
    wait_until_clean(here.engine, 10)
    with here.engine.connect() as connection:
        spent = connection.execute(text("SELECT SUM(spent_amount) FROM budget_windows")).scalar_one()
    assert spent == sum(row.cost_nanousd for row in rows(here.engine)) == found.count(200) * COST
    assert AFFORDED * COST - 2 * (20 * 600 + 100 * 150) < spent <= AFFORDED * COST
    assert set(found) <= {200, 402, 429}
    assert {ask(served, chat(model="echo"), issued.secret)[0] for _ in range(12)} == {200}
    with Session(here.engine) as session, session.begin():
        here.keys.revoke(session, issued.id, "left")
    time.sleep(PROMISED_S)
    assert {ask(served, chat(model="echo"), issued.secret)[0] for _ in range(12)} == {401}
    log = served.output()
    assert "Traceback" not in log
    assert "prepared statement" not in log
    print(f"{kind}: {found.count(200)} admitted of {len(found)}, spent {spent} of {AFFORDED * COST}, overspend 0")


def test_one_migrates_at_a_time_whoever_else_uses_its_connections(app, tmp_path):
    engine, inside, most, is_over = app.extensions["gateway"].engine, [], [], threading.Event()

    def others():
        while not is_over.is_set():
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))

    def migrate(_number):
        with migration_lock(engine, tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    busy = [threading.Thread(target=others) for _ in range(3)]
    for one in busy:
        one.start()
    crowd(3, range(12), migrate)
    is_over.set()
    for one in busy:
        one.join()
    assert most == [1] * 12


def test_the_time_limits_of_the_books_go_with_each_transaction(app, direct):
    here = app.extensions["gateway"]
    with psycopg.connect(direct) as other:
        other.execute("LOCK TABLE holds IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BooksUnavailable, match=r"lock timeout|statement timeout"):
            here.books.reserve(hold("r1"), [])
        with pytest.raises(BooksUnavailable, match=r"lock timeout|statement timeout"):
            here.books.transact(lambda books: books.execute(UNHOLD, ("r1",)))
    with here.engine.connect() as connection:
        left = {connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("statement_timeout", "lock_timeout")}
    assert left == {"0"}
    here.books.reserve(hold("r1"), [])
    assert ledger.verify(here.engine).open_holds == 1


def run(app, *words):
    """Exit status and text of a command."""
    result = app.test_cli_runner().invoke(args=words)
    return result.exit_code, result.output


def test_commands_of_an_operator_through_it(app, database, make_app, tmp_path):
    for words in (["ledger", "verify"], ["audit", "verify"], ["db", "upgrade"]):
        status, said = run(app, *words)
        assert status == 0, said
    status, said = run(app, "backup", str(tmp_path / "x.backup"))
    assert status == 78, said
    assert "DB_POOLING=session" in said
    assert "pooler" not in run(app, "doctor")[1]
    said = run(make_app(database, DB_POOLING="session"), "doctor")[1]
    assert re.search(r"warn\s+database\s.*pooler", said), said
