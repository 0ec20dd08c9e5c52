"""From the hub's events to those of a streamed Messages answer.

The hub's deltas say what they belong to and may come in any order; here one block is open at a time. So what belongs
to a later block waits until the open one is complete: for a call of a tool, until its arguments are whole JSON.
The counts come at the very end, so `message_start` says roughly what `message_delta` then says rightly.
"""

from typing import Any, Final

from services.dialects import anthropic_answer as answers
from services.errors import UpstreamError
from services.types import Call, Chat
from utils import jsonx, sse

TEXT: Final = "text"
THINKING: Final = "thinking"
TOOL: Final = "tool"
REDACTED: Final = "redacted"
SIGNATURE: Final = "signature"
MEMBERS: Final = {TEXT: ("text_delta", "text"), THINKING: ("thinking_delta", "thinking")} | {
    TOOL: ("input_json_delta", "partial_json")
}
EMPTY: Final = {TEXT: answers.text_block(""), THINKING: answers.thinking_block("")}
TAIL: Final = b"}}\n\n"


class Tool:
    """A call of a tool, as far as it came."""

    __slots__ = ("checked", "fragments", "id", "is_complete", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.fragments: list[str] = []
        self.checked, self.is_complete = 0, False

    def look(self) -> bool:
        """Whether the arguments are whole; each state of them is read only once."""
        if not self.is_complete and self.checked != len(self.fragments):
            self.checked = len(self.fragments)
            try:
                self.is_complete = isinstance(jsonx.loads("".join(self.fragments)), dict)
            except jsonx.BadJson:
                self.is_complete = False
        return self.is_complete


class MessagesStream:
    """See the module."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._has_begun = False
        self._kind = ""  # of the open block; empty = none
        self._index = -1  # of the last block that was opened
        self._head = b""  # what a delta of the open block begins with
        self._tool: Tool | None = None  # the open one
        self._tools: dict[int, Tool] = {}  # by the hub's index
        self._count = 0  # of tools that were opened
        self._waiting: list[Tool] = []
        self._later: list[tuple[str, Any]] = []  # what was said while a call was not complete
        self._choice: Chat = {}  # as it ended
        self._refusal = ""
        self._usage: Any = None

    def feed(self, event: bytes) -> bytes:
        """See EventTranslator.feed."""
        payload = sse.data_of(event)
        if payload is None:
            return event if event.startswith(b":") else b""  # a comment keeps connections alive
        if payload[:1] != b"{" and payload.strip() == b"[DONE]":
            return b""
        try:
            return self._chunk(jsonx.peek(payload))
        except answers.SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def end(self) -> bytes:
        """See EventTranslator.end."""
        out = b"" if self._has_begun else self._begin()
        with answers.expecting("a completion"):
            out += self._rest()
            for kind, said in self._later:
                out += self._write(kind, said)
            out += self._close()
            delta = answers.ending(self._call, self._choice, refusal=self._refusal, has_tools=self._count > 0)
        counts = answers.usage(self._call, self._usage)
        counts = {name: count for name, count in counts.items() if name not in answers.NOT_SAID}
        out += _event({"type": "message_delta", "delta": delta, "usage": counts})
        return out + _event({"type": "message_stop"})

    def _chunk(self, chunk: Chat) -> bytes:
        out = b"" if self._has_begun else self._begin()
        if (usage := chunk.get("usage")) is not None:
            self._usage = usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            if delta := choice.get("delta"):
                out += self._delta(delta)
            if choice.get("finish_reason"):
                self._choice = choice
        return out

    def _begin(self) -> bytes:
        self._has_begun = True
        usage = answers.usage(self._call, {"completion_tokens": 0})
        return _event({"type": "message_start", "message": answers.frame(self._call) | {"usage": usage}})

    def _delta(self, delta: Chat) -> bytes:
        """The events for one delta of the hub; nearly all of them continue the open text."""
        if len(delta) == 1 and (text := delta.get("content")):
            return self._say(TEXT, text)
        out = b""
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            out += self._say(THINKING, thought)
        if signed := delta.get("thinking_blocks"):
            for block in signed:
                out += self._signed(block)
        if text := delta.get("content"):
            out += self._say(TEXT, text)
        if refusal := delta.get("refusal"):
            out += self._say(TEXT, refusal)
            self._refusal += refusal
        if calls := delta.get("tool_calls"):
            for call in calls:
                out += self._call_delta(call)
        return out

    def _say(self, kind: str, text: str) -> bytes:
        """Text or thinking, now or once the open call of a tool is complete."""
        if not isinstance(text, str):
            raise TypeError(text)
        if self._kind == kind and not self._later:
            return self._head + jsonx.dumps(text) + TAIL
        return self._in_turn(kind, text)

    def _in_turn(self, kind: str, said: Any) -> bytes:
        if self._later or self._waiting or (self._tool is not None and not self._tool.look()):
            self._later.append((kind, said))
            return b""
        return self._write(kind, said)

    def _write(self, kind: str, said: Any) -> bytes:
        if kind == REDACTED:
            return self._open(kind, answers.redacted_block(said)) + self._close()
        if kind == SIGNATURE:
            out = b"" if self._kind == THINKING else self._open(THINKING, EMPTY[THINKING])
            delta = {"type": "signature_delta", "signature": said}
            return out + _event({"type": "content_block_delta", "index": self._index, "delta": delta}) + self._close()
        out = b"" if self._kind == kind else self._open(kind, EMPTY[kind])
        return out + self._head + jsonx.dumps(said) + TAIL

    def _signed(self, block: Chat) -> bytes:
        """The end of a block of thinking: its signature, after its text, which has usually been said by then."""
        if block["type"] == "redacted_thinking":
            return self._in_turn(REDACTED, answers.said(block["data"]))
        is_told = (self._later[-1][0] if self._later else self._kind) == THINKING
        out = b"" if is_told or not block.get("thinking") else self._say(THINKING, block["thinking"])
        signature = answers.said(block.get("signature"))
        return out + (self._in_turn(SIGNATURE, signature) if signature else b"")

    def _call_delta(self, call: Chat) -> bytes:
        index, function = call.get("index") or 0, call.get("function") or {}
        if (tool := self._tools.get(index)) is None:
            tool = self._tools[index] = Tool()
        tool.id, tool.name = tool.id or call.get("id"), tool.name or function.get("name")
        fragment = answers.said(function.get("arguments"))
        if tool is not self._tool and tool not in self._waiting and tool.is_complete:
            if fragment.strip():
                raise UpstreamError("the upstream went on with the arguments of a complete call of a tool")
            return b""
        if fragment:
            tool.fragments.append(fragment)
        if tool is self._tool:
            out = self._head + jsonx.dumps(fragment) + TAIL if fragment else b""
            return out + self._advance() if self._waiting else out
        if tool not in self._waiting:
            self._waiting.append(tool)
        return self._advance()

    def _advance(self) -> bytes:
        """Open the next call, as long as no other one is incomplete."""
        out = b""
        while self._waiting and self._waiting[0].name and (self._tool is None or self._tool.look()):
            out += self._open_tool(self._waiting.pop(0))
        return out

    def _rest(self) -> bytes:
        """The calls of tools that are still open or waiting."""
        out, is_cut = b"", self._choice.get("finish_reason") == answers.CUT
        while self._tool is not None or self._waiting:
            if self._tool is not None:
                answers.tool_input("".join(self._tool.fragments), is_cut=is_cut)
                out += self._close()
            if self._waiting:
                out += self._open_tool(self._waiting.pop(0))
        return out

    def _open_tool(self, tool: Tool) -> bytes:
        out = self._open(TOOL, answers.tool_block(self._call, self._count, tool.id, tool.name))
        self._tool, self._count = tool, self._count + 1
        arguments = "".join(tool.fragments)
        return out + (self._head + jsonx.dumps(arguments) + TAIL if arguments else b"")

    def _open(self, kind: str, block: Chat) -> bytes:
        """The events that close the open block, if any, and open the next one."""
        out = self._close()
        self._kind, self._index = kind, self._index + 1
        if kind in MEMBERS:
            names = b'"delta":{"type":"%s","%s":' % tuple(name.encode() for name in MEMBERS[kind])
            self._head = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,' % self._index + names
            )
        return out + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        self._kind, self._tool = "", None
        return _event({"type": "content_block_stop", "index": self._index})


def _event(value: Chat) -> bytes:
    return f"event: {value['type']}\n".encode() + sse.format_event(value)
