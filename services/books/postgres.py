"""The books on Postgres: each step is one statement, so one round trip, in a transaction of its own.

Behind a pooler in transaction mode the next transaction may be on another connection: nothing is prepared there, and
the time limits come with each transaction.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from services.bookings import Settlement
from services.books import kept_statements, lease_statements
from services.books import statements as sql
from services.books.base import (
    Books,
    BooksRefused,
    BooksUnavailable,
    BooksUnsure,
    Held,
    HoldRefused,
    HoldRow,
    Transaction,
    entries_of,
    stored,
    usage_values,
)
from services.types import Count, Take

Connection = psycopg.Connection[tuple[Any, ...]]

T = TypeVar("T")

POOL_WAIT_S: Final = 10.0  # a crowd is served in turn; only a database that hangs makes calls fail
NOTHING_PREPARED: Final = {"prepare_threshold": None}  # for psycopg.connect
ATTEMPTS: Final = 3  # for a deadlock, or a connection that Postgres had closed while it lay idle
_OWN: Final = {
    statement: statement.replace("?", "%s").encode()
    for statement in (*vars(sql).values(), *vars(lease_statements).values(), *vars(kept_statements).values())
    if isinstance(statement, str)
}


class PostgresBooks(Books):
    """See the module. `connect` makes a connection in autocommit mode; it is first called in the worker process.

    `limits`: a statement that sets the time limits of its transaction, where the connection cannot have them.
    """

    def __init__(self, connect: Callable[[], Connection], *, pool_size: int, limits: bytes = b"") -> None:
        self._connect, self._pool_size, self._limits = connect, pool_size, limits
        self._guard = threading.Lock()
        self._pid = 0
        self._pool: QueuePool | None = None

    @classmethod
    def of_engine(
        cls,
        engine: Engine,
        *,
        pool_size: int,
        statement_timeout_s: float,
        lock_timeout_s: float,
        is_pooled: bool = False,
    ) -> "PostgresBooks":
        """Books in the database of an engine, over connections of their own; `is_pooled`: see the module."""
        arguments, options = engine.dialect.create_connect_args(engine.url)
        limits = {"statement_timeout": statement_timeout_s, "lock_timeout": lock_timeout_s}
        told = " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in limits.items())
        own = NOTHING_PREPARED if is_pooled else {"options": told}

        def connect() -> Connection:
            made = psycopg.connect(*arguments, **{"connect_timeout": 2, **own, **options}, autocommit=True)
            # Else the size of each number would be part of a statement's name, and each combination be planned anew.
            made.adapters.register_dumper(int, Int8Dumper)
            return made

        sets = (f"set_config('{name}', '{seconds * 1000:.0f}', true)" for name, seconds in limits.items())
        return cls(connect, pool_size=pool_size, limits=f"SELECT {', '.join(sets)};".encode() if is_pooled else b"")

    def reserve(self, hold: HoldRow, takes: Sequence[Take], counts: Sequence[Count] = ()) -> Held:
        """See Books.reserve."""
        wanted = len(takes) + len(counts)
        values = (
            [count.limit.subject for count in counts],
            [count.start for count in counts],
            [count.end for count in counts],
            [count.amount for count in counts],
            [count.left_ppm for count in counts],
            [count.limit.amount for count in counts],
            [take.budget.id for take in takes],
            [take.period_start for take in takes],
            [take.amount for take in takes],
            hold.request_id,
            hold.owner,
            hold.created_ms,
            hold.deadline_ms,
            wanted,
            hold.takes,
            hold.counts,
            hold.call,
        )
        try:
            rows = self._once(sql.PG_RESERVE, values)
        except errors.UniqueViolation:
            return Held()  # an attempt whose answer was lost had been stored
        except errors.CheckViolation as exc:
            raise HoldRefused from exc
        found = {name: (int(first), int(second)) for name, first, second in rows}
        ids = {take.budget.id for take in takes}
        return Held(
            {count.limit.subject: found[count.limit.subject] for count in counts},
            {number: found[f"b{number}"] for number in ids},
        )

    def settle(self, settlement: Settlement) -> bool:
        """See Books.settle."""
        bookings, entries, recounts = settlement.bookings, entries_of(settlement), stored(settlement.recounts)
        nanousd, tokens = next((entry[3:] for entry in entries if entry[0] == "user"), (0, 0))
        values = (
            settlement.request_id,
            [change.subject for change in recounts],
            [change.start for change in recounts],
            [change.end for change in recounts],
            [change.change for change in recounts],
            [b.budget_id for b in bookings],
            [b.period_start for b in bookings],
            [b.held for b in bookings],
            [b.booked for b in bookings],
            *usage_values(settlement),
            settlement.created_ms,
            *([entry[column] for entry in entries] for column in range(5)),
            tokens,
            nanousd,
            settlement.user_id,
        )
        try:
            if self._once(sql.PG_SETTLE, values)[0][0]:
                return True
        except (psycopg.IntegrityError, psycopg.DataError) as exc:
            raise BooksRefused(f"the database refuses a value: {exc}") from exc
        return super().settle(settlement)

    def enter(self, settlement: Settlement) -> None:
        """See Books.enter: a statement is its own transaction."""
        try:
            self._once(sql.USAGE, usage_values(settlement))
        except (psycopg.IntegrityError, psycopg.DataError) as exc:
            raise BooksRefused(f"the database refuses a value: {exc}") from exc

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """See Books.transact."""
        try:
            with self._connected() as connection, connection.transaction():
                if self._limits:
                    connection.execute(self._limits)
                return work(_Translated(connection))
        except (psycopg.IntegrityError, psycopg.DataError) as exc:
            raise BooksRefused(f"the database refuses a value: {exc}") from exc
        except psycopg.Error as exc:
            raise BooksUnavailable(f"the database does not take a transaction: {exc}") from exc

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See Books.read."""
        return self._once(statement, values)

    def close(self) -> None:
        """See Books.close."""
        if self._pool is not None and self._pid == os.getpid():
            self._pool.dispose()
        self._pool = None

    def _once(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that may be repeated without harm: the request id is its guard.

        Raises:
            psycopg.IntegrityError, psycopg.DataError: a constraint or a value, as Postgres says.
            BooksUnavailable: anything else; BooksUnsure when the last connection broke under way.
        """
        attempt = 1
        while True:
            try:
                with self._connected() as connection:
                    cursor = self._executed(connection, statement, values)
                    return cursor.fetchall() if cursor.description else []
            except (errors.DeadlockDetected, _Broken) as exc:
                if attempt == ATTEMPTS:
                    raise BooksUnsure(f"the database does not answer: {exc}") from exc
                attempt += 1
            except (psycopg.IntegrityError, psycopg.DataError):
                raise
            except psycopg.Error as exc:  # also InternalError: a standby after a failover is read-only
                raise BooksUnavailable(f"the database does not take the statement: {exc}") from exc

    def _executed(self, connection: Connection, statement: str, values: Sequence[Any]) -> psycopg.Cursor[Any]:
        if not self._limits:
            return connection.execute(_OWN[statement], values)
        # Sent together, in one round trip, they are one transaction; that takes values that stand in the text.
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(self._limits + _OWN[statement], values)
        cursor.nextset()
        return cursor

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            lent = self._open().connect()
        except PoolTimeout as exc:
            raise BooksUnavailable(f"all {self._pool_size} database connections of this worker are busy") from exc
        except psycopg.OperationalError as exc:
            raise BooksUnavailable(f"the database cannot be reached: {exc}") from exc
        connection = cast("Connection", lent.driver_connection)
        try:
            yield connection
        except psycopg.OperationalError as exc:
            if not connection.closed:
                raise
            lent.invalidate()
            self._open().dispose()  # its idle neighbours were cut off with it
            raise _Broken(str(exc)) from exc
        finally:
            lent.close()

    def _open(self) -> QueuePool:
        with self._guard:
            if self._pool is None or self._pid != os.getpid():
                self._pool = QueuePool(
                    cast("Any", self._connect),
                    pool_size=self._pool_size,
                    max_overflow=0,
                    timeout=POOL_WAIT_S,
                    use_lifo=True,
                    reset_on_return=None,
                )
                self._pid = os.getpid()
            return self._pool


class _Broken(psycopg.OperationalError):
    """The connection ended during a statement."""


class _Translated:
    """A connection that takes the statements of the books."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any]) -> Any:
        """See Transaction.execute."""
        return self._connection.execute(_OWN[statement], values)
