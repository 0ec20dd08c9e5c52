"""LangChain's classes for OpenAI: chats and responses, streams, tools, structured output, embeddings."""

import asyncio
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients.checks import (
    AFTER_TOOLS,
    LISBON,
    NO_SUCH,
    SAID,
    SYSTEM,
    TEXT,
    TOOLS,
    City,
    Gateway,
    Usages,
    main,
    refused,
)

MESSAGES = [SystemMessage(SYSTEM), HumanMessage(SAID)]


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny" if city == "Lisbon" else city


@tool
def clock(zone: str) -> str:
    """The time in a zone."""
    return "noon" if zone == "Lisbon" else zone


BOTH = [weather, clock]


def model_of(gateway: Gateway, **more: Any) -> ChatOpenAI:
    given = {"model": gateway.model, "base_url": gateway.base_url, "api_key": gateway.key, "max_retries": 0}
    return ChatOpenAI(**{**given, **more})


def counts(message: AIMessage) -> tuple[int, int]:
    usage = message.usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["cache_read"] == 40
    return usage["input_tokens"], usage["output_tokens"]


def plain(gateway: Gateway) -> Usages:
    message = model_of(gateway).invoke(MESSAGES)
    assert message.text == TEXT, message
    assert message.response_metadata["finish_reason"] == "stop"
    return [counts(message)]


def stream(gateway: Gateway) -> Usages:
    return [_streamed(model_of(gateway, stream_usage=True))]


def _streamed(model: ChatOpenAI) -> tuple[int, int]:
    chunks = list(model.stream(MESSAGES))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert len(chunks) > 3, "it came in pieces"
    assert whole.text == TEXT, whole
    return counts(whole)


def stream_async(gateway: Gateway) -> Usages:
    async def ask() -> str:
        return "".join([chunk.text async for chunk in model_of(gateway).astream(MESSAGES)])

    assert asyncio.run(ask()) == TEXT
    return []


def tools(gateway: Gateway) -> Usages:
    return _round_trip(model_of(gateway).bind_tools(BOTH))


def tools_streamed(gateway: Gateway) -> Usages:
    return _round_trip(model_of(gateway, streaming=True, stream_usage=True).bind_tools(BOTH))


def _round_trip(model: Any) -> Usages:
    first = model.invoke([HumanMessage(SAID)])
    made = [(call["name"], call["args"]) for call in first.tool_calls]
    assert made == [(name, {argument: "Lisbon"}) for name, (argument, _result) in TOOLS.items()], first
    results = [by_name.invoke(call) for call, by_name in zip(first.tool_calls, BOTH, strict=True)]
    assert all(isinstance(result, ToolMessage) for result in results)
    second = model.invoke([HumanMessage(SAID), first, *results])
    assert second.text == AFTER_TOOLS, second
    return [counts(first), counts(second)]


def structured(gateway: Gateway) -> Usages:
    for method in ("json_schema", "function_calling"):
        made = model_of(gateway).with_structured_output(City, method=method).invoke(SAID)
        assert made == LISBON, (method, made)
    return []


def responses(gateway: Gateway) -> Usages:
    model = model_of(gateway, use_responses_api=True)
    message = model.invoke(MESSAGES)
    assert message.text == TEXT, message
    return [counts(message), _streamed(model)]


def responses_tools(gateway: Gateway) -> Usages:
    return _round_trip(model_of(gateway, use_responses_api=True).bind_tools(BOTH)) + _round_trip(
        model_of(gateway, use_responses_api=True, use_previous_response_id=True).bind_tools(BOTH)
    )


def embeddings(gateway: Gateway) -> Usages:
    # Its own check of the length would load a vocabulary from the network and send numbers instead of texts.
    client = OpenAIEmbeddings(
        model=gateway.model,
        base_url=gateway.base_url,
        api_key=gateway.key,
        check_embedding_ctx_length=False,
        max_retries=0,
    )
    if not gateway.embeds:
        refused(openai.BadRequestError, lambda: client.embed_query("x"))
        return []
    assert client.embed_documents(["hello", "a"]) == [[0.625, -0.5], [0.125, -0.5]]
    assert client.embed_query("hello") == [0.625, -0.5]
    return []


def errors(gateway: Gateway) -> Usages:
    unknown = refused(openai.BadRequestError, lambda: model_of(gateway, model=NO_SUCH).invoke(SAID))
    assert unknown.code == "model_not_found"
    refused(openai.AuthenticationError, lambda: model_of(gateway, api_key="sk-wrong").invoke(SAID))
    return []


CHECKS = (
    plain,
    stream,
    stream_async,
    tools,
    tools_streamed,
    structured,
    responses,
    responses_tools,
    embeddings,
    errors,
)

if __name__ == "__main__":
    main(CHECKS)
