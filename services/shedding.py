"""Which requests are refused first when a worker has its hands full, and for which it always has one free.

A worker has places for so many calls (utils/places.py). What can wait gives way first: its kind is let in only while
fewer places are taken than its share. A call that finds all places taken waits a moment with a few others, so that a
short crowd is served in turn; then it is refused. Signs of life, sign-in and pages take no place and are never refused:
the threads or connections beyond the places are theirs.
"""

import threading
from typing import Final

from config import Config
from services.errors import Overloaded
from utils import places

BATCH, TRIAL, BULK, CALL = "batch", "trial", "bulk", "call"
SHARES: Final = {  # the one that is refused first comes first
    BATCH: 0.5,  # lines of batches, which nobody waits for (services/batchrunner.py)
    TRIAL: 0.6,  # somebody tries something out, or takes a whole list with him
    BULK: 0.8,  # work that is mostly done by programs with nobody in front of them
    CALL: 1.0,
}
WAIT_S: Final = 2.0
WAITING_SHARE: Final = 0.75  # of what is beyond the places may be calls that wait


class Shedding:
    """The places of a worker."""

    def __init__(self, size: int) -> None:
        """`size`: so many calls at once."""
        self.most = {kind: max(1, int(size * share)) for kind, share in SHARES.items()}
        self.most_waiting = int(places.beyond(size) * WAITING_SHARE)
        self._changed = threading.Condition(threading.Lock())
        self._taken = self._waiting = 0

    @classmethod
    def of(cls, config: Config) -> "Shedding":
        """Places as the settings and the limit of open files say."""
        return cls(places.fitting(places.wanted(config.worker_class, config.threads, config.worker_connections)))

    @property
    def taken(self) -> int:
        """Calls under way."""
        return self._taken

    def enter(self, kind: str) -> None:
        """Take a place, to be given back with `leave`.

        Raises:
            Overloaded: there is none for this kind.
        """
        with self._changed:
            if self._taken >= self.most[kind]:
                self._wait(kind)
            self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        with self._changed:
            self._taken -= 1
            if self._waiting:
                self._changed.notify()

    def _wait(self, kind: str) -> None:
        if kind != CALL or self._waiting >= self.most_waiting:
            raise _refusal(kind)
        self._waiting += 1
        try:
            if not self._changed.wait_for(lambda: self._taken < self.most[kind], WAIT_S):
                raise _refusal(kind)
        finally:
            self._waiting -= 1


def _refusal(kind: str) -> Overloaded:
    exc = Overloaded("The gateway is busy; try again in a second.", retry_after_s=1)
    exc.rule = kind
    return exc
