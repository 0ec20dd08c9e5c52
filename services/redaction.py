"""What of a text may be stored: credentials, media and what the operator's patterns match are taken out of it.

JSON is looked at member by member, so a pattern sees one text at a time and never the JSON around it. Everything is
bounded: the text that is kept, and the time that patterns may take. What a pattern cannot finish is not kept at all.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from utils import clock, jsonx, settings
from utils.logs import Redactor

MOST_CHARS: Final = 256 * 1024  # kept of one body
PATTERNS_S: Final = 0.5  # in all, for the operator's patterns on one body
MOST_NUMBERS: Final = 64  # a longer list of numbers is a vector, and says nothing to people
LEAST_BASE64: Final = 512  # characters; shorter ones may be words
LINES: Final = (60, 64, 76)  # how long the lines of base64 are where it has any
REDACTED: Final = "[redacted]"
CUT: Final = "[cut]"
TIMED_OUT: Final = "[redacted: a pattern took too long]"
NAMES: Final = frozenset(  # of members whose values are credentials, in lower case with underscores
    {
        "api_key",
        "apikey",
        "authorization",
        "cookie",
        "passwd",
        "password",
        "proxy_authorization",
        "secret",
        "set_cookie",
    }
)
ENDINGS: Final = ("_api_key", "_password", "_secret", "access_token", "auth_token", "refresh_token", "private_key")
KINDS: Final = ("media_type", "mime_type", "mimeType", "format", "content_type")  # members that say what media is
CREDENTIAL: Final = re.compile(
    r"AIza[\w-]{30,}|gh[opsur]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}|glpat-[\w-]{16,}"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END[A-Z -]*-----)?",
    re.ASCII,
)
ASSIGNED: Final = re.compile(
    r"\b((?:proxy-)?authorization|(?:[\w-]{0,40}[_-])?(?:api[_-]?key|password|passwd|client[_-]secret|access[_-]token))"
    r"(\\?[\"']?\s{0,5}[:=]\s{0,5}\\?[\"']?)(?!Bearer\b|\[redacted|\*\*\*)"
    r"((?:(?:Basic|Digest|Token|ApiKey)\s{1,5})?[^\s\"',;&}\\]{4,})",
    re.ASCII | re.IGNORECASE,
)
DATA_URL: Final = re.compile(
    r"data:([\w.+-]{1,60}/[\w.+-]{1,60})?(?:;[\w=.-]{1,60})*;base64,([A-Za-z0-9+/=_-]*)", re.ASCII
)
BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}", re.ASCII)


@dataclass(slots=True)
class Kept:
    """What is left of a body: a JSON value or a text."""

    body: Any
    is_shortened: bool = False


class Redaction:
    """See the module. Safe for threads."""

    def __init__(self, secrets: tuple[str, ...], patterns: Sequence[str] = ()) -> None:
        self._known = Redactor(secrets)
        self._patterns = settings.compiled(patterns)

    def clean(self, raw: bytes) -> Kept:
        """What may be kept of these bytes: of JSON its value, of anything else its text."""
        try:
            value = jsonx.loads(raw)
        except jsonx.BadJson:
            value = raw[: 4 * MOST_CHARS].decode("utf-8", "replace")
        return self.clean_value(value)

    def clean_value(self, value: Any) -> Kept:
        """The same of a value as JSON has them."""
        work = _Work(self._known, self._patterns, clock.monotonic_s() + PATTERNS_S)
        try:
            body = work.cleaned(value)
        except TimeoutError:
            return Kept(TIMED_OUT)
        return Kept(body, work.left <= 0)


class _Work:
    """One body, with what is left of its bounds."""

    def __init__(self, known: Redactor, patterns: Sequence[Any], until_s: float) -> None:
        self._known, self._patterns, self._until_s = known, patterns, until_s
        self.left = MOST_CHARS

    def cleaned(self, value: Any, near: Mapping[str, Any] | None = None) -> Any:
        """The value without what may not be kept; `near`: the object that it is a member of."""
        if isinstance(value, str):
            return self._text(value, near or {})
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return self._list(value, near)
        self.left -= 4
        if self._patterns and isinstance(value, int | float) and not isinstance(value, bool):
            shown = str(value)
            return value if self._by_patterns(shown) == shown else REDACTED
        return value

    def _object(self, members: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in members.items():
            if self.left <= 0:
                found[CUT] = len(members) - len(found)
                break
            is_secret = isinstance(value, str) and bool(value) and is_credential(name)
            shown = self._text(name, {})  # before its value, which may use up what is left
            found[shown] = REDACTED if is_secret else self.cleaned(value, members)
        return found

    def _list(self, values: list[Any], near: Mapping[str, Any] | None) -> Any:
        if len(values) > MOST_NUMBERS and all(isinstance(one, int | float) for one in values):
            return f"[{len(values)} numbers]"
        found: list[Any] = []
        for value in values:
            if self.left <= 0:
                found.append(f"{CUT} {len(values) - len(found)}")
                break
            found.append(self.cleaned(value, near))
        return found

    def _text(self, text: str, near: Mapping[str, Any]) -> str:
        if (size := base64_bytes(text)) is not None:
            kind = next((near[name] for name in KINDS if isinstance(near.get(name), str)), "base64")
            text = f"[{kind[:100]}, {size} bytes]"
        elif "base64," in text:
            text = DATA_URL.sub(_described, text)
        is_cut = len(text) > self.left
        text = text[: max(0, self.left)]
        self.left -= len(text) + 4
        for secret in (self._known.clean, _without_credentials, self._by_patterns):
            text = secret(text)
        if is_cut:
            self.left = 0
            return text + CUT
        return text

    def _by_patterns(self, text: str) -> str:
        for pattern in self._patterns:
            left_s = self._until_s - clock.monotonic_s()
            if left_s <= 0:
                raise TimeoutError
            # `concurrent` lets the calls of this worker go on meanwhile.
            text = pattern.sub(REDACTED, text, timeout=left_s, concurrent=True)
        return text


def is_credential(name: str) -> bool:
    """Whether a member of that name has a credential."""
    plain = name.lower().replace("-", "_")
    return plain in NAMES or plain.endswith(ENDINGS)


def base64_bytes(text: str) -> int | None:
    """How many bytes a text stands for that is base64 from one end to the other; None = it is a text."""
    if len(text) < LEAST_BASE64:
        return None
    lines = text.split() if "\n" in text else [text]
    if len(lines) > 1 and (len(lines[0]) not in LINES or any(len(line) != len(lines[0]) for line in lines[:-1])):
        return None
    if not all(map(BASE64.fullmatch, lines)):
        return None
    return _decoded_bytes("".join(lines))


def _decoded_bytes(text: str) -> int:
    return len(text.rstrip("=")) * 3 // 4


def _described(match: re.Match[str]) -> str:
    return f"[{match[1] or 'text/plain'}, {_decoded_bytes(match[2])} bytes]"


def _without_credentials(text: str) -> str:
    return ASSIGNED.sub(rf"\1\2{REDACTED}", CREDENTIAL.sub(REDACTED, text))
