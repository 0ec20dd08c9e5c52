"""What the settings of providers may be, checked before they are stored: a slip is the admin's, not every caller's.

Names that stand in no table are left to whoever reads them. `None` counts as not set. Custom providers, whose settings
depend on each other, are checked by services/providers/recipes.py.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.errors import InvalidRequest
from services.providers.vendors import VENDORS
from utils.settings import fits_header

Rule = tuple[Callable[[Any], bool], str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


TEXT: Final[Rule] = (_is_text, "must be a text")
NAMES: Final[Rule] = (lambda value: _is_text(value) or _are_texts(value), "must be a list of names")
PAIRS: Final[Rule] = (
    lambda value: isinstance(value, dict) and _are_texts([*value, *value.values()]),
    "must give a text for each name",
)
FLAG: Final[Rule] = (_is_flag, "must be `true` or `false`")
TYPED_FLAG: Final[Rule] = (  # a text in the panel, where empty means something else
    lambda value: _is_flag(value) or (_is_text(value) and value.lower() in {"", "true", "false"}),
    FLAG[1],
)
HEADER: Final[Rule] = (
    lambda value: _is_text(value) and fits_header(value),
    "has characters other than ASCII, which no header can carry",
)


def _one_of(*values: str) -> Rule:
    return (lambda value: value in ("", *values)), f"must be {' or '.join(f'`{value}`' for value in values)}, or empty"


COMPATIBLE: Final[Mapping[str, Rule]] = {  # the names are explained in services/providers/vendors.py
    "organization": HEADER,
    "responses": TYPED_FLAG,
    "vendor": (lambda value: value == "" or (_is_text(value) and value in VENDORS), "names no vendor that is known"),
    "rename": PAIRS,
    "finish_reasons": PAIRS,
    "drop": NAMES,
    "drop_from_messages": NAMES,
    "stream_usage": FLAG,
    "floats_only": FLAG,
    "content_chunks": FLAG,
    "lists_models": FLAG,
    "tool_ids": _one_of("short"),
    "developer_role": TEXT,
    "max_tokens_field": TEXT,
    "reasoning_field": TEXT,
    "usage_in": TEXT,
    "api_version": TEXT,
    "ca_file": TEXT,
}
ANTHROPIC: Final[Mapping[str, Rule]] = {"auth": _one_of("bearer"), "thinking": _one_of("adaptive"), "ca_file": TEXT}


def compatible(settings: Mapping[str, Any]) -> None:
    """Whether the settings of a provider that speaks OpenAI's dialect, Azure's among them, can be used.

    Raises:
        InvalidRequest: naming the setting and what is wrong with it.
    """
    _check(COMPATIBLE, settings)


def anthropic(settings: Mapping[str, Any]) -> None:
    """The same for one that speaks Anthropic's.

    Raises:
        InvalidRequest: see `compatible`.
    """
    _check(ANTHROPIC, settings)


def _check(rules: Mapping[str, Rule], settings: Mapping[str, Any]) -> None:
    for name, (is_fitting, why) in rules.items():
        value = settings.get(name)
        if value is not None and not is_fitting(value):
            raise InvalidRequest(f"`{name}` {why}", param=f"settings.{name}")
