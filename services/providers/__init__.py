"""The registry of wires: a provider's `kind` says which dialect it speaks."""

from typing import Final

from services.providers.anthropic import Anthropic
from services.providers.azure import Azure
from services.providers.base import Wire
from services.providers.bedrock import Bedrock
from services.providers.custom import Custom
from services.providers.gemini import Gemini
from services.providers.gigachat import GigaChat
from services.providers.ollama import Ollama
from services.providers.openai import OpenAI
from services.providers.responses import WithResponses
from services.types import CHAT, COMPLETION, EMBEDDING


class Echo(OpenAI):
    """Towards the built-in provider, which has no other endpoints."""

    operations = frozenset({CHAT, COMPLETION, EMBEDDING})


WIRES: Final[dict[str, Wire]] = {
    "openai": WithResponses(),
    "azure": Azure(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "gigachat": GigaChat(),
    "ollama": Ollama(),
    "custom": Custom(),
    "echo": Echo(),
}
