"""A stored prompt as a worker knows it. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.types import Chat


@dataclass(frozen=True, slots=True)
class StoredPrompt:
    """One version of a stored prompt, ready to be filled; its members as services/promptfields.py reads them."""

    version_id: int
    name: str
    number: int
    messages: list[Chat]
    model_name: str | None
    parameters: Mapping[str, Any]
    variables: list[dict[str, Any]]
