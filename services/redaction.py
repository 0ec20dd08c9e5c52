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

MOST_CHARS: Final = 128 * 1024  # kept of one body
PATTERNS_S: Final = 0.5  # in all, for the operator's patterns on one body
MOST_NUMBERS: Final = 64  # a longer list of numbers is a vector, and says nothing to people
LEAST_BASE64: Final = 512  # characters; shorter ones may be words
SAMPLE: Final = 4096  # characters at either end of a text that say whether it is base64
WINDOW: Final = 2 * MOST_CHARS  # of a text that is looked through for data URLs
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
    r"(?<![A-Za-z0-9])(authorization|api[_-]?key|password|passwd|senha|client[_-]secret|access[_-]token)"
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
        if (found := media(text)) is not None:
            near_by = (near[name] for name in KINDS if isinstance(near.get(name), str))
            text = f"[{(found[0] or next(near_by, 'base64'))[:100]}, {found[1]} bytes]"
        is_cut = len(text) > WINDOW
        if "base64," in (text := text[:WINDOW]):
            text = DATA_URL.sub(_described, text)
        is_cut = is_cut or len(text) > self.left
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


def media(text: str) -> tuple[str | None, int] | None:
    """The type, where it says one, and the bytes of a text that is a data URL or base64; None = it is neither.

    Only both ends are looked at: whoever writes words between them does not get them stored.
    """
    kind, start = None, 0
    if (url := DATA_URL.match(text, 0, SAMPLE)) is not None:
        kind, start = url[1] or "text/plain", url.start(2)
    elif len(text) < LEAST_BASE64:
        return None
    if not (_is_base64(text[start : start + SAMPLE]) and _is_base64(text[start:][-SAMPLE:])):
        return None
    breaks = text.count("\n", start) + text.count("\r", start)
    return kind, _decoded_bytes(len(text) - start - breaks - text.count("=", max(start, len(text) - 4)))


def _is_base64(text: str) -> bool:
    """Whether these are characters of base64, in lines of one length if there are any."""
    lines = text.split()
    if len(lines) > 1 and (len(lines[1]) not in LINES or any(len(line) != len(lines[1]) for line in lines[1:-1])):
        return False
    return " " not in text and all(map(BASE64.fullmatch, lines))


def _decoded_bytes(characters: int) -> int:
    return characters * 3 // 4


def _described(match: re.Match[str]) -> str:
    return f"[{match[1] or 'text/plain'}, {_decoded_bytes(len(match[2].rstrip('=')))} bytes]"


def _without_credentials(text: str) -> str:
    return ASSIGNED.sub(rf"\1\2{REDACTED}", CREDENTIAL.sub(REDACTED, text))
