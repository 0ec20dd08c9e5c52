"""The books in a SQLite file: one connection a process, one writer at a time, in the order they came.

`BEGIN IMMEDIATE` takes the write lock first, so a transaction never fails half way. SQLite's own waiting is
unfair and blocks the whole process under gevent; so processes queue at a lock file, and SQLite never waits.
Within a process, what comes while others wait is done in one transaction: most of a commit's cost is the same
for one call and for twenty.
"""

import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from services.books.base import Books, BooksRefused, BooksUnavailable, HoldRefused, Transaction
from services.books.patience import patiently
from utils import native

T = TypeVar("T")

BUSY_WAIT_S: Final = 2.0  # an outsider (a shell, a backup) holds the database; after that the call is refused
TOGETHER_MAX: Final = 64
CHECKPOINT_PAGES: Final = 4000  # 16 MB of log; fewer would copy the same few pages more often


@dataclass(slots=True, eq=False)
class _Item:
    """Work that waits for its transaction, and what came of it."""

    work: Callable[[Transaction], Any]
    is_done: bool = False
    result: Any = None
    error: Exception | None = None


class SqliteBooks(Books):
    """See the module. Opens its connection at the first use in each process."""

    def __init__(self, path: str, *, synchronous: str = "NORMAL") -> None:
        self._path, self._synchronous = path, synchronous
        self._turn = threading.Lock()
        self._waiting: deque[_Item] = deque()
        self._pid = 0
        self._connection: sqlite3.Connection | None = None
        self._queue = -1

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """See Books.transact."""
        item = _Item(work)
        self._waiting.append(item)
        native.give_way()  # lets others join; and a call that never has to wait gives way at least here
        with self._turn:
            while not item.is_done:
                self._do([self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))])
        if item.error is not None:
            raise item.error
        return cast("T", item.result)

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See Books.read."""
        with self._turn:
            try:
                connection = self._open()
                return patiently(lambda: connection.execute(statement, values).fetchall(), BUSY_WAIT_S)
            except sqlite3.OperationalError as exc:
                raise BooksUnavailable(f"the database file cannot be read: {exc}") from exc

    def close(self) -> None:
        """See Books.close."""
        with self._turn:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
                os.close(self._queue)
            self._connection = None

    def _do(self, items: list[_Item]) -> None:
        """Do the items in one transaction; if that fails, each in one of its own, so that none spoils another."""
        try:
            self._transaction(items)
        except (sqlite3.Error, OverflowError) as exc:
            if len(items) > 1 and not _is_unavailable(exc):
                for item in items:
                    self._do([item])
                return
            kind = BooksUnavailable if _is_unavailable(exc) else BooksRefused
            for item in items:
                item.error = kind(f"the database does not take a transaction: {exc}")
        except BaseException:
            for item in items:
                item.error = BooksUnavailable("the worker is ending")
            raise
        finally:
            for item in items:
                item.is_done = True

    def _transaction(self, items: list[_Item]) -> None:
        connection = self._open()
        patiently(lambda: self._lock(connection), BUSY_WAIT_S)
        try:
            for item in items:
                try:
                    item.result, item.error = item.work(connection), None
                except HoldRefused as exc:
                    item.error = exc
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), BUSY_WAIT_S)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
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


def _is_unavailable(exc: BaseException) -> bool:
    """Whether it is the database's state, not the values, that stands in the way."""
    return isinstance(exc, sqlite3.OperationalError)
