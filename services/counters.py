"""Where limits are counted: in Valkey or Redis while one is set and answers, else in the database.

Going over to the database and coming back admits at most one window more than the limit says, for this reason: in
each of the two a window takes no more than the limit, and whatever Valkey or Redis may have forgotten stands in the
database. It says since when its memory is whole, and while that moment lies within a window, or within the one before
that still counts, calls are counted in both. It is mostly less than that: a worker that goes over leaves out of the
database's room what Valkey or Redis had counted when it last answered.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from services import counting
from services.bookings import Settlement
from services.books.base import Books, Held
from services.types import Call, Count, WindowState
from utils import clock

if TYPE_CHECKING:
    from services.remote import Remote

Store = Callable[[tuple[Count, ...], tuple[Count, ...]], Held]  # what the database is to count, what counts elsewhere

SEEN_MAX: Final = 10_000  # limits of which a worker knows what was counted elsewhere
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
        self._seen = _LastSeen()

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
            stored = zip(counts, self._stored(counts), strict=True)
            return [_fuller_by(self._seen.gone(count), count, window) for count, window in stored]
        doubtful = self._doubtful(counts, seen.since_s)
        self._seen.note(counts, seen.windows, doubtful)
        stored_of = dict(zip(doubtful, self._stored(doubtful), strict=True))
        return [
            max(window, stored_of.get(count, window), key=partial(counting.used, count))
            for count, window in zip(counts, seen.windows, strict=True)
        ]

    def settle(self, settlement: Settlement) -> None:
        """Correct what is counted elsewhere than in the database, once, however often this is called. Never raises."""
        if self._remote is not None:
            self._remote.settle(settlement.request_id, settlement.recounts)

    def _take(self, request_id: str, counts: tuple[Count, ...], store: Store) -> Held:
        if self._remote is None or not counts:
            return store(counts, ())
        try:
            taken = self._remote.take(request_id, counts, self._hold_s)
        except RemoteAway:
            return self._take_stored(counts, store)
        doubtful = self._doubtful(counts, taken.since_s)
        windows = [WindowState(count.start, count.end, *taken.counters[count.limit.subject]) for count in counts]
        self._seen.note(counts, windows, doubtful)
        try:
            held = store(doubtful, counts)
        except BaseException:
            self._remote.release(request_id, counts)
            raise
        return replace(held, counters=_fuller(counts, taken.counters, held.counters))

    def _take_stored(self, counts: tuple[Count, ...], store: Store) -> Held:
        gone = {count.limit.subject: self._seen.gone(count) for count in counts}
        left = tuple(
            replace(count, limit=replace(count.limit, amount=max(0, count.limit.amount - gone[count.limit.subject])))
            for count in counts
        )
        held = store(left, ())
        counters = {subject: (used + gone[subject], previous) for subject, (used, previous) in held.counters.items()}
        return replace(held, counters=counters)

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


class _LastSeen:
    """What had been counted elsewhere, and not in the database too, when this worker last heard of it."""

    def __init__(self) -> None:
        self._windows: dict[str, WindowState] = {}  # the latest last
        self._guard = threading.Lock()

    def note(self, counts: Sequence[Count], windows: Sequence[WindowState], doubtful: Sequence[Count]) -> None:
        """What was heard of these limits; `doubtful` are counted in the database too."""
        with self._guard:
            for count, window in zip(counts, windows, strict=True):
                self._windows.pop(count.limit.subject, None)
                if count.limit.unit != counting.CONCURRENT and count not in doubtful:
                    self._windows[count.limit.subject] = window
            while len(self._windows) > SEEN_MAX:
                del self._windows[next(iter(self._windows))]

    def gone(self, count: Count) -> int:
        """How much of the limit counts as used by what was heard."""
        window = self._windows.get(count.limit.subject)
        return counting.used(count, window) if window is not None else 0


def _fuller_by(gone: int, count: Count, window: WindowState) -> WindowState:
    return WindowState(count.start, count.end, counting.used(count, window) + gone, 0) if gone else window


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
