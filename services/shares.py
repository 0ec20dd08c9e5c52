"""What this worker has of hot windows: leased in the database, free or in calls in memory."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.books.base import BooksUnavailable, Held
from services.books.lease_statements import SMALLEST_SHARE
from services.books.leases import LeaseBooks, Share, Wanted, Window, is_budget, number_of
from utils import clock

log = logging.getLogger(__name__)

IDLE_S: Final = 1.0  # what nobody used for so long is given back
COOL_S: Final = 1.0  # how long the books alone decide after too little was left to lease
RETRY_S: Final = 0.05  # … or after the window's row was not there yet
LEASE_S: Final = 30.0  # a worker that could not renew its leases for so long admits nothing by them
RENEW_S: Final = 10.0

NOTHING: Final = Share(0, 0, 0)

Parts = dict[Window, int]  # what one call has of leases


@dataclass(slots=True)
class Lease:
    """A share of one window. `total`: the amount it shall have in the database; what is not free is in calls."""

    wanted: Wanted  # by the last call
    free: int = 0
    total: int = 0
    chunk: int = 0  # what was leased last
    share: Share = NOTHING  # as the database said last
    used_s: float = 0.0
    cool_s: float = 0.0  # until then the books decide
    is_stale: bool = False  # the database has another amount

    def room(self) -> int:
        """What was left of the window when the database was asked last."""
        if is_budget(self.wanted.window):
            return self.share.other - self.share.gone
        return self.wanted.limit_amount - self.share.gone + (-self.share.other * self.wanted.left_ppm // 1_000_000)

    def lose(self, amount: int) -> None:
        """So much less is in the database than was thought."""
        self.total, self.free = max(0, self.total - amount), max(0, self.free - amount)


class Shares:
    """See the module. `guard` is of all that is in memory; what says so is called with it held.

    `longest_s`: no call lasts longer. The leases of a worker that nobody can ask are kept for so long after LEASE_S,
    since calls may be under way by them.
    """

    def __init__(self, books: LeaseBooks, *, longest_s: float) -> None:
        self._books, self._for_ms = books, round((LEASE_S + longest_s) * 1000)
        self._leases: dict[Window, Lease] = {}
        self._valid_s = self._renewed_s = 0.0
        self.guard = threading.Lock()

    def grab(self, wanted: Sequence[Wanted]) -> Parts:
        """What is free of this, taken."""
        now_s, parts = clock.monotonic_s(), {}
        with self.guard:
            for one in wanted if now_s < self._valid_s else ():
                lease = self._leases.get(one.window)
                if lease is not None and 0 < one.hold <= lease.free and now_s >= lease.cool_s:
                    lease.free -= one.hold
                    lease.wanted, lease.used_s = one, now_s
                    parts[one.window] = one.hold
        return parts

    def lacking(self, wanted: Sequence[Wanted], parts: Mapping[Window, int]) -> list[Wanted]:
        """Which of the rest may be leased now."""
        now_s = clock.monotonic_s()
        with self.guard:
            rest = ((one, self._leases.get(one.window)) for one in wanted if one.hold and one.window not in parts)
            return [one for one, lease in rest if lease is None or now_s >= lease.cool_s]

    def put_back(self, parts: Mapping[Window, int]) -> None:
        """What was grabbed for a call that was not admitted is free again."""
        with self.guard:
            for window, amount in parts.items():
                self._leases[window].free += amount

    def keep_used(self, parts: Mapping[Window, int], used: Mapping[Window, int]) -> Parts:
        """What an ended call still has of leases: what it used; the rest is free at once. With the guard."""
        kept = {window: min(amount, used.get(window, 0)) for window, amount in parts.items()}
        for window, amount in parts.items():
            self._leases[window].free += amount - kept[window]
        return {window: amount for window, amount in kept.items() if amount}

    def lease(self, owner: str, wanted: Sequence[Wanted]) -> None:
        """Lease where enough is left; elsewhere the books decide for a while."""
        now_s = clock.monotonic_s()
        if not self._leases:
            self._valid_s, self._renewed_s = now_s + LEASE_S, now_s
        shares: Mapping[Window, Share | None] = dict.fromkeys(one.window for one in wanted)
        try:
            shares = self._books.lease(owner, wanted, for_ms=self._for_ms)
        except BooksUnavailable as exc:
            log.warning("nothing is leased: %s", exc)
        with self.guard:
            for one in wanted:
                lease, share = self._leases.setdefault(one.window, Lease(one)), shares.get(one.window)
                lease.used_s = now_s
                if share is None or not share.amount:
                    lease.cool_s = now_s + (COOL_S if one.window in shares else RETRY_S)
                    continue
                lease.free, lease.total = lease.free + share.amount, lease.total + share.amount
                lease.chunk, lease.share = share.amount, share

    def renew(self, owner: str) -> None:
        """Keep the leases, if it is time to.

        Raises:
            BooksUnavailable: see LeaseBooks.renew.
        """
        now_s = clock.monotonic_s()
        if self._leases and now_s > self._renewed_s + RENEW_S:
            self._books.renew(owner, for_ms=self._for_ms)
            self._renewed_s, self._valid_s = now_s, now_s + LEASE_S

    def low(self) -> list[Wanted]:
        """Of which leases more than half is used, a moment ago still."""
        now_s = clock.monotonic_s()
        with self.guard:
            used = [lease for lease in self._leases.values() if lease.used_s > now_s - IDLE_S]
            return [one.wanted for one in used if one.cool_s <= now_s and one.free * 2 < one.chunk]

    def cool(self, windows: Iterable[Window]) -> bool:
        """Have the books alone decide about these for a while; whether anything was free of them. With the guard."""
        free = [lease for window in windows if (lease := self._leases.get(window)) is not None and lease.free]
        for lease in free:
            lease.cool_s = clock.monotonic_s() + COOL_S
        return bool(free)

    def retire(self, *, is_ending: bool) -> bool:
        """Give up what is free of idle, cooling or ending leases; is the database to be told? With the guard."""
        now_s = clock.monotonic_s()
        for window, lease in list(self._leases.items()):
            is_over = is_ending or lease.used_s < now_s - IDLE_S
            if lease.free and (is_over or lease.cool_s > now_s):
                lease.total, lease.free, lease.is_stale = lease.total - lease.free, 0, True
            elif is_over and not lease.total and not lease.is_stale and lease.cool_s <= now_s:
                del self._leases[window]
        return any(lease.is_stale for lease in self._leases.values())

    def targets(self, parts: Iterable[Parts]) -> Parts:
        """What the database shall have of each lease that changes when these parts are stored. With the guard."""
        targets = {window: lease.total for window, lease in self._leases.items() if lease.is_stale}
        for part in parts:
            for window, amount in part.items():
                targets[window] = targets.get(window, self._leases[window].total) - amount
        return {window: max(0, amount) for window, amount in targets.items()}

    def stored(self, parts: Iterable[Parts], shares: Mapping[Window, Share]) -> None:
        """These parts are no longer of leases; this is what the database says. With the guard."""
        now_s = clock.monotonic_s()
        for part in parts:
            for window, amount in part.items():
                self._leases[window].total -= amount
        for window, share in shares.items():
            if (lease := self._leases.get(window)) is None:  # of a call that took it the exact way
                continue
            lease.is_stale, lease.share = False, share
            if share.amount < lease.total:  # somebody took this worker for dead
                log.error("a lease is gone: %s of %s", lease.total - share.amount, window)
                lease.lose(lease.total - share.amount)
            if lease.room() < SMALLEST_SHARE * lease.wanted.hold:
                lease.cool_s = now_s + COOL_S

    def known(self, held: Held, parts: Mapping[Window, int]) -> Held:
        """What an admission found, with what is gone of the leased windows as far as this worker knows."""
        counters, budgets = dict(held.counters), dict(held.budgets)
        with self.guard:
            for window in parts:
                lease = self._leases[window]
                figures = (lease.share.gone - lease.free, lease.share.other)
                if is_budget(window):
                    budgets[number_of(window)] = figures
                else:
                    counters[window[0]] = figures
        return Held(counters, budgets)
