"""The registry of wires: a provider's `kind` says which dialect it speaks."""

from typing import Final

from services.providers.base import Wire
from services.providers.ollama import Ollama
from services.providers.responses import WithResponses

_OPENAI: Final = WithResponses()
WIRES: Final[dict[str, Wire]] = {"openai": _OPENAI, "ollama": Ollama(), "echo": _OPENAI}
