"""Reading the hub's chat requests, for wires whose messages have another shape.

A request was checked where clients send it, but not in every corner: whatever is read here stands within `reading`, so
that a strange shape is its sender's error.
"""

import binascii
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

from services.errors import Unsupported
from services.providers.base import SHAPE_ERRORS
from services.types import Call
from utils import jsonx

ROLES: Final = {"developer": "system", "function": "tool"}  # what is another word for what
OPENING: Final = "."  # said by a user where a conversation would begin without one; blank texts are refused
CALLER_LIMITS: Final = ("max_completion_tokens", "max_tokens")
THOUGHT_TOKENS: Final = {  # as Google maps efforts to budgets (ai.google.dev/gemini-api/docs/openai, read 2026-11-21)
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
}
MOST_THOUGHT_TOKENS: Final = 24_576  # … high, and whatever is above it


class Media(NamedTuple):
    """A picture, sound or document as it came."""

    mime: str
    data: str  # base64
    name: str  # of the file, where it has one


class Blocks(Protocol):
    """How a dialect writes the pieces of a message."""

    @property
    def vendor(self) -> str:
        """Whose dialect it is, for messages."""
        ...

    @property
    def joins_results(self) -> bool:
        """Whether results of tools stand in one turn with what the user says."""
        ...

    def text(self, text: str, part: Mapping[str, Any]) -> list[Any]:
        """A text, as nothing where the dialect refuses it for being empty; `part` holds it, and perhaps extensions."""
        ...

    def media(self, media: Media) -> Any:
        """A picture, sound or document.

        Raises:
            Unsupported: the dialect has no place for this type.
        """
        ...

    def assistant(self, message: Mapping[str, Any]) -> list[Any]:
        """All that an assistant said and called."""
        ...

    def result(self, message: Mapping[str, Any], name: str) -> list[Any]:
        """What the tool of that name answered."""
        ...


Turn = tuple[str, list[Any]]


@contextmanager
def reading(param: str, vendor: str) -> Iterator[None]:
    """The block reads a request: stumbling over its shape is its sender's error.

    Raises:
        Unsupported: naming the member.
    """
    try:
        yield
    except SHAPE_ERRORS as exc:
        raise Unsupported(f"`{param}` has a shape that cannot be sent to {vendor}", param=param) from exc


def conversation(messages: Iterable[dict[str, Any]], blocks: Blocks) -> tuple[list[Any], list[Turn]]:
    """What the system says, and the turns of `user`, `assistant` and `tool` in between, never two of a kind in a row.

    The first turn is always a user's: the system's words where nobody else says anything.

    Raises:
        Unsupported: content that the dialect cannot carry.
    """
    system: list[Any] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}  # tool call id -> function, since results may be told apart by name
    for message in messages:
        role = ROLES.get(message["role"], message["role"])
        if role == "system":
            system += _system(message, blocks)
            continue
        if role == "tool":
            made = blocks.result(message, _tool_name(message, names))
            role = "user" if blocks.joins_results else role
        elif role == "assistant":
            made = blocks.assistant(message)
            names |= {call.get("id") or "": call["function"]["name"] for call in message.get("tool_calls") or ()}
        else:
            made = content_of(message, blocks)
        if made and turns and turns[-1][0] == role:
            turns[-1][1].extend(made)
        elif made:
            turns.append((role, made))
    if not turns and system:
        return [], [("user", system)]
    if not turns or turns[0][0] != "user":
        turns.insert(0, ("user", blocks.text(OPENING, {})))
    return system, turns


def content_of(message: Mapping[str, Any], blocks: Blocks) -> list[Any]:
    """The content of a message, piece by piece.

    Raises:
        Unsupported: content that the dialect cannot carry.
    """
    content = message.get("content")
    if not isinstance(content, list):
        return blocks.text(content or "", message)
    made: list[Any] = []
    for part in content:
        if part["type"] in ("text", "refusal"):
            made += blocks.text(part[part["type"]], part)
        else:
            made.append(blocks.media(media_of(part, blocks.vendor)))
    return made


def _system(message: Mapping[str, Any], blocks: Blocks) -> list[Any]:
    content = message["content"]
    if isinstance(content, list) and any(part["type"] != "text" for part in content):
        raise Unsupported(f"a system message for {blocks.vendor} can hold text only", param="messages")
    return content_of(message, blocks)


def _tool_name(message: Mapping[str, Any], names: Mapping[str, str]) -> str:
    name = names.get(message.get("tool_call_id") or "") or message.get("name")
    if not name:
        raise Unsupported("a `tool` message must name a call before it in `tool_call_id`", param="messages")
    return name


def media_of(part: Mapping[str, Any], vendor: str) -> Media:
    """What a part of a message carries. Addresses are not fetched for anybody.

    Raises:
        Unsupported: it carries an address, the id of a file elsewhere, or something unknown.
    """
    kind = part["type"]
    held = part.get(kind)
    if kind == "image_url":
        return _data_uri(held.get("url") if isinstance(held, dict) else held, "", vendor)
    if kind == "input_audio" and isinstance(held, dict) and isinstance(held["format"], str):
        return Media(f"audio/{held['format']}", _base64(held["data"]), "")
    if kind == "file" and isinstance(held, dict) and "file_data" in held:
        return _data_uri(held["file_data"], str(held.get("filename") or ""), vendor)
    raise Unsupported(
        f"`{kind}` content cannot be sent to {vendor}, or only with its data in the request", param="messages"
    )


def _data_uri(uri: Any, name: str, vendor: str) -> Media:
    head, is_base64, data = uri.partition(";base64,") if isinstance(uri, str) else ("", "", "")
    mime = head.removeprefix("data:").partition(";")[0]
    if not is_base64 or not head.startswith("data:") or "/" not in mime:
        raise Unsupported(
            f"pictures and files for {vendor} must be base64 data URIs; addresses are not fetched", param="messages"
        )
    return Media(mime.lower(), _base64(data), name)


def _base64(data: str) -> str:
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except binascii.Error as exc:
        raise Unsupported(f"pictures, sounds and files must be valid base64: {exc}", param="messages") from exc
    return data


def arguments_of(call: Mapping[str, Any], vendor: str) -> dict[str, Any]:
    """The arguments of a tool call in the history; none are an empty object.

    Raises:
        Unsupported: they are not a JSON object.
    """
    try:
        arguments = jsonx.loads(call["function"].get("arguments") or "{}")
    except jsonx.BadJson:
        arguments = None
    if not isinstance(arguments, dict):
        raise Unsupported(f"`arguments` of a tool call must be a JSON object to be sent to {vendor}", param="messages")
    return arguments


def functions_of(body: Mapping[str, Any], vendor: str) -> list[dict[str, Any]]:
    """The functions that a model may call: those that `tool_choice` allows, where it allows some only.

    Raises:
        Unsupported: another kind of tool.
    """
    if body.get("functions"):
        raise Unsupported(f"`functions` cannot be sent to {vendor}; `tools` can", param="functions")
    for tool in body.get("tools") or ():
        if tool.get("type") != "function":
            raise Unsupported(f"`{tool.get('type')}` tools cannot be sent to {vendor}", param="tools")
    choice = body.get("tool_choice")
    allowed = choice.get("allowed_tools") if isinstance(choice, dict) else None
    names = None if allowed is None else {tool["function"]["name"] for tool in allowed["tools"]}
    return [
        {**tool["function"], "cache_control": tool.get("cache_control")}
        for tool in body.get("tools") or ()
        if names is None or tool["function"]["name"] in names
    ]


def choice_of(body: Mapping[str, Any], vendor: str) -> tuple[str, str | None]:
    """How tools are chosen: `auto`, `none` or `required`, and the one function that must be called.

    Raises:
        Unsupported: another way.
    """
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if "function" in choice:
            return "required", choice["function"]["name"]
        choice = choice["allowed_tools"]["mode"] if "allowed_tools" in choice else choice.get("type")
    if choice not in (None, "auto", "none", "required"):
        raise Unsupported(f"this `tool_choice` cannot be sent to {vendor}", param="tool_choice")
    return choice or "auto", None


def output_limit(call: Call) -> int | None:
    """The most that may be generated: what the books allow, or else what the caller wants."""
    limits = (call.max_output_tokens, *(call.body.get(name) for name in CALLER_LIMITS))
    return next((limit for limit in limits if limit is not None), None)


def stops_of(body: Mapping[str, Any]) -> list[str]:
    """The texts that end an answer."""
    stop = body.get("stop")
    return [stop] if isinstance(stop, str) else list(stop or ())


def schema_of(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The form that an answer shall have: `text`, `json_object` or `json_schema`, and the latter's description."""
    wanted = body.get("response_format") or {}
    return wanted.get("type") or "text", wanted.get("json_schema") or {}
