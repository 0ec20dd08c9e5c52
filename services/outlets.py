"""Where else the figures of services/metrics.py go, as the settings say: StatsD, and a collector of OpenTelemetry.

Nothing here counts by itself: every call is one event, which Metrics adds up and the others are told of.
"""

from typing import TYPE_CHECKING

from config import Config, project
from services.bookings import Settlement
from services.housekeeping import Job
from services.metrics import Metrics
from services.types import Call

if TYPE_CHECKING:
    from services.statsd import StatsD
    from services.telemetry import Telemetry


class Outlets:
    """Those that are wanted. Without any, a call pays nothing for them."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._metrics = metrics
        self.statsd = _statsd(config)
        self.telemetry = _telemetry(config, metrics)
        if self.statsd is not None:
            metrics.listen(self.statsd.take)

    def settled(self, call: Call, settlement: Settlement) -> None:
        """A call has ended."""
        self._metrics.settled(call, settlement)
        if self.telemetry is not None:
            self.telemetry.settled(call, settlement)

    @property
    def jobs(self) -> list[Job]:
        """What a worker does for them."""
        jobs = [] if self.statsd is None else [Job("StatsD", 1.0, self.statsd.flush, is_slow=True)]
        return jobs if self.telemetry is None else [*jobs, *self.telemetry.jobs]

    def close(self) -> None:
        """Send the rest; after the last call."""
        if self.statsd is not None:
            self.statsd.close()
        if self.telemetry is not None:
            self.telemetry.close()


def _statsd(config: Config) -> "StatsD | None":
    if config.statistics is None:
        return None
    from services.statsd import StatsD  # noqa: PLC0415 - only who wants it pays for it

    return StatsD(*config.statistics)


def _telemetry(config: Config, metrics: Metrics) -> "Telemetry | None":
    if not config.otel_endpoint:
        return None
    from services.telemetry import Settings, Telemetry  # noqa: PLC0415 - its packages are an extra, and take 15 MB

    return Telemetry(
        Settings(
            config.otel_endpoint,
            config.otel_headers,
            config.otel_service,
            project()[1],
            config.otel_share,
            config.trace_upstream,
        ),
        metrics,
    )
