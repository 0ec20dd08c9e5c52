"""OpenAI's own SDK for Python: chat, streams, tools, parsed outputs, responses, embeddings, errors."""

import asyncio
import json
from typing import Any

import openai

from tests.clients.checks import (
    AFTER_TOOLS,
    BUSY,
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

MESSAGES: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": SAID}]
SCHEMAS = {
    name: {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    for name, (argument, _result) in TOOLS.items()
}
CHAT_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": schema}}
    for name, schema in SCHEMAS.items()
]
RESPONSE_TOOLS: list[Any] = [
    {"type": "function", "name": name, "description": f"The {name}.", "parameters": schema, "strict": False}
    for name, schema in SCHEMAS.items()
]


def client_of(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0)


def counts(usage: Any) -> tuple[int, int]:
    """The tokens of a chat; the fake vendors have 40 in their cache."""
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens == 40
    return usage.prompt_tokens, usage.completion_tokens


def response_counts(usage: Any) -> tuple[int, int]:
    assert usage.input_tokens_details.cached_tokens == 40
    return usage.input_tokens, usage.output_tokens


def plain(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        chat = client.chat.completions.create(model=gateway.model, messages=MESSAGES)
        assert chat.choices[0].message.content == TEXT, chat
        assert chat.choices[0].finish_reason == "stop"
        assert chat.model.startswith(("gpt-4o-mini", gateway.model)), chat.model
        assert (chat._request_id or "").startswith("req_")
        return [counts(chat.usage)]


def stream(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        chunks = list(client.chat.completions.create(model=gateway.model, messages=MESSAGES, stream=True))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage that nobody asked for"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
        options: Any = {"include_usage": True}
        with client.chat.completions.stream(model=gateway.model, messages=MESSAGES, stream_options=options) as streamed:
            kinds = [event.type for event in streamed]
            final = streamed.get_final_completion()
        assert kinds.count("content.delta") > 3, "it came in pieces"
        assert final.choices[0].message.content == TEXT
        return [counts(final.usage)]


def stream_async(gateway: Gateway) -> Usages:
    async def ask() -> Usages:
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client:
            text, usage = "", None
            chat = client.chat.completions
            options: Any = {"include_usage": True}
            made = await chat.create(model=gateway.model, messages=MESSAGES, stream=True, stream_options=options)
            async for chunk in made:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                usage = chunk.usage or usage
            assert text == TEXT
            return [counts(usage)]

    return asyncio.run(ask())


def _results(calls: Any) -> list[Any]:
    assert [call.function.name for call in calls] == list(TOOLS)
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Lisbon"}, {"zone": "Lisbon"}]
    assert len({call.id for call in calls}) == len(calls)
    return [{"role": "tool", "tool_call_id": call.id, "content": TOOLS[call.function.name][1]} for call in calls]


def tools(gateway: Gateway) -> Usages:
    asked: list[Any] = MESSAGES[1:]
    with client_of(gateway) as client:
        first = client.chat.completions.create(model=gateway.model, messages=asked, tools=CHAT_TOOLS)
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        history = [*asked, message.model_dump(exclude_none=True), *_results(message.tool_calls)]
        second = client.chat.completions.create(model=gateway.model, messages=history, tools=CHAT_TOOLS)
        assert second.choices[0].message.content == AFTER_TOOLS
        return [counts(first.usage), counts(second.usage)]


def tools_streamed(gateway: Gateway) -> Usages:
    asked: list[Any] = MESSAGES[1:]
    more: Any = {"model": gateway.model, "tools": CHAT_TOOLS, "stream_options": {"include_usage": True}}
    with client_of(gateway) as client:
        with client.chat.completions.stream(messages=asked, **more) as streamed:
            first = streamed.get_final_completion()
        message = first.choices[0].message
        # Only what OpenAI knows goes back, as with clients that build their own history.
        sent = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in message.tool_calls or ()
        ]
        history = [*asked, {"role": "assistant", "tool_calls": sent}, *_results(message.tool_calls)]
        with client.chat.completions.stream(messages=history, **more) as streamed:
            second = streamed.get_final_completion()
        assert second.choices[0].message.content == AFTER_TOOLS
        return [counts(first.usage), counts(second.usage)]


def tool_named(gateway: Gateway) -> Usages:
    choice: Any = {"type": "function", "function": {"name": "clock"}}
    with client_of(gateway) as client:
        chat = client.chat.completions.create(
            model=gateway.model, messages=MESSAGES, tools=CHAT_TOOLS, tool_choice=choice
        )
        names = [call.function.name for call in chat.choices[0].message.tool_calls or ()]  # type: ignore[union-attr]  # only function tools are sent
        assert names == ["clock"]
        none = client.chat.completions.create(
            model=gateway.model, messages=MESSAGES, tools=CHAT_TOOLS, tool_choice="none"
        )
        assert none.choices[0].message.content == TEXT
        return [counts(chat.usage), counts(none.usage)]


def parse(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        chat = client.chat.completions.parse(model=gateway.model, messages=MESSAGES, response_format=City)
        assert chat.choices[0].message.parsed == LISBON
        with client.chat.completions.stream(model=gateway.model, messages=MESSAGES, response_format=City) as streamed:
            assert streamed.get_final_completion().choices[0].message.parsed == LISBON
        return [counts(chat.usage)]


def responses(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        whole = client.responses.create(model=gateway.model, input=SAID, instructions=SYSTEM)
        assert (whole.output_text, whole.status) == (TEXT, "completed")
        assert client.responses.retrieve(whole.id).output_text == TEXT
        with client.responses.stream(model=gateway.model, input="four", previous_response_id=whole.id) as streamed:
            kinds = [event.type for event in streamed]
            second = streamed.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds.count("response.output_text.delta") > 3
        assert second.output_text == "You said: four — ça va?"
        client.responses.delete(whole.id)
        refused(openai.NotFoundError, lambda: client.responses.retrieve(whole.id))
        return [response_counts(whole.usage), response_counts(second.usage)]


def responses_tools(gateway: Gateway) -> Usages:
    more: Any = {"model": gateway.model, "tools": RESPONSE_TOOLS}
    with client_of(gateway) as client:
        first = client.responses.create(input=SAID, **more)
        assert [(item.type, item.name) for item in first.output] == [("function_call", name) for name in TOOLS]
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": TOOLS[item.name][1]}
            for item in first.output
        ]
        kept = client.responses.create(input=results, previous_response_id=first.id, **more)
        assert kept.output_text == AFTER_TOOLS
        with client.responses.stream(input=SAID, **more) as streamed:
            calls = streamed.get_final_response().output
        assert [json.loads(call.arguments) for call in calls] == [{"city": "Lisbon"}, {"zone": "Lisbon"}]
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": TOOLS[item.name][1]} for item in calls
        ]
        history = [{"role": "user", "content": SAID}, *(item.to_dict() for item in calls), *results]
        assert client.responses.create(input=history, **more, store=False).output_text == AFTER_TOOLS
        return [response_counts(first.usage), response_counts(kept.usage)]


def responses_parse(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        parsed = client.responses.parse(model=gateway.model, input=SAID, text_format=City)
        assert parsed.output_parsed == LISBON
        return [response_counts(parsed.usage)]


def embeddings(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        if not gateway.embeds:
            refused(openai.BadRequestError, lambda: client.embeddings.create(model=gateway.model, input="x"))
            return []
        made = client.embeddings.create(model=gateway.model, input=["hello", "a"])
        assert [entry.embedding for entry in made.data] == [[0.625, -0.5], [0.125, -0.5]]
        floats = client.embeddings.create(model=gateway.model, input="hello", encoding_format="float")
        assert floats.data[0].embedding == [0.625, -0.5]
        return [(made.usage.prompt_tokens, 0), (floats.usage.prompt_tokens, 0)]


def errors(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        chat = client.chat.completions
        unknown = refused(openai.BadRequestError, lambda: chat.create(model=NO_SUCH, messages=MESSAGES))
        assert unknown.code == "model_not_found", unknown.code
        refused(openai.NotFoundError, lambda: client.models.retrieve(NO_SUCH))
        busy: list[Any] = [{"role": "user", "content": BUSY}]
        refused(openai.RateLimitError, lambda: chat.create(model=gateway.model, messages=busy))
        wrong = client.with_options(api_key="sk-wrong")
        refused(
            openai.AuthenticationError, lambda: wrong.chat.completions.create(model=gateway.model, messages=MESSAGES)
        )
        assert gateway.model in {model.id for model in client.models.list()}
    return []


CHECKS = (
    plain,
    stream,
    stream_async,
    tools,
    tools_streamed,
    tool_named,
    parse,
    responses,
    responses_tools,
    responses_parse,
    embeddings,
    errors,
)

if __name__ == "__main__":
    main(CHECKS)
