"""The registry of wires: a provider's `kind` says which dialect it speaks."""

from typing import Final

from services.providers.base import Wire
from services.providers.custom import Custom
from services.providers.ollama import Ollama
from services.providers.openai import OpenAI

_OPENAI: Final = OpenAI()
WIRES: Final[dict[str, Wire]] = {"openai": _OPENAI, "ollama": Ollama(), "custom": Custom(), "echo": _OPENAI}
