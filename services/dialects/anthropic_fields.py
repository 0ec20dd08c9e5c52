"""What a Messages request must look like before anything is made of it; each finding names its place.

Members and kinds of blocks that nobody knows here are no mistake: Anthropic adds some every few months, and an upstream
that speaks its API may know them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from services.errors import InvalidRequest, Unsupported
from services.types import Chat

MAX_INT: Final = 2**31 - 1
REQUIRED: Final = ("model", "messages", "max_tokens")
ROLES: Final = ("user", "assistant", "system")

Check = Callable[[Any], str | None]


class Notes:
    """What a translation into the hub format leaves behind."""

    def __init__(self) -> None:
        self.native_only: Unsupported | None = None  # the first thing that cannot be said otherwise
        self.left_out: list[str] = []  # members that only tune the answer

    def needs_native(self, place: str, what: str) -> None:
        """Something at this place has no word in the hub format and must not be dropped."""
        if self.native_only is None:
            self.native_only = Unsupported(
                f"`{place}` ({what[:100]}) can only be sent to a provider that speaks Anthropic's own API, "
                "and the provider of this model does not.",
                param=place,
            )


def check(body: Chat, *, needs_limit: bool) -> None:
    """The members of a request.

    Raises:
        InvalidRequest: naming the first that is wrong in `param`.
    """
    for name, fits in FIELDS.items():
        if body.get(name) is not None and (problem := fits(body[name])) is not None:
            raise bad(name, problem)
    for name in REQUIRED:
        if body.get(name) is None and (needs_limit or name != "max_tokens"):
            raise bad(name, "is required")


def bad(place: str, problem: str) -> InvalidRequest:
    """The error for what stands at that place."""
    return InvalidRequest(f"`{place}` {problem}.", param=place)


def member(holder: Chat, name: str, fits: Check, place: str) -> Any:
    """A member that must be there.

    Raises:
        InvalidRequest: it is not, or has the wrong form.
    """
    if (value := optional(holder, name, fits, place)) is None:
        raise bad(f"{place}.{name}", "is required")
    return value


def optional(holder: Chat, name: str, fits: Check, place: str) -> Any:
    """A member that may be missing, which is None.

    Raises:
        InvalidRequest: it has the wrong form.
    """
    value = holder.get(name)
    if value is not None and (problem := fits(value)) is not None:
        raise bad(f"{place}.{name}", problem)
    return value


def blocks(content: list[Any], place: str) -> Iterator[tuple[Chat, str, str]]:
    """Each block with its type and its place.

    Raises:
        InvalidRequest: one is no object with a `type`.
    """
    for index, block in enumerate(content):
        where = f"{place}.{index}"
        if not isinstance(block, dict):
            raise bad(where, "must be an object with a `type`")
        yield block, member(block, "type", name, where), where


def text(value: Any) -> str | None:
    """What is wrong with a text; like all checks here None where nothing is."""
    return None if isinstance(value, str) else "must be a string"


def name(value: Any) -> str | None:
    """A text with something in it."""
    return None if isinstance(value, str) and value.strip() else "must be a non-empty string"


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "must be true or false"


def obj(value: Any) -> str | None:
    """An object."""
    return None if isinstance(value, dict) else "must be an object"


def content(value: Any) -> str | None:
    """A text or blocks, which are looked at later."""
    return None if isinstance(value, str | list) else "must be a string or an array of blocks"


def whole(least: int) -> Check:
    """A whole number that is not too small."""

    def fits(value: Any) -> str | None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return None if is_whole and least <= value <= MAX_INT else f"must be a whole number from {least} to {MAX_INT}"

    return fits


def _number(value: Any) -> str | None:
    return None if isinstance(value, int | float) and not isinstance(value, bool) else "must be a number"


def _texts(value: Any) -> str | None:
    is_good = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return None if is_good else "must be an array of strings"


def _objects(value: Any) -> str | None:
    is_good = isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    return None if is_good else "must be an array of objects"


def _messages(value: Any) -> str | None:
    return _objects(value) or (None if value else "must have at least one message")


FIELDS: Final[dict[str, Check]] = {
    "model": name,
    "messages": _messages,
    "max_tokens": whole(0),
    "system": content,
    "stream": flag,
    "stop_sequences": _texts,
    "temperature": _number,
    "top_p": _number,
    "top_k": whole(0),
    "tools": _objects,
    "tool_choice": obj,
    "thinking": obj,
    "output_config": obj,
    "output_format": obj,
    "metadata": obj,
    "service_tier": text,
    "cache_control": obj,
    "context_management": obj,
    "mcp_servers": _objects,
}
