"""Copies of a SQLite file while others write it: SQLite's own, page by page, of one moment."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

REVISION = "SELECT version_num FROM alembic_version"


class BrokenCopy(Exception):
    """The file cannot be copied, or is damaged."""


@contextmanager
def moment(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as it is now, for as long as the block runs, whatever others write meanwhile.

    Raises:
        BrokenCopy: it is damaged where its tables are listed.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # only reading sets the moment
        except sqlite3.DatabaseError as exc:
            raise BrokenCopy(str(exc)) from exc
        yield connection


def copy(source: sqlite3.Connection, path: Path) -> None:
    """Make the file this database, in one transaction: it has all of it or what it had before.

    Raises:
        BrokenCopy: either file is damaged, in use or cannot be written.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's own mode lets others read it
    with closing(sqlite3.connect(path, isolation_level=None)) as target:
        try:
            source.backup(target)
        except sqlite3.DatabaseError as exc:
            raise BrokenCopy(str(exc)) from exc


def revision(connection: sqlite3.Connection) -> str:
    """The migration that the database is at; empty = it has no tables of ours.

    Raises:
        BrokenCopy: it is damaged there.
    """
    try:
        row = connection.execute(REVISION).fetchone()
    except sqlite3.OperationalError:
        return ""
    except sqlite3.DatabaseError as exc:
        raise BrokenCopy(str(exc)) from exc
    return str(row[0]) if row else ""


def check(path: Path) -> None:
    """Whether SQLite finds its file in order.

    Raises:
        BrokenCopy: it does not.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as exc:
        raise BrokenCopy(str(exc)) from exc
    if said != "ok":
        raise BrokenCopy(str(said))
