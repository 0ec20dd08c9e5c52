"""The content blocks of a Messages request, as messages and parts of the hub format.

`cache_control` stays on the part that stands for a block. Thinking that is signed stays as it is, in `thinking_blocks`
of its message; without a signature it came from a provider that gives none, and is `reasoning_content` again.
"""

from typing import Any, Final

from services.dialects import anthropic_fields as fields
from services.dialects.anthropic_fields import Notes, bad, blocks, member, optional
from services.types import Chat
from utils import jsonx

BETWEEN: Final = "\n\n"  # blocks that become one text
FAILED: Final = "Error"
DIRECT: Final = "direct"  # a tool that the model itself calls


def user(given: list[Any], place: str, notes: Notes) -> list[Chat]:
    """The messages that stand for one of a user: results of tools first, then what else it holds."""
    results: list[Chat] = []
    turns: list[Chat] = []
    parts: list[Chat] = []
    for block, kind, where in blocks(given, place):
        if kind == "tool_result":
            result, attached = _result(block, where, notes)
            results.append(result)
            parts += attached
        elif kind == "mid_conv_system":
            turns += _turn(parts)
            parts = []
            said = texts(member(block, "content", fields.content, where), f"{where}.content", notes)
            turns.append({"role": "system", "content": joined(said)})
        else:
            parts += _parts(block, kind, where, notes)
    turns += _turn(parts)
    return [*results, *turns] or [{"role": "user", "content": ""}]


def assistant(given: list[Any], place: str, notes: Notes) -> Chat:
    """The message that stands for one of the assistant."""
    parts: list[Chat] = []
    calls: list[Chat] = []
    signed: list[Chat] = []
    thoughts: list[str] = []
    for block, kind, where in blocks(given, place):
        if kind == "text":
            parts.append(_marked_text(block, where))
        elif kind == "tool_use":
            calls.append(_tool_use(block, where, notes))
        elif kind == "thinking":
            said = member(block, "thinking", fields.text, where)
            if signature := optional(block, "signature", fields.text, where):
                signed.append({"type": kind, "thinking": said, "signature": signature})
            else:
                thoughts.append(said)
        elif kind == "redacted_thinking":
            signed.append({"type": kind, "data": member(block, "data", fields.text, where)})
        else:
            parts.append(_untold(block, kind, where, notes))
    message: Chat = {"role": "assistant", "content": joined(parts, "") if parts or not calls else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if signed:
        message["thinking_blocks"] = signed
    return message | ({"tool_calls": calls} if calls else {})


def texts(given: Any, place: str, notes: Notes) -> list[Chat]:
    """A text, or blocks that are texts, as parts."""
    if isinstance(given, str):
        return [{"type": "text", "text": given}]
    return [
        _marked_text(block, where) if kind == "text" else _untold(block, kind, where, notes)
        for block, kind, where in blocks(given, place)
    ]


def joined(parts: list[Chat], between: str = BETWEEN) -> str | list[Chat]:
    """Parts as content: one text where that loses nothing, since some servers take no other content."""
    if any(part["type"] != "text" or "cache_control" in part for part in parts):
        return parts
    return between.join(part["text"] for part in parts)


def marked(part: Chat, block: Chat, place: str) -> Chat:
    """The part with the block's mark for the prompt cache, if it has one."""
    mark = optional(block, "cache_control", fields.obj, place)
    return part if mark is None else {**part, "cache_control": mark}


def _turn(parts: list[Chat]) -> list[Chat]:
    return [{"role": "user", "content": joined(parts)}] if parts else []


def _parts(block: Chat, kind: str, where: str, notes: Notes) -> list[Chat]:
    """What a block says, as parts of a user's message."""
    known = PARTS.get(kind)
    found = known(block, where, notes) if known is not None else [_untold(block, kind, where, notes)]
    found[-1] = marked(found[-1], block, where)
    return found


def _untold(block: Chat, kind: str, where: str, notes: Notes) -> Chat:
    notes.needs_native(where, kind)
    return {"type": "text", "text": jsonx.dumps(block).decode()}


def _marked_text(block: Chat, where: str) -> Chat:
    return marked({"type": "text", "text": member(block, "text", fields.text, where)}, block, where)


def _text(block: Chat, where: str, _notes: Notes) -> list[Chat]:
    return [_marked_text(block, where)]


def _image(block: Chat, where: str, notes: Notes) -> list[Chat]:
    source, kind, place = _source(block, where)
    if kind == "base64":
        return [{"type": "image_url", "image_url": {"url": _data_uri(source, place)}}]
    if kind == "url":
        return [{"type": "image_url", "image_url": {"url": member(source, "url", fields.name, place)}}]
    return [_untold(block, kind, place, notes)]


def _document(block: Chat, where: str, notes: Notes) -> list[Chat]:
    """A PDF as a file; what is text anyway as text, under its title."""
    source, kind, place = _source(block, where)
    titles = [optional(block, title, fields.text, where) for title in ("title", "context")]
    if (optional(block, "citations", fields.obj, where) or {}).get("enabled"):
        notes.left_out.append(f"{where}.citations")
    if kind == "base64":
        file = {"filename": titles[0] or "document.pdf", "file_data": _data_uri(source, place)}
        found: list[Chat] = [{"type": "file", "file": file}]
        titles[0] = None
    elif kind == "text":
        found = [{"type": "text", "text": member(source, "data", fields.text, place)}]
    elif kind == "content":
        inner = member(source, "content", fields.content, place)
        if isinstance(inner, str):
            found = [{"type": "text", "text": inner}]
        else:
            found = [
                part
                for one, kind_, there in blocks(inner, f"{place}.content")
                for part in _parts(one, kind_, there, notes)
            ]
    else:
        found = [_untold(block, kind, place, notes)]
    head = BETWEEN.join(title for title in titles if title)
    return [{"type": "text", "text": head}, *found] if head else found or [{"type": "text", "text": ""}]


def _search_result(block: Chat, where: str, notes: Notes) -> list[Chat]:
    inner = member(block, "content", fields.content, where)
    said = "".join(part["text"] for part in texts(inner, f"{where}.content", notes))
    head = (member(block, what, fields.text, where) for what in ("title", "source"))
    return [{"type": "text", "text": BETWEEN.join((*head, said))}]


def _result(block: Chat, where: str, notes: Notes) -> tuple[Chat, list[Chat]]:
    """The result of a tool, and what of it no message of a tool can hold, for the user's message after it."""
    tool = member(block, "tool_use_id", fields.name, where)
    given = optional(block, "content", fields.content, where) or ""
    parts: list[Chat] = [{"type": "text", "text": given}] if given and isinstance(given, str) else []
    attached: list[Chat] = []
    for one, kind, there in blocks(given, f"{where}.content") if isinstance(given, list) else ():
        found = _parts(one, kind, there, notes)
        if all(part["type"] == "text" for part in found):
            parts += found
        else:
            attached += found
    if attached:
        attached.insert(0, {"type": "text", "text": f"From the result of the tool call {tool}:"})
        parts = parts or [{"type": "text", "text": "The result follows."}]
    if optional(block, "is_error", fields.flag, where):
        said = parts[0]["text"] if parts else ""
        parts[:1] = [{**(parts or [{"type": "text"}])[0], "text": f"{FAILED}: {said}" if said else FAILED}]
    if parts:
        parts[-1] = marked(parts[-1], block, where)
    return {"role": "tool", "tool_call_id": tool, "content": joined(parts)}, attached


def _tool_use(block: Chat, where: str, notes: Notes) -> Chat:
    caller = optional(block, "caller", fields.obj, where) or {}
    if caller.get("type", DIRECT) != DIRECT:
        notes.needs_native(f"{where}.caller", str(caller["type"]))
    arguments = jsonx.dumps(member(block, "input", fields.obj, where)).decode()
    call = {"id": member(block, "id", fields.name, where), "type": "function"}
    call["function"] = {"name": member(block, "name", fields.name, where), "arguments": arguments}
    return marked(call, block, where)


def _source(block: Chat, where: str) -> tuple[Chat, str, str]:
    place = f"{where}.source"
    source: Chat = member(block, "source", fields.obj, where)
    return source, member(source, "type", fields.name, place), place


def _data_uri(source: Chat, place: str) -> str:
    kind, data = member(source, "media_type", fields.name, place), member(source, "data", fields.name, place)
    if any(char in kind for char in ";, "):
        raise bad(f"{place}.media_type", "must be a media type such as image/png")
    return f"data:{kind};base64,{data}"


PARTS: Final = {"text": _text, "image": _image, "document": _document, "search_result": _search_result}
