"""Streams as providers send them, event by event, with their usage wherever a test wants it."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Told:
    """What a provider says that a call used: all input, all output, and parts of both."""

    given: int
    output: int
    cached: int = 0
    thought: int = 0


class OpenAI:
    """Usage with any chunk, usually in one of its own after the last one with choices."""

    def opening(self, told: Told | None = None) -> str:
        return self._chunk({"role": "assistant", "content": ""}, told=told)

    def word(self, number: int, told: Told | None = None) -> str:
        return self._chunk({"content": f"word{number} "}, told=told)

    def finish(self, told: Told | None = None) -> str:
        return self._chunk({}, "stop", told=told)

    def usage(self, told: Told) -> str:
        return self._event({"choices": [], "usage": self.report(told)})

    def done(self) -> str:
        return "data: [DONE]\n\n"

    def error(self) -> str:
        return self._event({"error": {"message": "overloaded " * 20, "type": "server_error", "code": "busy"}})

    def report(self, told: Told) -> dict[str, Any]:
        return {
            "prompt_tokens": told.given,
            "completion_tokens": told.output,
            "total_tokens": told.given + told.output,
            "prompt_tokens_details": {"cached_tokens": told.cached},
            "completion_tokens_details": {"reasoning_tokens": told.thought},
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, told: Told | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event({"choices": [choice], "usage": self.report(told) if told else None})

    def _event(self, value: dict[str, Any]) -> str:
        frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
        return f"data: {json.dumps({**frame, **value}, separators=(',', ':'))}\n\n"


class Anthropic:
    """Usage of the input with the first event, of the whole with one at the end."""

    def opening(self, told: Told | None = None) -> str:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake", "content": []}
        usage = {"usage": self.report(told)} if told else {}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return self._event({"type": "message_start", "message": message | usage}) + self._event(block)

    def word(self, number: int, told: Told | None = None) -> str:
        delta = {"type": "text_delta", "text": f"word{number} "}
        said = self._event({"type": "content_block_delta", "index": 0, "delta": delta})
        return said + (self.usage(told) if told else "")

    def finish(self, told: Told | None = None) -> str:
        return self._event({"type": "content_block_stop", "index": 0}) + self._ended(told, "end_turn")

    def usage(self, told: Told) -> str:
        return self._ended(told, None)

    def done(self, told: Told | None = None) -> str:
        return self._event({"type": "message_stop"} | ({"usage": self.report(told)} if told else {}))

    def error(self) -> str:
        return self._event({"type": "error", "error": {"type": "overloaded_error", "message": "overloaded " * 20}})

    def report(self, told: Told) -> dict[str, Any]:
        counts = {"input_tokens": told.given - told.cached, "cache_read_input_tokens": told.cached}
        counts |= {"cache_creation_input_tokens": 0, "output_tokens": told.output}
        return counts | ({"output_tokens_details": {"thinking_tokens": told.thought}} if told.thought else {})

    def _ended(self, told: Told | None, reason: str | None) -> str:
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = {"usage": self.report(told)} if told else {}
        return self._event({"type": "message_delta", "delta": delta, **usage})

    def _event(self, value: dict[str, Any]) -> str:
        return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"


class Gemini:
    """Usage with any event; there is no end mark."""

    def opening(self, told: Told | None = None) -> str:
        return self._candidate("", told=told)

    def word(self, number: int, told: Told | None = None) -> str:
        return self._candidate(f"word{number} ", told=told)

    def finish(self, told: Told | None = None) -> str:
        return self._candidate("", "STOP", told=told)

    def usage(self, told: Told) -> str:
        return self._event({"usageMetadata": self.report(told)})

    def done(self) -> str:
        return ""

    def error(self) -> str:
        return self._event({"error": {"code": 503, "message": "overloaded " * 20, "status": "UNAVAILABLE"}})

    def report(self, told: Told) -> dict[str, Any]:
        said = {"promptTokenCount": told.given, "candidatesTokenCount": told.output - told.thought}
        said |= {"thoughtsTokenCount": told.thought, "cachedContentTokenCount": told.cached}
        return said | {"totalTokenCount": told.given + told.output}

    def _candidate(self, text: str, reason: str | None = None, told: Told | None = None) -> str:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        usage = {"usageMetadata": self.report(told)} if told else {}
        return self._event({"candidates": [candidate | ({"finishReason": reason} if reason else {})], **usage})

    def _event(self, value: dict[str, Any]) -> str:
        return f"data: {json.dumps(value)}\n\n"


WIRES: dict[str, Any] = {"openai": OpenAI(), "anthropic": Anthropic(), "gemini": Gemini()}
