"""The settings of a custom provider: how its requests are written and where in its answers everything stands.

`read` turns settings, which are data that somebody typed, into a Recipe or says what is wrong with them.

A location is a path into JSON: names and numbers between dots, `choices.0.text` or `choices[0].text`; negative numbers
count from the end, and `*` means every entry. A template is JSON whose texts may have placeholders such as `{model}`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from services.errors import InvalidRequest
from services.providers import common
from utils import jsonx

Location = tuple[str | int, ...]

MAX_CHARS: Final = 1000  # of a path, location or header
TUNING: Final = frozenset(  # members of a request that a template may ask for
    {
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
        "reasoning_effort",
        "user",
    }
)
TEXTS: Final = frozenset({"model", "prompt", "system", "last", "user", "role", "content"})  # may be part of a text
OF_REQUEST: Final = TUNING | {"model", "messages", "prompt", "system", "last", "max_tokens", "stream"}
OF_MESSAGE: Final = frozenset({"role", "content"})
ASKED: Final = frozenset({"messages", "prompt", "last"})
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)(?:=([^{}]*))?\}")
STEP: Final = re.compile(r"([^.\[\]\s]+)|\[(-?\d{1,9}|\*)\]")
LOCATION: Final = re.compile(r"([^.\[\]\s]+|\[(-?\d{1,9}|\*)\])(\.[^.\[\]\s]+|\[(-?\d{1,9}|\*)\])*")
INDEX: Final = re.compile(r"-?\d{1,9}", re.ASCII)
PATH: Final = re.compile(r"/[!$-;=?-Z_a-z~{}]*")  # of printable ASCII, all but blanks, quotes, `#`, `\` and the like
HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
OURS: Final = frozenset(  # headers that belong to the connection or are made here
    {"host", "connection", "content-length", "transfer-encoding", "content-type", "accept-encoding", "expect", "te"}
)
EVERY: Final = "*"
ROLES: Final = ("system", "user", "assistant")
REASONS: Final = ("stop", "length", "content_filter")
FORMATS: Final = ("sse", "lines")
USUAL_REASONS: Final = {  # what many call the end of an answer, in lower case; whatever else there is means `stop`
    "length": "length",
    "max_length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
}
FOR_ALL: Final = common.NAMES | {"allowed_models", "ca_file"}  # settings that any provider may have
DEFAULTS: Final[dict[str, Any]] = {  # None: nothing
    "path": "/",
    "stream_path": None,
    "models_path": None,
    "auth_header": "authorization",
    "auth_prefix": None,
    "headers": {},
    "request": None,
    "message": {"role": "{role}", "content": "{content}"},
    "roles": {},
    "answer_text": None,
    "answer_finish_reason": None,
    "answer_input_tokens": None,
    "answer_output_tokens": None,
    "stream_format": "sse",
    "stream_text": None,
    "stream_finish_reason": None,
    "stream_input_tokens": None,
    "stream_output_tokens": None,
    "stream_end": "[DONE]",
    "finish_reasons": {},
    "error": "error",
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a whole answer, or in an event of a stream, everything stands. Without a finish reason: nowhere."""

    text: Location
    finish_reason: Location | None
    input_tokens: Location | None
    output_tokens: Location | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A custom provider, read and checked."""

    path: str
    stream_path: str
    models_path: str | None
    auth_header: str
    auth_prefix: str
    headers: tuple[tuple[str, str], ...]
    request: Any
    message: Any
    roles: Mapping[str, str]
    used: frozenset[str]  # placeholders in `request`
    answer: Places
    event: Places | None  # None: it does not stream
    is_sse: bool
    end_mark: bytes  # empty: the finish reason marks the end
    reasons: Mapping[str, str]
    error: Location


def check(settings: Mapping[str, Any]) -> None:
    """Whether a provider with these settings can be called.

    Raises:
        InvalidRequest: naming the setting and what is wrong with it.
    """
    read(settings)


def read(settings: Mapping[str, Any]) -> Recipe:
    """The recipe in these settings.

    Raises:
        InvalidRequest: see `check`.
    """
    try:
        return _read(jsonx.dumps(dict(settings)))
    except TypeError as exc:  # JSON has no moments, which YAML has
        raise InvalidRequest("the settings must be plain JSON", param="settings") from exc


@lru_cache(maxsize=256)
def _read(raw: bytes) -> Recipe:
    settings = {name: value for name, value in jsonx.loads(raw).items() if value is not None}
    if unknown := sorted(settings.keys() - DEFAULTS.keys() - FOR_ALL):
        raise _wrong(unknown[0], f"is no setting of a custom provider, which are {', '.join(DEFAULTS)}")
    given = DEFAULTS | settings
    auth_header = _header(given["auth_header"], "auth_header")
    usual_prefix = "Bearer " if auth_header == "authorization" else ""
    request, used = _template(given, "request", OF_REQUEST)
    if not used & ASKED:
        raise _wrong("request", "must have one of {messages}, {prompt} and {last}, or nobody is told what was asked")
    end_mark = _line(given["stream_end"], "stream_end").encode()
    event = _places(given, "stream") if given["stream_text"] else None
    if event is not None and not end_mark and event.finish_reason is None:
        raise _wrong("stream_end", "must not be empty without a `stream_finish_reason`, or no stream has an end")
    return Recipe(
        path=_path(given["path"], "path"),
        stream_path=_path(given["stream_path"] or given["path"], "stream_path"),
        models_path=_path(given["models_path"], "models_path") if given["models_path"] else None,
        auth_header=auth_header,
        auth_prefix=usual_prefix if given["auth_prefix"] is None else _line(given["auth_prefix"], "auth_prefix"),
        headers=tuple(_headers(given, auth_header)),
        request=request,
        message=_template(given, "message", OF_MESSAGE)[0],
        roles=_words(given, "roles", of=ROLES),
        used=used,
        answer=_places(given, "answer"),
        event=event,
        is_sse=_choice(given["stream_format"], "stream_format", FORMATS) == FORMATS[0],
        end_mark=end_mark,
        reasons=USUAL_REASONS | _words(given, "finish_reasons", to=REASONS),
        error=_location(given["error"], "error"),
    )


def find(value: Any, location: Location) -> Any:
    """What stands at a location; None where nothing does. `*` gives a list of what is found behind it."""
    for number, step in enumerate(location):
        if isinstance(value, dict):
            if step == EVERY and step not in value:
                value = list(value.values())
            else:
                value = value.get(str(step))
                continue
        if not isinstance(value, list):
            return None
        if step == EVERY:
            return [found for entry in value if (found := find(entry, location[number + 1 :])) is not None]
        if not isinstance(step, int) or not -len(value) <= step < len(value):
            return None
        value = value[step]
    return value


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """A template with these values in it. A member or entry whose placeholder has neither value nor default is gone."""
    if isinstance(template, dict):
        filled = {name: fill(value, values) for name, value in template.items()}
        return {name: value for name, value in filled.items() if value is not ABSENT}
    if isinstance(template, list):
        return [value for entry in template if (value := fill(entry, values)) is not ABSENT]
    if not isinstance(template, str):
        return template
    if (whole := PLACEHOLDER.fullmatch(template)) is not None:
        return _value(whole, values)
    return PLACEHOLDER.sub(lambda match: _as_text(_value(match, values)), template)


class _Absent:
    """What stands for nothing."""


ABSENT: Final = _Absent()


def _value(match: re.Match[str], values: Mapping[str, Any]) -> Any:
    value = values.get(match[1])
    if value is not None:
        return value
    return ABSENT if match[2] is None else _default(match[2])


def _default(text: str) -> Any:
    """`{max_tokens=500}`: JSON, or else a text."""
    try:
        return jsonx.loads(text)
    except jsonx.BadJson:
        return text


def _as_text(value: Any) -> str:
    return "" if value is ABSENT else str(value)


def _template(given: Mapping[str, Any], name: str, known: Collection[str]) -> tuple[Any, frozenset[str]]:
    """A template and the placeholders in it."""
    template = _object(given[name], name)
    used: set[str] = set()
    for text in _texts(template):
        for match in PLACEHOLDER.finditer(text):
            if match[1] not in known:
                raise _wrong(name, f"has the placeholder {{{match[1]}}}, which is none of {', '.join(sorted(known))}")
            if match[1] not in TEXTS and match[0] != text:
                raise _wrong(name, f"has {{{match[1]}}} within a text, and it is none: write it alone")
            used.add(match[1])
    return template, frozenset(used)


def _texts(template: Any) -> list[str]:
    """The texts in a template, wherever they stand."""
    if isinstance(template, str):
        return [template]
    below = template.values() if isinstance(template, dict) else template if isinstance(template, list) else ()
    return [text for entry in below for text in _texts(entry)]


def _object(value: Any, name: str) -> dict[str, Any]:
    """An object, which may be typed as JSON."""
    if isinstance(value, str):
        try:
            value = jsonx.loads(value)
        except jsonx.BadJson as exc:
            raise _wrong(name, f"is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise _wrong(name, "must be an object")
    return value


def _words(
    given: Mapping[str, Any], name: str, *, of: Collection[str] | None = None, to: Collection[str] | None = None
) -> dict[str, str]:
    """An object of texts, whose names or values are known ones. Names of others are compared in lower case."""
    found = _object(given[name], name)
    for word, meaning in found.items():
        if not isinstance(meaning, str):
            raise _wrong(name, f"must have a text for `{word}`")
        if of is not None and word not in of:
            raise _wrong(name, f"names `{word}`, which is none of {', '.join(of)}")
        if to is not None and meaning not in to:
            raise _wrong(name, f"makes `{word}` into `{meaning}`, which is none of {', '.join(to)}")
    return found if to is None else {word.lower(): meaning for word, meaning in found.items()}


def _headers(given: Mapping[str, Any], auth_header: str) -> list[tuple[str, str]]:
    found = []
    for name, value in _object(given["headers"], "headers").items():
        header = _header(name, "headers")
        if header == auth_header:
            raise _wrong("headers", f"must not have `{header}`, which carries the provider's key")
        found.append((header, _line(value, "headers")))
    return found


def _header(value: Any, name: str) -> str:
    if not isinstance(value, str) or not HEADER.fullmatch(value):
        raise _wrong(name, "must name a header, in letters, digits and hyphens")
    if value.lower() in OURS:
        raise _wrong(name, f"must not name `{value}`, which the gateway makes itself")
    return value.lower()


def _line(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_CHARS or not (value.isascii() and value.isprintable()):
        raise _wrong(name, f"must be a text of at most {MAX_CHARS} printable ASCII characters")
    return value


def _path(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_CHARS or not PATH.fullmatch(value):
        raise _wrong(name, "must begin with a slash and have no blanks, quotes or `#`")
    for match in PLACEHOLDER.finditer(value):
        if match[0] != "{model}":
            raise _wrong(name, f"may have the placeholder {{model}} only, not {match[0]}")
    if "{" in value.replace("{model}", "") or "}" in value.replace("{model}", ""):
        raise _wrong(name, "has braces that are no placeholder")
    return value


def _choice(value: Any, name: str, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise _wrong(name, f"must be one of {', '.join(known)}")
    return value


def _places(given: Mapping[str, Any], kind: str) -> Places:
    def place(name: str) -> Location | None:
        value = given[f"{kind}_{name}"]
        return _location(value, f"{kind}_{name}") if value not in (None, "") else None

    text = place("text")
    if text is None:
        raise _wrong(f"{kind}_text", "is required: where in the answer the text stands")
    return Places(text, place("finish_reason"), place("input_tokens"), place("output_tokens"))


def _location(value: Any, name: str) -> Location:
    if not isinstance(value, str) or len(value) > MAX_CHARS or not LOCATION.fullmatch(value):
        raise _wrong(name, "must be a location such as `choices.0.text` or `choices[0].text`")
    steps = [match[1] or match[2] for match in STEP.finditer(value)]
    return tuple(int(step) if INDEX.fullmatch(step) else step for step in steps)


def _wrong(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` {why}", param=f"settings.{name}")
