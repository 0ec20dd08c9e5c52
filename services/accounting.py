"""Admitting and booking calls. Nothing is admitted that the books cannot hold; nothing admitted stays unbooked.

`settle` writes to the database or, when that fails, to the spool; `replay` brings the spool to the database;
`sweep` books what dead workers left. If neither takes a settlement, nothing more is admitted until one does.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

from services.admission import Admission
from services.bookings import Settlement
from services.books.base import Books, BooksRefused, BooksUnavailable, BooksUnsure, Held, HoldRow, is_away
from services.counters import Counters
from services.errors import AccountingUnavailable
from services.leases import Leases
from services.rowqueue import RowQueue
from services.settlement import count_records, hold_note, recovered, settlement_from, take_record, without_texts
from services.spool import Notes, Spool, SpoolUnavailable
from services.types import Bound, Call, Count, Demand, Take
from utils import clock, jsonx

if TYPE_CHECKING:
    from services.remote import Remote

log = logging.getLogger(__name__)

PENDING_MAX: Final = 1000  # settlements that wait for the database; with more, nothing is admitted


class Accounting:
    """See the module."""

    def __init__(
        self,
        books: Books,
        spool: Spool,
        *,
        hold_s: float,
        remote: "Remote | None" = None,
        leases: Leases | None = None,
        rows: RowQueue | None = None,
    ) -> None:
        self._books, self._spool, self._hold_s, self._leases, self._rows = books, spool, hold_s, leases, rows
        self.counters = Counters(books, remote, hold_s)
        self._pending: dict[str, Settlement] = {}  # in the spool, not in the database yet
        self._unsure: set[str] = set()  # holds that may have been stored while the call was refused
        self._is_lossy = False  # a settlement is nowhere but in memory
        self.admission = Admission(books, self.counters, self._hold)

    @property
    def waiting(self) -> int:
        """How many settlements the database has not taken yet."""
        return len(self._pending)

    def reserve(self, call: Call, demand: Demand) -> None:
        """Hold what the call may use, or refuse it: see Admission.reserve."""
        self.admission.reserve(call, demand)

    def reserve_nothing(self, call: Call) -> None:
        """Count a call that costs nothing and asks nobody against its limits of requests; `settle` needs no hold.

        Raises:
            RateLimited, AccountingUnavailable: see Admission.count_request.
        """
        self._check_open()
        call.room = self.admission.count_request(call.caller, call.limits)

    def settle(self, settlement: Settlement) -> None:
        """Book the call, once, however often this is called. Never raises."""
        is_late = False  # it is booked with others, and kept in the spool until then
        try:
            if settlement.marks.saved_nanousd is not None:  # a hit of the cache: see reserve_nothing
                is_late = self._rows is not None and self._rows.take(settlement)
                if not is_late:
                    self._books.enter(settlement)
            else:
                is_late = self._leases is not None and self._leases.settle(settlement)
                if not is_late:
                    self._books.settle(settlement)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the figures must not be lost
            log.error("settlement spooled request_id=%s reason=%s", settlement.request_id, exc)  # noqa: TRY400 - it says why
            self._keep(settlement)
        else:
            if not is_late:
                self._spool.forget(settlement.request_id)
        self.counters.settle(settlement)

    def replay(self) -> int:
        """Bring to the database what only the spool has; returns how many settlements are left."""
        refused = [
            settlement for late in (self._leases, self._rows) if late is not None for settlement in late.refused()
        ]
        self._pending.update({settlement.request_id: settlement for settlement in refused})
        for settlement in list(self._pending.values()):
            try:
                self._settle_late(settlement)
            except Exception as exc:  # noqa: BLE001 - refused or worse; the others must not wait for it
                if is_away(exc):
                    break
                log.error("settlement refused request_id=%s reason=%s", settlement.request_id, exc)  # noqa: TRY400 - it says why
                continue
            del self._pending[settlement.request_id]
            self._spool.forget(settlement.request_id)
        if self._is_lossy:
            self._is_lossy = False
            for settlement in self._pending.values():
                self._keep(settlement)
        for request_id in list(self._unsure):
            try:
                self._books.release(request_id)
                self.admission.forget()
            except BooksUnavailable:
                break
            self._unsure.discard(request_id)
        return len(self._pending)

    def sweep(self) -> int:
        """Book the calls of dead workers and those past their deadline; returns how many.

        Raises:
            BooksUnavailable: try again later; what was booked stays booked.
        """
        swept = 0
        # Workers without files here are judged by the clock alone: they may live on another host.
        for owner in sorted(self._spool.owners()):
            try:
                swept += self._sweep_owner(owner)
            except BooksRefused as exc:  # its files stay; the others must not wait for it
                log.error("a settlement of %s was refused: %s", owner, exc)  # noqa: TRY400 - it says why
        if self._leases is not None:
            self._leases.sweep()
        for hold in self._books.overdue(clock.now_ms()):
            swept += bool(self._recover(hold, self._spool.peek(hold.owner)))
        if swept:
            log.warning("recovered %s calls whose worker died or that never ended", swept)
        return swept

    def drain(self) -> None:
        """The worker was told to end: it takes nothing in advance any more."""
        if self._leases is not None:
            self._leases.drain()

    def close(self) -> None:
        """After the last call: book what waits, and give back what was taken in advance."""
        if self._rows is not None:
            self._rows.close()
        if self._leases is not None:
            self._leases.close()
        self.replay()

    def add_tokens(self, user_id: int, tokens: int, *, actor: str, reason: str) -> None:
        """Count tokens for a user outside any call, with an entry in the ledger.

        Raises:
            BooksUnavailable: nothing was counted.
        """
        self._books.add_tokens(user_id, tokens, actor=actor, reason=reason)

    def _hold(self, call: Call, takes: tuple[Take, ...], counts: tuple[Count, ...], bound: Bound) -> Held:
        self._check_open()
        return self.counters.hold(call, counts, lambda: self._store(call, takes, bound))

    def _check_open(self) -> None:
        is_lossy = self._is_lossy or (self._leases is not None and self._leases.is_lossy)
        if is_lossy or len(self._pending) >= PENDING_MAX:
            raise AccountingUnavailable("usage cannot be recorded at the moment, so no calls are admitted")

    def _store(self, call: Call, takes: tuple[Take, ...], bound: Bound) -> Held:
        try:
            # A line of a batch is always a hold: whoever looks after it asks the database alone what became of it.
            leases = self._leases if call.marks.batch_id is None else None
            return (leases or self._books).reserve(
                HoldRow(
                    request_id=call.id,
                    owner=self._spool.owner,
                    created_ms=call.started_ms,
                    deadline_ms=call.started_ms + round(self._hold_s * 1000),
                    takes=jsonx.dumps([take_record(take) for take in takes]).decode(),
                    counts=jsonx.dumps(count_records(call)).decode(),
                    call=jsonx.dumps(hold_note(call, bound.input_tokens)).decode(),
                ),
                takes,
                call.counts,
            )
        except (BooksUnavailable, SpoolUnavailable) as exc:
            if isinstance(exc, BooksUnsure):
                self._unsure.add(call.id)
            log.error("call refused request_id=%s reason=%s", call.id, exc)  # noqa: TRY400 - the reason is enough
            raise AccountingUnavailable("usage cannot be recorded at the moment, so no calls are admitted") from exc

    def _keep(self, settlement: Settlement) -> None:
        self._pending[settlement.request_id] = settlement
        try:
            self._spool.keep(settlement.request_id, settlement)
        except SpoolUnavailable as exc:
            self._is_lossy = True
            log.critical("no more calls are admitted: %s", exc)

    def _settle_late(self, settlement: Settlement) -> None:
        """Settle what was spooled; text that the database refuses goes, the figures stay."""
        try:
            self._books.settle(settlement)
        except BooksRefused:
            log.exception("settlement refused, trying without its texts request_id=%s", settlement.request_id)
            self._books.settle(without_texts(settlement))
        self.counters.settle(settlement)

    def _sweep_owner(self, owner: str) -> int:
        swept = 0
        with self._spool.adopt(owner) as notes:
            if notes is None:
                return 0
            refused: list[str] = []
            if self._leases is not None:
                swept, settled, refused = self._leases.recover(owner, notes)
                for settlement in settled:
                    self.counters.settle(settlement)
            refused += [request_id for request_id, record in notes.settlements.items() if not self._is_booked(record)]
            while holds := self._books.owned_by(owner):
                booked = [self._recover(hold, notes) for hold in holds]
                swept += sum(map(bool, booked))
                if None in booked:
                    raise BooksRefused("a call that it left cannot be booked")
            if refused:
                raise BooksRefused(f"what it kept of {', '.join(refused)} cannot be booked")
        return swept

    def _is_booked(self, record: dict[str, Any]) -> bool:
        """Settle what a dead worker kept; False = it cannot be, now or later."""
        try:
            self._settle_late(settlement_from(record))
        except Exception as exc:
            if is_away(exc):
                raise
            # A record of another version, say; the others must not wait for it.
            log.error("settlement refused: %s: %s", type(exc).__name__, exc)  # noqa: TRY400 - it says why
            return False
        return True

    def _recover(self, hold: HoldRow, notes: Notes) -> bool | None:
        """Book a call whose worker died; False = it was booked before, None = it cannot be."""
        try:
            settlement = recovered(hold, notes)
            is_news = self._books.settle(settlement)
        except Exception as exc:
            if is_away(exc):
                raise
            log.error("hold refused request_id=%s reason=%s", hold.request_id, exc)  # noqa: TRY400 - it says why
            return None
        self.counters.settle(settlement)
        return is_news
