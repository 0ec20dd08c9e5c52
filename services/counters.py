"""Where limits are counted: in Valkey or Redis while one is set and answers, else in the database.

Going over to the database and coming back admits at most one window more than the limit says, for this reason: in
each of the two a window takes no more than the limit, and whatever Valkey or Redis may have forgotten stands in the
database. It says since when its memory is whole, and while that moment lies within a window, or within the one before
that still counts, calls are counted in both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from services import counting
from services.books.base import Books, Held
from services.types import Call, Count, Settlement, WindowState
from utils import clock

if TYPE_CHECKING:
    from services.remote import Remote

SKEW_S: Final = 60  # what the clocks of two machines may differ by


class RemoteAway(Exception):
    """Valkey or Redis does not answer. `is_unsure`: what it was asked, it may have done."""

    def __init__(self, *, is_unsure: bool) -> None:
        super().__init__("Valkey or Redis does not answer")
        self.is_unsure = is_unsure


@dataclass(frozen=True, slots=True)
class Taken:
    """What Valkey or Redis counted: since when its memory is whole (unix seconds), and what Held.counters has."""

    since_s: int
    counters: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What Valkey or Redis has: since when its memory is whole (unix seconds), and its counters."""

    since_s: int
    windows: tuple[WindowState, ...]


class Counters:
    """See the module. A call under way is given up after `hold_s`, should its worker and all notes of it be lost."""

    def __init__(self, books: Books, remote: "Remote | None", hold_s: float) -> None:
        self._books, self._remote, self._hold_s = books, remote, hold_s

    def hold(self, call: Call, counts: tuple[Count, ...], store: Callable[[], Held]) -> Held:
        """Count a call and store its hold, or do neither; `store` counts in the database what `call.counts` then has.

        Raises:
            HoldRefused: a limit has no room; or whatever `store` raises.
        """

        def noted(here: tuple[Count, ...], there: tuple[Count, ...]) -> Held:
            call.counts, call.remote_counts = here, there
            return store()

        return self._take(call.id, counts, noted)

    def count(self, request_id: str, counts: tuple[Count, ...]) -> Held:
        """Count a request that costs nothing and is not held, or do nothing.

        Raises:
            HoldRefused: a limit has no room.
            BooksUnavailable: the database would have to count, and does not answer.
        """
        return self._take(request_id, counts, lambda here, _there: self._books.count(here) if here else Held())

    def windows(self, counts: Sequence[Count]) -> list[WindowState]:
        """The counters of these limits, in their order, where the next call would be counted.

        Raises:
            BooksUnavailable: the database does not answer.
        """
        if self._remote is None or not counts:
            return self._stored(counts)
        try:
            seen = self._remote.look(counts)
        except RemoteAway:
            return self._stored(counts)
        doubtful = self._doubtful(counts, seen.since_s)
        stored = dict(zip(doubtful, self._stored(doubtful), strict=True))
        return [
            max(window, stored.get(count, window), key=partial(counting.used, count))
            for count, window in zip(counts, seen.windows, strict=True)
        ]

    def settle(self, settlement: Settlement) -> None:
        """Correct what is counted elsewhere than in the database, once, however often this is called. Never raises."""
        if self._remote is not None:
            self._remote.settle(settlement.request_id, settlement.recounts)

    def _take(
        self, request_id: str, counts: tuple[Count, ...], store: Callable[[tuple[Count, ...], tuple[Count, ...]], Held]
    ) -> Held:
        """Count; `store` is told what is left for the database to count, and what is counted elsewhere."""
        if self._remote is None or not counts:
            return store(counts, ())
        try:
            taken = self._remote.take(request_id, counts, self._hold_s)
        except RemoteAway:
            return store(counts, ())
        try:
            held = store(self._doubtful(counts, taken.since_s), counts)
        except BaseException:
            self._remote.release(request_id, counts)
            raise
        return replace(held, counters=_fuller(counts, taken.counters, held.counters))

    def _stored(self, counts: Sequence[Count]) -> list[WindowState]:
        return [self._window(count) for count in counts]

    def _window(self, count: Count) -> WindowState:
        window = self._books.window(count.limit.subject)
        if count.end and window.period_start > count.end:
            self._books.rewind(count)
        return window

    def _doubtful(self, counts: Sequence[Count], since_s: int) -> tuple[Count, ...]:
        """The limits for which calls may still count that Valkey or Redis has forgotten."""
        calls_from_s = clock.now_s() - self._hold_s
        return tuple(
            count
            for count in counts
            if since_s + SKEW_S >= (calls_from_s if count.limit.unit == counting.CONCURRENT else count.counts_from_s)
        )


def _fuller(
    counts: Sequence[Count], remote: Mapping[str, tuple[int, int]], stored: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """Of each limit the counter that leaves less room."""
    found = {}
    for count in counts:
        subject = count.limit.subject
        pair = remote[subject]
        found[subject] = max(pair, stored.get(subject, pair), key=lambda used: count.used(*used))
    return found
