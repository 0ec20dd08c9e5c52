"""The built-in provider: answers from the request itself, needs no network and costs nothing.

Model names are scenarios, so that tests and the admin pages can show every way a call can go. It speaks
OpenAI's dialect; a token is a word, so its figures can be checked by eye.
"""

import base64
import hashlib
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from utils import jsonx, sse

CREATED: Final = 1_700_000_000  # the same answer every time
DIMENSIONS: Final = 16
CUT: Final = None  # the connection ends here, without an end
SCENARIOS: Final = {
    "blueprint-standard": "A friendly sentence and what you said.",
    "blueprint-advanced": "The same, under another name.",
    "blueprint-experimental": "The same, under another name.",
    "echo": "What you said, word by word.",
    "echo-json": "The request as the provider got it, as JSON.",
    "echo-slow": "A quarter of a second between the words.",
    "echo-hang": "Two words, then silence for ten minutes.",
    "echo-mute": "Ten minutes of silence before the first word.",
    "echo-cut": "Three words, then the connection breaks.",
    "echo-no-usage": "An answer without token counts.",
    "echo-tool-call": "A call of the first tool in the request.",
    "echo-400": "The provider finds fault with the request.",
    "echo-429": "The provider is busy and says when to come back.",
    "echo-500": "The provider fails.",
    "echo-html": "An HTML page with status 200.",
}
ERRORS: Final = {
    "echo-400": (
        400,
        {},
        {
            "message": "echo-400 finds fault with every request",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "invalid_value",
        },
    ),
    "echo-429": (
        429,
        {"retry-after": "7"},
        {
            "message": "echo-429 is always busy",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        },
    ),
    "echo-500": (500, {}, {"message": "echo-500 always fails", "type": "server_error", "param": None, "code": None}),
}
WORD_PAUSE_S: Final = {"echo-slow": 0.25}
LONG_S: Final = 600.0
BREAKS: Final[dict[tuple[str, int], float | None]] = {
    ("echo-hang", 2): LONG_S,
    ("echo-cut", 3): CUT,
}  # before that word

Step = dict[str, Any] | float | None


class Received(Protocol):
    """A request as a wire made it."""

    @property
    def path(self) -> str: ...  # noqa: D102 - see UpstreamRequest
    @property
    def body(self) -> bytes: ...  # noqa: D102 - see UpstreamRequest


@dataclass(frozen=True, slots=True)
class Script:
    """An answer to be played: bytes, pauses in seconds, and CUT."""

    status: int
    headers: dict[str, str]
    steps: Iterator[bytes | float | None]


def respond(request: Received) -> Script:
    """The answer to a request in OpenAI's dialect."""
    body = jsonx.loads(request.body) if request.body else {}
    model = body.get("model", "echo")
    if request.path == "/models":
        return _json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in SCENARIOS]})
    if model in ERRORS:
        status, headers, error = ERRORS[model]
        return _json(status, {"error": error}, headers)
    if model == "echo-html":
        return Script(
            200, {"content-type": "text/html"}, iter([b"<html><body>Something else answers here.</body></html>"])
        )
    if request.path == "/embeddings":
        return _json(200, _embeddings(body))
    is_chat = request.path == "/chat/completions"
    body.pop("prompt" if is_chat else "messages", None)
    if body.get("stream"):
        return Script(200, {"content-type": "text/event-stream"}, _stream(body, is_chat=is_chat))
    pause = [LONG_S] if model in ("echo-mute", "echo-hang") else []
    pause += [WORD_PAUSE_S[model]] * len(_reply(body).split()) if model in WORD_PAUSE_S else []
    return Script(
        200,
        {"content-type": "application/json"},
        itertools.chain(pause, [jsonx.dumps(_whole(body, is_chat=is_chat))], [CUT] if model == "echo-cut" else []),
    )


def _whole(body: dict[str, Any], *, is_chat: bool) -> dict[str, Any]:
    words, finish = _words(body)
    said: dict[str, Any] = {"text": "".join(words)}
    if is_chat:
        said = {"message": {"role": "assistant", "content": "".join(words), "refusal": None}}
        if (call := _tool_call(body)) is not None:
            said["message"] |= {"content": None, "tool_calls": [call]}
            words, finish = call["function"]["arguments"].split(), "tool_calls"
    choices = [{"index": index, **said, "logprobs": None, "finish_reason": finish} for index in range(_choices(body))]
    answer = {**_frame(body, "chat.completion" if is_chat else "text_completion"), "choices": choices}
    return answer if body.get("model") == "echo-no-usage" else answer | {"usage": _usage(body, len(words))}


def _stream(body: dict[str, Any], *, is_chat: bool) -> Iterator[bytes | float | None]:
    frame = _frame(body, "chat.completion.chunk" if is_chat else "text_completion")
    words, finish = _words(body)
    call = _tool_call(body) if is_chat else None
    if call is not None:
        words, finish = call["function"]["arguments"].split(), "tool_calls"
    with_usage = bool((body.get("stream_options") or {}).get("include_usage")) and body.get("model") != "echo-no-usage"
    usage = {"usage": None} if with_usage else {}
    steps = _call_deltas(call) if call is not None else _word_deltas(body, words)
    for step in [*_opening(body, is_chat=is_chat), *steps, {}]:
        if not isinstance(step, dict):
            yield step
            if step is CUT:
                return
            continue
        for index in range(_choices(body)):
            part = {"delta": step} if is_chat else {"text": step.get("content", "")}
            choice = {"index": index, **part, "logprobs": None, "finish_reason": None if step else finish}
            yield sse.format_event({**frame, "choices": [choice], **usage})
    if with_usage:
        yield sse.format_event({**frame, "choices": [], "usage": _usage(body, len(words))})
    yield sse.DONE


def _opening(body: dict[str, Any], *, is_chat: bool) -> Iterator[Step]:
    if body.get("model") == "echo-mute":
        yield LONG_S
    if is_chat:
        yield {"role": "assistant", "content": "", "refusal": None}


def _word_deltas(body: dict[str, Any], words: list[str]) -> Iterator[Step]:
    model = str(body.get("model"))
    for position, word in enumerate(words):
        if model in WORD_PAUSE_S:
            yield WORD_PAUSE_S[model]
        if (model, position) in BREAKS:
            yield BREAKS[model, position]
        yield {"content": word}


def _call_deltas(call: dict[str, Any]) -> Iterator[Step]:
    """The name first, then the arguments in two pieces, as OpenAI streams a call."""
    arguments = call["function"]["arguments"]
    yield {"tool_calls": [{**call, "index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}]}
    for part in (arguments[:3], arguments[3:]):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}


def _reply(body: dict[str, Any]) -> str:
    model, said = str(body.get("model")), _last_words(body)
    if model.startswith("blueprint-"):
        return f"Hello from {model}, the model that needs no network. You said: {said}"
    return jsonx.dumps(body).decode() if model == "echo-json" else said


def _words(body: dict[str, Any]) -> tuple[list[str], str]:
    """The reply in pieces that join to it, and why it ends."""
    text = _reply(body)
    pieces = [word + " " for word in text.split(" ")]
    pieces[-1] = pieces[-1][:-1]
    pieces = [piece for piece in pieces if piece]
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(pieces)
    return pieces[:limit], "length" if len(pieces) > limit else "stop"


def _last_words(body: dict[str, Any]) -> str:
    """The text of the last message, or the prompt."""
    if "messages" not in body:
        prompt = body.get("prompt", "")
        return prompt if isinstance(prompt, str) else " ".join(str(part) for part in prompt)
    content = body["messages"][-1].get("content") if body["messages"] else ""
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def _usage(body: dict[str, Any], completion: int) -> dict[str, int]:
    if "messages" in body:
        prompt = sum(len(_last_words({"messages": [message]}).split()) for message in body["messages"])
    else:
        prompt = len(_last_words(body).split())
    completion *= _choices(body)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _tool_call(body: dict[str, Any]) -> dict[str, Any] | None:
    tools = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    if body.get("model") != "echo-tool-call" or not tools:
        return None
    wanted = body.get("tool_choice")
    name = wanted["function"]["name"] if isinstance(wanted, dict) and "function" in wanted else None
    function = next((tool["function"] for tool in tools if tool["function"]["name"] == name), tools[0]["function"])
    properties = (function.get("parameters") or {}).get("properties")
    properties = properties if isinstance(properties, dict) else {}
    samples = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    kinds = {key: schema.get("type") if isinstance(schema, dict) else None for key, schema in properties.items()}
    arguments = {key: samples.get(str(kind), _last_words(body)) for key, kind in kinds.items()}
    return {
        "id": "call_echo_0",
        "type": "function",
        "function": {"name": function["name"], "arguments": jsonx.dumps(arguments).decode()},
    }


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("input", "")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = body.get("dimensions") or DIMENSIONS
    data: list[dict[str, Any]] = []
    for index, text in enumerate(inputs):
        seed = hashlib.sha256(jsonx.dumps(text)).digest()
        vector = [seed[position % len(seed)] / 255 for position in range(size)]
        is_packed = body.get("encoding_format") == "base64"
        embedding = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if is_packed else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    prompt = sum(len(text.split()) if isinstance(text, str) else len(text) for text in inputs)
    return {
        "object": "list",
        "data": data,
        "model": body.get("model"),
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
    }


def _choices(body: dict[str, Any]) -> int:
    return int(body.get("n") or 1)


def _frame(body: dict[str, Any], kind: str) -> dict[str, Any]:
    prefix = "cmpl" if kind == "text_completion" else "chatcmpl"
    name = hashlib.sha256(jsonx.dumps(body)).hexdigest()[:24]
    return {
        "id": f"{prefix}-{name}",
        "object": kind,
        "created": CREATED,
        "model": body.get("model"),
        "system_fingerprint": None,
    }


def _json(status: int, value: Any, headers: dict[str, str] | None = None) -> Script:
    return Script(status, {"content-type": "application/json", **(headers or {})}, iter([jsonx.dumps(value)]))
