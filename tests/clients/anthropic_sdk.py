"""Anthropic's own SDK for Python: messages, streams, tools and their runner, parsed outputs, counts, errors."""

from typing import Any

import anthropic

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

MESSAGES: list[Any] = [{"role": "user", "content": SAID}]
DEFINITIONS: list[Any] = [
    {
        "name": name,
        "description": f"The {name}.",
        "input_schema": {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]},
    }
    for name, (argument, _result) in TOOLS.items()
]


def client_of(gateway: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


def asking(gateway: Gateway, **more: Any) -> Any:
    return {"model": gateway.model, "max_tokens": 500, "messages": MESSAGES, **more}


def counts(usage: Any) -> tuple[int, int]:
    """The tokens of a message; the fake vendors have 40 in their cache, which are counted beside the others here."""
    assert usage.cache_read_input_tokens == 40
    return usage.input_tokens + usage.cache_read_input_tokens, usage.output_tokens


def plain(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        message = client.messages.create(**asking(gateway, system=SYSTEM))
        assert [(block.type, block.text) for block in message.content] == [("text", TEXT)]
        assert (message.stop_reason, message.role) == ("end_turn", "assistant")
        assert (message._request_id or "").startswith("req_")
        return [counts(message.usage)]


def stream(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        kinds = [event.type for event in client.messages.create(**asking(gateway, system=SYSTEM), stream=True)]
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
        with client.messages.stream(**asking(gateway, system=SYSTEM)) as streamed:
            pieces = list(streamed.text_stream)
            final = streamed.get_final_message()
        assert len(pieces) > 3, "it came in pieces"
        assert "".join(pieces) == TEXT
        assert final.stop_reason == "end_turn"
        return [counts(final.usage)]


def tools(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        first = client.messages.create(**asking(gateway, tools=DEFINITIONS))
        second = client.messages.create(**_answered(gateway, first))
        assert second.content[0].text == AFTER_TOOLS
        return [counts(first.usage), counts(second.usage)]


def tools_streamed(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        with client.messages.stream(**asking(gateway, tools=DEFINITIONS)) as streamed:
            first = streamed.get_final_message()
        with client.messages.stream(**_answered(gateway, first)) as streamed:
            second = streamed.get_final_message()
        assert second.content[0].text == AFTER_TOOLS
        return [counts(first.usage), counts(second.usage)]


def _answered(gateway: Gateway, first: Any) -> Any:
    assert first.stop_reason == "tool_use"
    made = [(block.type, block.name, block.input) for block in first.content]
    assert made == [("tool_use", name, {argument: "Lisbon"}) for name, (argument, _result) in TOOLS.items()]
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": TOOLS[block.name][1]} for block in first.content
    ]
    history = [*MESSAGES, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    return asking(gateway, messages=history, tools=DEFINITIONS)


def tools_run(gateway: Gateway) -> Usages:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return "sunny" if city == "Lisbon" else city

    @anthropic.beta_tool
    def clock(zone: str) -> str:
        """The time in a zone."""
        return "noon" if zone == "Lisbon" else zone

    with client_of(gateway) as client:
        runner = client.beta.messages.tool_runner(**asking(gateway), tools=[weather, clock])
        first, second = list(runner)
        assert second.content[0].text == AFTER_TOOLS
        return [counts(first.usage), counts(second.usage)]


def tool_named(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        message = client.messages.create(
            **asking(gateway, tools=DEFINITIONS, tool_choice={"type": "tool", "name": "clock"})
        )
        assert [block.name for block in message.content] == ["clock"]
        return [counts(message.usage)]


def parse(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        parsed = client.messages.parse(**asking(gateway), output_format=City)
        assert parsed.parsed_output == LISBON
        with client.messages.stream(**asking(gateway), output_format=City) as streamed:
            assert streamed.get_final_message().parsed_output == LISBON
        return [counts(parsed.usage)]


def count_tokens(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        counted = client.messages.count_tokens(model=gateway.model, messages=MESSAGES, system=SYSTEM, tools=DEFINITIONS)
        assert 10 < counted.input_tokens < 1000
        alone = client.messages.count_tokens(model=gateway.model, messages=MESSAGES)
        assert alone.input_tokens < counted.input_tokens
    return []


def errors(gateway: Gateway) -> Usages:
    with client_of(gateway) as client:
        unknown = refused(anthropic.NotFoundError, lambda: client.messages.create(**asking(gateway, model=NO_SUCH)))
        assert unknown.type == "not_found_error", unknown.type
        busy = [{"role": "user", "content": BUSY}]
        refused(anthropic.RateLimitError, lambda: client.messages.create(**asking(gateway, messages=busy)))
        wrong = client.with_options(api_key="sk-wrong")
        refused(anthropic.AuthenticationError, lambda: wrong.messages.create(**asking(gateway)))
        assert gateway.model in {model.id for model in client.models.list()}
    return []


CHECKS = (plain, stream, tools, tools_streamed, tools_run, tool_named, parse, count_tokens, errors)

if __name__ == "__main__":
    main(CHECKS)
