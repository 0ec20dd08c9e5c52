"""What a client dialect must offer: its requests read into the hub format, the hub's answers written for its clients.

Pure like a wire: bytes and records in, bytes and records out. The hub format is OpenAI's chat JSON.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from services.errors import GatewayError
from services.types import Call, Caller, Demand, PublicModel, Usage

BLANK: Final = b"\n\n"  # ends an event


class EventTranslator(Protocol):
    """One stream for a caller, made of hub events."""

    def feed(self, event: bytes) -> bytes:
        """What the caller gets for one whole hub event, its blank line included; perhaps nothing yet."""
        ...

    def end(self) -> bytes:
        """The last events, after a stream that ended well."""
        ...


class Translation(Protocol):
    """From the hub's answers to those of another dialect."""

    def answer(self, call: Call, body: bytes) -> bytes:
        """A whole answer."""
        ...

    def stream(self, call: Call) -> EventTranslator:
        """A translator for one stream."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the clients of one surface send and read."""

    name: str
    call: Callable[[str, bytes, Caller, str], Call]  # operation, body, who asks, request id; raises InvalidRequest
    demand: Callable[[Call, PublicModel, int], Demand]  # with the output of models that say nothing of it
    error_body: Callable[[GatewayError], dict[str, Any]]
    error_event: Callable[[GatewayError], bytes]
    translation: Translation | None = None  # None: it is the hub's own
    forwards: tuple[str, ...] = ()  # headers that go on to an upstream of the same dialect, in lower case
    last_event: Callable[[Call, GatewayError], bytes] | None = None  # instead of error_event, where it needs the call


class HubDecoder(Protocol):
    """What is translated: the decoder of a wire, see services/providers/base.py."""

    @property
    def usage(self) -> Usage | None: ...  # noqa: D102 - see StreamDecoder
    @property
    def is_done(self) -> bool: ...  # noqa: D102 - a protocol says only the shape
    def feed(self, data: bytes) -> Iterator[bytes]: ...  # noqa: D102 - a protocol says only the shape
    def end(self) -> Iterator[bytes]: ...  # noqa: D102 - a protocol says only the shape


class Translated:
    """A wire's decoder whose events come out in the caller's dialect."""

    def __init__(self, decoder: HubDecoder, translator: EventTranslator) -> None:
        self._decoder, self._translator = decoder, translator

    @property
    def usage(self) -> Usage | None:
        """See StreamDecoder."""
        return self._decoder.usage

    @property
    def is_done(self) -> bool:
        """See StreamDecoder."""
        return self._decoder.is_done

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        yield from self._translated(self._decoder.feed(data))

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        yield from self._translated(self._decoder.end())
        yield self._translator.end()

    def _translated(self, joined: Iterator[bytes]) -> Iterator[bytes]:
        """The events of the wire, one by one: wires that write several for one of their upstream's join them."""
        feed = self._translator.feed
        for events in joined:
            if 0 <= events.find(BLANK) < len(events) - 2:
                yield from filter(None, (feed(event + BLANK) for event in events.split(BLANK) if event))
            elif events and (out := feed(events)):
                yield out
