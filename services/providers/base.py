"""What a wire must offer: pure translations between the hub format and one upstream dialect.

A wire opens no socket, reads no clock and keeps nothing between calls. The hub format is OpenAI's JSON as a dict.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, runtime_checkable

from services.errors import RETRYABLE_STATUSES, CredentialRefused, UpstreamError, UpstreamRefused, UpstreamTimeout
from services.types import Call, Deployment, Upstream, Usage
from utils import clock, jsonx

MAX_TOKENS: Final = 2**31 - 1  # a provider that reports more is not believed
PASSED_ON: Final = frozenset({400, 404, 409, 413, 415, 422, 429})  # the caller can act on these
MAX_RETRY_AFTER_S: Final = 86_400
MAX_RAW_CHARS: Final = 500  # of an error that an upstream's own upstream gave
CLAUDES_PROMPT, CLAUDES_TURN = 1_024, 64  # tokens
SHAPE_ERRORS: Final = (AttributeError, TypeError, LookupError, ValueError, OverflowError, struct.error)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is sent upstream.

    `dropped` names tuning parameters that this dialect cannot express. `is_native`: it is the caller's own JSON, not
    a translation, and so the answer comes in the caller's dialect; decoders find that in `call.is_native`.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    dropped: tuple[str, ...] = ()
    is_native: bool = False


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A non-streamed answer in the hub format or the caller's own, what it used, and the text it generated."""

    body: bytes
    usage: Usage | None
    pieces: tuple[str, ...] = ()
    content_type: str = "application/json"


@runtime_checkable
class TokenWire(Protocol):
    """What a wire offers besides, if its provider's credential must be exchanged for a token that ends.

    services/tokens.py exchanges it, and adds the token to the requests that the wire makes without it.
    """

    def token_request(self, upstream: Upstream, unique: str) -> tuple[str, UpstreamRequest]:
        """Where and how to ask for a token: a base URL and a request. `unique` is a new UUID."""
        ...

    def token_of(self, body: bytes) -> tuple[str, int]:
        """The token in the answer, and when it ends, in milliseconds of Unix time.

        Raises:
            UpstreamError: there is none.
        """
        ...


class StreamDecoder(Protocol):
    """Turns upstream bytes, cut anywhere, into hub events."""

    @property
    def usage(self) -> Usage | None:
        """As far as the stream told it."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the stream's own end mark was seen."""
        ...

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The events that became whole, ready to be handed on; the end mark is kept back for `end`.

        Raises:
            UpstreamError: an error event, or something that is no event.
        """
        ...

    def end(self) -> Iterator[bytes]:
        """The last events and the end mark.

        Raises:
            UpstreamError: the stream ended before its end.
        """
        ...


class Wire(Protocol):
    """One upstream dialect, both ways."""

    @property
    def operations(self) -> frozenset[str]:
        """What it can carry: names of operations, see services/types.py."""
        ...

    @property
    def not_streams(self) -> tuple[str, ...]:
        """Content types that the answer to a streamed call must not have."""
        ...

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """The most that the provider adds to the prompt by itself, beyond what the bytes of the request bound."""
        ...

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """The request for an upstream.

        Raises:
            Unsupported: content that this dialect cannot carry.
        """
        ...

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """A whole answer with status 2xx.

        Raises:
            UpstreamError: it is not what this dialect answers.
        """
        ...

    def stream(self, call: Call) -> StreamDecoder:
        """A decoder for one stream; it adds generated text to `call.pieces`."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """What an answer with another status means."""
        ...

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """Path and headers of the request that lists the upstream's models; `settings` also has its `base_url`.

        Raises:
            UpstreamError: there is no such list.
        """
        ...

    def model_names(self, body: bytes) -> list[str]:
        """The names in the answer to it.

        Raises:
            UpstreamError: it is not such a list.
        """
        ...


def claudes_tokens(call: Call) -> int:
    """What Anthropic adds around a Claude: a prompt for tools, one for a schema, an opening turn.

    Published are up to 804 for tools (platform.claude.com/docs/en/agents-and-tools/tool-use/overview, read 2026-11-21)
    and nothing for schemas.
    """
    body = call.body
    has_tools = bool(body.get("tools")) or any(message.get("tool_calls") for message in body.get("messages", ()))
    return CLAUDES_TURN + CLAUDES_PROMPT * (has_tools + bool(body.get("response_format")))


def tokens(value: Any) -> int | None:
    """A reported token count, or None where it is missing or impossible (negative, a fraction, a text)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
        return value
    return None


@contextmanager
def expecting(what: str) -> Iterator[None]:
    """The block reads JSON of an upstream, which may have any shape: stumbling over it is the upstream's error.

    Raises:
        UpstreamError: saying that it is not `what`.
    """
    try:
        yield
    except SHAPE_ERRORS as exc:
        raise UpstreamError(f"the upstream did not send {what}") from exc


def parse_object(body: bytes) -> dict[str, Any]:
    """An upstream's JSON object.

    Raises:
        UpstreamError: it is something else, such as an HTML page.
    """
    try:
        value = jsonx.loads(body)
    except jsonx.BadJson as exc:
        raise UpstreamError("the upstream did not answer with JSON") from exc
    if not isinstance(value, dict):
        raise UpstreamError("the upstream answered with JSON that is no object")
    return value


def error_event(error: Any) -> UpstreamRefused:
    """An error object that came with status 200."""
    detail = error_object(error)
    code = detail.get("code")
    return UpstreamRefused(
        str(detail.get("message") or "the upstream reported an error"),
        status=code if isinstance(code, int) and code in PASSED_ON else 502,  # OpenRouter's codes are statuses
        type_=str(detail.get("type") or "upstream_error"),
        code=None if code is None else str(code),
    )


def error_object(error: Any) -> dict[str, Any]:
    """An error as an object whose message is a text.

    Mistral's message may be an object with FastAPI's list; OpenRouter's own says less than its provider's, which it
    has in `metadata.raw` (openrouter.ai/docs/api-reference/errors, read 2026-11-21).
    """
    if isinstance(error, list):
        return _faults(error)
    if not isinstance(error, dict):
        return {"message": str(error)}
    message, metadata = error.get("message"), error.get("metadata")
    if isinstance(message, dict | list):
        inner = message.get("detail") if isinstance(message, dict) else message
        return {**error, **(_faults(inner) if isinstance(inner, list) else {"message": jsonx.dumps(message).decode()})}
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return {**error, "message": f"{message}: {raw[:MAX_RAW_CHARS]}"} if isinstance(raw, str) and raw else error


def _faults(listed: list[Any]) -> dict[str, Any]:
    """FastAPI's list as one message; the first place that it names is the param."""
    texts, param = [], None
    for fault in listed:
        text, place = (fault.get("msg"), fault.get("loc")) if isinstance(fault, dict) else (fault, None)
        if isinstance(text, str):
            where = ".".join(map(str, place[1:])) if isinstance(place, list) else ""  # the first says `body`
            texts.append(f"{where}: {text}" if where else text)
            param = param or where or None
    return {"message": "; ".join(texts), "param": param}


def refused(
    status: int, headers: Mapping[str, str], detail: Mapping[str, Any], deployment: Deployment
) -> UpstreamError:
    """An upstream's own error, in our tree.

    `detail` may hold message, type, code and param as the upstream gave them.
    """
    name = deployment.upstream.name
    message = str(detail.get("message") or f"the upstream answered {status}")
    if status in PASSED_ON:
        return UpstreamRefused(
            message,
            status=status,
            type_=_text(detail.get("type")) or "invalid_request_error",
            code=_text(detail.get("code")),
            param=_text(detail.get("param")),
            retry_after_s=retry_after_s(headers),
        )
    if status in (401, 402, 403, 407):
        return CredentialRefused(f"the provider `{name}` refused the gateway's own credential or account ({status})")
    if status in (408, 504):
        return UpstreamTimeout(f"the provider `{name}` timed out ({status}): {message}")
    busy = UpstreamRefused(
        f"the provider `{name}` failed ({status}): {message}",
        status=503 if status in (503, 529) else 502,
        code="upstream_error",
        retry_after_s=retry_after_s(headers),
    )
    busy.is_retryable = status in RETRYABLE_STATUSES or status >= 500  # noqa: PLR2004 - HTTP's server errors
    return busy


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """The Retry-After header in seconds, which may be a date; `retry-after-ms` goes before it. None = neither helps."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdigit():
            return min(-(-int(value[:12]) // unit), MAX_RETRY_AFTER_S)
    try:
        left_s = parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - clock.now_s()
    except (ValueError, OverflowError):
        return None
    return min(math.ceil(left_s), MAX_RETRY_AFTER_S) if left_s > 0 else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:200]
