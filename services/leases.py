"""Calls on hot windows, on Postgres: admitted by shares that this worker leased in advance, booked many at once.

A row that every call changes can be changed some hundred times a second. So a window that is hot in this worker is
not touched by each call: the worker leases a share of it, admits calls by what is free of that in memory, and notes
each in its spool before it goes out. Every FLUSH_S what has happened is stored in one transaction: calls that ended
are booked, calls that go on become holds like any other. Nothing is refused here: what a lease cannot take is for the
books to decide, and what they refuse they are asked again after the lease was given back.
"""

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from services.bookings import Settlement
from services.books.base import Books, BooksRefused, Held, HoldRefused, HoldRow, is_away
from services.books.leases import Batch, Ended, LeaseBooks, Wanted, Window, budget_window, used_by, without
from services.heat import Heat
from services.settlement import recovered, settlement_from, without_texts
from services.shares import Parts, Shares
from services.spool import Notes, Spool, SpoolUnavailable
from services.types import Count, Take
from utils import clock, native

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.2  # what ended is in the database that soon; a power cut takes what is younger
FLUSH_CALLS: Final = 100  # of one transaction; so many do not wait for FLUSH_S
WAITING_MAX: Final = 2000  # with more that ended and are not stored, no lease admits


@dataclass(slots=True, eq=False)
class Admitted:
    """A call that leases admitted. `parts`: what it still has of them."""

    hold: HoldRow
    parts: Parts
    windows: tuple[Window, ...]
    since_s: float
    is_moving: bool = False  # is being stored, or was
    settlement: Settlement | None = None


class Leases:
    """See the module. `calls_per_s`: from there on a window is hot here, 0 = never; `longest_s`: see Shares."""

    def __init__(self, books: Books, spool: Spool, *, calls_per_s: float, longest_s: float) -> None:
        self._books, self._lease_books, self._spool = books, LeaseBooks(books), spool
        self._heat, self._shares = Heat(calls_per_s), Shares(self._lease_books, longest_s=longest_s)
        self._turn = threading.Lock()  # of what the database has for this worker; taken before the guard of the shares
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._pid = 0
        self._open: dict[str, Admitted] = {}
        self._young: dict[str, Admitted] = {}  # the open calls that only the spool has, the oldest first
        self._ended: deque[Admitted] = deque()
        self._waiting: Counter[Window] = Counter()  # how many of the ended calls are on a window
        self._refused: list[Settlement] = []
        self._is_away = False  # the database did not take the last batch
        self._is_ending = False
        self.is_lossy = False  # calls that ended are nowhere but in memory

    def reserve(self, hold: HoldRow, takes: Sequence[Take], counts: Sequence[Count] = ()) -> Held:
        """As Books.reserve; what is hot of it is taken from leases.

        Raises:
            HoldRefused, BooksUnavailable: see Books.reserve.
        """
        wanted = _wanted(takes, counts)
        hot = self._heat.note(wanted)
        try:
            if hot and (parts := self._take([wanted[name] for name in hot])):
                return self._admit(hold, takes, counts, parts)
            return self._books.reserve(hold, takes, counts)
        except HoldRefused:
            if not self._give_back([one.window for one in wanted.values()]):
                raise
            return self._books.reserve(hold, takes, counts)

    def settle(self, settlement: Settlement) -> bool:
        """Have a call booked that leases admitted, within FLUSH_S; False = it is none."""
        call = self._open.get(settlement.request_id)
        if call is None:
            return False
        is_noted = True
        try:
            self._spool.keep(settlement.request_id, settlement, sync=False)
        except SpoolUnavailable:
            is_noted = False
        used = used_by(call.hold, settlement)
        with self._shares.guard:
            if self._open.pop(settlement.request_id, None) is None:
                return True
            self._young.pop(settlement.request_id, None)
            call.settlement = settlement
            if not call.is_moving:
                call.parts = self._shares.keep_used(call.parts, used)
            self._ended.append(call)
            self._waiting.update(call.windows)
            self.is_lossy = self.is_lossy or not is_noted
        if self.is_lossy or len(self._ended) >= FLUSH_CALLS:
            self._wake.set()
        return True

    def flush(self) -> None:
        """Store what has happened, and give back what is not used.

        Raises:
            BooksUnavailable: it stays to be stored.
        """
        with self._turn:
            self._flush()

    def tick(self) -> None:
        """What is due every FLUSH_S: store, lease again what is nearly used up, renew.

        Raises:
            BooksUnavailable: the next time, perhaps.
        """
        with self._turn:
            self._flush()
            low = [one for one in self._shares.low() if self._heat.is_hot(one.window[0])]
            if low and not self._is_blocked():
                self._shares.lease(self._spool.owner, low)
            self._shares.renew(self._spool.owner)

    def drain(self) -> None:
        """The worker will end: leases admit no more, and what is free of them is given back soon."""
        self._is_ending = True

    def close(self) -> None:
        """Store and give back everything; what the database does not take now is left for a sweeper."""
        self._is_ending = True
        self._stopped.set()
        self._wake.set()
        if self._pid != os.getpid():
            return
        try:
            self.flush()
            self._lease_books.release(self._spool.owner)
        except Exception as exc:  # noqa: BLE001 - there is more to close
            log.error("leases are left behind: %s: %s", type(exc).__name__, exc)  # noqa: TRY400 - it says why
            self._spool.leave()

    def refused(self) -> list[Settlement]:
        """What the database would not book since this was asked last; the holds of these calls are stored."""
        refused, self._refused = self._refused, []
        return refused

    def recover(self, owner: str, notes: Notes) -> tuple[int, list[Settlement], list[str]]:
        """Book what a dead worker's leases had admitted, then give them back.

        Returns how many calls were booked now, the settlements of all that are booked, and the ids of those that
        cannot be; then the leases stay.

        Raises:
            BooksUnavailable: try again later.
        """
        found = {request_id: _ended(record, notes) for request_id, record in notes.holds.items()}
        refused = [request_id for request_id, one in found.items() if one is None]
        ended = [one for one in found.values() if one is not None]
        booked = 0
        for start in range(0, len(ended), FLUSH_CALLS):
            batch = ended[start : start + FLUSH_CALLS]
            try:
                booked += self._lease_books.book(owner, Batch(batch))[0]
            except BooksRefused:
                refused += [one.hold.request_id for one in batch if not self._is_booked(owner, one)]
        if not refused:
            self._lease_books.release(owner)
        return booked, [one.settlement for one in ended if one.hold.request_id not in refused], refused

    def sweep(self) -> None:
        """Give back the leases of workers elsewhere whose time is over.

        Raises:
            BooksUnavailable: try again later.
        """
        over = {owner for owner, is_over in self._lease_books.owners().items() if is_over}
        for owner in over - {self._spool.owner, *self._spool.owners()} if over else ():
            log.warning("gave back the leases of %s", owner)
            self._lease_books.release(owner)

    def _is_booked(self, owner: str, ended: Ended) -> bool:
        """Book one call, without its texts if need be; False = it cannot be."""
        for settlement in (ended.settlement, without_texts(ended.settlement)):
            try:
                self._lease_books.book(owner, Batch([Ended(ended.hold, settlement)]))
            except BooksRefused as exc:
                log.error("settlement refused request_id=%s reason=%s", settlement.request_id, exc)  # noqa: TRY400 - the reason is in the line, a trace would say no more
            else:
                return True
        return False

    def _take(self, wanted: Sequence[Wanted]) -> Parts:
        """What leases can take of this; they are made or filled up now where that is possible."""
        if self._is_blocked():
            return {}
        parts = self._shares.grab(wanted)
        if short := self._shares.lacking(wanted, parts):
            with self._turn:
                parts |= self._shares.grab(short)  # another call may have filled them up meanwhile
                if short := self._shares.lacking(short, parts):
                    self._start()
                    self._shares.lease(self._spool.owner, short)
                    parts |= self._shares.grab(short)
        return parts

    def _is_blocked(self) -> bool:
        return self._is_ending or self._is_away or len(self._ended) > WAITING_MAX

    def _admit(self, hold: HoldRow, takes: Sequence[Take], counts: Sequence[Count], parts: Parts) -> Held:
        """Note the call, and have the books take what is not leased of it."""
        native.give_way()  # without a word to the database nothing else would do so
        try:
            self._spool.hold(hold.request_id, hold)
        except SpoolUnavailable:
            self._shares.put_back(parts)
            return self._books.reserve(hold, takes, counts)
        cold_takes = [take for take in takes if budget_window(take.budget.id, take.period_start) not in parts]
        cold_counts = [one for one in counts if (one.limit.subject, one.start, one.end) not in parts]
        held = Held()
        if cold_takes or cold_counts:
            try:
                held = self._books.reserve(without(hold, parts), cold_takes, cold_counts)
            except BaseException:
                self._shares.put_back(parts)
                self._spool.forget_all([hold.request_id])
                raise
        windows = tuple(one.window for one in _wanted(takes, counts).values())
        call = Admitted(hold, parts, windows, clock.monotonic_s())
        with self._shares.guard:
            self._open[hold.request_id] = self._young[hold.request_id] = call
        return self._shares.known(held, parts)

    def _give_back(self, windows: Sequence[Window]) -> bool:
        """Give back what is free of these windows and store what ended on them; False = there is neither."""
        with self._shares.guard:
            if not self._shares.cool(windows) and not any(self._waiting[window] for window in windows):
                return False
        self.flush()
        return True

    def _flush(self) -> None:
        """Store what has ended by now; what ends meanwhile is for the next time."""
        left, since_s = len(self._ended), clock.monotonic_s() - (0 if self._stopped.is_set() else FLUSH_S)
        while True:
            with self._shares.guard:
                ended = list(islice(self._ended, min(left, FLUSH_CALLS)))
                opened = [call for call in islice(self._young.values(), FLUSH_CALLS) if call.since_s <= since_s]
                is_stale = self._shares.retire(is_ending=self._is_ending)
            if not (ended or opened or is_stale):
                return
            left -= len(ended)
            self._store(ended, opened)

    def _store(self, ended: Sequence[Admitted], opened: Sequence[Admitted]) -> None:
        """Store these calls in one transaction; if the database refuses that, each in one of its own."""
        with self._shares.guard:
            for call in opened:
                call.is_moving = True
            targets = self._shares.targets(call.parts for call in (*ended, *opened))
        settled = [Ended(call.hold, call.settlement) for call in ended if call.settlement is not None]
        try:
            batch = Batch(settled, [call.hold for call in opened], targets)
            _booked, shares = self._lease_books.book(self._spool.owner, batch)
        except Exception as exc:
            with self._shares.guard:
                for call in opened:
                    call.is_moving = False
            if is_away(exc):
                if not self._is_away:
                    log.warning("calls wait to be booked: %s", exc)
                self._is_away = True
                self._spool.sync()
                raise
            self._store_each(ended, opened, exc)
            return
        self._drop(len(ended))
        with self._shares.guard:
            self._is_away = False
            self.is_lossy = self.is_lossy and bool(self._ended)
            self._shares.stored((call.parts for call in (*ended, *opened)), shares)
            for call in (*ended, *opened):
                call.parts = {}
                self._young.pop(call.hold.request_id, None)
        if ended:
            self._spool.forget_all([call.hold.request_id for call in ended])

    def _store_each(self, ended: Sequence[Admitted], opened: Sequence[Admitted], exc: Exception) -> None:
        if len(ended) + len(opened) > 1:
            for call in ended:
                self._store([call], [])
            for call in opened:
                self._store([], [call])
            return
        call = (*ended, *opened)[0]
        log.error("not stored request_id=%s reason=%s: %s", call.hold.request_id, type(exc).__name__, exc)
        if call.settlement is not None and ended:
            self._drop(1)
            self._refused.append(call.settlement)
            self._store([], [call])
        else:  # its lease and the spool go on having it
            self._young.pop(call.hold.request_id, None)

    def _drop(self, count: int) -> None:
        """The first of the ended calls need not wait any longer."""
        with self._shares.guard:
            for _ in range(count):
                for window in self._ended.popleft().windows:
                    self._waiting[window] -= 1
                    if not self._waiting[window]:
                        del self._waiting[window]

    def _start(self) -> None:
        """Once in each process that leases anything."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="leases", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            if self._stopped.is_set():
                return
            try:
                self.tick()
            except Exception as exc:
                if not is_away(exc):
                    log.exception("calls wait to be booked")


def _wanted(takes: Sequence[Take], counts: Sequence[Count]) -> dict[str, Wanted]:
    """What a call takes of each window, by the window's name."""
    found = {}
    for take in takes:
        window = budget_window(take.budget.id, take.period_start)
        found[window[0]] = Wanted(window, take.amount)
    for one in counts:
        limit = one.limit
        found[limit.subject] = Wanted((limit.subject, one.start, one.end), one.amount, one.left_ppm, limit.amount)
    return found


def _ended(record: dict[str, Any], notes: Notes) -> Ended | None:
    """How a call of a dead worker ended, by its notes, of which its settlement is taken out; None = unreadable."""
    try:
        hold = HoldRow(**record)
        kept = notes.settlements.pop(hold.request_id, None)
        return Ended(hold, settlement_from(kept) if kept is not None else recovered(hold, notes))
    except Exception as exc:  # noqa: BLE001 - of another version, say; the others must not wait for it
        log.error("a noted call is unreadable: %s: %s", type(exc).__name__, exc)  # noqa: TRY400 - it says why
        return None
