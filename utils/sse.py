"""Server-sent events: framing of bytes into events, whatever way the network cut them.

Works on bytes only: a multi-byte character cut in two is never decoded before it is whole, and characters
such as U+2028 are no line ends here.
"""

import re
from collections.abc import Iterator
from typing import Final

from utils import jsonx

DONE: Final = b"data: [DONE]\n\n"
PING: Final = b": ping\n\n"
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024  # a streamed picture fits; an endless line does not
BOM: Final = b"\xef\xbb\xbf"

_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\n\r\n|\r\r")
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class OversizedEvent(ValueError):
    """One event grew beyond MAX_EVENT_BYTES."""


class EventSplitter:
    r"""Cuts a byte stream into whole events, each with the blank line that ended it.

    Accepts \n\n, \r\n\r\n, mixtures of both, and a stream that ends without its last blank line.
    """

    __slots__ = ("_started", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that became whole with these bytes.

        Raises:
            OversizedEvent: no event end within MAX_EVENT_BYTES.
        """
        overlap = min(len(self._tail), 3)  # a boundary of four bytes may start in the old tail
        search_from = len(self._tail) - overlap
        data = self._tail + data if self._tail else data
        if not self._started and not BOM.startswith(data):
            self._started = True
            data = data.removeprefix(BOM)
            search_from = 0
        start = 0
        while (end := _boundary(data, max(start, search_from))) > 0:
            yield data[start:end]
            start = end
        self._tail = data[start:]
        if len(self._tail) > MAX_EVENT_BYTES:
            raise OversizedEvent(f"an event is larger than {MAX_EVENT_BYTES} bytes")

    def end(self) -> Iterator[bytes]:
        """What was left without a blank line when the stream ended."""
        tail, self._tail = self._tail, b""
        if tail.strip():
            yield tail


def _boundary(data: bytes, start: int) -> int:
    """Where the next event ends, 0 = nowhere yet. Nearly all streams have no carriage return, which is quick to see."""
    if b"\r" not in data:
        blank = data.find(b"\n\n", start)
        return blank + len(b"\n\n") if blank >= 0 else 0
    found = _BOUNDARY.search(data, start)
    return found.end() if found is not None else 0


def data_of(event: bytes) -> bytes | None:
    """The joined `data` lines of an event, or None when it has none (comments, blank lines)."""
    if event.startswith(b"data: {"):  # one line, as nearly all are
        end = -2 if event.endswith(b"}\n\n") else -4 if event.endswith(b"}\r\n\r\n") else 0
        if end and b"\n" not in event[:end]:
            return event[6:end]
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def format_event(value: object) -> bytes:
    """One event that carries the value as JSON."""
    return b"data: " + jsonx.dumps(value) + b"\n\n"
