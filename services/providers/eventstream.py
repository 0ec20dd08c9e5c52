"""AWS's binary event stream: framing of bytes into messages, whatever way the network cut them.

A message is a prelude (its length, the length of its headers, their CRC), headers, a payload and a CRC over all
(docs.aws.amazon.com/transcribe/latest/dg/event-stream.html and botocore 1.44.5, read 2026-11-21).
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
PRELUDE: Final = struct.Struct(">III")
LENGTH: Final = struct.Struct(">H")
CRC: Final = struct.Struct(">I")
SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of the values of header types; of others it is told
BYTES: Final = 6
TEXT: Final = 7


class BadMessage(ValueError):
    """Bytes that are no message, damaged ones, or too many for one."""


class MessageSplitter:
    """Cuts a byte stream into messages: the headers that are texts, and the payload."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
        """The messages that became whole with these bytes.

        Raises:
            BadMessage: a checksum does not fit, or a length cannot be.
        """
        data = self._tail + data if self._tail else data
        start, size = 0, len(data)
        while size - start >= PRELUDE.size:
            total, headers, crc = PRELUDE.unpack_from(data, start)
            if zlib.crc32(data[start : start + 8]) != crc:
                raise BadMessage("the checksum of a prelude does not fit")
            if not PRELUDE.size + headers + CRC.size <= total <= MAX_MESSAGE_BYTES:
                raise BadMessage(f"a message cannot have {total} bytes")
            end = start + total
            if end > size:
                break
            if CRC.unpack_from(data, end - CRC.size)[0] != zlib.crc32(data[start : end - CRC.size]):
                raise BadMessage("the checksum of a message does not fit")
            body = start + PRELUDE.size + headers
            yield _headers(data[start + PRELUDE.size : body]), data[body : end - CRC.size]
            start = end
        self._tail = data[start:]


def _headers(raw: bytes) -> dict[str, str]:
    """The headers whose values are texts.

    Raises:
        BadMessage: they do not end where they should.
    """
    found: dict[str, str] = {}
    at, size = 0, len(raw)
    try:
        while at < size:
            name_end = at + 1 + raw[at]
            kind = raw[name_end]
            start = name_end + 1
            if kind in SIZES:
                at = start + SIZES[kind]
                continue
            if kind not in (BYTES, TEXT):
                raise BadMessage("a header has an unknown type")
            end = start + LENGTH.size + LENGTH.unpack_from(raw, start)[0]
            if kind == TEXT:
                found[raw[at + 1 : name_end].decode()] = raw[start + LENGTH.size : end].decode()
            at = end
    except (IndexError, UnicodeDecodeError, struct.error) as exc:
        raise BadMessage("the headers of a message cannot be read") from exc
    if at != size:
        raise BadMessage("the headers of a message do not end where they should")
    return found
