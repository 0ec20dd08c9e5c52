"""What must not be lost: databases that go away, workers that die, files that cannot be written."""

import os
import sqlite3
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Budget, UsageRecord
from services import periods
from services.accounting import Accounting
from services.books.base import BooksRefused, BooksUnavailable, BooksUnsure
from services.books.statements import UNHOLD
from services.errors import AccountingUnavailable, BudgetExceeded
from services.settlement import settlement_of
from services.spool import Spool, SpoolUnavailable, read_notes
from services.token_counter import estimate, update_token_usage
from services.types import Attempt, BudgetRef, Caller, Demand, Usage
from tests.calls import DEPLOYMENT, make_call
from tests.helpers import AUTH, assert_books_agree, chat, last, open_holds, rows, with_upstream
from utils import clock

DEMAND = Demand(10, 1, 20, 4096)


@pytest.fixture
def budget(session, gateway):
    row = Budget(scope="user", scope_id=1, unit="tokens", period="total", limit_amount=10_000)
    session.add(row)
    session.commit()
    return BudgetRef(row.id, "user", "tokens", "total", "UTC", is_prepaid=False)


def call(gateway, number=1, *budgets, **fields):
    caller = Caller(1, "admin", "admin", 1, "sk-th-AbCd…wxyz", budgets=tuple(budgets))
    defaults = {
        "id": f"req_{number:032}",
        "caller": caller,
        "started_ms": clock.now_ms(),
        "started_s": clock.monotonic_s(),
        "body_bytes": 40,
    }
    return make_call(**(defaults | fields))


def ended(one, usage=None):
    one.attempts.append(Attempt(DEPLOYMENT))
    one.usage, one.outcome, one.is_answered = usage or Usage(10, 5), "ok", True
    return settlement_of(one, estimate)


class Failing:
    """Books that refuse at will."""

    def __init__(self, books):
        self.books, self.error, self.calls = books, None, 0

    def __getattr__(self, name):
        def method(*args, **kwargs):
            self.calls += 1
            if self.error is not None:
                raise self.error
            return getattr(self.books, name)(*args, **kwargs)

        return method


@pytest.fixture
def books(gateway):
    return Failing(gateway.books)


@pytest.fixture
def accounting(gateway, books):
    return Accounting(books, gateway.spool, hold_s=60)


def test_a_settlement_waits_in_the_spool_while_the_database_is_away(gateway, accounting, books, budget):
    one = call(gateway, 1, budget)
    accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    accounting.settle(ended(one))
    notes = gateway.spool.peek(gateway.spool.owner)
    assert list(notes.settlements) == [one.id]
    assert accounting.replay() == 1
    books.error = None
    assert accounting.replay() == 0
    assert last(gateway.engine).output_tokens == 5
    assert_books_agree(gateway.engine)


def test_without_a_database_nothing_is_admitted(gateway, accounting, books):
    books.error = BooksUnavailable("gone")
    with pytest.raises(AccountingUnavailable):
        accounting.reserve(call(gateway), DEMAND)
    assert accounting._unsure == set()


def test_a_hold_that_may_have_been_stored_is_given_back(gateway, accounting, books, budget):
    one = call(gateway, 1, budget)
    Accounting(gateway.books, gateway.spool, hold_s=60).reserve(one, DEMAND)
    books.error = BooksUnsure("the line broke")
    with pytest.raises(AccountingUnavailable):
        accounting.reserve(one, DEMAND)
    accounting.replay()
    assert open_holds(gateway.engine) == 1, "the database is still away"
    books.error = None
    accounting.replay()
    assert open_holds(gateway.engine) == 0
    assert rows(gateway.engine) == []
    assert_books_agree(gateway.engine)


def test_if_nothing_takes_a_settlement_nothing_more_is_admitted(gateway, accounting, books, monkeypatch):
    one, two = call(gateway, 1), call(gateway, 2)
    accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    monkeypatch.setattr(gateway.spool, "keep", lambda *_: (_ for _ in ()).throw(SpoolUnavailable("the disk is full")))
    accounting.settle(ended(one))
    books.error = None
    with pytest.raises(AccountingUnavailable):
        accounting.reserve(two, DEMAND)
    accounting.replay()
    accounting.reserve(two, DEMAND)
    accounting.settle(ended(two))
    assert len(rows(gateway.engine)) == 2
    assert_books_agree(gateway.engine)


def test_still_nothing_takes_it(gateway, accounting, books, monkeypatch):
    one = call(gateway, 1)
    accounting.reserve(one, DEMAND)
    books.error = BooksUnavailable("gone")
    monkeypatch.setattr(gateway.spool, "keep", lambda *_: (_ for _ in ()).throw(SpoolUnavailable("the disk is full")))
    accounting.settle(ended(one))
    assert accounting.replay() == 1
    assert accounting._is_lossy


def test_texts_that_the_database_refuses_are_left_out(gateway, accounting, books):
    one = call(gateway, 1)
    accounting.reserve(one, DEMAND)
    settle, refused = gateway.books.settle, []

    def picky(settlement):
        if settlement.attempts:
            refused.append(settlement)
            raise BooksRefused("no such text")
        return settle(settlement)

    books.books = type("Picky", (), {"settle": staticmethod(picky)})()
    accounting.settle(ended(one))
    assert accounting.replay() == 0
    assert len(refused) == 2
    assert (last(gateway.engine).attempts, last(gateway.engine).output_tokens) == (None, 5)


def test_a_budget_others_keep_taking_is_refused_in_the_end(gateway, accounting, books, budget, monkeypatch):
    from services.books.base import HoldRefused

    monkeypatch.setattr(Failing, "reserve", lambda *_: (_ for _ in ()).throw(HoldRefused), raising=False)
    with pytest.raises(BudgetExceeded, match="10,000 tokens"):
        accounting.reserve(call(gateway, 1, budget), DEMAND)
    with pytest.raises(BudgetExceeded):
        accounting.reserve(call(gateway, 2, budget), Demand(10, 1, None, 50))


def test_budgets_that_cannot_be_read(gateway, accounting, books, budget, monkeypatch):
    from services.books.base import HoldRefused

    monkeypatch.setattr(Failing, "reserve", lambda *_: (_ for _ in ()).throw(HoldRefused), raising=False)
    books.error = BooksUnavailable("gone")
    with pytest.raises(AccountingUnavailable):
        accounting.reserve(call(gateway, 1, budget), DEMAND)


def test_calls_of_a_dead_worker_are_booked_from_what_it_left(gateway, accounting, budget, tmp_path):
    dead = Spool(gateway.config.instance_path / "spool")
    theirs = Accounting(gateway.books, dead, hold_s=3600)
    calls = [call(gateway, number, budget) for number in range(4)]
    for one in calls:
        theirs.reserve(one, DEMAND)
    never_sent, sent, streaming, spooled = calls
    note = {"provider": "fake", "model": "gpt-4o-mini", "price": DEPLOYMENT.price}
    for one in (sent, streaming, spooled):
        dead.sent(one.id, note)
    dead.progress(streaming.id, 3)
    dead.progress(streaming.id, 7)
    dead.keep(spooled.id, ended(spooled, Usage(11, 12)))
    assert accounting.sweep() == 0, "it lives"
    os.close(dead._life)  # what the operating system does for the dead
    assert accounting.sweep() == 3
    found = {row.request_id: row for row in rows(gateway.engine)}
    assert (found[never_sent.id].state, found[never_sent.id].cost_nanousd) == ("void", 0)
    assert (found[sent.id].state, found[sent.id].input_tokens, found[sent.id].output_tokens) == ("estimated", 10, 0)
    assert (found[streaming.id].output_tokens, found[streaming.id].provider) == (7, "fake")
    assert (found[spooled.id].state, found[spooled.id].input_tokens, found[spooled.id].output_tokens) == (
        "measured",
        11,
        12,
    )
    assert {row.outcome for row in found.values()} == {"recovered", "ok"}
    assert dead._folder.joinpath(f"{dead._owner}.jsonl").exists() is False
    assert accounting.sweep() == 0
    assert_books_agree(gateway.engine)
    os.close(dead._file)


def test_a_worker_without_files_here_is_judged_by_the_clock(gateway, accounting, tmp_path, monkeypatch):
    elsewhere = Spool(tmp_path / "elsewhere")
    Accounting(gateway.books, elsewhere, hold_s=60).reserve(call(gateway), DEMAND)
    assert accounting.sweep() == 0
    now = clock.now_ms()
    monkeypatch.setattr("utils.clock.now_ms", lambda: now + 61_000)
    assert accounting.sweep() == 1
    assert_books_agree(gateway.engine)
    elsewhere.close()


def test_sweeping_stops_when_the_database_goes_away_and_nothing_is_lost(gateway, accounting, books, monkeypatch):
    dead = Spool(gateway.config.instance_path / "spool")
    theirs = Accounting(gateway.books, dead, hold_s=3600)
    for number in range(3):
        theirs.reserve(call(gateway, number), DEMAND)
    os.close(dead._life)
    settle, count = gateway.books.settle, []

    def flaky(settlement):
        count.append(settlement)
        if len(count) == 2:
            raise BooksUnavailable("gone")
        return settle(settlement)

    monkeypatch.setattr(Failing, "settle", lambda _self, settlement: flaky(settlement), raising=False)
    with pytest.raises(BooksUnavailable):
        accounting.sweep()
    assert accounting.sweep() == 2
    assert len(rows(gateway.engine)) == 3
    assert_books_agree(gateway.engine)
    os.close(dead._file)


def test_tokens_counted_outside_a_call(gateway):
    update_token_usage(gateway.accounting, 1, 42)
    assert gateway.accounts.tokens_used(1) == 42
    assert_books_agree(gateway.engine)


# The spool itself


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


def test_what_is_forgotten_leaves_the_file_when_it_is_compacted(spool, monkeypatch):
    monkeypatch.setattr("services.spool.COMPACT_BYTES", 2000)
    for number in range(100):
        spool.sent(f"req_{number}", {"provider": "fake", "model": "m", "price": None})
        if number != 50:
            spool.forget(f"req_{number}")
    notes = spool.peek(spool.owner)
    assert "req_50" in notes.sent
    assert len(notes.sent) < 60
    assert (spool._folder / f"{spool.owner}.jsonl").stat().st_size < 4000
    spool.progress("req_50", 9)
    assert spool.peek(spool.owner).progress == {"req_50": 9}


def test_torn_lines_are_skipped(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'["sent","a",{}]\nnonsense\n["sent"]\n{"a":1}\n["other","b",1]\n["progress","a",4]\n["settle","c",{"x":'
    )
    notes = read_notes(path)
    assert (notes.sent, notes.progress, notes.settlements) == ({"a": {}}, {"a": 4}, {})
    assert read_notes(tmp_path / "missing").sent == {}


def test_a_spool_that_cannot_be_made_or_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpoolUnavailable):
        Spool(tmp_path / "file" / "spool").owner  # noqa: B018 - looking is the test
    spool = Spool(tmp_path / "spool")
    spool.sent("a", 1)
    monkeypatch.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SpoolUnavailable, match="No space left"):
        spool.sent("b", 1)
    spool.progress("a", 5)  # is not worth failing for
    monkeypatch.undo()
    real = os.write
    monkeypatch.setattr("os.write", lambda file, data: real(file, data[:3]))
    with pytest.raises(SpoolUnavailable, match="disk is full"):
        spool.sent("c", 1)
    monkeypatch.undo()
    spool.sent("d", 2)
    assert read_notes(spool._folder / f"{spool.owner}.jsonl").sent == {"a": 1, "d": 2}
    spool.close()


def test_two_spools_of_a_folder_have_one_place_and_two_names(tmp_path):
    first, second = Spool(tmp_path), Spool(tmp_path)
    assert first.place == second.place
    assert first.owner != second.owner
    assert first.owners() == [second.owner]
    with first.adopt(second.owner) as notes:
        assert notes is None
    second.close()
    assert first.owners() == []
    first.close()
    first.close()


def test_a_worker_that_leaves_with_open_calls_leaves_its_file(tmp_path):
    first, second = Spool(tmp_path), Spool(tmp_path)
    first.sent("a", 1)
    owner = first.owner
    first.close()
    with second.adopt(owner) as notes:
        assert notes.sent == {"a": 1}
    assert second.owners() == []
    second.close()


# SQLite and Postgres under hardship


def test_a_foreign_lock_refuses_calls_and_reads_go_on(lite, upstream, tmp_path, monkeypatch):
    with_upstream(lite, upstream)
    monkeypatch.setattr("services.books.sqlite.BUSY_WAIT_S", 0.2)
    outsider = sqlite3.connect(tmp_path / "tollhouse.db", isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    client = lite.test_client()
    response = client.post("/v1/chat/completions", json=chat(), headers=AUTH)
    assert (response.status_code, response.json["error"]["code"], response.headers["x-should-retry"]) == (
        503,
        "accounting_unavailable",
        "true",
    )
    assert client.get("/v1/models", headers=AUTH).status_code == 200
    assert upstream.served == []
    outsider.execute("COMMIT")
    outsider.close()
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    assert_books_agree(lite.extensions["gateway"].engine)


def test_a_lock_that_comes_while_a_call_is_under_way(lite, upstream, tmp_path, monkeypatch):
    with_upstream(lite, upstream)
    monkeypatch.setattr("services.books.sqlite.BUSY_WAIT_S", 0.2)
    outsider = sqlite3.connect(tmp_path / "tollhouse.db", isolation_level=None)
    upstream.will(words=3, every_s=0.1)  # its end must not come with its beginning
    response = lite.test_client().post("/v1/chat/completions", json=chat(stream=True), headers=AUTH, buffered=False)
    outsider.execute("BEGIN IMMEDIATE")
    assert b"[DONE]" in response.get_data()
    response.close()
    gateway = lite.extensions["gateway"]
    assert rows(gateway.engine) == []
    outsider.execute("COMMIT")
    outsider.close()
    assert gateway.accounting.replay() == 0
    assert last(gateway.engine).output_tokens == 3
    assert_books_agree(gateway.engine)


def test_a_full_disk_refuses_calls_and_mends_itself(lite, upstream, monkeypatch):
    monkeypatch.setattr("services.accounting.PENDING_MAX", 5)
    with_upstream(lite, upstream)
    gateway = lite.extensions["gateway"]
    client = lite.test_client()
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    connection = gateway.books._open()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    statuses = {client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code for _ in range(200)}
    assert statuses == {200, 503}
    assert len(gateway.accounting._pending) == 5
    connection.execute("PRAGMA max_page_count = 1000000")
    gateway.accounting.replay()
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert_books_agree(gateway.engine)


def test_a_connection_that_postgres_closed_is_replaced(request, make_app, templates, upstream, postgres_server):
    from tests.conftest import _create_database

    url = _create_database(postgres_server, "t_restart", templates("postgres"))
    app = with_upstream(make_app(url), upstream)
    client = app.test_client()
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 't_restart'")
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    assert_books_agree(app.extensions["gateway"].engine)


def test_a_postgres_that_is_away_or_slow(request, make_app, templates, upstream, postgres_server, monkeypatch):
    from tests.conftest import _create_database

    monkeypatch.setattr("services.books.postgres.POOL_WAIT_S", 0.25)
    url = _create_database(postgres_server, "t_slow", templates("postgres"))
    app = with_upstream(make_app(url, POSTGRESQL_WRITE_TIME_OUT="200ms", DB_POOL_SIZE="1"), upstream)
    client, gateway = app.test_client(), app.extensions["gateway"]
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE holds IN ACCESS EXCLUSIVE MODE")
        assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 503
        with pytest.raises(BooksUnavailable):
            gateway.books.transact(lambda books: books.execute(UNHOLD, ("x",)))
    with gateway.books._connected(), pytest.raises(BooksUnavailable, match="busy"):
        gateway.books.overdue(0)
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    gateway.books.close()
    gateway.books._connect = lambda: psycopg.connect("postgresql://postgres@127.0.0.1:1/x", connect_timeout=1)
    assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 503
    gateway.books.close()


def test_a_line_that_keeps_breaking_is_unsure(request, make_app, templates, postgres_server):
    from tests.conftest import _create_database

    url = _create_database(postgres_server, "t_broken", templates("postgres"))
    gateway = make_app(url).extensions["gateway"]
    connect = gateway.books._connect

    def doomed():
        connection = connect()
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        return connection

    gateway.books._connect = doomed
    with pytest.raises(BooksUnsure):
        gateway.books.overdue(0)


def test_a_reservation_whose_answer_was_lost_counts_as_made(gateway, session):
    from tests.books.test_books import hold

    gateway.books.reserve(hold("r1"), [])
    if gateway.engine.dialect.name == "postgresql":
        gateway.books.reserve(hold("r1"), [])
    else:
        with pytest.raises(BooksRefused):
            gateway.books.reserve(hold("r1"), [])
    assert open_holds(gateway.engine) == 1


def test_periods_known_to_the_database_are_those_of_the_code(session):
    for number, period in enumerate(periods.PERIODS):
        session.add(Budget(scope="user", scope_id=number, unit="usd", period=period, limit_amount=1))
    session.commit()
    assert session.query(Budget).count() == len(periods.PERIODS)


def test_one_bad_item_among_many_spoils_only_itself(lite, monkeypatch):
    """What arrives together is done together; what fails is done again alone."""
    import threading

    from tests.books.test_books import settlement

    books = lite.extensions["gateway"].books
    errors, start = [], threading.Barrier(8)

    def settle(number):
        start.wait()
        try:
            books.settle(settlement(f"r{number}", 1, state="nonsense" if number == 3 else "measured"))
        except BooksRefused as exc:
            errors.append((number, exc))

    held = books._turn
    held.acquire()
    threads = [threading.Thread(target=settle, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while len(books._waiting) < 8:
        clock.sleep(0.01)
    held.release()
    for thread in threads:
        thread.join()
    assert [number for number, _ in errors] == [3]
    with Session(lite.extensions["gateway"].engine) as session:
        assert session.query(UsageRecord).count() == 7
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_an_ending_worker_leaves_nobody_waiting(lite):
    from services.books.sqlite import _Item

    books = lite.extensions["gateway"].books
    item = _Item(lambda _books: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        books._do([item])
    assert (item.is_done, str(item.error)) == (True, "the worker is ending")
    assert books.overdue(0) == []


def test_a_file_that_is_no_database(tmp_path):
    from services.books.sqlite import SqliteBooks

    path = Path(tmp_path / "x.db")
    path.write_bytes(b"not a database at all" * 100)
    books = SqliteBooks(str(path))
    with pytest.raises((BooksUnavailable, sqlite3.DatabaseError)):
        books.overdue(0)
    books.close()
    missing = SqliteBooks(str(tmp_path / "no" / "such.db"))
    with pytest.raises(BooksUnavailable):
        missing.overdue(0)
