"""The registry of wires: a provider's `kind` says which dialect it speaks."""

from typing import Final

from services.providers.anthropic import Anthropic
from services.providers.base import Wire
from services.providers.bedrock import Bedrock
from services.providers.gemini import Gemini
from services.providers.ollama import Ollama
from services.providers.openai import OpenAI

_OPENAI: Final = OpenAI()
WIRES: Final[dict[str, Wire]] = {
    "openai": _OPENAI,
    "anthropic": Anthropic(),
    "ollama": Ollama(),
    "gemini": Gemini(),
    "bedrock": Bedrock(),
    "echo": _OPENAI,
}
