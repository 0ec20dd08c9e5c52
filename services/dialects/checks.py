"""What is wrong with a value, in words that follow its name; None where nothing is."""

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], str | None]


def text(value: Any) -> str | None:
    """It must be a string."""
    return None if isinstance(value, str) else "must be a string"


def name(value: Any) -> str | None:
    """… that names something."""
    return None if isinstance(value, str) and value.strip() else "must be a non-empty string"


def flag(value: Any) -> str | None:
    """It must be a boolean."""
    return None if isinstance(value, bool) else "must be true or false"


def number(value: Any) -> str | None:
    """It must be a number."""
    return None if isinstance(value, int | float) and not isinstance(value, bool) else "must be a number"


def whole(low: int, high: int) -> Check:
    """It must be a whole number in this range."""

    def check(value: Any) -> str | None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return None if is_whole and low <= value <= high else f"must be a whole number from {low} to {high}"

    return check


def mapping(value: Any) -> str | None:
    """It must be an object."""
    return None if isinstance(value, dict) else "must be an object"


def mappings(value: Any) -> str | None:
    """It must be an array of objects."""
    is_good = isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    return None if is_good else "must be an array of objects"


def texts(value: Any) -> str | None:
    """It must be an array of strings."""
    is_good = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return None if is_good else "must be an array of strings"


def one_of(*words: str) -> Check:
    """It must be one of these words."""

    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and value in words else f"must be one of {', '.join(words)}"

    return check


def text_or_mapping(value: Any) -> str | None:
    """It must be a string or an object."""
    return None if isinstance(value, str | dict) else "must be a string or an object"
