"""What GigaChat answers, in the hub format: whole answers, streams, embeddings, usage. See gigachat.py beside it.

The state of a function call (`functions_state_id`) must come back with its result. Clients hand the ids of tool calls
on and drop what they do not know, so it travels in the id.
"""

import base64
import re
import struct
from typing import Any, Final

from services.errors import UpstreamError
from services.providers.base import WholeAnswer, tokens
from services.providers.openai import OpenAIStream
from services.types import Call, Usage
from utils import jsonx, sse

FINISH: Final = {"function_call": "tool_calls", "blacklist": "content_filter"}
FAILED: Final = frozenset({"error", "function_in_progress"})
STATE: Final = re.compile(r"giga_([0-9a-fA-F-]{36})")


def state_of(tool_call_id: Any) -> str | None:
    """The state that an id of ours holds; None = it holds none."""
    match = STATE.fullmatch(tool_call_id) if isinstance(tool_call_id, str) else None
    return match[1] if match else None


def completion(call: Call, answer: dict[str, Any]) -> WholeAnswer:
    """A whole chat."""
    pieces: list[str] = []
    choices = []
    if not isinstance(answer.get("choices"), list):
        raise UpstreamError("the upstream answered with JSON that is no completion")
    for place, choice in enumerate(answer["choices"]):
        message = _said(call, choice["message"], pieces, choice.get("index", place))
        choices.append(
            {
                "index": choice.get("index", place),
                "message": {"role": "assistant", "content": None, "refusal": None, **message},
                "logprobs": None,
                "finish_reason": _finish(call, choice.get("finish_reason")),
            }
        )
    usage = usage_of(answer.get("usage"))
    body = {**_frame(call, answer, "chat.completion"), "choices": choices, **_hub_usage(usage)}
    return WholeAnswer(jsonx.dumps(body), usage, tuple(pieces))


def embeddings(call: Call, answer: dict[str, Any]) -> WholeAnswer:
    """Vectors; each says how much its text was."""
    if not isinstance(answer.get("data"), list):
        raise UpstreamError("the upstream answered with JSON that holds no embeddings")
    is_packed = call.body.get("encoding_format") == "base64"
    data, given = [], 0
    for place, entry in enumerate(answer["data"]):
        vector = entry["embedding"]
        counted = tokens((entry.get("usage") or {}).get("prompt_tokens"))
        given = given + counted if counted is not None and given >= 0 else -1
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if is_packed else vector
        data.append({"object": "embedding", "index": entry.get("index", place), "embedding": packed})
    counts = {"prompt_tokens": max(given, 0), "total_tokens": max(given, 0)}
    body = {"object": "list", "data": data, "model": call.body["model"], "usage": counts}
    return WholeAnswer(jsonx.dumps(body), Usage(given, 0) if given >= 0 else None)


def usage_of(raw: Any) -> Usage | None:
    """GigaChat's usage: what was cached comes on top, unless the total says that it is within."""
    if not isinstance(raw, dict):
        return None
    given, output, cached, total = (
        tokens(raw.get(name))
        for name in ("prompt_tokens", "completion_tokens", "precached_prompt_tokens", "total_tokens")
    )
    if given is None and output is None:
        return None
    is_within = total is not None and cached and total == (given or 0) + (output or 0) - cached
    if given is not None and cached and not is_within:
        given += cached
    return Usage(given, output, cached if (cached or 0) <= (given or 0) else None)


class GigaChatStream(OpenAIStream):
    """GigaChat's events in, OpenAI's out."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, wants_usage=call.wants_usage)
        self._begun: set[int] = set()  # choices that have had their role
        self._calling: set[int] = set()  # … that have begun a function call

    def _chunk(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        out, frame = b"", _frame(self._call, chunk, "chat.completion.chunk")
        nothing = {"usage": None} if self._wants_usage else {}
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            delta = self._delta(choice.get("delta") or {}, index)
            reason = choice.get("finish_reason")
            if not delta and reason is None:
                continue
            if reason is not None:
                self._is_finished = True
            hub = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            if reason is not None and delta:  # OpenAI's last chunk says nothing but why
                out += sse.format_event({**frame, "choices": [hub], **nothing})
                hub = {**hub, "delta": {}}
            hub["finish_reason"] = _finish(self._call, reason)
            out += sse.format_event({**frame, "choices": [hub], **nothing})
        if (usage := usage_of(chunk.get("usage"))) is not None:
            self._told(usage)
            counts = _hub_usage(usage)
            if self._wants_usage and counts:
                out += sse.format_event({**frame, "choices": [], **counts})
        return out

    def _delta(self, theirs: dict[str, Any], index: int) -> dict[str, Any]:
        delta = _said(self._call, theirs, self._pieces, index)
        for place, tool in enumerate(delta.get("tool_calls", ())):
            tool["index"] = place
            if index in self._calling:  # more of its arguments
                delta["tool_calls"] = [{"index": place, "function": {"arguments": tool["function"]["arguments"]}}]
            self._calling.add(index)
        delta = {name: value for name, value in delta.items() if value not in (None, "")}
        if index not in self._begun:
            self._begun.add(index)
            return {"role": "assistant", "content": "", **delta}
        return delta


def _said(call: Call, theirs: dict[str, Any], pieces: list[str], index: int) -> dict[str, Any]:
    """A message or delta of theirs in the hub format."""
    said: dict[str, Any] = {}
    for name in ("reasoning_content", "content"):
        if text := theirs.get(name) or "":
            pieces.append(text + "")  # a text, or it is none of their messages
            said[name] = text
    state = theirs.get("functions_state_id")
    function = theirs.get("function_call")
    if function:
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else jsonx.dumps(arguments or {}).decode()
        made = {"name": function.get("name") or "", "arguments": text}
        pieces += [part for part in made.values() if part]
        if _is_old(call):
            return {**said, "function_call": made}
        own = f"giga_{state}" if STATE.fullmatch(f"giga_{state}") else f"call_{call.id.removeprefix('req_')}_{index}"
        said["tool_calls"] = [{"id": own, "type": "function", "function": made}]
    return said


def _is_old(call: Call) -> bool:
    """Whether the caller uses OpenAI's deprecated functions, which look like GigaChat's."""
    return "functions" in call.body and not call.body.get("tools")


def _finish(call: Call, reason: Any) -> Any:
    if reason in FAILED:
        raise UpstreamError(f"the upstream ended its answer with `{reason}`")
    return reason if reason == "function_call" and _is_old(call) else FINISH.get(reason, reason)


def _hub_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage member, where GigaChat said enough for one."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return {}
    counts: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_input_tokens is not None:
        counts["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_input_tokens}
    return {"usage": counts}


def _frame(call: Call, answer: dict[str, Any], kind: str) -> dict[str, Any]:
    created = answer.get("created")
    return {
        "id": f"chatcmpl-{call.id.removeprefix('req_')}",
        "object": kind,
        "created": created if isinstance(created, int) else call.started_ms // 1000,
        "model": call.body["model"],
    }
