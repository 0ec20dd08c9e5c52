"""Rows of calls that move nothing, written many at once: each of them once, whatever becomes of worker and database."""

import os
import threading

import pytest

from services import rowqueue
from services.accounting import Accounting
from services.books.base import BooksRefused, BooksUnavailable
from services.rowqueue import RowQueue
from services.spool import Spool
from services.types import Usage
from tests.books.test_books import settlement
from tests.helpers import assert_books_agree, rows
from utils import ids

USER, HOT = 1, 50
pytestmark = pytest.mark.parametrize("database", ["postgres"], indirect=True)


class Worker:
    """Books of an app with a spool of its own; `is_quiet`: nothing is written until it is flushed."""

    def __init__(self, app, folder, *, is_quiet=True, calls_per_s=0.001):
        books, self.spool = app.extensions["gateway"].accounting._books, Spool(folder)
        self.queue = RowQueue(books, self.spool, calls_per_s=calls_per_s)
        self.accounting = Accounting(books, self.spool, hold_s=60, rows=self.queue)
        self.books = self.queue._books
        if is_quiet:
            self.queue._pid = os.getpid()

    def hit(self, **fields):
        one = settlement(ids.request_id(), USER, cost_nanousd=0, state="void", usage=Usage(), **fields)
        one.marks.saved_nanousd = 7
        self.accounting.settle(one)
        return one.request_id

    def die(self):
        """What the operating system does for the dead."""
        os.close(self.spool._life)
        os.close(self.spool._file)
        self.spool._pid = 0


@pytest.fixture
def engine(app):
    return app.extensions["gateway"].engine


@pytest.fixture
def worker(app, tmp_path):
    return lambda **options: Worker(app, tmp_path / "spool", **options)


@pytest.fixture
def away(monkeypatch):
    """The database takes no rows until it is told to."""

    def make(one, error):
        enter = one.books.enter

        def fails(settlements):
            if bad := error(settlements):
                raise bad
            enter(settlements)

        monkeypatch.setattr(one.books, "enter", fails)
        return lambda: monkeypatch.setattr(one.books, "enter", enter)

    return make


def written(engine):
    return {row.request_id for row in rows(engine)}


def test_few_are_written_at_once_and_many_together(engine, worker):
    one = worker(calls_per_s=HOT)
    first = [one.hit() for _ in range(5)]
    assert written(engine) == set(first)
    more = [one.hit() for _ in range(HOT * 2)]
    waiting = [row.request_id for row in one.queue._waiting]
    assert waiting == more[-len(waiting) :]
    assert len(waiting) >= HOT
    one.queue.flush()
    assert written(engine) == {*first, *more}
    assert {row.saved_nanousd for row in rows(engine)} == {7}
    assert_books_agree(engine)
    one.spool.close()
    assert list(one.spool._folder.glob("*.jsonl")) == [], "nothing is left to be told"


def test_they_are_written_without_anybody_asking(engine, worker):
    one, made = worker(is_quiet=False), []

    def hits():
        made.extend(one.hit() for _ in range(150))

    threads = [threading.Thread(target=hits) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for _ in range(600):
        if len(written(engine)) == 600:
            break
        threading.Event().wait(0.05)
    assert written(engine) == set(made)
    one.accounting.close()


def test_who_leaves_writes_what_waits(engine, worker):
    one = worker()
    made = [one.hit() for _ in range(3)]
    assert written(engine) == set()
    one.accounting.close()
    assert written(engine) == set(made)
    assert one.hit() in written(engine), "from then on at once"


def test_a_dead_worker_loses_none_and_none_comes_twice(engine, worker):
    dead, heir = worker(), worker()
    early = [dead.hit() for _ in range(2)]
    dead.queue.flush()
    late = [dead.hit() for _ in range(3)]
    assert heir.accounting.sweep() == 0, "it lives"
    dead.die()
    heir.accounting.sweep()
    assert written(engine) == {*early, *late}
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM usage")
    heir.accounting.sweep()
    assert written(engine) == set(), "what was told is not told again"
    assert_books_agree(engine)


def test_rows_wait_for_a_database_that_is_away(engine, worker, away, caplog):
    one = worker()
    made = [one.hit() for _ in range(250)]
    back = away(one, lambda _rows: BooksUnavailable("gone"))
    for _ in range(2):
        with pytest.raises(BooksUnavailable):
            one.queue.flush()
    assert [row.request_id for row in one.queue._waiting] == made, "in their order"
    assert caplog.text.count("usage rows wait to be written") == 1
    assert one.queue.take(settlement(ids.request_id(), USER)) is False
    back()
    one.queue.flush()
    assert written(engine) == set(made)
    made.append(one.hit())
    one.queue.flush()
    assert written(engine) == set(made)


def test_one_that_the_database_refuses_spoils_only_itself(engine, worker, away):
    one = worker()
    made = [one.hit(), one.hit(error="\0 of a caller"), one.hit()]
    bad = made[1]
    back = away(one, lambda some: BooksRefused("no") if bad in [row.request_id for row in some] else None)
    one.queue.flush()
    assert written(engine) == set(made) - {bad}
    back()
    assert one.accounting.replay() == 0
    assert written(engine) == set(made)
    assert_books_agree(engine)


def test_a_row_whose_answer_was_lost_is_not_written_twice(engine, worker):
    one = worker()
    made = [one.hit() for _ in range(3)]
    rows_of = list(one.queue._waiting)
    one.books.enter(rows_of)
    one.queue.flush()
    assert len(rows(engine)) == 3
    assert written(engine) == set(made)


def test_without_a_spool_rows_are_written_at_once(engine, worker, monkeypatch):
    one = worker()

    def fails(*_args, **_options):
        raise rowqueue.SpoolUnavailable("full")

    monkeypatch.setattr(one.spool, "keep", fails)
    made = one.hit()
    assert written(engine) == {made}


def test_too_many_that_wait_are_not_added_to(engine, worker, monkeypatch):
    monkeypatch.setattr(rowqueue, "WAITING_MAX", 2)
    one = worker()
    made = [one.hit() for _ in range(4)]
    assert written(engine) == set(made[2:])
    one.queue.flush()
    assert written(engine) == set(made)
