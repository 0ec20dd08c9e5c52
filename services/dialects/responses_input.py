"""From a request of the Responses API to the hub format: items become messages, flat tools become nested ones."""

import base64
from collections.abc import Iterator
from typing import Any, Final

from services.dialects.responses_fields import kind_of
from services.errors import InvalidRequest, Unsupported
from services.types import Chat
from utils import jsonx

SAME: Final = (  # called the same in both
    "temperature",
    "top_p",
    "top_logprobs",
    "user",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
)
ANSWERED: Final = frozenset(  # translated, or answered by the gateway itself
    {
        "model",
        "input",
        "instructions",
        "stream",
        "stream_options",
        "store",
        "previous_response_id",
        "background",
        "conversation",
        "prompt",
        "max_output_tokens",
        "max_tool_calls",  # counts calls of hosted tools alone
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "include",
        "metadata",
    }
)
RUN_BY_CALLERS: Final = frozenset({"function", "custom"})
NAMESPACE: Final = "namespace"
OPTIONAL: Final = frozenset({"web_search", "web_search_2025_08_26", "web_search_preview", "image_generation"})
MAX_NAME: Final = 64  # characters of a function's name, at most providers
PAST: Final = "previous_response_id"
TEXTS: Final = frozenset({"input_text", "output_text", "text"})
SEALED: Final = "tollhouse."  # how reasoning begins that was sealed here rather than by OpenAI
THOUGHT: Final = "reasoning_content"
DETAILS: Final = "thinking_blocks"  # the hub's member for reasoning that only its maker can read
EXTRA: Final = "extra_content"  # … and for what its maker wants back with a text or a call of a tool


def translate(native: Chat, *, past: int = 0) -> tuple[Chat, Unsupported | None, tuple[str, ...]]:
    """The request in the hub format, why only OpenAI itself can serve it, and which of its members are lost.

    `past`: how many of the items were said before.

    Raises:
        InvalidRequest: sealed reasoning that was changed.
    """
    said = Conversation()
    if native.get("instructions"):
        said.messages.append({"role": "system", "content": native["instructions"]})
    for index, item in enumerate(items_of(native.get("input"))):
        said.add(item, f"input.{index - past}" if index >= past else PAST)
    said.end()
    tools, choice, foreign, left_out = _tools(native)
    body: Chat = {"model": native["model"], "messages": said.messages}
    body |= {name: native[name] for name in (*SAME, "stream") if native.get(name) is not None}
    if native.get("max_output_tokens") is not None:
        body["max_tokens"] = native["max_output_tokens"]
    if native.get("top_logprobs") or "message.output_text.logprobs" in (native.get("include") or ()):
        body["logprobs"] = True
    if tools:
        body |= {"tools": tools} | ({} if choice is None else {"tool_choice": choice})
        if native.get("parallel_tool_calls") is not None:
            body["parallel_tool_calls"] = native["parallel_tool_calls"]
    body |= _words(native)
    place = PAST if (said.foreign or "").startswith(PAST) else said.foreign
    place = place or foreign or ("prompt" if native.get("prompt") else None)
    return body, _why(place), (*_lost(native), *left_out)


def items_of(given: Any) -> list[Chat]:
    """The input as items."""
    if isinstance(given, list):
        return given
    return [] if given is None else [{"type": "message", "role": "user", "content": given}]


def seal(details: list[Any]) -> str:
    """Reasoning that only its maker can read, as its caller keeps it and sends it back."""
    return SEALED + base64.urlsafe_b64encode(jsonx.dumps(details)).decode()


class Conversation:
    """Messages of the hub format, made of items one after the other."""

    def __init__(self) -> None:
        self.messages: list[Chat] = []
        self.foreign: str | None = None  # the first thing that only OpenAI itself understands
        self._thought: Chat = {}  # of the assistant's next message
        self._pictures: list[Chat] = []  # of tools, whose messages can have none

    def add(self, item: Chat, place: str) -> None:
        """Go on with an item that was checked."""
        kind = kind_of(item)
        if kind in ("function_call_output", "custom_tool_call_output"):
            self._result(item, f"{place}.output")
            return
        self.end()
        if kind == "message":
            self._message(item, f"{place}.content")
        elif kind in ("function_call", "custom_tool_call"):
            self._call(item)
        elif kind == "reasoning":
            self._think(item, place)
        elif kind != "item_reference":  # which is replaced by what it means before anything is sent
            self.foreign = self.foreign or place

    def end(self) -> None:
        """No further result of a tool follows."""
        if self._pictures:
            self.messages.append({"role": "user", "content": self._pictures})
            self._pictures = []

    def _message(self, item: Chat, place: str) -> None:
        role = "system" if item["role"] == "developer" else item["role"]  # servers know the elder word
        parts = self._parts(item["content"], place)
        is_plain = all(part["type"] == "text" for part in parts) and (role == "assistant" or not parts[1:])
        message: Chat = {"role": role, "content": "".join(part["text"] for part in parts) if is_plain else parts}
        if role == "assistant":
            message |= self._thought | _extra(item)
        self._thought = {}
        self.messages.append(message)

    def _call(self, item: Chat) -> None:
        """Calls in a row are one message, with the text that went before."""
        is_custom = item["type"] == "custom_tool_call"
        arguments = jsonx.dumps({"input": item["input"]}).decode() if is_custom else item["arguments"]
        call = {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": hub_name(item["name"], item.get("namespace")), "arguments": arguments or "{}"},
            **_extra(item),
        }
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": None})
        message = self.messages[-1]
        message |= _joined(message, self._thought)
        self._thought = {}
        message.setdefault("tool_calls", []).append(call)

    def _result(self, item: Chat, place: str) -> None:
        parts = self._parts(item["output"], place)
        texts = [part for part in parts if part["type"] == "text"]
        self._pictures += [part for part in parts if part["type"] != "text"]
        content = texts if len(texts) > 1 else "".join(part["text"] for part in texts)
        self.messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})

    def _think(self, item: Chat, place: str) -> None:
        text = "\n".join(part["text"] for part in item.get("content") or item.get("summary") or ())
        thought: Chat = {THOUGHT: text} if text else {}
        if details := _opened(item, f"{place}.encrypted_content"):
            thought[DETAILS] = details
        self._thought |= _joined(self._thought, thought)

    def _parts(self, content: Any, place: str) -> list[Chat]:
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        found = []
        for index, part in enumerate(content):
            if (made := _part(part)) is not None:
                found.append(made)
            else:
                self.foreign = self.foreign or f"{place}.{index}"
        return found


def _extra(item: Chat) -> Chat:
    return {EXTRA: item[EXTRA]} if isinstance(item.get(EXTRA), dict) else {}


def _joined(earlier: Chat, thought: Chat) -> Chat:
    """What was thought before and after, as one."""
    found = dict(thought)
    if THOUGHT in earlier and THOUGHT in thought:
        found[THOUGHT] = f"{earlier[THOUGHT]}\n{thought[THOUGHT]}"
    if DETAILS in earlier and DETAILS in thought:
        found[DETAILS] = earlier[DETAILS] + thought[DETAILS]
    return found


def _part(part: Chat) -> Chat | None:
    """A part of content in the hub format; None where that has no word for it."""
    kind = part["type"]
    if kind in TEXTS:
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    if kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and (part.get("file_data") or part.get("file_id")):
        names = ("filename", "file_data", "file_id")
        return {"type": "file", "file": {name: part[name] for name in names if part.get(name)}}
    return {"type": kind, "input_audio": part["input_audio"]} if kind == "input_audio" else None


def _opened(item: Chat, place: str) -> list[Any]:
    """What `seal` sealed. What OpenAI sealed is nothing to others."""
    sealed = item.get("encrypted_content") or ""
    if not sealed.startswith(SEALED):
        return []
    try:
        details = jsonx.loads(base64.urlsafe_b64decode(sealed.removeprefix(SEALED)))
    except ValueError as exc:
        raise InvalidRequest(f"`{place}` is not as it was given.", param=place) from exc
    if not isinstance(details, list):
        raise InvalidRequest(f"`{place}` is not as it was given.", param=place)
    return details


def own_tools(native: Chat) -> Iterator[tuple[str, Chat, str | None]]:
    """The tools that the caller itself runs: the hub's name of each, the tool, and the namespace it stands in."""
    for tool in native.get("tools") or ():
        if tool["type"] in RUN_BY_CALLERS:
            yield tool["name"], tool, None
        elif tool["type"] == NAMESPACE:
            for inner in tool["tools"]:
                if inner["type"] in RUN_BY_CALLERS:
                    yield hub_name(inner["name"], tool["name"]), inner, tool["name"]


def hub_name(name: str, namespace: str | None) -> str:
    """The one name that a tool has in the hub format."""
    return f"{namespace}__{name}"[-MAX_NAME:] if namespace else name


def _tools(native: Chat) -> tuple[list[Chat], Any, str | None, tuple[str, ...]]:
    """The tools, which of them is wanted, the first one that only OpenAI itself has, and those that are not offered.

    A hosted tool that a model may use, or not, is left out where there are others to choose from: clients offer a
    search of the web with every request. One that must be used, or that is all there is, cannot be had.
    """
    tools = [_nested(name, tool) for name, tool, _space in own_tools(native)]
    choice = native.get("tool_choice")
    hosted = {
        index: tool["type"]
        for index, tool in enumerate(native.get("tools") or ())
        if tool["type"] not in RUN_BY_CALLERS and tool["type"] != NAMESPACE
    }
    may_choose = bool(tools) and choice in (None, "auto", "none")
    foreign = [index for index, kind in hosted.items() if not (may_choose and kind in OPTIONAL)]
    place = f"tools.{foreign[0]}" if foreign else None
    left = tuple(sorted({f"tools.{kind}" for kind in hosted.values()}))
    if not isinstance(choice, dict):
        return tools, choice, place, left
    if choice["type"] in RUN_BY_CALLERS:
        name = hub_name(choice["name"], choice.get("namespace"))
        return tools, {"type": "function", "function": {"name": name}}, place, left
    if choice["type"] == "allowed_tools":
        names = {tool.get("name") for tool in choice["tools"]}
        allowed = {name for name, tool, space in own_tools(native) if not names.isdisjoint({name, tool["name"], space})}
        chosen = [tool for tool in tools if tool["function"]["name"] in allowed]
        return chosen, choice.get("mode") or "auto", place, left
    return tools, None, place or "tool_choice", left


def _nested(name: str, tool: Chat) -> Chat:
    """A tool as the hub has it. A custom one, which takes plain text, is a function with the text as its argument."""
    if tool["type"] == "function":
        names = ("description", "parameters", "strict")
        told = {name: tool[name] for name in names if tool.get(name) is not None}
        return {"type": "function", "function": {"name": name, **told}}
    shape = tool.get("format")
    grammar = shape.get("definition") if isinstance(shape, dict) else None
    texts = [tool.get("description"), f"The input must match this grammar:\n{grammar}" if grammar else None]
    parameters = {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    described = "\n\n".join(text for text in texts if text)
    return {"type": "function", "function": {"name": name, "description": described, "parameters": parameters}}


def _words(native: Chat) -> Chat:
    """What `text` and `reasoning` ask for."""
    text, reasoning = native.get("text") or {}, native.get("reasoning") or {}
    found: Chat = {}
    shape = text.get("format") or {}
    if shape.get("type") == "json_object":
        found["response_format"] = {"type": "json_object"}
    elif shape.get("type") == "json_schema":
        names = ("name", "description", "schema", "strict")
        schema = {name: shape[name] for name in names if shape.get(name) is not None}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    if text.get("verbosity"):
        found["verbosity"] = text["verbosity"]
    if reasoning.get("effort"):
        found["reasoning_effort"] = reasoning["effort"]
    return found


def _lost(native: Chat) -> tuple[str, ...]:
    """Members that tune an answer and that the hub format has no word for."""
    plain = {**native, "truncation": None} if native.get("truncation") == "disabled" else native
    return tuple(sorted(name for name, value in plain.items() if value and name not in ANSWERED and name not in SAME))


def _why(place: str | None) -> Unsupported | None:
    if place is None:
        return None
    return Unsupported(
        f"`{place}` is something that only OpenAI's own Responses API can serve, "
        "and no provider of this model has that; send the request without it.",
        param=place,
    )
