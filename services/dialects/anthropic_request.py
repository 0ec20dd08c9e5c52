"""From a Messages request to the hub format: roles, blocks, tools and tuning.

Source: Anthropic's OpenAPI document of 2026-05-31 and its Python SDK 2.12 (read 2026-11-21). What the hub format has no
word for is noted instead (`Notes`); in its place stands its JSON as text, so that counting tokens does not miss it.
"""

import hashlib
from typing import Any, Final

from services.dialects import anthropic_blocks as blocks
from services.dialects import anthropic_fields as fields
from services.dialects.anthropic_fields import Notes, bad, member
from services.errors import Unsupported
from services.types import Chat
from utils import jsonx

SAME: Final = ("temperature", "top_p", "top_k")  # they mean the same there
TRANSLATED: Final = frozenset(
    {"model", "messages", "system", "max_tokens", "stream", "stop_sequences", "tools", "tool_choice", "thinking"}
    | {"output_config", "output_format", "metadata", *SAME}
)
NATIVE: Final = ("mcp_servers", "container", "inference_geo")  # leaving one out would change what is done, or where
# The code on which the official SDKs, whose tool runner asks for a thread unasked, send the whole conversation instead.
NO_THREADS: Final = "thread_unsupported_request"
USUAL: Final = {"service_tier": "auto", "speed": "standard"}  # values that ask for nothing
CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
BUDGETS: Final = ((4096, "low"), (16_384, "medium"))  # thinking tokens below which an effort is meant; else high
MAX_USER_CHARS: Final = 64  # what OpenAI takes as a `user`; Claude Code's ids are longer
# Claude Code begins the system prompt with a line that is different in each request and meant for its vendor alone.
# It would keep any other provider from finding the prompt in its cache (anthropics/claude-code issue 68900).
BILLING: Final = "x-anthropic-billing-header:"


def hub(native: Chat, *, needs_limit: bool) -> tuple[Chat, Notes]:
    """The request in the hub format, and what that lacks. `needs_limit`: whether `max_tokens` must be there.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
        Unsupported: it belongs to a conversation that a provider is to remember.
    """
    fields.check(native, needs_limit=needs_limit)
    _no_thread(native)
    notes = Notes()
    body: Chat = {"model": native["model"], "messages": _system(native.get("system"), notes)}
    for index, message in enumerate(native["messages"]):
        body["messages"] += _message(message, f"messages.{index}", notes)
    if (limit := native.get("max_tokens")) is not None:
        body["max_tokens"] = limit
        if not limit:
            notes.needs_native("max_tokens", "0, which only fills the prompt cache")
    body |= {same: native[same] for same in SAME if native.get(same) is not None}
    body |= _tools(native, notes) | _thinking(native, notes) | _format(native, notes) | _rest(native, notes)
    return body, notes


def _no_thread(native: Chat) -> None:
    """Nothing that a provider remembers may be needed.

    A fallback has never heard of it, nobody here knows how many tokens it has, and the keys of a gateway share an
    account there, so that one could go on with the conversation of another.
    """
    if native.get("thread"):
        told = "`thread` cannot be used here: no provider keeps conversations for this gateway. Send the whole one."
        raise Unsupported(told, param="thread", code=NO_THREADS)


def own_thinking_removed(native: Chat) -> Chat:
    """The request without thinking that nobody signed.

    Providers other than Anthropic sign nothing, and Anthropic refuses what is not signed; so a conversation that went
    to both would end there.
    """
    messages = native["messages"]
    if not any(_is_unsigned(block) for message in messages for block in _blocks(message)):
        return native
    return {**native, "messages": [_signed_only(message) for message in messages]}


def _signed_only(message: Chat) -> Chat:
    kept = [block for block in _blocks(message) if not _is_unsigned(block)]
    return {**message, "content": kept} if kept else message


def _blocks(message: Chat) -> list[Chat]:
    content = message["content"]
    return content if isinstance(content, list) and message["role"] == "assistant" else []


def _is_unsigned(block: Chat) -> bool:
    return bool(block["type"] == "thinking" and not block.get("signature"))


def _system(given: Any, notes: Notes) -> list[Chat]:
    """The message that stands for the system prompt, if there is one."""
    parts = blocks.texts(given or [], "system", notes)
    for part in parts:
        if part["text"].startswith(BILLING):
            part["text"] = part["text"].partition("\n")[2]
    parts = [part for part in parts if part["text"]]
    return [{"role": "system", "content": blocks.joined(parts)}] if parts else []


def _message(message: Chat, place: str, notes: Notes) -> list[Chat]:
    role = message.get("role")
    if role not in fields.ROLES:
        raise bad(f"{place}.role", f"must be one of {', '.join(fields.ROLES)}")
    given = member(message, "content", fields.content, place)
    if isinstance(given, str):
        return [{"role": role, "content": given}]
    place += ".content"
    if role == "system":
        return [{"role": "system", "content": blocks.joined(blocks.texts(given, place, notes))}]
    return blocks.user(given, place, notes) if role == "user" else [blocks.assistant(given, place, notes)]


def _tools(native: Chat, notes: Notes) -> Chat:
    tools = [_tool(tool, f"tools.{index}", notes) for index, tool in enumerate(native.get("tools") or ())]
    given = native.get("tool_choice")
    choice = {"type": "auto"} if given is None else given
    kind = member(choice, "type", fields.name, "tool_choice")
    is_single = fields.optional(choice, "disable_parallel_tool_use", fields.flag, "tool_choice")
    wanted: Any = CHOICES.get(kind)
    if kind == "tool":
        wanted = {"type": "function", "function": {"name": member(choice, "name", fields.name, "tool_choice")}}
    if wanted is None:
        raise bad("tool_choice.type", f"must be one of {', '.join([*CHOICES, 'tool'])}")
    if not tools:
        return {}
    found: Chat = {"tools": tools} | ({} if given is None else {"tool_choice": wanted})
    return found | ({"parallel_tool_calls": False} if is_single else {})


def _tool(tool: Chat, place: str, notes: Notes) -> Chat:
    """One tool; those that Anthropic runs or defines itself are for its own API alone."""
    kind = tool.get("type")
    if kind not in (None, "custom"):
        notes.needs_native(place, str(kind))
        return {"type": "function", "function": {"name": str(kind), "description": jsonx.dumps(tool).decode()}}
    function: Chat = {"name": member(tool, "name", fields.name, place)}
    if (said := fields.optional(tool, "description", fields.text, place)) is not None:
        function["description"] = said
    function["parameters"] = member(tool, "input_schema", fields.obj, place)
    if (is_strict := fields.optional(tool, "strict", fields.flag, place)) is not None:
        function["strict"] = is_strict
    callers = tool.get("allowed_callers")
    if isinstance(callers, list) and callers and "direct" not in callers:
        notes.needs_native(f"{place}.allowed_callers", "not by the model itself")
    if tool.get("input_examples"):
        notes.left_out.append(f"{place}.input_examples")
    return blocks.marked({"type": "function", "function": function}, tool, place)


def _thinking(native: Chat, notes: Notes) -> Chat:
    """How hard the model shall think, as an effort; without a word on it, as it likes."""
    thinking, config = native.get("thinking"), native.get("output_config") or {}
    effort = fields.optional(config, "effort", fields.text, "output_config")
    kind = "adaptive" if thinking is None else member(thinking, "type", fields.name, "thinking")
    budget = None
    if thinking is not None and kind == "enabled":
        budget = member(thinking, "budget_tokens", fields.whole(1), "thinking")
    if effort is not None and (kind == "disabled" or effort not in EFFORTS):
        notes.left_out.append("output_config.effort")
        effort = None
    if effort is not None:
        return {"reasoning_effort": EFFORTS[effort]}
    if budget is not None:
        return {"reasoning_effort": next((said for below, said in BUDGETS if budget < below), "high")}
    if kind not in ("adaptive", "disabled"):
        notes.left_out.append("thinking")
    return {}


def _format(native: Chat, notes: Notes) -> Chat:
    """The form of the answer; `output_format` is the name it had in the beta."""
    config = native.get("output_config") or {}
    notes.left_out += [f"output_config.{name}" for name in config if name not in ("effort", "format")]
    place, given = "output_config.format", fields.optional(config, "format", fields.obj, "output_config")
    if given is None:
        place, given = "output_format", native.get("output_format")
    if given is None:
        return {}
    kind = member(given, "type", fields.name, place)
    if kind != "json_schema":
        notes.needs_native(place, kind)
        return {}
    schema = member(given, "schema", fields.obj, place)
    wanted = {"name": "answer", "schema": schema, "strict": _is_closed(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _is_closed(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes the schema: every object there lists all its members and needs each."""
    layer = [schema]
    while layer:
        below: list[Any] = []
        for part in layer:
            if not isinstance(part, dict):
                below += part if isinstance(part, list) else []
                continue
            properties = part.get("properties")
            if part.get("type") == "object" or isinstance(properties, dict):
                names = set(properties) if isinstance(properties, dict) else set()
                needed = part.get("required")
                if part.get("additionalProperties") is not False or not names <= _strings(needed):
                    return False
            below += part.values()
        layer = below
    return True


def _strings(value: Any) -> set[str]:
    return {entry for entry in value if isinstance(entry, str)} if isinstance(value, list) else set()


def _rest(native: Chat, notes: Notes) -> Chat:
    """The small members, and a note on what no translation has."""
    found: Chat = {}
    if native.get("stream"):
        found["stream"] = True
    if native.get("stop_sequences"):
        found["stop"] = native["stop_sequences"]
    user = fields.optional(native.get("metadata") or {}, "user_id", fields.text, "metadata")
    if user is not None:
        found["user"] = user if len(user) <= MAX_USER_CHARS else hashlib.sha256(user.encode()).hexdigest()
    for other in NATIVE:
        if native.get(other):
            notes.needs_native(other, "not known to other APIs")
    notes.left_out += [
        other
        for other, value in native.items()
        if value is not None and other not in TRANSLATED and other not in NATIVE and value != USUAL.get(other)
    ]
    return found
