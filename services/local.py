"""Plays an answer that was written beforehand, as if it came over a network: pauses, silences and breaks included."""

import threading
from collections.abc import Iterator
from typing import Final

from services.errors import UpstreamError, UpstreamTimeout
from services.exchange import Patience
from services.providers.echo import CUT, Script
from utils import clock

CHECK_S: Final = 0.25  # how soon a pause notices that nobody waits any more


class LocalExchange:
    """Looks like an Exchange to the pipeline."""

    def __init__(self, script: Script, patience: Patience) -> None:
        self.status, self.headers = script.status, script.headers
        self._steps, self._patience = script.steps, patience
        self._ended = threading.Event()

    def chunks(self, beat_s: float = 0.0) -> Iterator[bytes | None]:
        """See Exchange.chunks."""
        end_s = clock.monotonic_s() + self._patience.total_s
        silence_s = self._patience.first_byte_s or self._patience.silence_s
        for step in self._steps:
            if self._ended.is_set() or step is CUT:
                raise UpstreamError("the upstream ended its answer early")
            if isinstance(step, float):
                yield from self._pause(min(step, silence_s), beat_s)
                if step > silence_s:
                    raise UpstreamTimeout(f"the upstream was silent for {silence_s:g} s")
            elif step is not None:
                silence_s = self._patience.silence_s
                yield step
            if clock.monotonic_s() > end_s:
                raise UpstreamTimeout("the upstream took longer than allowed")

    def read(self, limit: int) -> bytes:
        """See Exchange.read; local answers are small."""
        return b"".join(data for data in self.chunks() if data is not None)[:limit]

    def drain(self) -> None:
        """See Exchange.drain."""

    def shutdown(self) -> None:
        """See Exchange.shutdown."""
        self._ended.set()

    def close(self) -> None:
        """See Exchange.close."""
        self._ended.set()

    def _pause(self, seconds: float, beat_s: float) -> Iterator[None]:
        end_s = clock.monotonic_s() + seconds
        beat_at_s = clock.monotonic_s() + beat_s
        while not self._ended.is_set() and (left_s := end_s - clock.monotonic_s()) > 0:
            self._ended.wait(min(left_s, CHECK_S))
            if beat_s and clock.monotonic_s() >= beat_at_s:
                beat_at_s = clock.monotonic_s() + beat_s
                yield None
