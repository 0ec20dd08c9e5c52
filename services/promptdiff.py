"""What changed between two versions of a stored prompt, line by line."""

import difflib
from collections.abc import Mapping
from typing import Any, Final

from services.errors import InvalidRequest
from utils import jsonx

MAX_LINES: Final = 1000  # of a version: comparing costs more than twice as much for twice as many


def unified(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The lines of a unified difference between versions as promptrows shows them; none where they say the same.

    Raises:
        InvalidRequest: one has more than MAX_LINES lines.
    """
    old, new = _lines(before), _lines(after)
    if max(len(old), len(new)) > MAX_LINES:
        raise InvalidRequest(f"Only versions of at most {MAX_LINES} lines can be compared.", param="from")
    was, now = (f"{name}@{version['version']}" for version in (before, after))
    return list(difflib.unified_diff(old, new, was, now, lineterm=""))


def _lines(version: Mapping[str, Any]) -> list[str]:
    """All that a version says, as lines."""
    lines = [f"model: {version['model'] or '-'}"]
    lines += [f"{name}: {_word(value)}" for name, value in sorted(version["parameters"].items())]
    for variable in version["variables"]:
        told = {name: value for name, value in variable.items() if name != "name" and value not in (None, "")}
        lines.append(f"variable {variable['name']}: {_word(told)}")
    for message in version["messages"]:
        lines += [f"[{message['role']}]", *message["content"].splitlines()]
    return lines


def _word(value: Any) -> str:
    return jsonx.dumps(value).decode()
