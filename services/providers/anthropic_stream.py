"""Streams of Anthropic's Messages API: translated into hub events, or handed through to who speaks it already.

The order of events: message_start with the usage of the input; for each block content_block_start, its deltas,
content_block_stop; message_delta with the reason to stop and the usage so far; message_stop, the end mark. `ping` and
`error` may come anywhere, and events and blocks of new types at any time
(platform.claude.com/docs/en/build-with-claude/streaming, read 2026-11-21).
"""

from abc import abstractmethod
from typing import Any, Final

from services.errors import UpstreamError
from services.providers.anthropic_answer import (
    arguments_of,
    error_event,
    finish_of,
    frame,
    hub_usage,
    id_of,
    signed_block,
    text_of,
    usage_of,
)
from services.providers.base import SHAPE_ERRORS, tokens
from services.providers.events import EventStream
from services.types import Call, Usage
from utils import jsonx, sse

COUNTS: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
DETAILS: Final = ("cache_creation", "output_tokens_details")
DATA: Final = b"\ndata: {"


class _Stream(EventStream):
    """What both kinds of streams have in common: framing, usage, errors, the end."""

    def __init__(self, call: Call) -> None:
        super().__init__(sse.DONE)
        self._call, self._pieces = call, call.pieces
        self._counts: dict[str, Any] = {}

    @property
    def usage(self) -> Usage | None:
        """See StreamDecoder.usage."""
        return usage_of(self._counts)

    def _event(self, event: bytes) -> bytes:
        if self.is_done:
            return b""
        payload = _payload(event)
        if payload is None:
            return self._comment(event)
        try:
            data = jsonx.peek(payload)
            if data["type"] == "error":
                raise error_event(data.get("error"))
            return self._take(event, data)
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    @abstractmethod
    def _comment(self, event: bytes) -> bytes:
        """What is handed on of an event without data."""
        ...

    @abstractmethod
    def _take(self, event: bytes, data: dict[str, Any]) -> bytes:
        """What is handed on of an event with this data."""
        ...

    def _count(self, raw: dict[str, Any] | None) -> None:
        """Counts are of the whole answer so far, so the largest is the last word; a server may leave some out.

        Any of the last events may have them: servers of other vendors put them where Anthropic has none.
        """
        for name in COUNTS:
            count = tokens((raw or {}).get(name))
            if count is not None and count >= self._counts.get(name, 0):
                self._counts[name] = count
                self._call.told_pieces = len(self._pieces)
        self._counts |= {name: raw[name] for name in DETAILS if raw and raw.get(name)}


class NativeStream(_Stream):
    """Hands events through byte for byte, and reads on the way what was used and generated."""

    def _comment(self, event: bytes) -> bytes:
        return event

    def _take(self, event: bytes, data: dict[str, Any]) -> bytes:
        kind = data["type"]
        if kind == "content_block_delta":
            delta = data["delta"]
            piece = delta.get("text") or delta.get("partial_json") or delta.get("thinking")
            if isinstance(piece, str):
                self._pieces.append(piece)
        elif kind == "content_block_start":
            name = data["content_block"].get("name")
            if isinstance(name, str):
                self._pieces.append(name)
        elif kind == "message_start":
            self._count(data["message"].get("usage"))
        elif kind == "message_delta":
            self._count(data.get("usage"))
        elif kind == "message_stop":
            self._count(data.get("usage"))
            self.is_done, self._held = True, event
            return b""
        return event


class AnthropicStream(_Stream):
    """Anthropic's events in, OpenAI's out."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._reason: Any = None
        self._has_role = False
        self._calls = self._blocks = 0
        self._tools: dict[int, list[int]] = {}  # by the index of their block: the call's own index, characters so far
        self._thoughts: dict[int, dict[str, Any]] = {}
        usage = b',"usage":null' if call.wants_usage else b""
        opening = jsonx.dumps(frame(call, "chat.completion.chunk"))[:-1]
        self._head = b"data: " + opening + b',"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"

    def _comment(self, event: bytes) -> bytes:
        return b""

    def _take(self, event: bytes, data: dict[str, Any]) -> bytes:
        kind = data["type"]
        if kind == "content_block_delta":
            return self._delta(data["index"], data["delta"])
        if kind == "content_block_start":
            return self._start(data["index"], data["content_block"])
        if kind == "content_block_stop":
            return self._stop(data["index"])
        if kind == "message_start":
            self._count(data["message"].get("usage"))
            return self._role()
        if kind == "message_delta":
            self._count(data.get("usage"))
            self._reason = data["delta"].get("stop_reason") or self._reason
        if kind == "message_stop":
            self._count(data.get("usage"))
            return self._finish()
        return sse.PING if kind == "ping" else b""  # a model may think for minutes without a word

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._say("content", text_of(delta, "text"))
        if kind == "input_json_delta":
            return self._arguments(index, text_of(delta, "partial_json"))
        if kind == "thinking_delta":
            text = text_of(delta, "thinking")
            if (thought := self._thoughts.get(index)) is not None:
                thought["texts"].append(text)
            return self._say("reasoning_content", text)
        if kind == "signature_delta" and index in self._thoughts:
            self._thoughts[index]["signature"] += text_of(delta, "signature")
        return b""

    def _start(self, index: int, block: dict[str, Any]) -> bytes:
        kind = block["type"]
        if kind == "text":
            return self._say("content", text_of(block, "text"))
        if kind == "thinking":
            text, signature = text_of(block, "thinking"), text_of(block, "signature")
            self._thoughts[index] = {"texts": [text], "signature": signature}
            return self._say("reasoning_content", text)
        if kind == "redacted_thinking":
            return self._signed(block)
        return self._call_start(index, block) if kind == "tool_use" else b""

    def _call_start(self, index: int, block: dict[str, Any]) -> bytes:
        number, name = self._calls, text_of(block, "name")
        self._calls, self._tools[index] = number + 1, [number, 0]
        self._pieces.append(name)
        function = {"name": name, "arguments": ""}
        opened = {"index": number, "id": id_of(self._call, block, number), "type": "function", "function": function}
        # Anthropic sends the input in deltas; some servers of its dialect send it here, at once.
        return self._send({"tool_calls": [opened]}) + self._arguments(index, arguments_of(block))

    def _arguments(self, index: int, text: str) -> bytes:
        tool = self._tools.get(index)
        if tool is None or not text:
            return b""
        tool[1] += len(text)
        self._pieces.append(text)
        return self._send({"tool_calls": [{"index": tool[0], "function": {"arguments": text}}]})

    def _stop(self, index: int) -> bytes:
        tool = self._tools.get(index)
        if tool is not None and not tool[1]:
            return self._arguments(index, "{}")
        thought = self._thoughts.pop(index, None)
        if thought is None:
            return b""
        thinking = "".join(thought["texts"])
        return self._signed({"type": "thinking", "thinking": thinking, "signature": thought["signature"]})

    def _signed(self, block: dict[str, Any]) -> bytes:
        """A block that its server will want back. Clients add up lists of deltas by the `index` of their entries."""
        out = b""
        for signed in signed_block(block):
            out += self._send({"thinking_blocks": [{"index": self._blocks, **signed}]})
            self._blocks += 1
        return out

    def _say(self, member: str, text: str) -> bytes:
        if not text:
            return b""
        self._pieces.append(text)
        return self._send({member: text})

    def _send(self, delta: dict[str, Any]) -> bytes:
        return self._role() + self._head + jsonx.dumps(delta) + self._tail

    def _role(self) -> bytes:
        if self._has_role:
            return b""
        self._has_role = True
        return self._head + b'{"role":"assistant","content":""}' + self._tail

    def _finish(self) -> bytes:
        self.is_done = True
        finish = finish_of(self._reason, has_calls=self._calls > 0)
        ended = self._role() + self._head + b"{}" + self._tail.replace(b":null}]", b':"' + finish.encode() + b'"}]', 1)
        counts = hub_usage(self.usage) if self._call.wants_usage else {}
        if not counts:
            return ended
        return ended + sse.format_event({**frame(self._call, "chat.completion.chunk"), "choices": [], **counts})


def _payload(event: bytes) -> bytes | None:
    """The data of an event, quickly where it has the usual form: its name, and one line of data."""
    start = event.find(DATA)
    if start > 0 and event.endswith(b"}\n\n") and event.startswith(b"event: "):
        line = event[start + len(DATA) - 1 : -2]
        if b"\n" not in line and b"\n" not in event[:start]:
            return line
    return sse.data_of(event)
