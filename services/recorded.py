"""A stream whose events are noted as they pass, so that they can be kept once it has ended well, and kept ones."""

from collections.abc import Callable, Iterator

from services.stream import Streamed
from services.types import Call
from utils import sse

Parts = tuple[bytes, ...]


class Recorded:
    """Iterate once, then close. `ended` is called once, with all parts, or None where they are not all or too many.

    It is called before the last part is handed over: who has read the end of an answer finds it kept. With `reads_on`
    an answer that its caller left is read to its end all the same.
    """

    def __init__(
        self, call: Call, stream: Streamed, most_bytes: int, ended: Callable[[Parts | None], None], *, reads_on: bool
    ) -> None:
        self._call, self._stream, self._ended, self._reads_on = call, stream, ended, reads_on
        self._coming = iter(stream)
        self._parts: list[bytes] = []
        self._room, self._is_told = most_bytes, False
        self._is_kept_one = call.is_finished  # it was booked before it began, so that says nothing of its end

    def __iter__(self) -> Iterator[bytes]:
        """The same events."""
        for part in self._coming:
            self._note(part)
            yield part
        self._tell()

    def close(self) -> None:
        """Release the stream; further calls do nothing."""
        try:
            if self._reads_on and not self._is_told:
                for part in self._coming:
                    self._note(part)
                self._tell()
        finally:
            self._stream.close()
            if not self._is_told:
                self._is_told = True
                self._ended(None)

    def _note(self, part: bytes) -> None:
        self._room -= len(part)
        if self._room < 0:
            self._parts.clear()
        elif part != sse.PING:
            self._parts.append(part)
        if self._call.is_finished and not self._is_kept_one:  # it is booked before its last part is handed over
            self._tell()

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            is_whole = self._call.outcome == "ok" and self._room >= 0
            self._ended(tuple(self._parts) if is_whole else None)


class Replayed:
    """The events of a kept stream, as they came."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def close(self) -> None:
        """Nothing is open."""
