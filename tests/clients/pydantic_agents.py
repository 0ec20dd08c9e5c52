"""Pydantic AI's agents on its models for OpenAI's chat, OpenAI's responses and Anthropic's messages."""

import asyncio
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.checks import AFTER_TOOLS, LISBON, NO_SUCH, SAID, SYSTEM, TEXT, City, Gateway, Usages, main, refused


def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny" if city == "Lisbon" else city


def clock(zone: str) -> str:
    """The time in a zone."""
    return "noon" if zone == "Lisbon" else zone


def chat_model(gateway: Gateway, name: str = "") -> Model:
    return OpenAIChatModel(name or gateway.model, provider=_openai(gateway))


def responses_model(gateway: Gateway, name: str = "") -> Model:
    return OpenAIResponsesModel(name or gateway.model, provider=_openai(gateway))


def messages_model(gateway: Gateway, name: str = "") -> Model:
    return AnthropicModel(name or gateway.model, provider=AnthropicProvider(api_key=gateway.key, base_url=gateway.url))


def _openai(gateway: Gateway) -> OpenAIProvider:
    return OpenAIProvider(base_url=gateway.base_url, api_key=gateway.key)


MakeModel = Callable[..., Model]


def _counts(usage: Any) -> list[tuple[int, int]]:
    assert usage.cache_read_tokens == 40, usage
    return [(usage.input_tokens, usage.output_tokens)]


def _run(gateway: Gateway, make: MakeModel) -> Usages:
    result = Agent(make(gateway), instructions=SYSTEM).run_sync(SAID)
    assert result.output == TEXT, result
    again = Agent(make(gateway)).run_sync("four", message_history=result.all_messages())
    assert again.output.endswith("You said: four — ça va?"), again
    return _counts(result.all_messages()[-1].usage)


def _stream(gateway: Gateway, make: MakeModel) -> Usages:
    async def ask() -> Usages:
        async with Agent(make(gateway), instructions=SYSTEM).run_stream(SAID) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            assert len(pieces) > 3, "it came in pieces"
            assert "".join(pieces) == TEXT, pieces
            return _counts(result.all_messages()[-1].usage)

    return asyncio.run(ask())


def _tools(gateway: Gateway, make: MakeModel) -> Usages:
    result = Agent(make(gateway), tools=[weather, clock]).run_sync(SAID)
    assert result.output == AFTER_TOOLS, result.all_messages()
    return []


def _tools_streamed(gateway: Gateway, make: MakeModel) -> Usages:
    async def ask() -> None:
        async with Agent(make(gateway), tools=[weather, clock]).run_stream(SAID) as result:
            assert await result.get_output() == AFTER_TOOLS, result.all_messages()

    asyncio.run(ask())
    return []


def _structured(gateway: Gateway, make: MakeModel) -> Usages:
    by_tool = Agent(make(gateway), output_type=ToolOutput(City)).run_sync(SAID)
    assert by_tool.output == LISBON, by_tool
    # What it knows of a model's abilities hangs on the model's name; the gateway's names say nothing.
    native = Agent(make(gateway), output_type=NativeOutput(City))
    if make is not messages_model:
        assert native.run_sync(SAID).output == LISBON
    return []


def _errors(gateway: Gateway, make: MakeModel) -> Usages:
    status = 404 if make is messages_model else 400
    unknown = refused(ModelHTTPError, lambda: Agent(make(gateway, NO_SUCH)).run_sync(SAID))
    assert unknown.status_code == status, unknown
    return []


def _named(kind: str, make: MakeModel) -> list[Callable[[Gateway], Usages]]:
    """The checks of a kind of model, each with a name of its own."""

    def named(check: Callable[[Gateway, MakeModel], Usages]) -> Callable[[Gateway], Usages]:
        def run(gateway: Gateway) -> Usages:
            return check(gateway, make)

        run.__name__ = f"{kind}{check.__name__}"
        return run

    return [named(check) for check in (_run, _stream, _tools, _tools_streamed, _structured, _errors)]


CHECKS = (*_named("chat", chat_model), *_named("responses", responses_model), *_named("messages", messages_model))

if __name__ == "__main__":
    main(CHECKS)
