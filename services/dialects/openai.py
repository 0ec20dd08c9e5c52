"""OpenAI's dialect, as callers send it: checked where a wrong value would hurt, passed on otherwise.

Members nobody knows here go upstream as they are: vendors add some every few months.
"""

from typing import Any, Final

from services.dialects import checks
from services.dialects.checks import Check
from services.errors import BodyEmpty, BodyUnreadable, GatewayError, InvalidRequest
from services.types import CHAT, COMPLETION, EMBEDDING, Call, Caller, Chat, Demand, PublicModel
from utils import clock, jsonx, sse

NAME: Final = "openai"
ROLES: Final = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
INNER: Final = "innererror"
GZIP: Final = b"\x1f\x8b"
MAX_CHOICES: Final = 128
MAX_INT: Final = 2**31 - 1
MAX_INPUTS: Final = 2048
COMPLETION_TOKENS: Final = 16  # what /v1/completions gives when nobody says how many (OpenAI's documented default)

# What a picture or sound can cost at most, in tokens, since its bytes say little about that.
IMAGE_TOKENS: Final = (
    48_200  # gpt-4o-mini, high detail, 8 tiles: 2833 + 8 x 5667 (OpenAI's vision guide, read 2026-11-21)
)
IMAGE_LOW_TOKENS: Final = 2_900  # the same model, low detail: 2833
BASE64_PER_AUDIO_TOKEN: Final = (
    16  # the leanest codecs spend about 1000 base64 characters on a second, models 32 tokens
)


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that begins now.

    Raises:
        InvalidRequest: see `parse`.
    """
    return call_of(operation, members(raw), len(raw), caller, request_id)


def call_of(operation: str, body: Chat, size: int, caller: Caller, request_id: str) -> Call:
    """The same of a body that was read; `size` is its bytes.

    Raises:
        InvalidRequest: see `parse`.
    """
    check(operation, body)
    return Call(
        id=request_id,
        operation=operation,
        body=body,
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=size,
        is_stream=operation != EMBEDDING and bool(body.get("stream")),
        wants_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def error_body(exc: GatewayError) -> dict[str, Any]:
    """An error as OpenAI's clients expect it; those of Azure also read why its content filter refused."""
    inner = {INNER: exc.details[INNER]} if INNER in exc.details else {}
    return {"error": {"message": str(exc), "type": exc.type, "param": exc.param, "code": exc.code, **inner}}


def error_event(exc: GatewayError) -> bytes:
    """The same as an event in a stream."""
    return sse.format_event(error_body(exc))


def members(raw: bytes) -> Chat:
    """The request body as an object.

    Raises:
        InvalidRequest: not JSON, or something else.
    """
    if not raw:
        raise BodyEmpty("The body is empty; it must be a JSON object.", param="body")
    if raw.startswith(GZIP):
        raise BodyUnreadable("The body is compressed; send it as it is, without `Content-Encoding`.", param="body")
    try:
        body = jsonx.loads(raw)
    except jsonx.BadJson as exc:
        raise BodyUnreadable(f"The body is not valid JSON: {exc}", param="body") from exc
    if not isinstance(body, dict):
        raise BodyUnreadable("The body must be a JSON object.", param="body")
    return body


def operation_of(body: Chat) -> str:
    """What a body asks for, by the member that only this operation needs.

    Raises:
        InvalidRequest: none of them is there, or more than one.
    """
    found = [operation for operation, names in REQUIRED.items() if names[1] in body]
    if len(found) != 1:
        raise InvalidRequest(
            "Send one of `messages`, `prompt` and `input`, as in the request to explain, or name its `?operation=`.",
            param="body",
        )
    return found[0]


def parse(operation: str, raw: bytes) -> Chat:
    """The request body, checked.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    body = members(raw)
    check(operation, body)
    return body


def check(operation: str, body: Chat) -> None:
    """Whether the body can be such a request.

    Raises:
        InvalidRequest: see `parse`.
    """
    for name, is_wrong in FIELDS[operation].items():
        if name in body and body[name] is not None and (problem := is_wrong(body[name])) is not None:
            raise InvalidRequest(f"`{name}` {problem}.", param=name)
    for name in REQUIRED[operation]:
        if body.get(name) is None:
            raise InvalidRequest(f"`{name}` is required.", param=name)
    if operation == CHAT:
        _check_messages(body["messages"])


def demand(call: Call, model: PublicModel, default_output: int) -> Demand:
    """What the call may use at most.

    Input: a token is at least one byte of what is sent, and every message carries more bytes of JSON than a
    provider adds tokens around it; so the size of the body is a bound, with pictures and sounds by their own.
    """
    body = call.body
    media, is_bounded = media_tokens(body) if call.operation == CHAT else (0, True)
    bound = call.body_bytes + media
    if model.context_window is not None:
        most = model.context_window * _inputs(call)  # each text has a window of its own
        bound = min(bound, most) if is_bounded else most
        is_bounded = True
    if call.operation == EMBEDDING:
        return Demand(bound, 1, 0, 0)
    limit = body.get("max_tokens")
    choices = int(body.get("n") or 1)
    if call.operation == COMPLETION:
        each = max(choices, int(body.get("best_of") or 1))
        return Demand(bound, each * _inputs(call), limit, COMPLETION_TOKENS)
    # Of two limits, nobody knows which one the upstream heeds.
    limit = max(limit or 0, body.get("max_completion_tokens") or 0) or None
    return Demand(bound, choices, limit, model.max_output_tokens or default_output, is_bounded)


def _inputs(call: Call) -> int:
    """How many texts are to be answered or embedded."""
    given = call.body.get({COMPLETION: "prompt", EMBEDDING: "input"}.get(call.operation, ""))
    return len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1


def _tools(value: Any) -> str | None:
    if (problem := checks.mappings(value)) is not None:
        return problem
    for tool in value:
        if tool.get("type") == "function" and not _is_function(tool.get("function")):
            return "must have a `function` object with a `name` and, if any, `parameters` as an object"
    return None


def _is_function(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("parameters"), dict | None)
    )


def _tool_calls(value: Any) -> str | None:
    if (problem := checks.mappings(value)) is not None:
        return problem
    for call in value:
        function = call.get("function", {})
        if (
            not isinstance(function, dict)
            or not _are_texts(function, "name", "arguments")
            or not _are_texts(call, "id")
        ):
            return "must have an `id` and a `function` object whose `name` and `arguments` are strings"
    return None


def _are_texts(holder: dict[str, Any], *names: str) -> bool:
    return all(isinstance(holder.get(name), TEXT) for name in names)


def _stop(value: Any) -> str | None:
    is_good = isinstance(value, str) or (isinstance(value, list) and all(isinstance(entry, str) for entry in value))
    return None if is_good else "must be a string or an array of strings"


def _choice(value: Any) -> str | None:
    if isinstance(value, dict) and "function" in value and not _is_function(value["function"]):
        return "must name the function in `function.name`"
    return None if isinstance(value, str | dict) else "must be a string or an object"


def _format(value: Any) -> str | None:
    if (
        isinstance(value, dict)
        and value.get("type") == "json_schema"
        and not isinstance(value.get("json_schema"), dict)
    ):
        return "must have a `json_schema` object"
    return checks.mapping(value)


def _prompt(value: Any) -> str | None:
    if isinstance(value, str) or (isinstance(value, list) and value and _are_ids(value)):
        return None
    is_list = isinstance(value, list) and 0 < len(value) <= MAX_INPUTS
    if is_list and (
        all(isinstance(entry, str) for entry in value)
        or all(isinstance(entry, list) and entry and _are_ids(entry) for entry in value)
    ):
        return None
    return f"must be a string, or an array (of at most {MAX_INPUTS}) of strings, token ids or arrays of token ids"


def _are_ids(value: list[Any]) -> bool:
    return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in value)


def _encoding(value: Any) -> str | None:
    return None if value in ("float", "base64") else "must be `float` or `base64`"


# A member that belongs to another operation is checked all the same, so that no code meets it with a wrong type.
_COMMON: Final[dict[str, Check]] = {
    "model": checks.name,
    "messages": checks.mappings,
    "prompt": _prompt,
    "input": _prompt,
    "stream": checks.flag,
    "stream_options": checks.mapping,
    "temperature": checks.number,
    "top_p": checks.number,
    "n": checks.whole(1, MAX_CHOICES),
    "best_of": checks.whole(1, MAX_CHOICES),
    "max_tokens": checks.whole(1, MAX_INT),
    "max_completion_tokens": checks.whole(1, MAX_INT),
    "stop": _stop,
    "presence_penalty": checks.number,
    "frequency_penalty": checks.number,
    "logit_bias": checks.mapping,
    "seed": checks.whole(-(2**63), 2**64 - 1),
    "user": checks.text,
    "suffix": checks.text,
    "echo": checks.flag,
    "top_logprobs": checks.whole(0, 20),
    "tools": _tools,
    "tool_choice": _choice,
    "parallel_tool_calls": checks.flag,
    "functions": checks.mappings,
    "function_call": _choice,
    "response_format": _format,
    "reasoning_effort": checks.text,
    "verbosity": checks.text,
    "audio": checks.mapping,
    "prediction": checks.mapping,
    "service_tier": checks.text,
    "store": checks.flag,
    "metadata": checks.mapping,
    "web_search_options": checks.mapping,
    "prompt_cache_key": checks.text,
    "safety_identifier": checks.text,
    "encoding_format": _encoding,
    "dimensions": checks.whole(1, 65_536),
}
FIELDS: Final[dict[str, dict[str, Check]]] = {
    CHAT: _COMMON | {"logprobs": checks.flag},
    COMPLETION: _COMMON | {"logprobs": checks.whole(0, 20)},
    EMBEDDING: _COMMON,
}
TEXTS: Final = ("name", "tool_call_id", "reasoning_content")  # of a message, where it has them
TEXT: Final = (str, type(None))
REQUIRED: Final = {CHAT: ("model", "messages"), COMPLETION: ("model", "prompt"), EMBEDDING: ("model", "input")}


def _check_messages(messages: list[dict[str, Any]]) -> None:
    if not messages:
        raise InvalidRequest("`messages` must have at least one message.", param="messages")
    for index, message in enumerate(messages):
        place = f"messages.{index}"
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"`{place}.role` must be one of {', '.join(sorted(ROLES))}.", param=f"{place}.role")
        if not _are_texts(message, *TEXTS):
            name = next(name for name in TEXTS if not _are_texts(message, name))
            raise InvalidRequest(f"`{place}.{name}` must be a string.", param=f"{place}.{name}")
        content = message.get("content")
        if isinstance(content, list):
            _check_parts(content, place)
        elif content is not None and not isinstance(content, str):
            raise InvalidRequest(
                f"`{place}.content` must be a string, an array of parts or null.", param=f"{place}.content"
            )
        elif content is None and role in ("system", "developer", "user", "tool"):
            raise InvalidRequest(f"`{place}.content` is required.", param=f"{place}.content")
        calls = message.get("tool_calls")
        if calls is not None and (problem := _tool_calls(calls)) is not None:
            raise InvalidRequest(f"`{place}.tool_calls` {problem}.", param=f"{place}.tool_calls")


def _check_parts(parts: list[Any], place: str) -> None:
    for index, part in enumerate(parts):
        where = f"{place}.content.{index}"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest(f"`{where}` must be an object with a `type`.", param=where)
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise InvalidRequest(f"`{where}.text` must be a string.", param=f"{where}.text")
        if part["type"] == "image_url" and not isinstance(part.get("image_url"), str | dict):
            raise InvalidRequest(f"`{where}.image_url` must be an object with a `url`.", param=f"{where}.image_url")


def media_tokens(body: Chat) -> tuple[int, bool]:
    """What pictures and sounds change in the bound, and whether that is all: nobody knows what is in a file.

    Each adds the most it can cost and takes away the bytes that carry it.
    """
    change, is_bounded = 0, True
    for message in body["messages"]:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] == "image_url":
                image = part["image_url"] if isinstance(part["image_url"], dict) else {"url": part["image_url"]}
                change += (IMAGE_LOW_TOKENS if image.get("detail") == "low" else IMAGE_TOKENS) - _carried(
                    image.get("url")
                )
            elif part["type"] == "input_audio":
                audio = part.get("input_audio")
                carried = _carried(audio.get("data") if isinstance(audio, dict) else None, "")
                change += carried // BASE64_PER_AUDIO_TOKEN + 1 - carried
            elif part["type"] not in ("text", "refusal"):
                is_bounded = False
    return change, is_bounded


def _carried(data: Any, prefix: str = "data:") -> int:
    return len(data) if isinstance(data, str) and data.startswith(prefix) else 0
