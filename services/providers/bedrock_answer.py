"""What Bedrock's Converse API answers, whole or streamed, in the hub format.

A streamed answer is whole with its `messageStop`; the usage comes after it. What Claude thought is told twice: as
`reasoning_content` for people, and with its signature in `thinking_blocks`, which must be sent back while tools run.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.errors import UpstreamError, UpstreamRefused
from services.providers.base import SHAPE_ERRORS, tokens
from services.providers.eventstream import MessageSplitter
from services.providers.hubanswers import Chunks, tool_call
from services.types import Call, Usage
from utils import jsonx, sse

FINISH: Final = {  # whatever else is a stop
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
BROKEN: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
FAULTS: Final = {  # of a stream under way, and the status they would have had before it
    "throttlingException": 429,
    "validationException": 400,
    "serviceUnavailableException": 503,
    "modelTimeoutException": 504,
}
SERVERS: Final = "server_tool_use"  # a tool that Bedrock runs by itself


def read_message(call: Call, message: Mapping[str, Any], pieces: list[str]) -> dict[str, Any]:
    """A whole message in the hub format; its texts are added to the pieces.

    Raises:
        SHAPE_ERRORS: it is not what Converse answers.
    """
    texts, thoughts, blocks, tools = list[str](), list[str](), list[Any](), list[Any]()
    for block in message["content"]:
        if "text" in block:
            texts.append(block["text"])
        elif "citationsContent" in block:
            texts += [part["text"] for part in block["citationsContent"].get("content") or () if "text" in part]
        elif "reasoningContent" in block:
            reasoning = block["reasoningContent"]
            said = reasoning.get("reasoningText") or {}
            thoughts.append(said.get("text") or "")
            blocks += thinking_block(thoughts[-1], said.get("signature"), reasoning.get("redactedContent"))
        elif "toolUse" in block and block["toolUse"].get("type") != SERVERS:
            used = block["toolUse"]
            arguments = jsonx.dumps(used.get("input") or {}).decode()
            tools.append(tool_call(call, len(tools), used["name"], arguments, given=used.get("toolUseId")))
    content, thought = "".join(texts), "".join(thoughts)
    pieces += [piece for piece in (thought, content) if piece]
    pieces += [piece for made in tools for piece in made["function"].values()]
    hub: dict[str, Any] = {"role": "assistant", "content": content or None, "refusal": None}
    more = {"reasoning_content": thought, "thinking_blocks": blocks, "tool_calls": tools}
    return hub | {name: value for name, value in more.items() if value}


def thinking_block(text: str, signature: Any, redacted: Any) -> list[dict[str, Any]]:
    """A thought in Anthropic's form, to be sent back; without a signature nobody wants it back."""
    if redacted:
        return [{"type": "redacted_thinking", "data": redacted}]
    return [{"type": "thinking", "thinking": text, "signature": signature}] if signature else []


def finish_of(reason: str) -> str:
    """Why an answer ended, in the hub's words.

    Raises:
        UpstreamError: the model broke it off.
    """
    if reason in BROKEN:
        raise UpstreamError(f"the model could not finish its answer ({reason})")
    return FINISH.get(reason, "stop")


def usage_of(raw: Any) -> Usage | None:
    """Converse's usage; None when it counts nothing. Cached tokens stand beside the input there."""
    if not isinstance(raw, dict):
        return None
    given, read, written = (
        tokens(raw.get(name)) for name in ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    )
    output = tokens(raw.get("outputTokens"))
    if given is None and output is None:
        return None
    return Usage(
        input_tokens=None if given is None else given + (read or 0) + (written or 0),
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        cache_creation_1h_input_tokens=_kept_an_hour(raw.get("cacheDetails"), written),
    )


def _kept_an_hour(details: Any, written: int | None) -> int | None:
    for entry in details if isinstance(details, list) else ():
        if isinstance(entry, dict) and entry.get("ttl") == "1h":
            count = tokens(entry.get("inputTokens"))
            return count if count is None or count <= (written or 0) else None
    return None


class BedrockStream:
    """Messages of AWS's event stream in, the hub's events out."""

    def __init__(self, call: Call) -> None:
        self.usage: Usage | None = None
        self.is_done = False
        self._call, self._pieces, self._chunks = call, call.pieces, Chunks(call)
        self._split = MessageSplitter()
        self._reason: str | None = None
        self._tools: dict[int, int | None] = {}  # block: number of the tool call; None = it is not the caller's
        self._mute: set[int] = set()  # blocks of tool calls that have no arguments yet
        self._thoughts: dict[int, list[str]] = {}
        self._proofs: dict[int, dict[str, Any]] = {}  # block: signature, redacted
        self._proven = 0  # thoughts that were told with their signature
        self._handlers = {
            "messageStart": self._start,
            "contentBlockStart": self._block_start,
            "contentBlockDelta": self._delta,
            "contentBlockStop": self._block_stop,
            "messageStop": self._stop,
            "metadata": self._metadata,
        }

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        try:
            for headers, payload in self._split.feed(data):
                if headers.get(":message-type") != "event":
                    raise fault(headers, payload)
                if (handler := self._handlers.get(headers.get(":event-type", ""))) is not None:
                    yield from handler(jsonx.peek(payload))
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        if self._reason is None:
            raise UpstreamError("the upstream ended its answer early")
        yield self._chunks.finish(finish_of(self._reason))
        yield from self._chunks.usage(self.usage)
        yield sse.DONE

    def _start(self, _event: dict[str, Any]) -> Iterator[bytes]:
        return self._chunks.delta({})

    def _block_start(self, event: dict[str, Any]) -> Iterator[bytes]:
        used = event["start"].get("toolUse")
        if not used:
            return
        block = event["contentBlockIndex"]
        if used.get("type") == SERVERS:
            self._tools[block] = None
            return
        number = sum(other is not None for other in self._tools.values())
        made = tool_call(self._call, number, used["name"], "", given=used.get("toolUseId"))
        self._tools[block] = number
        self._mute.add(block)
        self._pieces.append(used["name"])
        yield from self._chunks.delta({"tool_calls": [made]})

    def _delta(self, event: dict[str, Any]) -> Iterator[bytes]:
        delta = event["delta"]
        if text := delta.get("text"):
            yield from self._said("content", text)
        elif used := delta.get("toolUse"):
            yield from self._arguments(event["contentBlockIndex"], used["input"])
        elif reasoning := delta.get("reasoningContent"):
            yield from self._thought(event["contentBlockIndex"], reasoning)

    def _said(self, name: str, text: Any) -> Iterator[bytes]:
        if not isinstance(text, str):
            raise TypeError(name)
        self._pieces.append(text)
        return self._chunks.delta({name: text})

    def _arguments(self, block: int, text: str) -> Iterator[bytes]:
        number = self._tools[block]
        if number is None or not text:
            return
        if not isinstance(text, str):
            raise TypeError("input")
        self._mute.discard(block)
        self._pieces.append(text)
        yield from self._chunks.delta({"tool_calls": [{"index": number, "function": {"arguments": text}}]})

    def _thought(self, block: int, reasoning: dict[str, Any]) -> Iterator[bytes]:
        if text := reasoning.get("text"):
            self._thoughts.setdefault(block, []).append(text)
            yield from self._said("reasoning_content", text)
        else:
            self._proofs.setdefault(block, {}).update(reasoning)

    def _block_stop(self, event: dict[str, Any]) -> Iterator[bytes]:
        block = event["contentBlockIndex"]
        if block in self._mute:
            self._mute.discard(block)
            function = {"arguments": "{}"}  # no arguments must be valid JSON too
            yield from self._chunks.delta({"tool_calls": [{"index": self._tools[block], "function": function}]})
        if proof := self._proofs.pop(block, None):
            text = "".join(self._thoughts.pop(block, ()))
            for made in thinking_block(text, proof.get("signature"), proof.get("redactedContent")):
                yield from self._chunks.delta({"thinking_blocks": [{"index": self._proven, **made}]})
                self._proven += 1

    def _stop(self, event: dict[str, Any]) -> Iterator[bytes]:
        reason = event["stopReason"]
        if not isinstance(reason, str):
            raise TypeError("stopReason")
        self._reason = reason
        return iter(())

    def _metadata(self, event: dict[str, Any]) -> Iterator[bytes]:
        self.usage, self.is_done = usage_of(event.get("usage")), self._reason is not None
        return iter(())


def fault(headers: Mapping[str, str], payload: bytes) -> UpstreamRefused:
    """An exception that came in a stream."""
    name = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
    message = headers.get(":error-message")
    try:
        message = message or jsonx.peek(payload).get("message")
    except SHAPE_ERRORS:
        message = None
    status = FAULTS.get(name, 502)
    return UpstreamRefused(str(message or f"the upstream reported `{name}`"), status=status, code=name[:200])
