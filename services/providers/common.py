"""Settings that a provider of any kind may have: what it offers, and what becomes of calls whose caller has left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from services.errors import InvalidRequest
from services.types import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    IMAGE,
    IMAGE_EDIT,
    IMAGE_VARIATION,
    MODERATION,
    RERANK,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
)

OPERATIONS: Final = (
    CHAT,
    COMPLETION,
    EMBEDDING,
    MODERATION,
    IMAGE,
    IMAGE_EDIT,
    IMAGE_VARIATION,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
    RERANK,
)
CANCEL, DRAIN = "cancel", "drain"
USUAL_S: Final = 60.0
USUAL_STREAMS: Final = 20
MOST_S: Final = 86_400.0
MOST_STREAMS: Final = 10_000
NAMES: Final = frozenset({"operations", "on_disconnect", "drain_max_s", "drain_max_streams"})


@dataclass(frozen=True, slots=True)
class Drain:
    """How answers are read on whose callers have left: how long each, and how many at once in a worker."""

    max_s: float
    max_streams: int


def drain_of(settings: Mapping[str, Any]) -> Drain | None:
    """How the provider's answers are read on; None = calls whose caller has left are cancelled."""
    if settings.get("on_disconnect") != DRAIN:
        return None
    max_s, max_streams = settings.get("drain_max_s"), settings.get("drain_max_streams")
    return Drain(USUAL_S if max_s is None else float(max_s), USUAL_STREAMS if max_streams is None else int(max_streams))


def check(settings: Mapping[str, Any]) -> None:
    """Whether these can be, before they are stored.

    Raises:
        InvalidRequest: naming the setting and what is wrong with it.
    """
    for name, (is_good, why) in _CHECKS.items():
        value = settings.get(name)
        if value is not None and not is_good(value):
            raise InvalidRequest(f"`{name}` must be {why}", param=name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


_CHECKS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "operations": (
        lambda value: isinstance(value, list) and bool(value) and all(one in OPERATIONS for one in value),
        f"a list of {', '.join(OPERATIONS)}",
    ),
    "on_disconnect": (lambda value: value in (CANCEL, DRAIN), f"`{CANCEL}` or `{DRAIN}`"),
    "drain_max_s": (lambda value: _is_number(value) and 0 < value <= MOST_S, f"seconds, up to {MOST_S:g}"),
    "drain_max_streams": (
        lambda value: _is_number(value) and value == int(value) and 1 <= value <= MOST_STREAMS,
        f"a whole number from 1 to {MOST_STREAMS}",
    ),
}
