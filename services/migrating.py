"""One migrator at a time, whoever starts first; the others wait and find the work done.

Each migration is one transaction, in SQLite too: killed at any moment, it has happened or not, and the next run goes on
from there.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from utils import clock

log = logging.getLogger(__name__)

TRY_S: Final = 0.5
FINAL: Final = "FATAL:"  # Postgres has answered, and said no …
PASSING: Final = ("starting up", "shutting down", "recovery mode", "too many", "reserved for")  # … for the moment only
LOCK_ID: Final = 7_640_001  # any number nobody else uses in this database


def await_database(engine: Engine, longest_s: float) -> None:
    """Return when the database takes connections: it may start later than the gateway, or just be starting again.

    SQLite's file is not opened: who does it first also says who may read it.

    Raises:
        OperationalError: it did not in all that time, or it answers and will never let us in.
    """
    end_s, is_told = clock.monotonic_s() + longest_s, False
    while engine.dialect.name != "sqlite":
        try:
            engine.connect().close()
        except OperationalError as exc:
            said = str(exc.orig).partition("\n")[0]
            is_final = FINAL in said and not any(word in said for word in PASSING)
            if is_final or clock.monotonic_s() >= end_s:
                raise
            if not is_told:
                log.warning("waiting for the database: %s", said)
                is_told = True
            clock.sleep(TRY_S)
        else:
            return


@contextmanager
def migration_lock(engine: Engine, folder: Path) -> Iterator[None]:
    """Hold the lock of the database: an advisory one on Postgres, a file beside the database on SQLite.

    Whoever dies lets go of it. It cannot be taken twice, not even by one process. `folder` is for a SQLite database
    that is no file.
    """
    if engine.dialect.name == "postgresql":
        # It belongs to a transaction and not to a connection, which a pooler lends out again after each transaction.
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": LOCK_ID})
            yield
        return
    path = folder / "migration.lock"
    if engine.url.database and not engine.url.database.startswith((":", "file:")):
        database = Path(engine.url.database).resolve()  # gateways with instance folders of their own may share it
        path = database.with_name(f"{database.name}-migration")
        path.parent.mkdir(parents=True, exist_ok=True)
        database.touch(0o600)  # SQLite gives its side files the same mode
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def whole_migrations(engine: Engine) -> Iterator[Connection]:
    """A connection whose transactions take in the changes of tables, too.

    Postgres' do. Python's driver of SQLite begins none for such statements, so that each would stand by itself.
    """
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            yield connection
            return
        driver = connection.connection.driver_connection
        if driver is None:  # it has been closed; the first statement says so
            yield connection
            return
        driver.isolation_level, usual = None, driver.isolation_level
        event.listen(connection, "begin", _begin)
        try:
            yield connection
        finally:
            driver.isolation_level = usual


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
