"""What dialogs, agents and messages are made of: which members a body may have, and what they mean to a model."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.dialects import checks, openai
from services.dialects.checks import Check
from services.errors import InvalidRequest
from services.types import Chat

MAX_TITLE: Final = 255
MAX_NAME: Final = 100
MAX_MODEL: Final = 200
MAX_DESCRIPTION: Final = 500
MAX_PROMPT: Final = 100_000  # characters of a system prompt
MAX_STOPS: Final = 16
MAX_STOP: Final = 500  # characters
TYPE: Final = "agent_type"
HUB: Final = {  # what the parameters are called in a chat
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop_sequences": "stop",
}


def text(most: int, *, is_required: bool = False) -> Check:
    """It must be a text that every database takes, of so many characters."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str) or (is_required and not value.strip()):
            return "must be a non-empty string" if is_required else "must be a string"
        if len(value) > most:
            return f"may have {most} characters"
        return "must not have NUL characters" if "\0" in value else None

    return check


def between(low: float, high: float) -> Check:
    """It must be a number in this range."""

    def check(value: Any) -> str | None:
        is_good = checks.number(value) is None and low <= value <= high
        return None if is_good else f"must be a number from {low:g} to {high:g}"

    return check


def stops(value: Any) -> str | None:
    """It must be a short array of short strings."""
    is_good = (
        isinstance(value, list) and len(value) <= MAX_STOPS and not any(map(text(MAX_STOP, is_required=True), value))
    )
    return None if is_good else f"must be an array of at most {MAX_STOPS} strings of at most {MAX_STOP} characters"


CONFIG: Final[Mapping[str, Check]] = {
    "temperature": between(0, 1),
    "max_tokens": checks.whole(1, openai.MAX_INT),
    "top_p": between(0, 1),
    "presence_penalty": between(-2, 2),
    "frequency_penalty": between(-2, 2),
    "stop_sequences": stops,
}
NAMED_CONFIG: Final[Mapping[str, Check]] = {**CONFIG, TYPE: text(MAX_NAME, is_required=True)}


def config(value: Any) -> str | None:
    """It must be parameters of an agent."""
    return _inside(CONFIG, value)


def named_config(value: Any) -> str | None:
    """It must be parameters, and perhaps an agent to take more of them from."""
    return _inside(NAMED_CONFIG, value)


DIALOG: Final[Mapping[str, Check]] = {
    "title": text(MAX_TITLE),
    "system_prompt": text(MAX_PROMPT),
    "model_name": text(MAX_MODEL, is_required=True),
    "agent_config": named_config,
}
RENAMED: Final[Mapping[str, Check]] = {"title": text(MAX_TITLE)}
MESSAGE: Final[Mapping[str, Check]] = {
    "content": checks.name,
    "model_name": text(MAX_MODEL, is_required=True),
    "agent_config": named_config,
}
AGENT: Final[Mapping[str, Check]] = {
    "name": text(MAX_NAME, is_required=True),
    "description": text(MAX_DESCRIPTION),
    "system_prompt": text(MAX_PROMPT),
    "model_name": text(MAX_MODEL, is_required=True),
    "config": config,
}


def read(members: Mapping[str, Check], body: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The body, whose members are all known and right; null stands for nothing.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    for name, value in body.items():
        if name not in members:
            raise InvalidRequest(f"`{name[:100]}` is not known here.", param=name[:100])
        if value is not None and (problem := members[name](value)) is not None:
            raise InvalidRequest(f"`{name}` {problem}.", param=name)
    for name in required:
        if body.get(name) is None:
            raise InvalidRequest(f"`{name}` is required.", param=name)
    return dict(body)


def parameters(*layers: Mapping[str, Any] | None) -> Chat:
    """The members of a chat that these parameters mean; an earlier layer goes before a later one.

    null in a layer says that the parameter is left to the model.
    """
    found: dict[str, Any] = {}
    for layer in reversed(layers):
        found |= {name: value for name, value in (layer or {}).items() if name in HUB}
    return {HUB[name]: value for name, value in found.items() if value not in (None, [])}


def _inside(members: Mapping[str, Callable[[Any], str | None]], value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    for name, inner in value.items():
        if name not in members:
            return f"has a member `{name[:100]}` that is not known here"
        if inner is not None and (problem := members[name](inner)) is not None:
            return f"has a member `{name}` that {problem}"
    return None
