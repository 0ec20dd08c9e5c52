"""One HTTP/1.1 exchange on an open socket: send a request, read the head, then the body as it comes.

Three deadlines: silence before the first byte, silence between two, and the whole. Nothing is decompressed:
we ask for `identity` and refuse anything else, so a small answer cannot become a large one.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import httptools

from services.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from utils import clock

RECEIVE_BYTES: Final = 65_536
MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 200
DRAIN_S: Final = 0.05  # the end of a chunked body follows its last chunk at once, or the connection is given up
CONTINUE: Final = 100
OK: Final = 200


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for an upstream, in seconds."""

    connect_s: float
    silence_s: float
    total_s: float
    first_byte_s: float | None = None  # until the body begins; None: as between two bytes


class Abortable(Protocol):
    """An open exchange with an upstream."""

    def shutdown(self) -> None:
        """End it now, from whatever thread; the reader wakes up."""
        ...


class ConnectionLost(UpstreamUnreachable):
    """The upstream closed the connection before it answered anything."""


class Exchange:
    """See the module. `give_back` gets the socket when it can carry another exchange."""

    def __init__(self, sock: socket.socket, patience: Patience, give_back: Callable[[socket.socket], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._sock, self._give_back = sock, give_back
        self._silence_s, self._end_s = patience.silence_s, clock.monotonic_s() + patience.total_s
        self._first_s = patience.first_byte_s or patience.silence_s
        self._parser = httptools.HttpResponseParser(self)
        self._received = self._head_bytes = 0
        self._has_head = self._is_whole = self._is_closed = self._is_dirty = False
        self._body: list[bytes] = []
        self._closing = threading.Lock()

    def send(self, head: bytes, body: bytes) -> None:
        """Send the request.

        Raises:
            ConnectionLost: the upstream does not take it.
        """
        try:
            self._sock.settimeout(self._silence_s)
            data = head + body if len(body) <= RECEIVE_BYTES else head
            sent = self._sock.send(data)  # nearly always all of it; `sendall` would first ask for the buffer's size
            if sent < len(data):
                self._sock.sendall(data[sent:])
            if len(body) > RECEIVE_BYTES:
                self._sock.sendall(body)
        except OSError as exc:
            raise ConnectionLost("the upstream closed the connection while the request was sent") from exc

    def read_head(self) -> None:
        """Wait for status and headers.

        Raises:
            ConnectionLost: closed without a byte of an answer.
            UpstreamTimeout: silent or slow beyond its deadline.
            UpstreamError: not HTTP, or too many headers.
        """
        while not self._has_head:
            left_s = self._end_s - clock.monotonic_s()
            if left_s <= 0:
                raise UpstreamTimeout("the upstream took longer than allowed")
            data = self._receive(min(self._first_s, left_s))
            if data is None:
                if left_s < self._first_s:
                    continue
                raise UpstreamTimeout(f"the upstream did not answer within {self._first_s:g} s")
            if not data:
                if self._received:
                    raise UpstreamError("the upstream ended its answer within the headers")
                raise ConnectionLost("the upstream closed the connection without an answer")
            self._received += len(data)
            self._parse(data)
            if self._head_bytes > MAX_HEAD_BYTES or (self._received > 2 * MAX_HEAD_BYTES and not self._has_head):
                raise UpstreamError(f"the upstream sent more than {MAX_HEAD_BYTES} bytes of headers")
        if self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise UpstreamError("the upstream compressed its answer although it was asked not to")

    def chunks(self, beat_s: float = 0.0) -> Iterator[bytes | None]:
        """The body as it arrives; None whenever the upstream was silent for `beat_s` seconds (0 = never).

        Raises:
            UpstreamTimeout: silent or slow beyond its deadline.
            UpstreamError: ended before its end.
        """
        heard_s, silence_s = clock.monotonic_s(), self._first_s
        while True:
            if self._body:
                silence_s = self._silence_s
                data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
                self._body.clear()
                yield data
            if self._is_whole:
                return
            now_s = clock.monotonic_s()
            left_s = min(heard_s + silence_s, self._end_s) - now_s
            if left_s <= 0:
                raise UpstreamTimeout(
                    "the upstream took longer than allowed"
                    if now_s >= self._end_s
                    else f"the upstream was silent for {silence_s:g} s"
                )
            received = self._receive(min(left_s, beat_s) if beat_s else left_s)
            if received is None:
                if beat_s:
                    yield None
                continue
            heard_s = clock.monotonic_s()
            if received:
                self._parse(received)
            elif self._ends_with_connection():
                self._is_whole = self._is_dirty = True
            else:
                raise UpstreamError("the upstream ended its answer early")

    def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: larger than the limit, or see `chunks`.
        """
        parts, size = [], 0
        for data in self.chunks():
            if data is not None:
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise UpstreamError(f"the upstream's answer is larger than {limit} bytes")
        return b"".join(parts)

    def drain(self) -> None:
        """Take the last bytes of an answer whose content has ended, so that the connection can be used again."""
        if not self._is_whole and not self._is_closed:
            with contextlib.suppress(UpstreamError):
                if data := self._receive(DRAIN_S):
                    self._parse(data)

    def shutdown(self) -> None:
        """End the exchange now, from whatever thread; the reader wakes up with an error or an early end."""
        with self._closing, contextlib.suppress(OSError):
            if not self._is_closed:  # else the socket is in the pool, or another call's
                socket.socket.shutdown(
                    self._sock, socket.SHUT_RDWR
                )  # not the TLS socket's own, which is not for two threads

    def close(self) -> None:
        """Leave the connection to the next call if it is clean, else close it. May be called twice."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        if self._is_whole and not self._is_dirty:
            self._give_back(self._sock)
        else:
            self._sock.close()

    # What the parser calls. An exception here would be wrapped, so faults are only noted.

    def on_message_begin(self) -> None:
        """Anything after the answer is not ours to read, and the connection not to be used again."""
        if self._is_whole:
            self._is_dirty = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer."""
        self._head_bytes += len(name) + len(value)
        if not self._has_head and len(self.headers) < MAX_HEADERS:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is there, unless it was an interim one (1xx)."""
        status = self._parser.get_status_code()
        if CONTINUE <= status < OK:
            self.headers.clear()
        else:
            self.status, self._has_head = status, True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self._has_head:
            self._is_whole = True
            self._is_dirty = not self._parser.should_keep_alive()  # later the parser no longer knows

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._is_whole:
                raise UpstreamError("the upstream's answer is not valid HTTP") from exc
            self._is_dirty = True

    def _receive(self, wait_s: float) -> bytes | None:
        """Bytes as they come; empty = the upstream closed; None = nothing came in time."""
        try:
            self._sock.settimeout(wait_s)
            return self._sock.recv(RECEIVE_BYTES)
        except TimeoutError:
            return None
        except ssl.SSLError as exc:
            if "timed out" in str(exc):  # gevent's spelling
                return None
            raise UpstreamError("the upstream broke the TLS connection") from exc
        except OSError as exc:
            if self._received:
                raise UpstreamError("the upstream reset the connection") from exc
            raise ConnectionLost("the upstream reset the connection without an answer") from exc

    def _ends_with_connection(self) -> bool:
        """Whether closing the connection is this answer's way to end."""
        return (
            "content-length" not in self.headers and "chunked" not in self.headers.get("transfer-encoding", "").lower()
        )
