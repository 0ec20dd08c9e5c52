"""AWS's event stream, written: what Bedrock would send."""

import json
import struct
import zlib
from typing import Any

TEXT = 7


def message(payload: bytes, headers: dict[str, str], extra: bytes = b"") -> bytes:
    """One message; `extra` are raw headers of other types."""
    packed = extra + b"".join(
        bytes([len(name)]) + name.encode() + bytes([TEXT]) + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def event(name: str, body: dict[str, Any]) -> bytes:
    """One event of ConverseStream."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return message(json.dumps(body, ensure_ascii=False).encode(), headers)


def exception(name: str, body: dict[str, Any]) -> bytes:
    """An exception of ConverseStream."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(json.dumps(body).encode(), headers)


def stream(*events: tuple[str, dict[str, Any]]) -> bytes:
    """Events one after another."""
    return b"".join(event(name, body) for name, body in events)
