"""Writing answers in the hub format, for wires whose providers answer in another."""

import base64
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from services.types import Call, Usage
from utils import jsonx


def tool_call(
    call: Call, index: int, name: Any, arguments: str, *, given: Any = None, choice: int = 0
) -> dict[str, Any]:
    """A tool call of an answer, by its running number; with an id made up where the provider gave none.

    Raises:
        TypeError: the name or the given id is no text.
    """
    if not isinstance(name, str) or not isinstance(given, str | None):
        raise TypeError("name")
    number = f"{choice}_{index}" if choice else f"{index}"
    return {
        "index": index,
        "id": given or f"call_{call.id.removeprefix('req_')}_{number}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def unstreamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of a list as it stands in a whole message; in streams it has the `index` by which clients add it up."""
    return {name: value for name, value in entry.items() if name != "index"}


def packed(vector: list[float]) -> str:
    """An embedding as little-endian floats in base64, which is how OpenAI's clients like to have it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def frame(call: Call, *, is_chunk: bool) -> dict[str, Any]:
    """What every chat answer begins with."""
    return {
        "id": f"chatcmpl-{call.id.removeprefix('req_')}",
        "object": "chat.completion.chunk" if is_chunk else "chat.completion",
        "created": call.started_ms // 1000,
        "model": call.body["model"],
    }


def hub_usage(usage: Usage | None) -> dict[str, Any] | None:
    """The usage member, where the provider said enough for one."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    told = {
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_output_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }
    details = {
        name: {part: count for part, count in parts.items() if count is not None} for name, parts in told.items()
    }
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        **{name: parts for name, parts in details.items() if parts},
    }


class Chunks:
    """Writes the events of one stream in the hub format. What is the same in all of them is written once."""

    def __init__(self, call: Call) -> None:
        self._wants_usage = call.wants_usage
        self._head = b"data: " + jsonx.dumps(frame(call, is_chunk=True))[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if call.wants_usage else b"]}\n\n"
        self._opened: set[int] = set()

    def delta(self, delta: Mapping[str, Any], index: int = 0, logprobs: Any = None) -> Iterator[bytes]:
        """What a choice goes on with; its first event has the role."""
        if index not in self._opened:
            self._opened.add(index)
            yield self._choice({"role": "assistant", "content": ""}, index, None, None)
        if delta:
            yield self._choice(delta, index, logprobs, None)

    def finish(self, reason: str, index: int = 0) -> bytes:
        """The end of a choice."""
        return self._choice({}, index, None, reason)

    def usage(self, usage: Usage | None) -> Iterator[bytes]:
        """The usage event, where it is wanted and known."""
        if self._wants_usage and (counts := hub_usage(usage)) is not None:
            yield self._head + b'],"usage":' + jsonx.dumps(counts) + b"}\n\n"

    def _choice(self, delta: Mapping[str, Any], index: int, logprobs: Any, reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._head + jsonx.dumps(choice) + self._tail
