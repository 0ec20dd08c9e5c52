"""Chats that were translated from another dialect, as servers of OpenAI's dialect take them.

The hub format has members beyond OpenAI's: `cache_control` on parts, tools and tool calls, `thinking_blocks` on
messages, `top_k`. Many servers refuse what they do not know, some take no lists of texts as content, and OpenAI's newer
models want the output limit by another name. What callers of the dialect itself send is theirs and is left alone.
"""

from typing import Any, Final

from services.types import Chat

LIMIT: Final = "max_tokens"
NOT_OPENAIS: Final = ("top_k",)
THINKING: Final = "thinking_blocks"  # nobody but Anthropic reads them
REASONING: Final = "reasoning_content"  # many servers that give it want it back, OpenAI does not
REASONLESS: Final = ("gpt-3.5", "gpt-4", "chatgpt-")  # begin the names of models that refuse to be told how to reason
ONLY_TEXT: Final = {"type", "text"}


def plain(body: Chat, *, limit_field: str, without: tuple[str, ...], marks_cache: bool) -> Chat:
    """The body without what other vendors added, and its messages without these members.

    `marks_cache`: this server knows `cache_control`.
    """
    messages = [{name: value for name, value in given.items() if name not in without} for given in body["messages"]]
    sent = {**body, "messages": messages if marks_cache else [_unmarked_message(message) for message in messages]}
    if body.get("tools") and not marks_cache:
        sent["tools"] = [_unmarked(tool) for tool in body["tools"]]
    if LIMIT in sent:
        sent[limit_field] = sent.pop(LIMIT)
    return sent


def refused_by_openai(body: Chat, model: str) -> tuple[str, ...]:
    """The members that OpenAI itself refuses for this model, and that only tune the answer."""
    refused = NOT_OPENAIS + (("reasoning_effort",) if model.startswith(REASONLESS) else ())
    return tuple(name for name in refused if name in body)


def _unmarked_message(message: dict[str, Any]) -> dict[str, Any]:
    sent = dict(message)
    if isinstance(content := message.get("content"), list):
        parts = [_unmarked(part) for part in content]
        is_text = all(part.keys() == ONLY_TEXT for part in parts)
        sent["content"] = "\n\n".join(part["text"] for part in parts) if is_text else parts
    if message.get("tool_calls"):
        sent["tool_calls"] = [_unmarked(call) for call in message["tool_calls"]]
    return sent


def _unmarked(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "cache_control"}
