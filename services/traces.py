"""Which trace a call belongs to: W3C Trace Context, taken from its caller and, if wanted, handed on to providers.

Source: https://www.w3.org/TR/trace-context/, §3.2 and §3.3.
"""

import os
import random
import re
from dataclasses import dataclass, field, replace
from typing import Final

from services.providers.base import UpstreamRequest
from utils import clock

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
MOST_STATE: Final = 512  # characters that everybody must be able to hand on
SAMPLED: Final = 1
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(slots=True)
class Child:
    """An attempt's own span."""

    id: bytes
    ended_s: float = 0.0  # monotonic; 0 = with its call


@dataclass(slots=True)
class Span:
    """A call's own span. Ids are bytes: 16 of the trace, 8 of a span."""

    trace_id: bytes
    parent_id: bytes  # of the caller; empty = the call begins the trace
    is_sampled: bool
    goes_on: bool = False  # providers are told
    state: str = ""
    id: bytes = field(default_factory=lambda: os.urandom(8))
    children: list[Child] = field(default_factory=list)  # one for each attempt, in order

    def failed(self) -> None:
        """The attempt under way is over, and the call is not."""
        if self.children:
            self.children[-1].ended_s = clock.monotonic_s()


def begun(parent: str | None, state: str | None, share: float, *, goes_on: bool) -> Span:
    """The span of a call that begins now; whether it is sampled its caller says, or else chance."""
    match = _PARENT.fullmatch(parent.strip()) if parent else None
    if match is None or not _is_good(match):
        return Span(os.urandom(16), b"", random.random() < share, goes_on)  # noqa: S311 - no secret
    kept = state if state and len(state) <= MOST_STATE and _STATE.fullmatch(state) else ""
    is_sampled = bool(int(match[4], 16) & SAMPLED)
    return Span(bytes.fromhex(match[2]), bytes.fromhex(match[3]), is_sampled, goes_on, kept)


def traced(request: UpstreamRequest, span: Span | None) -> UpstreamRequest:
    """The request of one more attempt, which tells its provider of the trace if that is wanted."""
    if span is None:
        return request
    span.children.append(child := Child(os.urandom(8)))
    if not span.goes_on:
        return request
    told = ((PARENT, f"00-{span.trace_id.hex()}-{child.id.hex()}-{span.is_sampled:02x}"),)
    return replace(request, headers=(*request.headers, *told, *([(STATE, span.state)] if span.state else [])))


def _is_good(match: re.Match[str]) -> bool:
    version, trace_id, span_id, _flags, more = match.groups()
    return version != "ff" and (version != "00" or not more) and bool(int(trace_id, 16) and int(span_id, 16))
