"""What a version of a stored prompt is made of: read and checked once, when it is stored, and values at each call."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from services import templating
from services.dialects import checks
from services.dialects import dialogs_fields as fields
from services.dialects.checks import Check
from services.errors import InvalidRequest, VariablesInvalid
from utils import jsonx

ROLES: Final = ("system", "developer", "user", "assistant")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
LABEL: Final = re.compile(r"[a-z][a-z0-9._-]{0,39}", re.ASCII)
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
MAX_MESSAGES: Final = 50
MAX_TEMPLATE: Final = 100_000  # characters of all messages together, before their values
MAX_PLACES: Final = 1000
MAX_VARIABLES: Final = 50
MAX_OPTIONS: Final = 100
MAX_OPTION: Final = 200
MAX_VALUE: Final = 1_000_000  # characters of one value
MAX_FILLED: Final = 2_000_000  # characters of all messages together, with their values
MAX_NOTE: Final = 500
WHOLE: Final = checks.whole(-(2**63), 2**64 - 1)  # what JSON of 64 bits holds
TYPES: Final = ("string", "integer", "number", "boolean", "json", "enum")

Version = Mapping[str, Any]  # a row's members by the names of VERSION
Take = Callable[[Any, Mapping[str, Any]], str]


def _text(value: Any, _variable: Mapping[str, Any]) -> str:
    if (problem := fields.text(MAX_VALUE)(value)) is not None:
        raise ValueError(problem)
    return str(value)


def _whole(value: Any, _variable: Mapping[str, Any]) -> str:
    if (problem := WHOLE(value)) is not None:
        raise ValueError(problem)
    return str(value)


def _number(value: Any, _variable: Mapping[str, Any]) -> str:
    if (problem := checks.number(value)) is not None:
        raise ValueError(problem)
    return jsonx.dumps(value).decode()


def _flag(value: Any, _variable: Mapping[str, Any]) -> str:
    if (problem := checks.flag(value)) is not None:
        raise ValueError(problem)
    return "true" if value else "false"


def _json(value: Any, _variable: Mapping[str, Any]) -> str:
    return jsonx.dumps(value).decode()


def _option(value: Any, variable: Mapping[str, Any]) -> str:
    options: list[str] = variable["options"]
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"must be one of {', '.join(options)}")
    return value


TAKES: Final[Mapping[str, Take]] = dict(
    zip(TYPES, (_text, _whole, _number, _flag, _json, _option), strict=True)
)  # a value as text; raises ValueError with what is wrong


def _options(value: Any) -> str | None:
    is_good = (
        isinstance(value, list)
        and 0 < len(value) <= MAX_OPTIONS
        and not any(map(fields.text(MAX_OPTION, is_required=True), value))
    )
    return None if is_good else f"must be an array of 1 to {MAX_OPTIONS} strings of at most {MAX_OPTION} characters"


VARIABLE: Final[Mapping[str, Check]] = {
    "name": lambda value: (
        None
        if isinstance(value, str) and templating.NAME.fullmatch(value)
        else "must be a letter or _ and then at most 63 letters, digits and _"
    ),
    "type": checks.one_of(*TYPES),
    "is_required": checks.flag,
    "default": lambda _value: None,  # by its type
    "description": fields.text(fields.MAX_DESCRIPTION),
    "max_chars": checks.whole(1, MAX_VALUE),
    "options": _options,
}
MESSAGE: Final[Mapping[str, Check]] = {
    "role": checks.one_of(*ROLES),
    "content": fields.text(MAX_TEMPLATE, is_required=True),
}


def _members(of: Mapping[str, Check], required: tuple[str, ...], most: int) -> Check:
    """It must be a short array of objects with these members."""

    def check(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) > most:
            return f"must be an array of at most {most} objects"
        for index, entry in enumerate(value):
            if not isinstance(entry, dict):
                return f"has an entry {index} that must be an object"
            try:
                fields.read(of, entry, required)
            except InvalidRequest as exc:
                return f"has an entry {index} in which {str(exc).removesuffix('.')}"
        return None

    return check


def _name(value: Any) -> str | None:
    is_good = isinstance(value, str) and NAME.fullmatch(value) and not UUID.fullmatch(value)
    return None if is_good else "must be at most 100 letters, digits, `.`, `_` and `-`, and begin with one of the first"


PROMPT: Final[Mapping[str, Check]] = {"name": _name, "description": fields.text(fields.MAX_DESCRIPTION)}
VERSION: Final[Mapping[str, Check]] = {
    "messages": _members(MESSAGE, ("role", "content"), MAX_MESSAGES),
    "model": fields.text(fields.MAX_MODEL, is_required=True),
    "parameters": fields.config,
    "variables": _members(VARIABLE, ("name",), MAX_VARIABLES),
    "note": fields.text(MAX_NOTE),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A version that was read: its members as they are stored."""

    messages: list[dict[str, Any]]
    model_name: str | None
    parameters: dict[str, Any]
    variables: list[dict[str, Any]]
    note: str


def version(given: Mapping[str, Any]) -> Reading:
    """A version from the members that VERSION has read.

    Raises:
        InvalidRequest: what it says cannot be; `param` names the member.
    """
    messages = given.get("messages") or []
    if not messages:
        raise InvalidRequest("`messages` must have at least one message.", param="messages")
    variables = [_variable(entry, index) for index, entry in enumerate(given.get("variables") or [])]
    declared = [entry["name"] for entry in variables]
    if len(set(declared)) != len(declared):
        raise InvalidRequest("`variables` has a name twice.", param="variables")
    _check_messages(messages, set(declared))
    parameters = {name: value for name, value in (given.get("parameters") or {}).items() if value is not None}
    return Reading(messages, given.get("model"), parameters, variables, given.get("note") or "")


def _variable(given: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A variable with all its members; the default of a type that it is not of is refused."""
    kind = given.get("type") or "string"
    found = {
        "name": given["name"],
        "type": kind,
        "is_required": given.get("default") is None if given.get("is_required") is None else given["is_required"],
        "default": given.get("default"),
        "description": given.get("description") or "",
        "max_chars": given.get("max_chars"),
        "options": given.get("options"),
    }
    place = f"variables.{index}"
    if (kind == "enum") != (found["options"] is not None):
        raise InvalidRequest(f"`{place}.options` are what an enum has, and nothing else.", param=f"{place}.options")
    if found["default"] is not None:
        if found["is_required"]:
            raise InvalidRequest(
                f"`{place}` is required, so its `default` would never count.", param=f"{place}.default"
            )
        try:
            taken(found, found["default"])
        except ValueError as exc:
            raise InvalidRequest(f"`{place}.default` {exc}.", param=f"{place}.default") from exc
    return found


def _check_messages(messages: list[dict[str, Any]], declared: set[str]) -> None:
    if sum(len(message["content"]) for message in messages) > MAX_TEMPLATE:
        raise InvalidRequest(f"`messages` may have {MAX_TEMPLATE} characters together.", param="messages")
    places = 0
    for index, message in enumerate(messages):
        param = f"messages.{index}.content"
        try:
            found = templating.pieces(message["content"])
        except templating.Malformed as exc:
            raise InvalidRequest(f"`{param}` {exc}.", param=param) from exc
        if unknown := sorted(templating.names(found) - declared):
            raise InvalidRequest(f"`{param}` has a place for `{unknown[0]}`, which is no variable.", param=param)
        places += sum(isinstance(piece, templating.Place) for piece in found)
    if places > MAX_PLACES:
        raise InvalidRequest(f"`messages` may have {MAX_PLACES} places for values.", param="messages")


def taken(variable: Mapping[str, Any], value: Any) -> str:
    """A value as the text that comes in.

    Raises:
        ValueError: it is not of its type, or too long.
    """
    text = TAKES[variable["type"]](value, variable)
    most = variable["max_chars"] or MAX_VALUE
    if len(text) > most:
        raise ValueError(f"may have {most} characters")
    return text


def values(variables: list[dict[str, Any]], given: Any) -> dict[str, str]:
    """The texts of all variables, from what a caller gave and the defaults. null stands for nothing.

    Raises:
        VariablesInvalid: with all that is wrong.
        InvalidRequest: `given` is no object.
    """
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest("`variables` must be an object.", param="variables")
    found: dict[str, str] = {}
    wrong: dict[str, str] = {}
    sent: dict[str, Any] = given or {}
    for variable in variables:
        name = variable["name"]
        value = sent.get(name)
        value = variable["default"] if value is None else value
        if value is None:
            found[name] = ""
            if variable["is_required"]:
                wrong[name] = "is required"
            continue
        try:
            found[name] = taken(variable, value)
        except ValueError as exc:
            wrong[name] = str(exc)
    known = {variable["name"] for variable in variables}
    for name in sent:
        if name not in known:
            wrong[name[: fields.MAX_NAME]] = "is not known to this prompt"
    if wrong:
        raise VariablesInvalid(wrong)
    return found


def filled(messages: list[dict[str, Any]], texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The messages with their values.

    Raises:
        InvalidRequest: they come to more than MAX_FILLED characters.
    """
    found = [templating.pieces(message["content"]) for message in messages]
    if sum(templating.length(one, texts) for one in found) > MAX_FILLED:
        raise InvalidRequest(f"With its values, the prompt may have {MAX_FILLED} characters.", param="variables")
    return [{**message, "content": templating.fill(one, texts)} for message, one in zip(messages, found, strict=True)]
