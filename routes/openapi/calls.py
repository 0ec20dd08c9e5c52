"""Operations of the surfaces for API keys: `/v1`, the proxy surface, routes of one's own, `/api/call`."""

from dataclasses import replace
from typing import Final

from routes.openapi import media
from routes.openapi.chats import CHAT_EXAMPLE, MESSAGE_EXAMPLE, RESPONSE_EXAMPLE
from routes.openapi.operations import EVENTS, JSON, KEY, KEY_OR_BODY, OF_CALLS, OPEN, Media, Operation, json, query
from routes.openapi.shapes import always, closed, either, one_of, opened, ref, text, whole

CHATS, MESSAGES, RESPONSES, OTHER = "OpenAI: chat", "Anthropic", "OpenAI: responses", "OpenAI: other"
MODELS, PROXY, ROUTES = "Models", "Proxy surface", "Routes of your own"

ANSWERED: Final = {
    "x-gateway-deployment": "Provider and model that answered.",
    "x-gateway-attempts": "How many times a provider was asked.",
}
_NOTED: Final = "The headers `X-CUSTOM-EVENT-ID` and `X-METADATA` are stored with the usage. "
_NAMED: Final = ("404",)
_CHAT: Final = Media({JSON: ref("Chat"), EVENTS: ref("Event")})
_COMPLETION: Final = Media({JSON: ref("Completion"), EVENTS: ref("Event")})
_MODEL: Final = json(either(ref("Model"), ref("AnthropicModel")))
_MODELS: Final = json(either(ref("ModelList"), ref("AnthropicModelList")))
_PAGED: Final = (
    query("limit", whole(minimum=1, maximum=1000), "Models on a page, for clients of Anthropic's API."),
    query("after_id", text(), "The page after that model, likewise."),
    query("before_id", text(), "The page before that model, likewise."),
)
_AS_CLIENT: Final = "With the header `anthropic-version` in the form of Anthropic's API."


def _call(tag: str, takes: Media, says: Media, note: str = _NOTED, who: str = KEY) -> Operation:
    """Something that a provider is asked for."""
    return Operation(tag, who, says, takes, refuses=OF_CALLS, headers=ANSWERED, note=note)


def _other(tag: str, name: str) -> Operation:
    """The same of an endpoint that is no chat."""
    return replace(_call(tag, *media.BODIES[name]), summary=media.WORDS[name])


_CALLS: Final = {
    "chat_completions": (json(ref("ChatRequest"), CHAT_EXAMPLE), _CHAT),
    "completions": (json(ref("CompletionRequest")), _COMPLETION),
    "embeddings": (json(ref("EmbeddingRequest")), json(ref("Embeddings"))),
}
_ANY_CALL: Final = either(ref("ChatRequest"), ref("CompletionRequest"), ref("EmbeddingRequest"))
_ANY_EXPLAINED: Final = either(_ANY_CALL, ref("ResponseRequest"), ref("MessageRequest"))
_TOKENS: Final = json(opened({"input_tokens": whole()}))
_WELCOME: Final = json(closed({"message": text()}), {"message": "Welcome to Tollhouse - Version 1"})

OPERATIONS: Final[dict[str, Operation]] = {
    **{f"llm.{name}": _call(CHATS, *bodies) for name, bodies in _CALLS.items()},
    "llm.chat_completions": replace(
        _call(CHATS, json(either(ref("ChatRequest"), ref("PromptCall")), CHAT_EXAMPLE), _CHAT),
        refuses=(*OF_CALLS, "422"),
        headers=ANSWERED | {"x-gateway-prompt": "The stored prompt that made it, as `name@3`."},
    ),
    **{f"proxy.{name}": _call(PROXY, *bodies) for name, bodies in _CALLS.items()},
    **{f"media.{name}": _other(OTHER, name) for name in media.BODIES},
    **{f"proxy.{name}": _other(PROXY, name) for name in media.BODIES},
    "calls_of_routes.call": _call(
        ROUTES,
        json(_ANY_CALL, CHAT_EXAMPLE),
        Media({JSON: either(ref("Chat"), ref("Completion"), ref("Embeddings")), EVENTS: ref("Event")}),
        "A call of the route with this path, which may have slashes. The `model` of the body counts for nothing.",
    ),
    "legacy.call": _call(
        CHATS,
        json(ref("PromptRequest"), {"model_name": "echo", "prompt": "Say hi"}),
        json(closed({"response": text()}), {"response": "Say hi"}),
        "The key may stand in the body too, as `user_api_key`.",
        KEY_OR_BODY,
    ),
    "llm.explain": Operation(CHATS, KEY, json(ref("Explanation")), json(_ANY_EXPLAINED, CHAT_EXAMPLE), refuses=_NAMED),
    "llm.models": Operation(MODELS, KEY, _MODELS, query=_PAGED, note=_AS_CLIENT),
    "llm.model": Operation(MODELS, KEY, _MODEL, refuses=_NAMED, note=_AS_CLIENT),
    "proxy.models": Operation(PROXY, KEY, json(ref("ModelList"))),
    "proxy.model": Operation(PROXY, KEY, json(ref("Model")), refuses=_NAMED),
    "llm.welcome": Operation(MODELS, OPEN, _WELCOME),
    "llm.health": Operation(MODELS, OPEN, json(closed({"status": always("ok")}), {"status": "ok"})),
    "messages.create": _call(
        MESSAGES, json(ref("MessageRequest"), MESSAGE_EXAMPLE), Media({JSON: ref("Message"), EVENTS: ref("Event")})
    ),
    "messages.count_tokens": Operation(
        MESSAGES, KEY, _TOKENS, json(ref("CountRequest"), MESSAGE_EXAMPLE), refuses=_NAMED
    ),
    "responses.create": _call(
        RESPONSES, json(ref("ResponseRequest"), RESPONSE_EXAMPLE), Media({JSON: ref("Response"), EVENTS: ref("Event")})
    ),
    "responses.retrieve": Operation(RESPONSES, KEY, json(ref("Response")), refuses=_NAMED),
    "responses.delete": Operation(
        RESPONSES,
        KEY,
        json(closed({"id": text(), "object": always("response"), "deleted": {"const": True}})),
        refuses=_NAMED,
    ),
    "responses.input_items": Operation(
        RESPONSES,
        KEY,
        json(ref("ResponseItems")),
        refuses=_NAMED,
        query=(
            query("limit", whole(minimum=1, maximum=100), "Items on a page."),
            query("order", one_of("asc", "desc"), "Oldest or newest first."),
            query("after", text(), "The page after that item."),
        ),
    ),
    "responses.cancel": Operation(RESPONSES, KEY, None, refuses=_NAMED),
    "responses.input_tokens": Operation(
        RESPONSES, KEY, _TOKENS, json(ref("ResponseRequest"), RESPONSE_EXAMPLE), refuses=_NAMED
    ),
}
