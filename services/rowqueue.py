"""Usage rows of calls that move nothing, such as hits of the cache, on Postgres: where they are many, written together.

Each is noted in the spool of its worker first, so whatever becomes of the worker its row is written, once.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from services.bookings import Settlement
from services.books.base import Books, is_away
from services.books.leases import LeaseBooks
from services.heat import Heat
from services.spool import Spool, SpoolUnavailable
from utils import native

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.2  # a row is in the database that soon; a power cut takes what is younger
FLUSH_ROWS: Final = 100  # of one transaction; so many do not wait for FLUSH_S
WAITING_MAX: Final = 2000  # with more no row is taken
NAME: Final = "rows"


class RowQueue:
    """See the module. `calls_per_s`: of this worker; with fewer each row is written at once, 0 = always."""

    def __init__(self, books: Books, spool: Spool, *, calls_per_s: float) -> None:
        self._books, self._spool = LeaseBooks(books), spool
        self._heat = Heat(calls_per_s)
        self._waiting: deque[Settlement] = deque()
        self._refused: list[Settlement] = []
        self._turn, self._guard = threading.Lock(), threading.Lock()
        self._has_some, self._is_full, self._stopped = threading.Event(), threading.Event(), threading.Event()
        self._pid = 0
        self._is_away = False  # the database did not take the last rows

    def take(self, settlement: Settlement) -> bool:
        """Have the row of a call written within FLUSH_S; False = the caller must write it."""
        is_hot = bool(self._heat.note((NAME,)))
        if not is_hot or self._is_away or self._stopped.is_set() or len(self._waiting) >= WAITING_MAX:
            return False
        try:
            self._spool.keep(settlement.request_id, settlement, sync=False)
        except SpoolUnavailable:
            return False
        self._waiting.append(settlement)
        self._start()
        self._has_some.set()
        if len(self._waiting) >= FLUSH_ROWS:
            self._is_full.set()
        native.give_way()  # without a word to the database nothing else would do so
        return True

    def flush(self) -> None:
        """Write what waits now.

        Raises:
            BooksUnavailable: it goes on waiting.
        """
        with self._turn:
            left = len(self._waiting)
            while left > 0:
                count = min(left, FLUSH_ROWS)
                self._write([self._waiting.popleft() for _ in range(count)])
                left -= count

    def refused(self) -> list[Settlement]:
        """What the database would not take since this was asked last."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Write everything; what the database does not take now is left for a sweeper."""
        self._stopped.set()
        self._has_some.set()
        self._is_full.set()
        try:
            self.flush()
        except Exception as exc:  # noqa: BLE001 - there is more to close
            log.error("usage rows are left behind: %s: %s", type(exc).__name__, exc)  # noqa: TRY400 - it says why

    def _write(self, rows: Sequence[Settlement]) -> None:
        """Write them in one transaction; if the database refuses that, each in one of its own."""
        parts = deque([rows])
        while parts:
            try:
                self._books.enter(parts[0])
            except Exception as exc:
                if is_away(exc):
                    self._put_back([row for part in parts for row in part])
                    raise
                part = parts.popleft()
                if len(part) > 1:
                    parts.extend([row] for row in part)
                else:
                    log.error("not written request_id=%s reason=%s", part[0].request_id, exc)  # noqa: TRY400 - it says why
                    self._refused += part
            else:
                self._is_away = False
                self._spool.forget_all([row.request_id for row in parts.popleft()])

    def _put_back(self, rows: Sequence[Settlement]) -> None:
        if not self._is_away:
            log.warning("usage rows wait to be written")
        self._is_away = True
        self._waiting.extendleft(reversed(rows))
        self._spool.sync()

    def _start(self) -> None:
        """Once in each process that takes any."""
        if self._pid != os.getpid():
            with self._guard:
                if self._pid != os.getpid():  # else another thread was first
                    self._pid = os.getpid()
                    threading.Thread(target=self._run, name=NAME, daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._has_some.wait()
            self._is_full.wait(FLUSH_S)
            self._has_some.clear()
            self._is_full.clear()
            try:
                self.flush()
            except Exception as exc:
                if not is_away(exc):
                    log.exception("usage rows wait to be written")
            if self._waiting:
                self._has_some.set()
