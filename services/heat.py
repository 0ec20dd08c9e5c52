"""Which windows are hot in this worker."""

from collections import Counter
from collections.abc import Iterable

from utils import clock


class Heat:
    """Windows that so many calls had in this second or in the one before are hot. 0 = none ever is."""

    def __init__(self, calls_per_s: float) -> None:
        self._calls_per_s = calls_per_s
        self._second = 0
        self._now: Counter[str] = Counter()
        self._before: Counter[str] = Counter()

    def note(self, names: Iterable[str]) -> list[str]:
        """Count a call; returns those of its windows that are hot."""
        if not self._calls_per_s:
            return []
        second = int(clock.monotonic_s())
        if second != self._second:
            self._before = self._now if second == self._second + 1 else Counter()
            self._second, self._now = second, Counter()
        for name in names:
            self._now[name] += 1
        return [name for name in names if self.is_hot(name)]

    def is_hot(self, name: str) -> bool:
        """Whether the window of that name is hot."""
        return max(self._now[name], self._before[name]) >= self._calls_per_s
