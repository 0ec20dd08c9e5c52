"""The books in a SQLite file: one connection a process, one writer at a time, in the order they came.

`BEGIN IMMEDIATE` takes the write lock first, so a transaction never fails half way. SQLite's own waiting is
unfair and blocks the whole process under gevent; so writers queue at a lock file, and SQLite never waits.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from services.books.base import Books, BooksRefused, BooksUnavailable, Transaction
from utils import clock, native

T = TypeVar("T")

BUSY_WAIT_S: Final = 2.0  # an outsider (a shell, a backup) holds the database; after that the call is refused
BUSY_STEP_S: Final = 0.005


class SqliteBooks(Books):
    """See the module. Opens its connection at the first use in each process."""

    def __init__(self, path: str, *, synchronous: str = "NORMAL") -> None:
        self._path, self._synchronous = path, synchronous
        self._turn = threading.Lock()  # one thread, or greenlet, of this process at a time
        self._pid = 0
        self._connection: sqlite3.Connection | None = None
        self._queue = -1

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """See Books.begin."""
        with self._turn:
            try:
                connection = self._open()
                _patiently(lambda: self._lock(connection))
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    fcntl.flock(self._queue, fcntl.LOCK_UN)
            except sqlite3.OperationalError as exc:
                raise BooksUnavailable(f"the database file does not take a transaction: {exc}") from exc
            except (sqlite3.Error, OverflowError) as exc:
                raise BooksRefused(f"the database refuses a value: {exc}") from exc

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See Books.read."""
        with self._turn:
            try:
                connection = self._open()
                return _patiently(lambda: connection.execute(statement, values).fetchall())
            except sqlite3.OperationalError as exc:
                raise BooksUnavailable(f"the database file cannot be read: {exc}") from exc

    def close(self) -> None:
        """See Books.close."""
        with self._turn:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
                os.close(self._queue)
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        self._queue = os.open(f"{self._path}-queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _lock(self, connection: sqlite3.Connection) -> None:
        """Come to the head of the queue and take SQLite's lock; on failure leave the queue to the others."""
        try:
            fcntl.flock(self._queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            native.run(fcntl.flock, self._queue, fcntl.LOCK_EX)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
            raise


def _patiently(attempt: Callable[[], T]) -> T:
    """Repeat while somebody else has the database locked, giving way in between, up to BUSY_WAIT_S."""
    give_up_s = clock.monotonic_s() + BUSY_WAIT_S
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or clock.monotonic_s() > give_up_s:
                raise
            clock.sleep(BUSY_STEP_S)
