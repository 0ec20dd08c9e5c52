"""Limits counted in Valkey or Redis: one round trip takes all that apply to a call, all or nothing.

While it does not answer, the first call finds out within the time-out; from then on calls are told at once that it is
away, and one in RETRY_S tries again. What calls give back meanwhile waits in memory. All keys have one hash tag, so
that a cluster keeps them on one node, and expire by themselves. Money is never in here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from services import counting
from services.bookings import Recount
from services.books.base import HoldRefused
from services.counters import RemoteAway, Seen, Taken
from services.remote_scripts import GIVE_BACK, LOOK, MOST, TAKE, Script
from services.types import Count, WindowState
from utils import clock

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S: Final = 5.0  # between two tries at a server that is away; each may cost one call the time-out
LINES: Final = 32  # connections a worker: an answer takes 0.1 ms, so a crowd is served in turn
LATE_MAX: Final = 10_000  # calls that ended while it was away; what is more expires

Change = tuple[str, int, int, int]  # subject, start, end, change


class Remote:
    """See the module. `space` sets the keys of one installation apart from those of others on the same server."""

    def __init__(self, url: str, *, space: str, timeout_s: float) -> None:
        pool: ConnectionPool = ConnectionPool.from_url(  # connects at the first use, in each process anew
            url,
            max_connections=LINES,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        self._client = redis.Redis(connection_pool=pool)
        self._space = f"{{tollhouse-{space}}}"
        self._lines = threading.BoundedSemaphore(LINES)
        self._guard = threading.Lock()
        self._retry_at_s: float | None = None  # None: it answers
        self._late: deque[tuple[str, tuple[Change, ...]]] = deque(maxlen=LATE_MAX)

    def take(self, request_id: str, counts: Sequence[Count], lasts_s: float) -> Taken:
        """Count a call against all of these limits, or against none. A call under way is given up after `lasts_s`.

        Raises:
            HoldRefused: one has no room.
            RemoteAway: nothing is known to be counted; what was counted after all is given back later.
        """
        if any(count.amount > count.limit.amount for count in counts):
            raise HoldRefused
        values: list[str | int] = [request_id, round(lasts_s * 1000), int(_is_marked(counts))]
        for count in counts:
            values += [count.start, count.end, count.amount, count.left_ppm, min(count.limit.amount, MOST)]
        keys = [f"{self._space}:since", self._mark(request_id), *self._counters(counts)]
        try:
            answer = self._run(TAKE, keys, values)
        except RemoteAway as exc:
            if exc.is_unsure and _is_marked(counts):
                self._late.append((request_id, _undone(counts)))
            raise
        if not answer[0]:
            raise HoldRefused
        pairs = zip(answer[2::2], answer[3::2], strict=True)
        return Taken(answer[1], {count.limit.subject: pair for count, pair in zip(counts, pairs, strict=True)})

    def release(self, request_id: str, counts: Sequence[Count]) -> None:
        """Give back what a call took that is not admitted after all. Never raises."""
        self._give_back(request_id, _undone(counts), is_marked=_is_marked(counts))

    def settle(self, request_id: str, recounts: Sequence[Recount]) -> None:
        """Correct the counters by what a call used, once, however often this is called. Never raises."""
        remote = [change for change in recounts if change.is_remote]
        if any(change.unit != counting.REQUESTS for change in remote):  # requests stay as they were counted
            changes = tuple((change.subject, change.start, change.end, change.change) for change in remote)
            self._give_back(request_id, changes, is_marked=True)

    def look(self, counts: Sequence[Count]) -> Seen:
        """The counters of these limits, in their order.

        Raises:
            RemoteAway: it does not answer.
        """
        keys = [f"{self._space}:since", *self._counters(counts)]
        answer = self._run(LOOK, keys, [count.end for count in counts])
        return Seen(answer[0], tuple(WindowState(*answer[at : at + 4]) for at in range(1, len(answer), 4)))

    def catch_up(self) -> None:
        """Try a server that was away, and bring it what calls gave back meanwhile."""
        try:
            if self._retry_at_s is not None:
                self.check()
            while self._late:
                late = self._late.popleft()
                try:
                    self._return(*late, is_marked=True)
                except RemoteAway:
                    self._late.appendleft(late)
                    raise
        except RemoteAway:
            return

    def check(self) -> None:
        """Ask for a sign of life.

        Raises:
            RemoteAway: there is none; the first time that is logged.
        """
        self._ask(self._client.ping)

    def close(self) -> None:
        """Give every connection back."""
        self._client.connection_pool.disconnect()

    def _give_back(self, request_id: str, changes: tuple[Change, ...], *, is_marked: bool) -> None:
        try:
            self._return(request_id, changes, is_marked=is_marked)
        except RemoteAway:
            if is_marked:  # else nobody could tell a second time from the first
                self._late.append((request_id, changes))

    def _return(self, request_id: str, changes: tuple[Change, ...], *, is_marked: bool) -> None:
        keys: list[str] = [self._mark(request_id)]
        values: list[str | int] = [request_id, int(is_marked)]
        for subject, start, end, change in changes:
            keys.append(self._counter(subject, end))
            values += [start, end, max(-MOST, min(change, MOST))]
        self._run(GIVE_BACK, keys, values)

    def _run(self, script: Script, keys: Sequence[str], values: Sequence[str | int]) -> Any:
        return self._ask(lambda: self._evaluate(script, len(keys), (*keys, *values)))

    def _evaluate(self, script: Script, keys: int, arguments: tuple[str | int, ...]) -> Any:
        try:
            return self._client.evalsha(script.sha, keys, *arguments)
        except NoScriptError:  # the server is new, or was emptied
            return self._client.eval(script.text, keys, *arguments)

    def _ask(self, question: Callable[[], T]) -> T:
        with self._lines:
            is_trial = self._enter()  # only now: who waited here may have waited for a server that fell silent
            try:
                answer = question()
            except (RedisError, OSError) as exc:
                self._failed(exc)
                raise RemoteAway(is_unsure=True) from exc
        if is_trial:
            self._retry_at_s = None
            log.warning("limits are counted in Valkey or Redis again")
        return answer

    def _enter(self) -> bool:
        """Whether this is the one try at a server that is away.

        Raises:
            RemoteAway: it is away, and not to be tried now.
        """
        if self._retry_at_s is None:
            return False
        with self._guard:
            now_s = clock.monotonic_s()
            if self._retry_at_s is not None and now_s < self._retry_at_s:
                raise RemoteAway(is_unsure=False)
            self._retry_at_s = now_s + RETRY_S
            return True

    def _failed(self, exc: Exception) -> None:
        with self._guard:
            is_news = self._retry_at_s is None
            self._retry_at_s = clock.monotonic_s() + RETRY_S
        if is_news:
            log.warning("limits are counted in the database: Valkey or Redis does not answer: %s", exc)

    def _counters(self, counts: Sequence[Count]) -> list[str]:
        return [self._counter(count.limit.subject, count.end) for count in counts]

    def _counter(self, subject: str, end: int) -> str:
        return f"{self._space}:{'window' if end else 'calls'}:{subject}"

    def _mark(self, request_id: str) -> str:
        return f"{self._space}:call:{request_id}"


def _is_marked(counts: Sequence[Count]) -> bool:
    """Whether a call has to give something back at its end; a mark tells whether it has done so."""
    return any(count.limit.unit != counting.REQUESTS for count in counts)


def _undone(counts: Sequence[Count]) -> tuple[Change, ...]:
    return tuple((count.limit.subject, count.start, count.end, -count.amount) for count in counts)
