"""Traces and metrics to a collector of OpenTelemetry, over OTLP/HTTP.

A call pays for its ids and for a place in a queue. Jobs of the worker make spans of what ended and send them, and the
counts of services/metrics.py as they are. Nothing has a connection before a worker's first job, and when it ends it
sends the rest. What the collector does not take is kept for a while; what no longer fits is lost and logged.
"""

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from services import otlp
from services.addresses import AddressRules
from services.bookings import Settlement
from services.errors import UpstreamError
from services.housekeeping import Job
from services.metrics import Metrics
from services.traces import Span, begun
from services.types import Call
from utils import clock, ids, settings

if TYPE_CHECKING:
    from services.fetch import Fetcher

log = logging.getLogger(__name__)

TRACES_S: Final = 2.0  # between two exports
METRICS_S: Final = 10.0
TIMEOUT_S: Final = 5.0
GOODBYE_S: Final = 2.0
MOST_CALLS: Final = 20_000  # that wait; about 2 KB each
CALLS_AT_ONCE: Final = 500
MOST_BATCHES: Final = 20  # that the collector has not taken yet
WARN_EVERY_S: Final = 60.0
AGAIN: Final = frozenset({408, 429, 502, 503, 504})  # as OTLP says
FORMAT: Final = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the settings say of it."""

    endpoint: str
    headers: str = field(repr=False)  # name=value,name=value, with %xx
    service: str
    version: str
    share: float  # of the calls that are traced, where their callers do not say
    tells_upstream: bool


class Telemetry:
    """See the module."""

    def __init__(self, wanted: Settings, metrics: Metrics) -> None:
        self._wanted, self._metrics = wanted, metrics
        given = settings.members(wanted.headers)
        self._headers = {name.strip(): unquote(value.strip()) for name, _sign, value in given}
        self._ended: deque[otlp.Ended] = deque(maxlen=MOST_CALLS)
        self._batches: deque[bytes] = deque()
        self._sending = threading.Lock()
        self._fetcher: Fetcher | None = None
        self._resource: dict[str, Any] = {}
        self._since_ms = 0
        self._warned_s = -WARN_EVERY_S

    @property
    def jobs(self) -> list[Job]:
        """What a worker does for it."""
        return [
            Job("traces", TRACES_S, self.send_traces, is_slow=True),
            Job("telemetry", METRICS_S, self.send_metrics, is_slow=True),
        ]

    def begin(self, parent: str | None, state: str | None) -> Span:
        """A call begins. `parent`, `state`: the headers of its caller."""
        return begun(parent, state, self._wanted.share, goes_on=self._wanted.tells_upstream)

    def settled(self, call: Call, settlement: Settlement) -> None:
        """A call has ended."""
        span = call.span or self.begin(None, None)
        if span.is_sampled:
            now_s = clock.monotonic_s()
            self._ended.append(otlp.Ended(settlement, span, tuple(call.attempts), call.started_s, now_s))

    def send_traces(self, timeout_s: float = TIMEOUT_S) -> None:
        """Export the calls that ended. Never raises for the network's sake."""
        with self._sending:
            if len(self._ended) == MOST_CALLS:
                self._warn("more calls ended than fit")
            while self._ended:
                calls = [self._ended.popleft() for _ in islice(range(len(self._ended)), CALLS_AT_ONCE)]
                if len(self._batches) == MOST_BATCHES:
                    self._warn("more waits than fits")
                    self._batches.popleft()
                self._batches.append(otlp.traces(calls, self._about()))
            while self._batches and self._is_done("/v1/traces", self._batches[0], timeout_s):
                self._batches.popleft()

    def send_metrics(self, timeout_s: float = TIMEOUT_S) -> None:
        """Export what was counted. What is not taken comes with the next one: the counts only grow."""
        with self._sending:
            about, sums = self._about(), self._metrics.own()
            if any(sums.values()):
                self._is_done("/v1/metrics", otlp.metrics(sums, self._since_ms, clock.now_ms(), about), timeout_s)

    def close(self) -> None:
        """Send the rest, for a short time, and end."""
        self.send_traces(GOODBYE_S)
        self.send_metrics(GOODBYE_S)
        if self._fetcher is not None:
            self._fetcher.close()

    def _is_done(self, path: str, body: bytes, timeout_s: float) -> bool:
        """Whether that need not be sent again."""
        headers = {**self._headers, "content-type": FORMAT}
        try:
            status = self._client().deliver(self._wanted.endpoint.rstrip("/") + path, headers, body, timeout_s)
        except UpstreamError as exc:
            self._warn(str(exc))
            return False
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            self._warn(f"the answer was {status}")
        return status not in AGAIN

    def _client(self) -> "Fetcher":
        if self._fetcher is None:
            from services.fetch import Fetcher  # noqa: PLC0415 - at its first use: see there

            self._fetcher = Fetcher(AddressRules(allow_private=True))  # the operator names it, and it is mostly near
        return self._fetcher

    def _about(self) -> dict[str, Any]:
        """What this process is called; made in the worker, as its parent's would be everybody's."""
        if not self._resource:
            self._since_ms = clock.now_ms()
            self._resource = {
                "service.name": self._wanted.service,
                "service.version": self._wanted.version,
                "service.instance.id": ids.uuid(),
            }
        return self._resource

    def _warn(self, why: str) -> None:
        if clock.monotonic_s() - self._warned_s >= WARN_EVERY_S:
            self._warned_s = clock.monotonic_s()
            log.warning("telemetry was not sent: %s", why)
