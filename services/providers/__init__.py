"""The registry of wires: a provider's `kind` says which dialect it speaks."""

from typing import Final

from services.providers.azure import Azure
from services.providers.base import Wire
from services.providers.compatible import Compatible
from services.providers.gigachat import GigaChat
from services.providers.ollama import Ollama
from services.providers.openai import OpenAI

WIRES: Final[dict[str, Wire]] = {
    "openai": Compatible(),
    "azure": Azure(),
    "gigachat": GigaChat(),
    "ollama": Ollama(),
    "echo": OpenAI(),
}
