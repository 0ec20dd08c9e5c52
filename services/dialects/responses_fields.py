"""What a request of the Responses API may look like: checked where a wrong value would hurt, passed on otherwise."""

from collections.abc import Callable
from typing import Any, Final

from services.dialects import checks, openai
from services.dialects.checks import Check
from services.errors import InvalidRequest, Unsupported
from services.types import Chat

ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
FORMATS: Final = ("text", "json_object", "json_schema")
MODES: Final = ("none", "auto", "required")
MAX_TOP_LOGPROBS: Final = 20

FIELDS: Final[dict[str, Check]] = {
    "model": checks.name,
    "instructions": checks.text,
    "max_output_tokens": checks.whole(1, openai.MAX_INT),
    "max_tool_calls": checks.whole(0, openai.MAX_INT),
    "temperature": checks.number,
    "top_p": checks.number,
    "top_logprobs": checks.whole(0, MAX_TOP_LOGPROBS),
    "stream": checks.flag,
    "stream_options": checks.mapping,
    "store": checks.flag,
    "background": checks.flag,
    "tools": checks.mappings,
    "tool_choice": checks.text_or_mapping,
    "parallel_tool_calls": checks.flag,
    "text": checks.mapping,
    "reasoning": checks.mapping,
    "metadata": checks.mapping,
    "include": checks.texts,
    "previous_response_id": checks.name,
    "conversation": checks.text_or_mapping,
    "prompt": checks.mapping,
    "truncation": checks.one_of("auto", "disabled"),
    "context_management": checks.mappings,
    "service_tier": checks.text,
    "user": checks.text,
    "safety_identifier": checks.text,
    "prompt_cache_key": checks.text,
    "prompt_cache_retention": checks.text,
}
ELSEWHERE: Final = {  # what would be kept at a provider, where every user of this gateway is the same one
    "background": "Answers in the background cannot be had here; send the request without it, or with `stream`.",
    "conversation": "Conversations are not kept here; go on from an answer with `previous_response_id`.",
}


def check(body: Chat) -> None:
    """The members of a request, one by one.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    for name, problem_of in FIELDS.items():
        if body.get(name) is not None:
            _say(name, problem_of(body[name]))
    if body.get("model") is None:
        raise InvalidRequest("`model` is required.", param="model")
    if all(body.get(name) is None for name in ("input", "prompt", "previous_response_id")):
        raise InvalidRequest("`input` is required.", param="input")
    for name, message in ELSEWHERE.items():
        if body.get(name):
            raise Unsupported(message, param=name)
    _check_input(body.get("input"))
    for index, tool in enumerate(body.get("tools") or ()):
        _check_tool(tool, f"tools.{index}")
    _check_choice(body.get("tool_choice"))
    _check_words(body)


def kind_of(item: Chat) -> Any:
    """The type of an input item; a message and a reference may leave it out."""
    kind = item.get("type")
    return kind if kind is not None else "item_reference" if "id" in item and "role" not in item else "message"


def _say(place: str, problem: str | None) -> None:
    if problem is not None:
        raise InvalidRequest(f"`{place}` {problem}.", param=place)


def _member(holder: Chat, name: str, place: str, problem_of: Check = checks.text) -> None:
    """It must be there."""
    _say(f"{place}.{name}", problem_of(holder.get(name)))


def _option(holder: Chat, name: str, place: str, problem_of: Check = checks.text) -> None:
    """It may be left out or null."""
    if holder.get(name) is not None:
        _say(f"{place}.{name}", problem_of(holder[name]))


def _check_input(given: Any) -> None:
    if isinstance(given, list):
        for index, item in enumerate(given):
            _check_item(item, f"input.{index}")
    elif given is not None and not isinstance(given, str):
        raise InvalidRequest("`input` must be a string or an array of items.", param="input")


def _check_item(item: Any, place: str) -> None:
    _say(place, checks.mapping(item))
    kind = kind_of(item)
    _say(f"{place}.type", checks.text(kind))
    if kind in ITEMS:
        ITEMS[kind](item, place)


def _check_message(item: Chat, place: str) -> None:
    _member(item, "role", place, checks.one_of(*sorted(ROLES)))
    _check_content(item.get("content"), f"{place}.content")


def _check_call(item: Chat, place: str) -> None:
    for name in ("call_id", "name"):
        _member(item, name, place, checks.name)
    _option(item, "namespace", place)
    _member(item, "input" if item["type"] == "custom_tool_call" else "arguments", place)


def _check_output(item: Chat, place: str) -> None:
    _member(item, "call_id", place, checks.name)
    _check_content(item.get("output"), f"{place}.output")


def _check_reasoning(item: Chat, place: str) -> None:
    _option(item, "encrypted_content", place)
    for name in ("summary", "content"):
        _option(item, name, place, checks.mappings)
        for index, part in enumerate(item.get(name) or ()):
            _member(part, "text", f"{place}.{name}.{index}")


def _check_reference(item: Chat, place: str) -> None:
    _member(item, "id", place, checks.name)


def _check_content(content: Any, place: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"`{place}` must be a string or an array of parts.", param=place)
    for index, part in enumerate(content):
        where = f"{place}.{index}"
        _say(where, checks.mapping(part))
        _member(part, "type", where)
        for name in PARTS.get(part["type"], ()):
            _member(part, name, where)
        if part["type"] == "input_audio":
            _member(part, "input_audio", where, checks.mapping)
        for name in ("image_url", "file_id", "file_data", "file_url", "filename", "detail"):
            _option(part, name, where)


def _check_tool(tool: Chat, place: str) -> None:
    _member(tool, "type", place)
    if tool["type"] in ("function", "custom"):
        _member(tool, "name", place, checks.name)
        _option(tool, "description", place)
    if tool["type"] == "namespace":
        _check_namespace(tool, place)
    if tool["type"] == "function":
        _option(tool, "parameters", place, checks.mapping)
        _option(tool, "strict", place, checks.flag)


def _check_namespace(tool: Chat, place: str) -> None:
    """Tools with a common name before their own."""
    _member(tool, "name", place, checks.name)
    _member(tool, "tools", place, checks.mappings)
    for index, inner in enumerate(tool["tools"]):
        _check_tool(inner, f"{place}.tools.{index}")


def _check_choice(choice: Any) -> None:
    if isinstance(choice, str):
        _say("tool_choice", checks.one_of(*MODES)(choice))
    if not isinstance(choice, dict):
        return
    _member(choice, "type", "tool_choice")
    if choice["type"] in ("function", "custom"):
        _member(choice, "name", "tool_choice", checks.name)
        _option(choice, "namespace", "tool_choice")
    if choice["type"] == "allowed_tools":
        _option(choice, "mode", "tool_choice", checks.one_of("auto", "required"))
        _member(choice, "tools", "tool_choice", checks.mappings)
        for index, tool in enumerate(choice["tools"]):
            _option(tool, "name", f"tool_choice.tools.{index}")


def _check_words(body: Chat) -> None:
    """Members of `text`, `reasoning` and `metadata`."""
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    _option(text, "verbosity", "text")
    _option(text, "format", "text", checks.mapping)
    shape = text.get("format") or {}
    if shape:
        _member(shape, "type", "text.format", checks.one_of(*FORMATS))
    if shape.get("type") == "json_schema":
        _member(shape, "name", "text.format", checks.name)
        _member(shape, "schema", "text.format", checks.mapping)
    for name in ("effort", "summary"):
        _option(reasoning, name, "reasoning")
    for name in body.get("metadata") or {}:
        _member(body["metadata"], name, "metadata")


ITEMS: Final[dict[str, Callable[[Chat, str], None]]] = {
    "message": _check_message,
    "function_call": _check_call,
    "custom_tool_call": _check_call,
    "function_call_output": _check_output,
    "custom_tool_call_output": _check_output,
    "reasoning": _check_reasoning,
    "item_reference": _check_reference,
}
PARTS: Final = {  # what a part of content must have
    "input_text": ("text",),
    "output_text": ("text",),
    "text": ("text",),
    "refusal": ("refusal",),
}
