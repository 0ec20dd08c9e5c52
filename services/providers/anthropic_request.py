"""The conversation of a chat in the hub format, as Anthropic's Messages API takes it: system, messages, tools.

All system and developer messages become the top-level `system`, wherever they stood, since only the newest models take
one in between. Turns of the same role are merged, results of tools stand first in theirs, and a conversation that does
not begin with a user gets an opening turn. Texts of nothing but blanks are left out: Anthropic refuses them.

Beyond OpenAI's members: `cache_control` on parts, messages and tools, and `thinking_blocks` on assistant messages (see
anthropic_answer.py), without which a model may not go on thinking after its tools have answered.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.errors import Unsupported
from services.types import Chat
from utils import jsonx

Block = dict[str, Any]
MakeBlock = Callable[[dict[str, Any]], Block | None]

OPENING: Final = "."  # what the user is taken to have said before a conversation that begins otherwise
IMAGE_TYPES: Final = {name: f"image/{name}" for name in ("jpeg", "png", "gif", "webp")} | {"jpg": "image/jpeg"}
ADDRESS: Final = ("http://", "https://")
MAX_TITLE: Final = 500  # characters of a document's title
NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")


def conversation(body: Chat) -> tuple[list[Block], list[dict[str, Any]]]:
    """The blocks of the system prompt, and the messages.

    Raises:
        Unsupported: content that Anthropic does not take; `param` says where.
    """
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(body["messages"]):
        place, role = f"messages.{index}", message["role"]
        if role in ("system", "developer"):
            system += _marked(message, _parts(message.get("content"), place, TEXTS))
        elif role == "tool":
            _add_result(turns, _marked(message, [_result(message, place)]))
        elif role == "assistant":
            _add(turns, "assistant", _marked(message, _assistant(message, place)))
        elif role == "user":
            _add(turns, "user", _marked(message, _parts(message.get("content"), place, ANYTHING)))
        else:
            raise Unsupported(f"messages of the role `{role}` cannot be sent to Anthropic; use `tool`", param=place)
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [_text(OPENING)]})
    _trim(turns[-1])
    return system, [{"role": turn["role"], "content": plain(turn["content"])} for turn in turns]


def plain(blocks: list[Block]) -> str | list[Block]:
    """The text of a single block that is nothing but text, or the blocks."""
    return str(blocks[0]["text"]) if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def tools_of(body: Chat) -> list[Block]:
    """The functions that the model may call.

    Raises:
        Unsupported: a tool that is no function.
    """
    return [_tool(tool, f"tools.{index}") for index, tool in enumerate(body.get("tools") or ())]


def tools_used(turns: list[dict[str, Any]]) -> list[Block]:
    """Tools for the calls of a conversation that names no tools any more: without them Anthropic refuses the calls."""
    calls = (block for turn in turns for block in turn["content"] if isinstance(block, dict))
    names = dict.fromkeys(block["name"] for block in calls if block["type"] == "tool_use")
    return [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in names]


def _add(turns: list[dict[str, Any]], role: str, blocks: list[Block]) -> None:
    if blocks and turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _add_result(turns: list[dict[str, Any]], blocks: list[Block]) -> None:
    """Results must stand before whatever else is in their turn."""
    if not turns or turns[-1]["role"] != "user":
        turns.append({"role": "user", "content": blocks})
        return
    content = turns[-1]["content"]
    first = sum(block["type"] == "tool_result" for block in content)
    content[first:first] = blocks


def _trim(turn: dict[str, Any]) -> None:
    """A last turn of the assistant is continued by the model, and must not end with blanks then."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _marked(message: dict[str, Any], blocks: list[Block]) -> list[Block]:
    """The blocks, with the message's own `cache_control` on the last one."""
    mark = message.get("cache_control")
    if mark is not None and blocks and blocks[-1]["type"] not in THOUGHTS:
        blocks[-1].setdefault("cache_control", mark)
    return blocks


def _parts(content: Any, place: str, kinds: Mapping[str, MakeBlock]) -> list[Block]:
    if not isinstance(content, list):
        content = [{"type": "text", "text": content or ""}]
    blocks = []
    for index, part in enumerate(content):
        make = kinds.get(part["type"])
        if make is None:
            raise Unsupported(
                f"`{part['type']}` content cannot be sent to Anthropic here", param=f"{place}.content.{index}"
            )
        try:
            block = make(part)
        except Unsupported as exc:
            exc.param = f"{place}.content.{index}"
            raise
        if block is not None:
            if part.get("cache_control") is not None:
                block["cache_control"] = part["cache_control"]
            blocks.append(block)
    return blocks


def _text(text: Any) -> Block:
    return {"type": "text", "text": text}


def _said(member: str) -> MakeBlock:
    def block(part: dict[str, Any]) -> Block | None:
        text = part.get(member)
        return _text(text) if isinstance(text, str) and text.strip() else None

    return block


def _image(part: dict[str, Any]) -> Block:
    image = part["image_url"]
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and url[:8].lower().startswith(ADDRESS):
        return {"type": "image", "source": {"type": "url", "url": url}}
    kind, data = _carried(url)
    media_type = IMAGE_TYPES.get(kind.removeprefix("image/"))
    if media_type is None:
        raise Unsupported("pictures must be http(s) addresses, or JPEG, PNG, GIF or WebP as base64 data URIs")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _file(part: dict[str, Any]) -> Block:
    given = part.get("file")
    file = given if isinstance(given, dict) else {}
    block = {"type": "document", "source": _document(file.get("file_data"))}
    name = file.get("filename")
    return block | ({"title": name[:MAX_TITLE]} if isinstance(name, str) and name else {})


def _document(data: Any) -> Block:
    if isinstance(data, str) and data[:8].lower().startswith(ADDRESS):
        return {"type": "url", "url": data}
    kind, carried = _carried(data)
    if kind == "application/pdf":
        return {"type": "base64", "media_type": kind, "data": carried}
    if kind.startswith("text/"):
        try:
            text = base64.b64decode(carried, validate=True).decode()
        except (binascii.Error, ValueError) as exc:
            raise Unsupported("the text of a file must be UTF-8 in base64") from exc
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise Unsupported("files must be PDF or text as base64 data URIs in `file_data`; stored files cannot be sent")


def _carried(uri: Any) -> tuple[str, str]:
    """Media type and base64 of a data URI; empty where it is none."""
    head, _comma, data = uri.partition(",") if isinstance(uri, str) else ("", "", "")
    if not head.startswith("data:") or not head.endswith(";base64") or not data:
        return "", ""
    return head[5:].partition(";")[0].lower(), data


def _assistant(message: dict[str, Any], place: str) -> list[Block]:
    for name in ("audio", "function_call"):
        if message.get(name):
            raise Unsupported(f"`{name}` of a message cannot be sent to Anthropic", param=f"{place}.{name}")
    blocks = _thoughts(message) + _parts(message.get("content"), place, TEXTS)
    if (refusal := SAID_NO(message)) is not None:
        blocks.append(refusal)
    return blocks + [_tool_use(call, f"{place}.tool_calls") for call in message.get("tool_calls") or ()]


def _thoughts(message: dict[str, Any]) -> list[Block]:
    """Thinking as it was signed. What is not signed, such as another provider's, would be refused."""
    given = message.get("thinking_blocks")
    blocks = []
    for block in given if isinstance(given, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        members = THOUGHTS.get(kind, ()) if isinstance(kind, str) else ()
        if members and all(isinstance(block.get(name), str) for name in members):
            blocks.append({"type": kind, **{name: block[name] for name in members}})
    return blocks


def _tool_use(call: dict[str, Any], place: str) -> Block:
    function = call.get("function") or {}
    if not call.get("id") or not function.get("name"):
        raise Unsupported("a tool call must have an `id` and the name of its function", param=place)
    try:
        arguments = jsonx.loads(function.get("arguments") or "{}")
    except jsonx.BadJson as exc:
        raise Unsupported("`arguments` of a tool call must be JSON to be sent to Anthropic", param=place) from exc
    if not isinstance(arguments, dict):
        raise Unsupported("`arguments` of a tool call must be a JSON object to be sent to Anthropic", param=place)
    return {"type": "tool_use", "id": _id(call["id"]), "name": function["name"], "input": arguments}


def _result(message: dict[str, Any], place: str) -> Block:
    if not message.get("tool_call_id"):
        raise Unsupported("a tool message must say in `tool_call_id` which call it answers", param=place)
    blocks = _parts(message.get("content"), place, ANYTHING)
    return {"type": "tool_result", "tool_use_id": _id(message["tool_call_id"])} | (
        {"content": plain(blocks)} if blocks else {}
    )


def _id(given: str) -> str:
    """The id of a call that another provider may have named; Anthropic takes letters, digits, `_` and `-`."""
    return NOT_IN_IDS.sub("_", given)


def _tool(tool: dict[str, Any], place: str) -> Block:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise Unsupported(f"tools of the type `{tool.get('type')}` cannot be sent to Anthropic", param=place)
    sent: Block = {"name": function["name"]}
    if isinstance(function.get("description"), str):
        sent["description"] = function["description"]
    sent["input_schema"] = {"type": "object", **(function.get("parameters") or {"properties": {}})}
    if isinstance(function.get("strict"), bool):
        sent["strict"] = function["strict"]
    mark = tool.get("cache_control") or function.get("cache_control")
    return sent | ({"cache_control": mark} if mark is not None else {})


THOUGHTS: Final[dict[str, tuple[str, ...]]] = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
SAID_NO: Final = _said("refusal")
TEXTS: Final[dict[str, MakeBlock]] = {"text": _said("text"), "refusal": SAID_NO}
ANYTHING: Final[dict[str, MakeBlock]] = {"text": TEXTS["text"], "image_url": _image, "file": _file}
