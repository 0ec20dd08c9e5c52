"""Waiting for a SQLite file that somebody else writes.

SQLite's own waiting blocks the whole process under gevent, and its steps grow so long that whoever comes later is
often served first.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Engine, event

from utils import clock

T = TypeVar("T")

STEP_S: Final = 0.005


def patiently(attempt: Callable[[], T], wait_s: float) -> T:
    """Repeat while somebody else has the database locked, giving way in between, for `wait_s` seconds at most.

    Raises:
        sqlite3.OperationalError: it is still locked, or something else is wrong with it.
    """
    give_up_s = clock.monotonic_s() + wait_s
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or clock.monotonic_s() > give_up_s:
                raise
            clock.sleep(STEP_S)


def wait_in_turn(engine: Engine, wait_s: float) -> None:
    """Have every statement of an engine wait like that; its connections are made with `timeout=0`.

    Only a transaction's first change can find the file locked, so nothing is done twice.
    """

    def execute(cursor: Any, statement: str, parameters: Any, _context: object) -> bool:
        patiently(lambda: cursor.execute(statement, parameters), wait_s)
        return True

    def execute_many(cursor: Any, statement: str, parameters: Any, _context: object) -> bool:
        patiently(lambda: cursor.executemany(statement, parameters), wait_s)
        return True

    event.listen(engine, "do_execute", execute)
    event.listen(engine, "do_executemany", execute_many)
