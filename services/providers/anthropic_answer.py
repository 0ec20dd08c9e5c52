"""What Anthropic answers, in the hub format: messages, usage, errors.

Thinking becomes `reasoning_content`, as elsewhere. What must be sent back unchanged for a model to go on thinking after
a tool has answered stands beside it in an extension of the hub, `thinking_blocks`: a list of
`{"type": "thinking", "thinking": …, "signature": …}` and `{"type": "redacted_thinking", "data": …}`, on messages of
the assistant in answers and requests; in a stream each block comes whole, in one delta, once it is complete, with
its `index` in the list.

Blocks of other types, such as those of tools that run at Anthropic's, are left out.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.errors import CredentialRefused, UpstreamError, UpstreamRefused
from services.providers.base import PASSED_ON, WholeAnswer, tokens
from services.types import Call, Usage
from utils import jsonx

FINISH: Final = {  # ours, by Anthropic's; others are a stop
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STATUSES: Final = {  # of the types of errors, which is all that an error within a stream says
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
SHOWN_AS: Final = {504: 504, 529: 503}  # other failures of the provider are a 502
TOO_LONG: Final = ("prompt is too long", "exceed context limit")
NO_MONEY: Final = "credit balance is too low"  # said with 400, but it is the gateway's own account that is empty


def whole_answer(call: Call, answer: Mapping[str, Any]) -> WholeAnswer:
    """A message in the hub format."""
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in answer["content"]:
        kind = block["type"]
        if kind == "text":
            texts.append(text_of(block, "text"))
        elif kind == "tool_use":
            function = {"name": text_of(block, "name"), "arguments": arguments_of(block) or "{}"}
            calls.append({"id": id_of(call, block, len(calls)), "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(text_of(block, "thinking"))
            signed += signed_block(block)
    content, thinking = "".join(texts), "".join(thoughts)
    message: dict[str, Any] = {"role": "assistant", "content": content or None, "refusal": None}
    extras = {"reasoning_content": thinking, "thinking_blocks": signed, "tool_calls": calls}
    message |= {name: value for name, value in extras.items() if value}
    finish = finish_of(answer.get("stop_reason"), has_calls=bool(calls))
    usage = usage_of(answer.get("usage"))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    body = {**frame(call, "chat.completion"), "choices": [choice], **hub_usage(usage)}
    return WholeAnswer(jsonx.dumps(body), usage, tuple(pieces_of(answer["content"])))


def frame(call: Call, kind: str) -> dict[str, Any]:
    """What all answers and chunks begin with."""
    return {
        "id": f"chatcmpl-{call.id.removeprefix('req_')}",
        "object": kind,
        "created": call.started_ms // 1000,
        "model": call.body["model"],
    }


def pieces_of(blocks: list[dict[str, Any]]) -> list[str]:
    """The generated text of blocks."""
    pieces = []
    for block in blocks:
        pieces += [block[name] for name in ("thinking", "text", "name") if isinstance(block.get(name), str)]
        if "input" in block:
            pieces.append(jsonx.dumps(block["input"]).decode())
    return [piece for piece in pieces if piece]


def finish_of(reason: Any, *, has_calls: bool) -> str:
    """The finish reason of an answer that has ended."""
    known = FINISH.get(reason) if isinstance(reason, str) else None
    return known or ("tool_calls" if has_calls else "stop")


def id_of(call: Call, block: dict[str, Any], index: int) -> str:
    """The id of a tool call, made up where the server gave none."""
    return text_of(block, "id") or f"call_{call.id.removeprefix('req_')}_{index}"


def arguments_of(block: dict[str, Any]) -> str:
    """The input of a tool call as text; empty where there is none."""
    given = block.get("input")
    return jsonx.dumps(given).decode() if given else ""


def signed_block(block: dict[str, Any]) -> list[dict[str, Any]]:
    """The block as it must be sent back, if its server will want it."""
    if block["type"] == "redacted_thinking":
        return [{"type": "redacted_thinking", "data": text_of(block, "data")}]
    signature = text_of(block, "signature")
    return [{"type": "thinking", "thinking": text_of(block, "thinking"), "signature": signature}] if signature else []


def text_of(holder: dict[str, Any], name: str) -> str:
    """A member that is a text, or missing.

    Raises:
        TypeError: it is something else.
    """
    value = holder.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def usage_of(raw: Any) -> Usage | None:
    """Anthropic's usage, whose `input_tokens` are without what was read from or written to the cache."""
    if not isinstance(raw, dict):
        return None
    given, output = tokens(raw.get("input_tokens")), tokens(raw.get("output_tokens"))
    if given is None:
        return None if output is None else Usage(None, output, reasoning_output_tokens=_thought(raw, output))
    read, written = tokens(raw.get("cache_read_input_tokens")), tokens(raw.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=tokens(given + (read or 0) + (written or 0)),
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        reasoning_output_tokens=_thought(raw, output),
        cache_creation_1h_input_tokens=_part(raw, "cache_creation", "ephemeral_1h_input_tokens", written),
    )


def _thought(raw: dict[str, Any], output: int | None) -> int | None:
    return _part(raw, "output_tokens_details", "thinking_tokens", output)


def _part(raw: dict[str, Any], holder: str, name: str, whole: int | None) -> int | None:
    """A count within a count; what is more than its whole is no report of a part."""
    details = raw.get(holder)
    part = tokens(details.get(name)) if isinstance(details, dict) else None
    return part if part is None or part <= (whole or 0) else None


def hub_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage member, where Anthropic said enough for one."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return {}
    cached, written, thought = (
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.reasoning_output_tokens,
    )
    counts: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    if any(value is not None for value in details.values()):
        counts["prompt_tokens_details"] = {name: value for name, value in details.items() if value is not None}
    if thought is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": thought}
    return {"usage": counts}


def understood(status: int, detail: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and details of an error, as others must take them."""
    message = str(detail.get("message") or "")
    if NO_MONEY in message:
        return 402, detail
    if any(text in message for text in TOO_LONG):
        return status, {**detail, "code": "context_length_exceeded"}
    return status, detail


def error_event(error: Any) -> UpstreamError:
    """An error that came in a stream, or with status 200, with the status that its type stands for."""
    detail = error if isinstance(error, dict) else {"message": error}
    kind = str(detail.get("type") or "api_error")
    status, detail = understood(STATUSES.get(kind, 500), detail)
    message = str(detail.get("message") or "the upstream reported an error")
    if status in PASSED_ON:
        code = detail.get("code")
        return UpstreamRefused(message, status=status, type_=kind, code=code if isinstance(code, str) else None)
    if status in (401, 402, 403):
        return CredentialRefused(f"the provider refused the gateway's own credential or account ({status})")
    return UpstreamRefused(message, status=SHOWN_AS.get(status, 502), code="upstream_error")
