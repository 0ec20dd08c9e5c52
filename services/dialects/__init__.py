"""The registry of client dialects."""

from dataclasses import replace
from typing import Final

from services.dialects import (
    anthropic,
    dialogs,
    openai,
    openai_other,
    prompts,
    proxy,
    responses,
    responses_answer,
    responses_stream,
)
from services.dialects.base import Dialect

OPENAI: Final = Dialect(
    openai.NAME, openai.call, openai.demand, openai.error_body, openai.error_event, forwards=("openai-beta",)
)
PROXY: Final = replace(OPENAI, error_body=proxy.error_body, error_event=proxy.error_event)
OTHER: Final = replace(OPENAI, call=openai_other.call, demand=openai_other.demand)  # its other endpoints
PROXY_OTHER: Final = replace(OTHER, error_body=proxy.error_body, error_event=proxy.error_event)
PROMPTS: Final = Dialect(
    prompts.NAME, prompts.call, openai.demand, prompts.error_body, prompts.error_event, prompts.ToText()
)
DIALOGS: Final = Dialect(  # its translation keeps what is said, so that each call has one of its own
    dialogs.NAME, dialogs.call, openai.demand, dialogs.error_body, dialogs.error_event
)
ANTHROPIC: Final = Dialect(
    anthropic.NAME,
    anthropic.call,
    anthropic.demand,
    anthropic.error_body,
    anthropic.error_event,
    translation=anthropic.Messages(),
    forwards=("anthropic-beta", "anthropic-version"),
    last_event=anthropic.last_event,
)


class _Responses:
    """See Translation."""

    answer = staticmethod(responses_answer.answer)
    stream = staticmethod(responses_stream.ResponsesStream)


RESPONSES: Final = Dialect(
    responses.NAME,
    responses.call,
    responses.demand,
    openai.error_body,
    responses_stream.error_event,
    translation=_Responses(),
    forwards=("openai-beta",),
    last_event=responses_stream.last_event,
)
DIALECTS: Final = {dialect.name: dialect for dialect in (OPENAI, PROMPTS, ANTHROPIC, RESPONSES)}
