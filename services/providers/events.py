"""What decoders of server-sent events have in common: framing, and the end."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from services.errors import UpstreamError
from utils import sse


class EventStream(ABC):
    """A StreamDecoder but for `usage`; what an event means is its subclass's matter."""

    def __init__(self, held: bytes = b"") -> None:
        self.is_done = self._is_finished = False  # finished: complete, though its end mark may never come
        self._held = held  # for `end` to hand on
        self._split = sse.EventSplitter()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        try:
            for event in self._split.feed(data):
                yield self._event(event)
        except sse.OversizedEvent as exc:
            raise UpstreamError(str(exc)) from exc

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        for event in self._split.end():
            yield self._event(event.rstrip(b"\r\n") + b"\n\n")
        if not (self.is_done or self._is_finished):
            raise UpstreamError("the upstream ended its answer early")
        yield self._held

    @abstractmethod
    def _event(self, event: bytes) -> bytes:
        """What is handed on of one event."""
