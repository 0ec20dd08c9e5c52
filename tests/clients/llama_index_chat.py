"""LlamaIndex's classes for OpenAI-like servers: chat, completion, streams, tools, structured output, embeddings."""

from typing import Any

import openai
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike

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

MESSAGES = [ChatMessage(role=MessageRole.SYSTEM, content=SYSTEM), ChatMessage(role=MessageRole.USER, content=SAID)]


def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny" if city == "Lisbon" else city


def clock(zone: str) -> str:
    """The time in a zone."""
    return "noon" if zone == "Lisbon" else zone


BOTH = [FunctionTool.from_defaults(weather), FunctionTool.from_defaults(clock)]


def llm_of(gateway: Gateway, **more: Any) -> OpenAILike:
    return OpenAILike(
        **{
            "model": gateway.model,
            "api_base": gateway.base_url,
            "api_key": gateway.key,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "should_use_structured_outputs": True,
            "max_retries": 0,
            **more,
        }
    )


def counts(usage: Any) -> tuple[int, int]:
    assert usage.prompt_tokens_details.cached_tokens == 40
    return usage.prompt_tokens, usage.completion_tokens


def plain(gateway: Gateway) -> Usages:
    answer = llm_of(gateway).chat(MESSAGES)
    assert answer.message.content == TEXT, answer
    return [counts(answer.raw.usage)]


def complete(gateway: Gateway) -> Usages:
    answer = llm_of(gateway).complete(SAID)
    assert answer.text == f"You said: {SAID} — ça va?", answer
    return [counts(answer.raw.usage)]


def stream(gateway: Gateway) -> Usages:
    chunks = list(llm_of(gateway).stream_chat(MESSAGES))
    assert len(chunks) > 3, "it came in pieces"
    assert "".join(chunk.delta or "" for chunk in chunks) == TEXT
    return []


def tools(gateway: Gateway) -> Usages:
    llm = llm_of(gateway)
    first = llm.chat_with_tools(BOTH, user_msg=SAID, allow_parallel_tool_calls=True)
    second = llm.chat_with_tools(BOTH, chat_history=_answered(llm, first))
    assert second.message.content == AFTER_TOOLS, second
    return [counts(first.raw.usage), counts(second.raw.usage)]


def tools_streamed(gateway: Gateway) -> Usages:
    llm = llm_of(gateway)
    *_rest, first = llm.stream_chat_with_tools(BOTH, user_msg=SAID, allow_parallel_tool_calls=True)
    *_rest, second = llm.stream_chat_with_tools(BOTH, chat_history=_answered(llm, first))
    assert second.message.content == AFTER_TOOLS, second
    return []


def _answered(llm: Any, first: Any) -> list[ChatMessage]:
    calls = llm.get_tool_calls_from_response(first)
    made = [(call.tool_name, call.tool_kwargs) for call in calls]
    assert made == [(name, {argument: "Lisbon"}) for name, (argument, _result) in TOOLS.items()], first
    results = [
        ChatMessage(
            role=MessageRole.TOOL,
            content=str(by_name(**call.tool_kwargs)),
            additional_kwargs={"tool_call_id": call.tool_id},
        )
        for call, by_name in zip(calls, BOTH, strict=True)
    ]
    return [ChatMessage(role=MessageRole.USER, content=SAID), first.message, *results]


def structured(gateway: Gateway) -> Usages:
    answer = llm_of(gateway).as_structured_llm(City).chat(MESSAGES)
    assert answer.raw == LISBON, answer
    program = FunctionCallingProgram.from_defaults(City, prompt_template_str=SAID, llm=llm_of(gateway))
    assert program() == LISBON
    return []


def responses(gateway: Gateway) -> Usages:
    llm = OpenAIResponses(
        model=gateway.model, api_base=gateway.base_url, api_key=gateway.key, max_retries=0, context_window=100_000
    )
    answer = llm.chat(MESSAGES)
    assert answer.message.content == TEXT, answer
    assert "".join(chunk.delta or "" for chunk in llm.stream_chat(MESSAGES)) == TEXT
    first = llm.chat_with_tools(BOTH, user_msg=SAID, allow_parallel_tool_calls=True)
    history = _answered(llm, first)
    for message in history[2:]:
        message.additional_kwargs = {"call_id": message.additional_kwargs["tool_call_id"]}
    assert llm.chat_with_tools(BOTH, chat_history=history).message.content == AFTER_TOOLS
    return [(answer.raw.usage.input_tokens, answer.raw.usage.output_tokens)]


def embeddings(gateway: Gateway) -> Usages:
    client = OpenAIEmbedding(model_name=gateway.model, api_base=gateway.base_url, api_key=gateway.key, max_retries=0)
    if not gateway.embeds:
        refused(openai.BadRequestError, lambda: client.get_text_embedding("x"))
        return []
    assert client.get_text_embedding_batch(["hello", "a"]) == [[0.625, -0.5], [0.125, -0.5]]
    assert client.get_query_embedding("hello") == [0.625, -0.5]
    return []


def errors(gateway: Gateway) -> Usages:
    unknown = refused(openai.BadRequestError, lambda: llm_of(gateway, model=NO_SUCH).chat(MESSAGES))
    assert unknown.code == "model_not_found"
    refused(openai.AuthenticationError, lambda: llm_of(gateway, api_key="sk-wrong").chat(MESSAGES))
    return []


CHECKS = (plain, complete, stream, tools, tools_streamed, structured, responses, embeddings, errors)

if __name__ == "__main__":
    main(CHECKS)
