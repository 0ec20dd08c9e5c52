"""Calls of the Responses API for tests that need no app, and its streams as they are read."""

import json
from typing import Any

from services.dialects import RESPONSES
from services.types import CHAT, Call
from tests.calls import CALLER

FUNCTION = {"type": "function", "name": "f"}


def make(given: Any = "x", **more: Any) -> Call:
    """A call; None leaves a member out."""
    body = {"model": "fast", "input": given, **more}
    raw = json.dumps({name: value for name, value in body.items() if value is not None})
    return RESPONSES.call(CHAT, raw.encode(), CALLER, "req_1")


def told(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: ")]
