"""A call from before, loaded into the playground: what it said, where that is stored and the person may read it."""

from typing import Any, Final

from models import ApiKey, UsageRecord
from routes.admin.guard import actor
from routes.admin.texts import gettext
from services import rights
from services.dialects import ANTHROPIC, OPENAI, RESPONSES
from services.dialects.base import Dialect
from services.errors import InvalidRequest, NotFound
from services.types import CHAT, Caller, Chat
from utils import jsonx
from utils.extensions import db, gateway

OWN_MEMBERS: Final = ("system", "thinking", "stop_sequences")  # that only Anthropic's dialect has
OWN_PARTS: Final = frozenset({"image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"})
SHOWN: Final = ("data:", "https://", "http://")  # how the addresses of pictures begin that are still pictures


def of(caller: Caller, row: UsageRecord | None, request_id: str) -> dict[str, Any]:
    """{"request_id", "model", "body", "note"}: the request as a chat, or None and a sentence that says why not.

    Reading what somebody else's call said is in the audit log.
    """
    if row is None or not (row.user_id == caller.user_id or rights.has(caller.role, rights.READ)):
        return _told(request_id, note=gettext("There is no call of this number, or it is somebody else's."))
    if row.user_id != caller.user_id and not rights.has(caller.role, rights.CONTENT):
        return _told(request_id, row.model, note=gettext("What callers say is for admins only."))
    try:
        kept = gateway().bodies.find(caller, request_id, actor())["request"]
    except NotFound:
        kept = None
    if kept is None:
        return _told(request_id, row.model, note=_why_not(row))
    if kept.get("is_unreadable"):
        why = gettext("It was sealed with a key that is not in ENCRYPTION_KEYS any more.")
        return _told(request_id, row.model, note=why)
    body = _chat(caller, kept["body"], request_id)
    if body is None:
        why = gettext("What it sent was no conversation, or was stored cut off.")
        return _told(request_id, row.model, note=why)
    lost = _without_media(body)
    notes = [gettext("It was shortened when it was stored.")] if kept.get("is_shortened") else []
    notes += [gettext("Pictures are not stored; add them again.")] if lost else []
    return _told(request_id, row.model, body, " ".join(notes))


def _told(request_id: str, model: str = "", body: Chat | None = None, note: str = "") -> dict[str, Any]:
    return {"request_id": request_id, "model": model, "body": body, "note": note}


def _why_not(row: UsageRecord) -> str:
    """Why nothing is stored of what a call sent."""
    key = db.session.get(ApiKey, row.key_id) if row.key_id is not None else None
    if row.key_id is None:
        return gettext("Nothing is stored of what it said: no key was used, and only keys can ask for that.")
    if key is not None and not key.should_log_request:
        return gettext("Nothing is stored of what it said: its key does not ask for that.")
    return gettext("What it said is not stored, or not any more.")


def _chat(caller: Caller, body: Any, request_id: str) -> Chat | None:
    """The stored request as a chat of OpenAI's dialect; None = it is none."""
    if not isinstance(body, dict):
        return None
    try:
        return _dialect(body).call(CHAT, jsonx.dumps(_as_messages(body)), caller, request_id).body
    except InvalidRequest:
        return None


def _dialect(body: Chat) -> Dialect:
    """In which dialect a request is written, by what only that one has."""
    if "input" in body:
        return RESPONSES
    messages = body.get("messages")
    contents = [one.get("content") for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    parts = [part.get("type") for content in contents if isinstance(content, list) for part in content if _is(part)]
    tools = body.get("tools")
    has_schema = isinstance(tools, list) and any(_is(tool) and "input_schema" in tool for tool in tools)
    is_anthropic = has_schema or not OWN_PARTS.isdisjoint(map(str, parts)) or any(name in body for name in OWN_MEMBERS)
    return ANTHROPIC if is_anthropic else OPENAI


def _is(value: object) -> bool:
    return isinstance(value, dict)


def _as_messages(body: Chat) -> Chat:
    """A text to go on with is a message too."""
    prompt = body.get("prompt")
    if "messages" in body or not isinstance(prompt, str):
        return body
    rest = {name: value for name, value in body.items() if name != "prompt"}
    return rest | {"messages": [{"role": "user", "content": prompt}]}


def _without_media(body: Chat) -> bool:
    """Take out pictures of which only a note was stored; whether there were any."""
    is_lost = False
    for message in body["messages"]:
        content = message.get("content")
        if not isinstance(content, list):
            continue
        kept = [part for part in content if not _is_lost(part)]
        is_lost = is_lost or len(kept) < len(content)
        message["content"] = kept or ""
    return is_lost


def _is_lost(part: Chat) -> bool:
    if part.get("type") != "image_url":
        return bool(part.get("type") != "text")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return not (isinstance(url, str) and url.startswith(SHOWN))
