"""Answers of the Responses API: the object around them, its items, its usage; whole ones made of hub answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from services.dialects import openai
from services.dialects.responses_input import DETAILS, EXTRA, own_tools, seal
from services.errors import GatewayError, UpstreamError
from services.types import Call, Chat, Reply
from utils import jsonx

ECHOED: Final = ("instructions", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "top_logprobs")
ECHOED_IF_GIVEN: Final = ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier")
UNFINISHED: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
EMPTY: Final = "{}"  # arguments of a call that has none
MISSHAPEN: Final = (AttributeError, TypeError, LookupError, ValueError)
CODES: Final = frozenset(  # of failed answers; the last two are not in the published list, but sent and read
    {"rate_limit_exceeded", "invalid_prompt", "context_length_exceeded", "insufficient_quota"}
)
TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as its caller knows it."""

    name: str
    namespace: str | None = None
    is_custom: bool = False  # it takes plain text

    @property
    def prefix(self) -> str:
        """How the ids of its calls begin."""
        return "ctc" if self.is_custom else "fc"


def answer(call: Call, body: bytes) -> bytes:
    """A whole answer of the hub as one of this API.

    Raises:
        UpstreamError: it is none.
    """
    with misshapen("a completion"):
        hub = jsonx.loads(body)
        choice = hub["choices"][0]
        message, finish = choice["message"], text_of(choice.get("finish_reason"))
        made = frame(call, hub.get("model"), hub.get("service_tier"))
        items = _items(call, message, choice.get("logprobs"))
        finish_with(made, items, finish, hub.get("usage"))
    reply_of(call).whole = made
    return jsonx.dumps(made)


def reply_of(call: Call) -> Reply:
    """The answer in the making, which every call of this dialect has."""
    assert call.reply is not None  # noqa: S101 - see responses.call
    return call.reply


@contextmanager
def misshapen(what: str) -> Iterator[None]:
    """The block reads what an upstream said, which may have any shape.

    Raises:
        UpstreamError: saying that it is not `what`.
    """
    try:
        yield
    except MISSHAPEN as exc:
        raise UpstreamError(f"the upstream did not send {what}") from exc


def frame(call: Call, model: Any = None, service_tier: Any = None) -> Chat:
    """An answer before its first item: what was asked, and who answers."""
    asked, head = call.native or {}, reply_of(call).head
    reasoning = asked.get("reasoning") or {}
    made: Chat = {
        "id": head["id"],
        "object": "response",
        "created_at": call.started_ms // 1000,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        **{name: asked.get(name) for name in ECHOED},
        "model": model if isinstance(model, str) and model else call.body["model"],
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": head["previous_response_id"],
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": head["store"],
        "text": {"format": {"type": "text"}} | _given(asked.get("text")),
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in asked.get("tools") or ()],
        "truncation": "disabled",
        "metadata": asked.get("metadata") or {},
    }
    made |= {name: asked[name] for name in ECHOED_IF_GIVEN if asked.get(name) is not None}
    return made | ({"service_tier": service_tier} if isinstance(service_tier, str) else {})


def finish_with(made: Chat, items: list[Chat], finish: Any, usage: Any) -> None:
    """Complete the answer: its items, how it ended, and what it used."""
    reason = UNFINISHED.get(finish)
    if reason is not None and items and "status" in items[-1]:
        items[-1]["status"] = "incomplete"
    made |= {
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": items,
    }
    if (used := usage_of(usage)) is not None:
        made["usage"] = used


def usage_of(raw: Any) -> Chat | None:
    """Usage as this API says it, where the upstream said enough."""
    if not isinstance(raw, dict):
        return None
    given, output = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    if given is None or output is None:
        return None
    read, thought = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    return {
        "input_tokens": given,
        # OpenAI's SDK declares both (openai-python 3.52.0); its published document of May has the first alone.
        "input_tokens_details": {name: _count(read, name) or 0 for name in ("cached_tokens", "cache_write_tokens")},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": _count(thought, "reasoning_tokens") or 0},
        "total_tokens": given + output,
    }


def _count(holder: Any, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def failed(made: Chat, exc: GatewayError) -> Chat:
    """The answer, as far as it came, that ended with an error."""
    code = exc.code if exc.code in CODES else "rate_limit_exceeded" if exc.status == TOO_MANY else "server_error"
    return made | {"status": "failed", "error": {"code": code, "message": str(exc)}, "incomplete_details": None}


def error_of(exc: GatewayError, number: int) -> Chat:
    """An error as an event: as it is documented, and with the member that makes clients stop."""
    detail = openai.error_body(exc)["error"]
    return {"type": "error", "sequence_number": number, **{name: detail[name] for name in DOCUMENTED}, "error": detail}


DOCUMENTED: Final = ("code", "message", "param")


def item_id(call: Call, prefix: str, index: int) -> str:
    """The id of the item at this place; each belongs to one answer alone."""
    return f"{prefix}_{call.id.removeprefix('req_')}_{index}"


def message_item(name: str, parts: list[Chat], status: str = "completed") -> Chat:
    """What the assistant said."""
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(text: str, logprobs: list[Chat], annotations: list[Chat]) -> Chat:
    """A text of it."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def call_item(name: str, call_id: str, tool: Tool, arguments: str) -> Chat:
    """A call of a tool."""
    told: Chat = {"id": name, "type": "function_call", "status": "completed", "call_id": call_id, "name": tool.name}
    if tool.namespace is not None:
        told["namespace"] = tool.namespace
    if tool.is_custom:
        return told | {"type": "custom_tool_call", "input": text_in(arguments)}
    return told | {"arguments": arguments or EMPTY}


def reasoning_item(name: str, text: str, *, is_summary: bool, details: list[Any]) -> Chat:
    """What it thought, as a summary for those who asked for one."""
    item: Chat = {"id": name, "type": "reasoning", "summary": []}
    if text and is_summary:
        item["summary"] = [{"type": "summary_text", "text": text}]
    elif text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    return item | ({"encrypted_content": seal(details)} if details else {})


def wants_summary(call: Call) -> bool:
    """Whether reasoning shall come as a summary, which most clients show, rather than as it is."""
    reasoning = (call.native or {}).get("reasoning") or {}
    return bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def tools_of(call: Call) -> dict[str, Tool]:
    """The tools of the caller by the names they have in the hub format."""
    return {
        name: Tool(tool["name"], namespace, is_custom=tool["type"] == "custom")
        for name, tool, namespace in own_tools(call.native or {})
    }


def text_in(arguments: str) -> str:
    """The text in the arguments of a custom tool; all of them where a model did not keep to the form."""
    try:
        given = jsonx.loads(arguments)
    except jsonx.BadJson:
        return arguments
    text = given.get("input") if isinstance(given, dict) else None
    return text if isinstance(text, str) else arguments


def text_of(content: Any) -> str:
    """The text of a message or delta, which some servers send in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError("content")
    return content or ""


def details_of(message: Chat) -> list[Any]:
    """Reasoning that only its maker can read, in a message or delta. In a delta each piece has its place."""
    return [{name: value for name, value in detail.items() if name != "index"} for detail in message.get(DETAILS) or ()]


def extra_of(holder: Chat) -> Chat:
    """What a provider wants back with this message or call."""
    return {EXTRA: holder[EXTRA]} if isinstance(holder.get(EXTRA), dict) else {}


def logprobs_of(raw: Any) -> list[Chat]:
    """The log probabilities of a choice or delta."""
    return [
        {
            "token": entry["token"],
            "logprob": entry["logprob"],
            "bytes": entry.get("bytes") or [],
            "top_logprobs": [
                {"token": top["token"], "logprob": top["logprob"], "bytes": top.get("bytes") or []}
                for top in entry.get("top_logprobs") or ()
            ],
        }
        for entry in (raw or {}).get("content") or ()
    ]


def citations_of(raw: Any) -> list[Chat]:
    """The citations of a message or delta."""
    found = [entry["url_citation"] for entry in raw or () if entry.get("type") == "url_citation"]
    return [
        {
            "type": "url_citation",
            "url": cited["url"],
            "title": cited.get("title") or "",
            "start_index": cited.get("start_index") or 0,
            "end_index": cited.get("end_index") or 0,
        }
        for cited in found
    ]


def _items(call: Call, message: Chat, logprobs: Any) -> list[Chat]:
    """The items of a whole message: thought, text, calls."""
    items: list[Chat] = []
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    details = details_of(message)
    if thought or details:
        name = item_id(call, "rs", 0)
        items.append(reasoning_item(name, text_of(thought), is_summary=wants_summary(call), details=details))
    text, parts = text_of(message.get("content")), []
    if text:
        parts.append(text_part(text, logprobs_of(logprobs), citations_of(message.get("annotations"))))
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": text_of(message["refusal"])})
    if parts:
        items.append(message_item(item_id(call, "msg", len(items)), parts) | extra_of(message))
    known = tools_of(call)
    for tool in message.get("tool_calls") or ():
        function = tool["function"]
        called = known.get(function["name"]) or Tool(text_of(function["name"]))
        name = item_id(call, called.prefix, len(items))
        made = call_item(name, tool.get("id") or f"call_{name}", called, text_of(function.get("arguments")))
        items.append(made | extra_of(tool))
    return items


def _given(holder: Any) -> Chat:
    return {name: value for name, value in (holder or {}).items() if value is not None}


def _tool(tool: Chat) -> Chat:
    """A tool as it is told again: a function with all its members."""
    if tool["type"] != "function":
        return tool
    return {**tool, "parameters": tool.get("parameters"), "strict": tool.get("strict")}
