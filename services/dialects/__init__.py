"""The registry of client dialects."""

from dataclasses import replace
from typing import Final

from services.dialects import anthropic, openai, proxy
from services.dialects.base import Dialect

OPENAI: Final = Dialect(
    openai.NAME, openai.call, openai.demand, openai.error_body, openai.error_event, forwards=("openai-beta",)
)
PROXY: Final = replace(OPENAI, error_body=proxy.error_body, error_event=proxy.error_event)
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
DIALECTS: Final = {dialect.name: dialect for dialect in (OPENAI, ANTHROPIC)}
