"""Tells other servers what happens: the events of services/events.py, signed, to every address of WEBHOOK_URLS.

A call never waits for it. Events go into a queue of a worker process, one for each address, and one thread (under
gevent: greenlet) sends them one after the other, so that they come in the order in which they happened there. What is
not taken is tried again; what no longer fits into the queue, and what nobody took, is counted and logged, and lost.
The books are what is certain; this is news. No event has a text of a message in it.
"""

import hashlib
import hmac
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from services.addresses import AddressRules
from services.errors import UpstreamError
from utils import clock, ids, jsonx

if TYPE_CHECKING:
    from services.fetch import Fetcher

log = logging.getLogger(__name__)

MOST_WAITING: Final = 1000  # events for one address; about 400 bytes each
PAUSES_S: Final = (1.0, 5.0, 25.0, 125.0)  # before each further try
TIMEOUT_S: Final = 10.0  # of one try, in all
GOODBYE_S: Final = 2.0  # that long a worker that ends goes on sending
WARN_EVERY_S: Final = 60.0
AGAIN: Final = frozenset({408, 409, 425, 429})  # of 4xx; to others the same again would be as wrong
SIGNATURE: Final = "tollhouse-signature"
EVENT_ID: Final = "tollhouse-event-id"


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is sent."""

    id: str
    body: bytes


class Webhooks:
    """See the module. `take` is a listener of events; nothing has a thread or a connection before the first one."""

    def __init__(self, rules: AddressRules, urls: tuple[str, ...], secret: str) -> None:
        self._lines = [Line(url, secret, lambda: _fetcher(rules)) for url in urls]

    def take(self, name: str, facts: dict[str, Any]) -> None:
        """Send this event, soon."""
        event_id = f"evt_{ids.random_base62(24)}"
        told = {"id": event_id, "type": name, "created_at": clock.now(), "data": facts}
        event = Event(event_id, jsonx.dumps(told))
        for line in self._lines:
            line.put(event)

    def close(self) -> None:
        """Try what waits once more, for a short time, and end."""
        end_s = clock.monotonic_s() + GOODBYE_S
        for line in self._lines:
            line.finish()
        for line in self._lines:
            line.join(max(0.0, end_s - clock.monotonic_s()))


class Line:
    """The queue of one address and the thread that empties it."""

    def __init__(self, url: str, secret: str, fetcher: "Callable[[], Fetcher]") -> None:
        self._url, self._secret, self._make = url, secret, fetcher
        self._host = urlsplit(url).hostname  # the path may hold a secret of the receiver
        self._waiting: queue.Queue[Event | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._starting, self._ending = threading.Lock(), threading.Event()
        self.lost = 0  # events that nobody got
        self._warned_s = -WARN_EVERY_S

    def put(self, event: Event) -> None:
        """Send this after all that waits; if too much does, never."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._lose(f"{MOST_WAITING} wait already")
            return
        if self._thread is None:
            self._start()

    def finish(self) -> None:
        """Send what waits without another try."""
        self._ending.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return  # there is no end to wait for

    def join(self, longest_s: float) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join(longest_s)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        fetcher = self._make()
        try:
            while (event := self._waiting.get()) is not None:
                try:
                    self._deliver(fetcher, event)
                except Exception:
                    log.exception("an event could not be sent")  # the thread must go on
        finally:
            fetcher.close()

    def _deliver(self, fetcher: "Fetcher", event: Event) -> None:
        """Send one event until it is taken, refused for good, or nobody took it."""
        why = ""
        for pause_s in (*PAUSES_S, None):
            try:
                status = fetcher.deliver(self._url, headers_of(event, self._secret), event.body, TIMEOUT_S)
            except UpstreamError as exc:
                why = str(exc)
            else:
                if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                    return
                why = f"the answer was {status}"
                if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in AGAIN:
                    break
            if pause_s is None or self._ending.wait(pause_s):
                break
        self._lose(why)

    def _lose(self, why: str) -> None:
        """Count it, and say so from time to time."""
        self.lost += 1
        now_s = clock.monotonic_s()
        if now_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now_s
            log.warning("events were not delivered to=%s lost=%s: %s", self._host, self.lost, why)


def headers_of(event: Event, secret: str) -> dict[str, str]:
    """What goes with an event: its id, and a signature of the moment of this try and the body."""
    now_s = int(clock.now_s())
    return {
        "content-type": "application/json",
        EVENT_ID: event.id,
        SIGNATURE: f"t={now_s},v1={sign(secret, now_s, event.body)}",
    }


def sign(secret: str, moment_s: int, body: bytes) -> str:
    """HMAC-SHA-256 of `<moment>.<body>`, in hex."""
    return hmac.new(secret.encode(), f"{moment_s}.".encode() + body, hashlib.sha256).hexdigest()


def _fetcher(rules: AddressRules) -> "Fetcher":
    from services.fetch import Fetcher  # noqa: PLC0415 - 6 MB that most workers never need

    return Fetcher(rules)
