"""A streamed answer on its way to the caller: forward, observe, keep alive, end once.

`prime` reads until there is something to say; what fails before that can still be answered by another provider.

The call is booked before the last bytes are handed over, so who has read the end of an answer finds it in the
books. However reading ends, `close` books what was delivered; the server calls it even if nothing was read.
"""

import errno
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, Protocol

from services.errors import CallerGone, Draining, GatewayError, PolicyViolation, UpstreamError, UpstreamTimeout
from services.providers.base import StreamDecoder
from services.settlement import BLOCKED, CLIENT_GONE
from services.transport import Answer
from services.types import Call
from utils import clock, sse

log = logging.getLogger(__name__)

Step = tuple[bytes | None, GatewayError | None, bool]

PROGRESS_S: Final = 1.0  # what a dying worker may lose of a stream
CHARS_PER_TOKEN: Final = 4  # for progress only
OUTCOMES: Final[dict[type[GatewayError], str]] = {
    CallerGone: CLIENT_GONE,
    Draining: "drained",
    UpstreamTimeout: "upstream_timeout",
    PolicyViolation: BLOCKED,
}


class Streamed(Protocol):
    """A Stream, or what stands around one or in its place. Iterate once, then close."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...  # noqa: D102 - a protocol says only the shape


def outcome_of(exc: BaseException | None, otherwise: str) -> str:
    """How a call that ended with this error is named in its row."""
    return next((name for kind, name in OUTCOMES.items() if isinstance(exc, kind)), otherwise)


class Stream:
    """Iterate once for bytes, then close; see the module."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        call: Call,
        answer: Answer,
        decoder: StreamDecoder,  # of the caller's dialect
        *,
        beat_s: float,
        progress: Callable[[str, int], None],
        finish: Callable[[Call], None],
        leave: Callable[[Call], bool],
        render_error: Callable[[GatewayError], bytes] | None,  # None: there is no place for it in the answer
    ) -> None:
        self._call, self._answer, self._decoder, self._beat_s = call, answer, decoder, beat_s
        self._progress, self._finish, self._leave, self._render_error = progress, finish, leave, render_error
        self._noted_s, self._noted_pieces, self._noted_chars = clock.monotonic_s(), 0, 0
        self._is_closed = False
        self._coming = self._read()
        self._early: list[Step] = []
        self._tail: bytes | None = None

    def prime(self) -> None:
        """Read until some text was generated, the stream is over, or a beat has passed with less than that.

        Raises:
            GatewayError: it failed, or was ended, before anything was generated.
        """
        try:
            self._prime()
        except GatewayError:
            if self._call.abort_reason is not None:  # nobody else is asked then, and what was told so far counts
                self._call.usage = self._decoder.usage
            raise

    def _prime(self) -> None:
        call, began_s = self._call, clock.monotonic_s()
        for step in self._coming:
            events, failure, is_done = step
            if failure is not None and not call.has_output:
                raise failure
            self._early.append(step)
            if call.has_output or is_done or failure is not None or events is None:
                return
            if self._beat_s and clock.monotonic_s() - began_s >= self._beat_s:  # it only says that it is alive
                return
        self._tail = b"".join(self._decoder.end())

    def __iter__(self) -> Iterator[bytes]:
        """The events, as they come; an error is the last event, without an end mark.

        Raises:
            ConnectionResetError: it failed, and there is no place for an error in the answer.
        """
        last = b""
        try:
            for events, failure, is_done in chain(self._early, self._coming):
                if self._call.drain_until_s is not None:
                    return  # nobody takes it; `close` reads the rest
                if is_done:
                    last = events or b""
                    break
                if events is None:
                    yield sse.PING
                elif events:
                    self._note_progress()
                    yield events
                if failure is not None:
                    raise failure  # noqa: TRY301 - handled like any other, once the events before it are out
            last += b"".join(self._decoder.end()) if self._tail is None else self._tail
        except GatewayError as exc:
            yield from self._failed(self._call.abort_reason or exc)
        except Exception as exc:
            log.exception("stream failed request_id=%s", self._call.id)
            yield from self._failed(
                GatewayError("The gateway failed; the request id helps to find out why."), type(exc).__name__
            )
        else:
            self._call.outcome = "ok"
            self._book()
            yield last

    def close(self) -> None:
        """Release the upstream and book the call; further calls do nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._call.outcome == "pending":
                if self._call.record is not None:
                    self._call.record.delivered = len(self._call.pieces)
                if self._leave(self._call):
                    self._read_on()
                self._call.outcome = outcome_of(self._call.abort_reason, CLIENT_GONE)
            self._book()
        finally:
            if self._call.outcome == "ok" or self._call.is_read_out:
                self._answer.drain()
            self._answer.close()

    def _read_on(self) -> None:
        """The rest of an answer that nobody takes but its provider bills, as long as the watch lets it go on."""
        try:
            if not self._decoder.is_done:
                for _events, _failure, is_done in self._coming:
                    self._note_progress()
                    if is_done:
                        break
            if self._tail is None:
                self._tail = b"".join(self._decoder.end())
        except GatewayError as exc:
            self._note_error(exc)
        except Exception as exc:
            log.exception("stream failed request_id=%s", self._call.id)
            self._call.error = type(exc).__name__
        else:
            self._call.is_read_out = True

    def _read(self) -> Iterator[Step]:
        """What came at once: events (None: silence), what went wrong after them, and whether that was the end mark."""
        for data in self._answer.chunks(self._beat_s):
            if self._call.abort_reason is not None:
                raise self._call.abort_reason
            if data is None:
                yield None, None, False
                continue
            events, failure = self._decode(data)
            yield events, failure, self._decoder.is_done
            if failure is not None:
                raise failure

    def _decode(self, data: bytes) -> tuple[bytes, GatewayError | None]:
        """The events in the bytes; those before a failure still go to the caller."""
        events: list[bytes] = []
        try:
            for event in self._decoder.feed(data):
                events.append(event)  # noqa: PERF402 - a list made at once would lose the events before a failure
        except (UpstreamError, PolicyViolation) as exc:
            return b"".join(events), exc
        return b"".join(events), None

    def _failed(self, exc: GatewayError, name: str | None = None) -> Iterator[bytes]:
        self._note_error(exc, name)
        self._call.outcome = outcome_of(exc, "internal_error" if name else "upstream_cut")
        self._book()
        if not isinstance(exc, CallerGone):
            log.log(exc.level, "stream ended early request_id=%s outcome=%s", self._call.id, self._call.outcome)
            if self._render_error is None:  # a connection that breaks is the only way to say it; servers know this one
                raise ConnectionResetError(errno.ECONNRESET, str(exc)) from exc
            yield self._render_error(exc)

    def _note_error(self, exc: GatewayError, name: str | None = None) -> None:
        if (deployment := self._call.deployment) is not None:
            exc.hide(deployment.upstream.credential)
        self._call.error = name or str(exc)

    def _book(self) -> None:
        if not self._call.is_finished:  # else it has the usage that was booked
            self._call.usage = self._decoder.usage
            self._finish(self._call)

    def _note_progress(self) -> None:
        now_s = clock.monotonic_s()
        call = self._call
        if call.first_byte_s is None:
            call.first_byte_s = now_s
        if now_s - self._noted_s < PROGRESS_S:
            return
        pieces = call.pieces
        self._noted_chars += sum(map(len, pieces[self._noted_pieces :]))
        self._noted_s, self._noted_pieces = now_s, len(pieces)
        self._progress(call.id, max(len(pieces), self._noted_chars // CHARS_PER_TOKEN) + call.media_tokens)
