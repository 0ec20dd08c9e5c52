"""Statements of the pages wait for whoever writes the SQLite file, and let others work meanwhile."""

import sqlite3
import threading
import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from services.books.patience import wait_in_turn


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE words (word TEXT)")
    connection.close()
    return path


@pytest.fixture
def writer(path):
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def patient(path, wait_s):
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    wait_in_turn(engine, wait_s)
    return engine


def write(engine, *words):
    rows = [{"word": word} for word in words]
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO words VALUES (:word)"), rows if len(rows) > 1 else rows[0])
    engine.dispose()


@pytest.mark.parametrize("words", [["one"], ["one", "two"]])
def test_a_change_waits_for_the_one_before(path, writer, words):
    done = threading.Timer(0.3, writer.execute, ["COMMIT"])
    done.start()
    write(patient(path, 10), *words)
    done.join()
    assert writer.execute("SELECT word FROM words").fetchall() == [(word,) for word in words]


def test_a_change_that_waited_long_enough_fails_and_leaves_nothing(path, writer):
    start = time.monotonic()
    with pytest.raises(OperationalError, match="locked"):
        write(patient(path, 0.2), "one")
    assert time.monotonic() - start >= 0.2
    writer.execute("COMMIT")
    assert writer.execute("SELECT count(*) FROM words").fetchone() == (0,)


def test_other_errors_are_not_waited_for(path):
    engine = patient(path, 60)
    with pytest.raises(OperationalError, match="no such table"), engine.connect() as connection:
        connection.execute(text("SELECT 1 FROM nowhere"))
    engine.dispose()


def test_a_crowd_writes_one_after_the_other(path):
    engines = [patient(path, 30) for _ in range(8)]
    threads = [threading.Thread(target=write, args=(engine, "word")) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM words").fetchone() == (8,)
    connection.close()
