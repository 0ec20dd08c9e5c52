"""The counts of services/metrics.py over UDP, for StatsD and for Datadog's agent, which has tags.

A call never waits for it: what is counted is put aside, and a job of the worker sends it every second. Counters are
added up before, each time is sent by itself. What nobody listens to is gone; what no longer fits is lost and logged.
"""

import logging
import re
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from services.metrics import FAMILIES, Family, Labels
from utils import clock

log = logging.getLogger(__name__)

PREFIX: Final = "tollhouse."
PACKET_BYTES: Final = 1_432  # of a datagram that no ordinary network cuts in pieces
MOST_WAITING: Final = 50_000  # values that are put aside; about 150 bytes each
LOOK_UP_S: Final = 60.0  # how long an address that a name led to is used
WARN_EVERY_S: Final = 60.0
NONE: Final = "none"  # a label without a value, where each must have one
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]+")
_NOT_IN_TAGS: Final = re.compile(r"[\s,|#\x00-\x1f]+")

Line = Callable[[Family, Labels, float], str]


class StatsD:
    """See the module. Nothing is opened or looked up before the first `flush`."""

    def __init__(self, form: str, host: str, port: int) -> None:
        """`form`: one of FORMS."""
        self._line, self._host, self._port = FORMS[form], host, port
        self._waiting: deque[tuple[str, Labels, float]] = deque(maxlen=MOST_WAITING)
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._sending = threading.Lock()
        self._until_s = 0.0  # monotonic; the address is good until then
        self._warned_s = -WARN_EVERY_S

    def take(self, name: str, labels: Labels, value: float) -> None:
        """So much more of a counter, or one value of a histogram."""
        self._waiting.append((name, labels, value))

    def flush(self) -> None:
        """Send what was put aside. Never raises for the network's sake."""
        with self._sending:
            if len(self._waiting) == MOST_WAITING:
                self._warn("more was counted than fits")
            self._send(list(packed(self._lines())))

    def close(self) -> None:
        """Send the rest, and end."""
        self.flush()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, packets: list[bytes]) -> None:
        if not packets:
            return
        try:
            line, address = self._open()
            for packet in packets:
                line.sendto(packet, address)
        except OSError as exc:
            self._until_s = 0.0
            self._warn(str(exc))

    def _lines(self) -> Iterator[str]:
        sums: Counter[tuple[str, Labels]] = Counter()
        for _ in range(len(self._waiting)):  # what comes meanwhile has its own turn
            name, labels, value = self._waiting.popleft()
            if FAMILIES[name].bounds:
                yield self._line(FAMILIES[name], labels, value)
            else:
                sums[name, labels] += value  # type: ignore[assignment]  # a Counter of fractions is one as well
        for (name, labels), value in sums.items():
            yield self._line(FAMILIES[name], labels, value)

    def _open(self) -> tuple[socket.socket, Any]:
        """A socket that never waits, and where to send to."""
        if self._socket is None or clock.monotonic_s() > self._until_s:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _name, self._address = found[0]
            if self._socket is not None:
                self._socket.close()
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._until_s = clock.monotonic_s() + LOOK_UP_S
        return self._socket, self._address

    def _warn(self, why: str) -> None:
        if clock.monotonic_s() - self._warned_s >= WARN_EVERY_S:
            self._warned_s = clock.monotonic_s()
            log.warning("figures were not sent to=%s: %s", f"{self._host}:{self._port}", why)


def tagged(family: Family, labels: Labels, value: float) -> str:
    """A line for Datadog's agent: names and units as in /metrics, labels as tags."""
    named = zip(family.labels, labels, strict=True)
    tags = ",".join(f"{name}:{_NOT_IN_TAGS.sub('_', text)}" for name, text in named if text)
    return f"{PREFIX}{family.name}:{number(value)}|{'h' if family.bounds else 'c'}{'|#' if tags else ''}{tags}"


def dotted(family: Family, labels: Labels, value: float) -> str:
    """A line for StatsD, which has no tags, and times in milliseconds only."""
    name, is_time = family.name.replace("_seconds", "_ms"), family.name.endswith("_seconds")
    name = ".".join([name, *(_NOT_IN_NAMES.sub("_", text) or NONE for text in labels)])
    return f"{PREFIX}{name}:{number(value * 1000 if is_time else value)}|{'ms' if family.bounds else 'c'}"


FORMS: Final[dict[str, Line]] = {"datadog": tagged, "statsd": dotted}


def number(value: float) -> str:
    """The number to nine places, without an exponent, which not everybody reads."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def packed(lines: Iterable[str]) -> Iterator[bytes]:
    """As many lines in a datagram as fit."""
    packet = b""
    for line in lines:
        more = line.encode()
        if packet and len(packet) + 1 + len(more) > PACKET_BYTES:
            yield packet
            packet = b""
        packet = packet + b"\n" + more if packet else more
    if packet:
        yield packet
