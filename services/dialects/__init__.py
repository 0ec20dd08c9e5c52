"""The registry of client dialects."""

from dataclasses import replace
from typing import Final

from services.dialects import openai, proxy, responses, responses_answer, responses_stream
from services.dialects.base import Dialect

OPENAI: Final = Dialect(
    openai.NAME, openai.call, openai.demand, openai.error_body, openai.error_event, forwards=("openai-beta",)
)
PROXY: Final = replace(OPENAI, error_body=proxy.error_body, error_event=proxy.error_event)


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
DIALECTS: Final = {dialect.name: dialect for dialect in (OPENAI, RESPONSES)}
