"""Streams of the Responses API, made of the hub's: items that open, grow and close, each at its own place.

Calls of tools may grow in turns, as upstreams send them; each has a place of its own, so nothing is kept back.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from services.dialects import responses_answer as answers
from services.dialects.responses_answer import Tool, item_id
from services.dialects.responses_input import DETAILS, EXTRA
from services.errors import GatewayError, UpstreamError
from services.types import Call, Chat
from utils import jsonx, sse

ENDS: Final = {"completed": "response.completed", "incomplete": "response.incomplete"}
UNKNOWN: Final = Tool("")


@dataclass(slots=True)
class Opened:
    """An item that still grows."""

    index: int  # its place in the answer
    id: str
    texts: list[str] = field(default_factory=list)
    call_id: str = ""
    name: str = ""  # of the tool, in the hub
    tool: Tool = UNKNOWN
    extra: Chat = field(default_factory=dict)


class ResponsesStream:
    """See EventTranslator."""

    def __init__(self, call: Call) -> None:
        self._call, self._reply = call, answers.reply_of(call)
        self._reply.whole, self._reply.next_number = None, 0
        self._items: list[Chat] = []  # as they were opened; replaced when they close
        self._said: Opened | None = None
        self._parts: list[Chat] = []  # of what is said, before the one that grows
        self._part = ""  # the kind of that one
        self._logprobs: list[Chat] = []
        self._citations: list[Chat] = []
        self._thought: Opened | None = None
        self._is_summary = answers.wants_summary(call)
        self._details: list[Any] = []
        self._tools: dict[Any, Opened] = {}  # by their index upstream, which is a number, and by their id
        self._last: Opened | None = None
        self._called: list[Opened] = []  # those with a name
        self._known = answers.tools_of(call)
        self._finish = ""
        self._usage: Any = None

    def feed(self, event: bytes) -> bytes:
        """See EventTranslator.feed."""
        payload = sse.data_of(event)
        if payload is None or payload.startswith(b"[DONE]"):
            return b""
        try:
            return self._chunk(jsonx.peek(payload))
        except answers.MISSHAPEN as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def end(self) -> bytes:
        """See EventTranslator.end."""
        out = b"" if self._reply.whole is not None else self._begin({})
        with answers.misshapen("a completion"):
            out += self._close_thought() + self._close_said()
            for tool in self._called:
                out += self._close_tool(tool)
        made = self._reply.whole
        assert made is not None  # noqa: S101 - made by _begin
        answers.finish_with(made, self._items, self._finish, self._usage)
        return out + self._event(ENDS[made["status"]], response=made)

    def _chunk(self, chunk: Chat) -> bytes:
        out = b"" if self._reply.whole is not None else self._begin(chunk)
        if chunk.get("usage"):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        if not choices:
            return out
        choice = choices[0]
        self._finish = answers.text_of(choice.get("finish_reason")) or self._finish
        delta = choice.get("delta")
        return out + self._delta(delta, choice.get("logprobs")) if delta else out

    def _delta(self, delta: Chat, logprobs: Any) -> bytes:
        out = b""
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            out += self._think(thought)
        if delta.get(DETAILS):
            out += self._think("")
            self._details += answers.details_of(delta)
        if content := delta.get("content"):
            out += self._say("output_text", content, logprobs)
        if refusal := delta.get("refusal"):
            out += self._say("refusal", refusal, None)
        if delta.get(EXTRA) and self._said is not None:
            self._said.extra = answers.extra_of(delta)
        if delta.get("annotations"):
            self._citations += answers.citations_of(delta["annotations"])
        for tool in delta.get("tool_calls") or ():
            out += self._use(tool)
        return out

    def _begin(self, chunk: Chat) -> bytes:
        made = self._reply.whole = answers.frame(self._call, chunk.get("model"), chunk.get("service_tier"))
        opening = self._event("response.created", response=made) + self._event("response.in_progress", response=made)
        made["output"] = self._items
        return opening

    def _event(self, kind: str, **members: Any) -> bytes:
        return event_of(self._call, kind, members)

    def _open(self, item: Chat) -> bytes:
        self._items.append(item)
        return self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)

    def _close(self, opened: Opened, item: Chat) -> bytes:
        if self._finish in answers.UNFINISHED and opened.index == len(self._items) - 1 and "status" in item:
            item["status"] = "incomplete"
        self._items[opened.index] = item
        return self._event("response.output_item.done", output_index=opened.index, item=item)

    # What is said

    def _say(self, kind: str, content: Any, logprobs: Any) -> bytes:
        text = answers.text_of(content)
        if not text:
            return b""
        out = b""
        if self._said is None:
            out = self._close_thought()
            self._said = Opened(len(self._items), item_id(self._call, "msg", len(self._items)))
            out += self._open(answers.message_item(self._said.id, [], "in_progress"))
        said = self._said
        if self._part != kind:
            out += self._close_part()
            self._part = kind
            empty = answers.text_part("", [], []) if kind == "output_text" else {"type": kind, "refusal": ""}
            out += self._event("response.content_part.added", **self._place(said), part=empty)
        said.texts.append(text)
        told: Chat = {"item_id": said.id, "output_index": said.index, "content_index": len(self._parts), "delta": text}
        if kind == "output_text":
            told["logprobs"] = answers.logprobs_of(logprobs) if logprobs else []
            self._logprobs += told["logprobs"]
        return out + event_of(self._call, f"response.{kind}.delta", told)

    def _place(self, opened: Opened) -> Chat:
        return {"item_id": opened.id, "output_index": opened.index, "content_index": len(self._parts)}

    def _close_part(self) -> bytes:
        said, kind, self._part = self._said, self._part, ""
        if said is None or not kind:
            return b""
        text, said.texts = "".join(said.texts), []
        place = self._place(said)
        if kind == "refusal":
            part: Chat = {"type": "refusal", "refusal": text}
            out = self._event("response.refusal.done", **place, refusal=text)
        else:
            part = answers.text_part(text, self._logprobs, self._citations)
            out = b"".join(
                self._event(
                    "response.output_text.annotation.added", **place, annotation_index=index, annotation=citation
                )
                for index, citation in enumerate(self._citations)
            )
            out += self._event("response.output_text.done", **place, text=text, logprobs=self._logprobs)
            self._logprobs, self._citations = [], []
        out += self._event("response.content_part.done", **place, part=part)
        self._parts.append(part)
        return out

    def _close_said(self) -> bytes:
        out = self._close_part()
        if (said := self._said) is None:
            return out
        item = answers.message_item(said.id, self._parts) | said.extra
        self._said, self._parts = None, []
        return out + self._close(said, item)

    # What is thought

    def _think(self, content: Any) -> bytes:
        text, out = answers.text_of(content), b""
        if self._thought is None:
            out = self._close_said()
            self._thought = Opened(len(self._items), item_id(self._call, "rs", len(self._items)))
            out += self._open({"id": self._thought.id, "type": "reasoning", "summary": []})
        thought = self._thought
        if not text:
            return out
        if not thought.texts:
            out += self._thinking("part.added", part=self._thought_part(""))
        thought.texts.append(text)
        return out + self._thinking("text.delta", delta=text)

    def _thinking(self, what: str, **members: Any) -> bytes:
        """An event of a summary, or of reasoning as it is: the same by two names."""
        assert self._thought is not None  # noqa: S101 - the caller opened it
        place: Chat = {"item_id": self._thought.id, "output_index": self._thought.index}
        if self._is_summary:
            return self._event(f"response.reasoning_summary_{what}", **place, summary_index=0, **members)
        kind = f"response.content_{what}" if what.startswith("part") else f"response.reasoning_{what}"
        return self._event(kind, **place, content_index=0, **members)

    def _thought_part(self, text: str) -> Chat:
        return {"type": "summary_text" if self._is_summary else "reasoning_text", "text": text}

    def _close_thought(self) -> bytes:
        if (thought := self._thought) is None:
            return b""
        text, out = "".join(thought.texts), b""
        if text:
            out = self._thinking("text.done", text=text) + self._thinking("part.done", part=self._thought_part(text))
        item = answers.reasoning_item(thought.id, text, is_summary=self._is_summary, details=self._details)
        self._thought, self._details = None, []
        return out + self._close(thought, item)

    # Tools that are called

    def _use(self, delta: Chat) -> bytes:
        function = delta.get("function") or {}
        tool, out = self._tool_of(delta), b""
        tool.extra = answers.extra_of(delta) or tool.extra
        if not tool.id:
            tool.name += answers.text_of(function.get("name"))
            if not tool.name:
                return b""
            out = self._close_thought() + self._close_said() + self._open_tool(tool)
        arguments = answers.text_of(function.get("arguments"))
        if not arguments:
            return out
        tool.texts.append(arguments)
        if tool.tool.is_custom:  # its text can be had once the JSON around it is whole
            return out
        told = {"item_id": tool.id, "output_index": tool.index, "delta": arguments}
        return out + event_of(self._call, "response.function_call_arguments.delta", told)

    def _tool_of(self, delta: Chat) -> Opened:
        """The call that a piece belongs to: by its id, else by its index, else the last one.

        Some servers give every call the same index, others none: an id that is new, with a name, begins a call.
        """
        index, name = delta.get("index"), answers.text_of(delta.get("id"))
        found = self._tools.get(name) if name else None
        is_new = bool(name) and bool((delta.get("function") or {}).get("name"))
        if found is None and not is_new:
            found = self._tools.get(index) or (self._last if index is None else None)
        if found is None:
            found = Opened(0, "", call_id=name)
        if name:
            self._tools[name] = found
        self._tools[index], self._last = found, found
        return found

    def _open_tool(self, tool: Opened) -> bytes:
        tool.index, tool.tool = len(self._items), self._known.get(tool.name) or Tool(tool.name)
        tool.id = item_id(self._call, tool.tool.prefix, tool.index)
        tool.call_id = tool.call_id or f"call_{tool.id}"
        self._called.append(tool)
        item = answers.call_item(tool.id, tool.call_id, tool.tool, "")
        grows = "input" if tool.tool.is_custom else "arguments"
        return self._open(item | {"status": "in_progress", grows: ""})

    def _close_tool(self, tool: Opened) -> bytes:
        arguments = "".join(tool.texts)
        place: Chat = {"item_id": tool.id, "output_index": tool.index}
        item = answers.call_item(tool.id, tool.call_id, tool.tool, arguments) | tool.extra
        if tool.tool.is_custom:
            out = self._event("response.custom_tool_call_input.delta", **place, delta=item["input"])
            out += self._event("response.custom_tool_call_input.done", **place, input=item["input"])
            return out + self._close(tool, item)
        out = b"" if arguments else self._event("response.function_call_arguments.delta", **place, delta=answers.EMPTY)
        told = {**place, "name": tool.tool.name, "arguments": item["arguments"]}
        return out + self._event("response.function_call_arguments.done", **told) + self._close(tool, item)


def event_of(call: Call, kind: str, members: Chat) -> bytes:
    """One event, with the next number."""
    reply = answers.reply_of(call)
    number, reply.next_number = reply.next_number, reply.next_number + 1
    told = {"type": kind, "sequence_number": number, **members}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), jsonx.dumps(told))


def last_event(call: Call, exc: GatewayError) -> bytes:
    """The end of a stream that failed: the answer as far as it came, for who keeps it, and the error."""
    reply = answers.reply_of(call)
    whole, out = reply.whole, b""
    if whole is None:
        whole = reply.whole = answers.frame(call)
        out = event_of(call, "response.created", {"response": whole})
    out += event_of(call, "response.failed", {"response": answers.failed(whole, exc)})
    error = answers.error_of(exc, reply.next_number)
    return out + b"event: error\ndata: %b\n\n" % jsonx.dumps(error)


def error_event(exc: GatewayError) -> bytes:
    """An error in a stream of which nothing is known."""
    return b"event: error\ndata: %b\n\n" % jsonx.dumps(answers.error_of(exc, 0))
