"""From the hub's whole answers to Messages: blocks, stop reasons, and usage that counts cached input apart.

Members that Anthropic's document calls required are there even where they are null.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from services.errors import UpstreamError
from services.types import Call, Chat
from utils import jsonx

STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
CUT: Final = "length"  # what a model that reached its limit leaves may be half a call of a tool
CHARS_PER_TOKEN: Final = 4  # for counts that nobody reported and clients cannot do without
ATTACHED: Final = ("image_url", "file")  # parts
PER_ATTACHMENT: Final = 1000  # tokens, roughly
ODD_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")
MAX_TOKENS: Final = 2**31 - 1  # who reports more is not believed
NOT_SAID: Final = {"cache_creation": None, "service_tier": None, "inference_geo": None}  # only Anthropic knows them
SHAPE_ERRORS: Final = (AttributeError, TypeError, LookupError, ValueError)


@contextmanager
def expecting(what: str) -> Iterator[None]:
    """The block reads what an upstream sent, through whatever wire: stumbling over it is the upstream's error.

    Raises:
        UpstreamError: saying that it is not `what`.
    """
    try:
        yield
    except SHAPE_ERRORS as exc:
        raise UpstreamError(f"the upstream did not send {what}") from exc


def answer(call: Call, body: bytes) -> bytes:
    """A whole answer.

    Raises:
        UpstreamError: the hub's answer is none, or calls a tool with arguments that are no object.
    """
    with expecting("a completion"):
        hub = jsonx.loads(body)
        choice = hub["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        tools = [_tool(call, number, given, finish) for number, given in enumerate(message.get("tool_calls") or ())]
        made = frame(call) | ending(call, choice, refusal=message.get("refusal"), has_tools=bool(tools))
        made["content"] = [*_thinking(message), *_texts(message), *tools]
        return jsonx.dumps(made | {"usage": usage(call, hub.get("usage"))})


def frame(call: Call) -> Chat:
    """What an answer has before anything was generated."""
    return {
        "id": f"msg_{call.id.removeprefix('req_')}",
        "type": "message",
        "role": "assistant",
        "model": call.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }


def ending(call: Call, choice: Mapping[str, Any], *, refusal: Any, has_tools: bool) -> Chat:
    """Why the answer ended. Some servers say `stop` after calls of tools, and some name the stop sequence they met."""
    reason = STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
    matched = choice.get("stop_reason")
    if reason != "end_turn" or matched not in call.body.get("stop", ()):
        matched = None
    if reason == "end_turn":
        reason = "refusal" if refusal else "tool_use" if has_tools else "stop_sequence" if matched else reason
    details = {"type": "refusal", "category": None, "explanation": refusal or None} if reason == "refusal" else None
    return {
        "stop_reason": reason,
        "stop_sequence": matched if reason == "stop_sequence" else None,
        "stop_details": details,
        "container": None,
    }


def usage(call: Call, raw: Any) -> Chat:
    """The counts of an answer: as reported, or roughly where nobody did, since clients expect numbers."""
    given = raw if isinstance(raw, dict) else {}
    prompt, output = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    parts = given.get("prompt_tokens_details")
    read, written = _count(parts, "cached_tokens") or 0, _count(parts, "cache_write_tokens") or 0
    thought = _count(given.get("completion_tokens_details"), "reasoning_tokens")
    if prompt is None:
        prompt = rough_input(call)
    if read + written > prompt:
        read = written = 0
    return {
        "input_tokens": prompt - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": sum(map(len, call.pieces)) // CHARS_PER_TOKEN if output is None else output,
        "output_tokens_details": None if thought is None else {"thinking_tokens": thought},
        "server_tool_use": None,
        **NOT_SAID,
    }


def rough_input(call: Call) -> int:
    """About how long the input is, for as long as nobody has counted it; the bytes of pictures and files say little."""
    size, attached = call.body_bytes, 0
    for message in call.body["messages"]:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] in ATTACHED:
                size -= sum(len(text) for text in part[part["type"]].values() if isinstance(text, str))
                attached += 1
    return max(0, size) // CHARS_PER_TOKEN + attached * PER_ATTACHMENT


def tool_block(call: Call, number: int, given: Any, name: Any) -> Chat:
    """The block of a call, still without input. An id is made up or mended where clients could not send it back.

    Raises:
        TypeError: it has no name.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(name)
    made = given if isinstance(given, str) and given else f"toolu_{call.id.removeprefix('req_')}_{number}"
    return {"type": "tool_use", "id": ODD_ID.sub("_", made), "name": name, "input": {}, "caller": {"type": "direct"}}


def tool_input(arguments: str, *, is_cut: bool) -> Chat:
    """The arguments of a call. `is_cut`: the model had to stop, and what it could not finish counts as nothing.

    Raises:
        UpstreamError: they are no JSON object.
    """
    if not arguments.strip():
        return {}
    try:
        value = jsonx.loads(arguments)
    except jsonx.BadJson:
        value = None
    if isinstance(value, dict):
        return value
    if is_cut:
        return {}
    raise UpstreamError("the upstream called a tool with arguments that are no JSON object")


def text_block(text: str) -> Chat:
    """A block of text."""
    return {"type": "text", "text": text, "citations": None}


def thinking_block(text: str, signature: str = "") -> Chat:
    """A block of thinking; providers other than Anthropic sign nothing."""
    return {"type": "thinking", "thinking": text, "signature": signature}


def redacted_block(data: str) -> Chat:
    """Thinking that only its provider can read."""
    return {"type": "redacted_thinking", "data": data}


def said(value: Any) -> str:
    """A text, or none.

    Raises:
        TypeError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(value)
    return value or ""


def _thinking(message: Chat) -> list[Chat]:
    if signed := message.get("thinking_blocks"):
        return [
            redacted_block(said(one["data"]))
            if one["type"] == "redacted_thinking"
            else thinking_block(said(one["thinking"]), said(one.get("signature")))
            for one in signed
        ]
    text = said(message.get("reasoning_content") or message.get("reasoning"))
    return [thinking_block(text)] if text else []


def _texts(message: Chat) -> list[Chat]:
    return [text_block(text) for member in ("content", "refusal") if (text := said(message.get(member)))]


def _tool(call: Call, number: int, given: Chat, finish: Any) -> Chat:
    function = given["function"]
    block = tool_block(call, number, given.get("id"), function.get("name"))
    return block | {"input": tool_input(said(function.get("arguments")), is_cut=finish == CUT)}


def _count(holder: Any, name: str) -> int | None:
    """A reported count, or None where it is missing or impossible."""
    value = holder.get(name) if isinstance(holder, dict) else None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
    return value if is_count else None
