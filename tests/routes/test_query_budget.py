"""What a call may ask of the database: every statement is counted, on the pages' connections and on the books'."""

import re
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event

from services import budgets, keys
from services.audit import Actor
from services.books.sqlite import SqliteBooks
from tests.helpers import AUTH, chat, last, with_upstream

# A transaction on SQLite is a handful of statements in this process; on Postgres each is one round trip.
RESERVE = {"sqlite": ["BEGIN", "INSERT holds", "COMMIT"], "postgres": ["WITH counts"]}
SETTLE = {
    "sqlite": ["BEGIN", "DELETE holds", "INSERT usage", "INSERT ledger_entries", "UPDATE users", "COMMIT"],
    "postgres": ["WITH gone"],
}
WITH_BUDGET = {
    "sqlite": [
        *["BEGIN", "INSERT budget_windows", "INSERT holds", "COMMIT"],
        *["BEGIN", "DELETE holds", "UPDATE budget_windows", "INSERT usage"],
        *["INSERT ledger_entries", "UPDATE users", "INSERT ledger_entries", "COMMIT"],
    ],
    "postgres": ["WITH counts", "WITH gone"],
}
REFUSED = {
    "sqlite": ["BEGIN", "INSERT budget_windows", "COMMIT", "SELECT budgets"],
    "postgres": ["WITH counts", "SELECT budgets"],
}


@pytest.fixture
def kind(request):
    """Which database this run is on."""
    return request.node.callspec.params["database"]


@pytest.fixture
def warm(database, make_app, upstream):
    """An app that has served a call, looks for changes every two seconds, and has looked just now."""
    app = with_upstream(make_app(database, IN_MEMORY_DB_UPDATE_INTERVAL="2"), upstream)
    assert app.test_client().post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200
    app.extensions["gateway"].catalog.refresh()
    return app


@contextmanager
def statements(app):
    """The statements that reach the database while the block lasts, shortened to verb and table."""
    here, seen = app.extensions["gateway"], []

    def note(connection, cursor, statement, *_more):
        seen.append(short(statement))

    event.listen(here.engine, "before_cursor_execute", note)
    with listening(here.books, seen):
        yield seen
    event.remove(here.engine, "before_cursor_execute", note)


@contextmanager
def listening(books, seen):
    """The same for the books: SQLite tells by itself, Postgres through cursors that count."""
    if isinstance(books, SqliteBooks):
        books._open().set_trace_callback(lambda statement: seen.append(short(statement)))
        yield
        books._open().set_trace_callback(None)
        return

    class Counting(psycopg.Cursor):
        def execute(self, query, params=None, **options):
            seen.append(short(query.decode()))
            return super().execute(query, params, **options)

    plain = books._connect

    def connect():
        connection = plain()
        connection.cursor_factory = Counting
        return connection

    books.close()
    books._connect = connect
    yield
    books._connect = plain
    books.close()


def short(statement):
    """`INSERT holds`, `BEGIN`, `WITH want`."""
    words = re.sub(r"\bAS MATERIALIZED\b", "AS", " ".join(statement.split())).split(" ")
    if words[0] in ("INSERT", "DELETE"):
        return f"{words[0]} {words[2]}"
    if words[0] == "SELECT":
        return "SELECT " + words[words.index("FROM") + 1]
    return words[0] if words[0] in ("BEGIN", "COMMIT", "ROLLBACK") else " ".join(words[:2])


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_a_call_costs_two_transactions(warm, kind, is_stream):
    client = warm.test_client()
    with statements(warm) as seen:
        answer = client.post("/v1/chat/completions", json=chat(stream=is_stream), headers=AUTH)
        assert (answer.status_code, len(answer.data) > 0) == (200, True)
        answer.close()
    assert seen == RESERVE[kind] + SETTLE[kind]


def test_a_budget_costs_no_further_transaction(warm, kind):
    here = warm.extensions["gateway"]
    budgets.put(here.engine, Actor("t"), scope="user", owner="api-tokens", unit="usd", limit="1", period="total")
    here.catalog.refresh()
    client = warm.test_client()
    client.post("/v1/chat/completions", json=chat(max_tokens=9), headers=AUTH)  # who calls is looked up anew
    with statements(warm) as seen:
        assert client.post("/v1/chat/completions", json=chat(max_tokens=9), headers=AUTH).status_code == 200
    assert seen == WITH_BUDGET[kind]
    assert last(here.engine).cost_nanousd > 0


def test_a_spent_budget_costs_one_try_and_one_look(warm, kind):
    here = warm.extensions["gateway"]
    budgets.put(here.engine, Actor("t"), scope="user", owner="api-tokens", unit="usd", limit="0", period="total")
    here.catalog.refresh()
    client = warm.test_client()
    client.post("/v1/chat/completions", json=chat(), headers=AUTH)
    with statements(warm) as seen:
        assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 402
    assert seen == REFUSED[kind]


def test_a_wrong_key_is_looked_up_once(warm):
    client, stranger = warm.test_client(), {"Authorization": f"Bearer {keys.new_secret()}"}
    with statements(warm) as seen:
        assert client.post("/v1/chat/completions", json=chat(), headers=stranger).status_code == 401
    assert seen == ["SELECT retired_secrets"]
    with statements(warm) as seen:
        for _ in range(3):
            assert client.post("/v1/chat/completions", json=chat(), headers=stranger).status_code == 401
    assert seen == []


@pytest.mark.parametrize("key", ["sk-th-cut", "sk-th-" + "a" * 49, "", "hällo"])
def test_what_cannot_be_a_key_is_not_looked_up(warm, key):
    with statements(warm) as seen:
        answer = warm.test_client().get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401
    assert seen == []


def test_the_list_of_models_and_refused_bodies_cost_nothing(warm):
    client = warm.test_client()
    with statements(warm) as seen:
        assert client.get("/v1/models", headers=AUTH).status_code == 200
        assert client.post("/v1/chat/completions", json={"model": "fast"}, headers=AUTH).status_code == 400
    assert seen == []


def test_the_first_look_after_the_interval_is_one_statement(warm):
    here = warm.extensions["gateway"]
    with statements(warm) as seen:
        here.catalog.refresh()
    assert seen == ["SELECT catalog_version"]
