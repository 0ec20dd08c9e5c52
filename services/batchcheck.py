"""The file of a batch, looked at before any of its calls is made: each line, and all lines together.

A line is `{"custom_id", "method": "POST", "url", "body"}`, its body what the endpoint of the batch takes. Whatever is
wrong is found here as far as it can be known beforehand, with the number of its line; then nothing is called at all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from services.dialects import ANTHROPIC, OPENAI, OTHER, RESPONSES
from services.dialects.base import Dialect
from services.errors import InvalidRequest, NotFound
from services.promptbook import PromptBook, refuse
from services.types import CHAT, COMPLETION, EMBEDDING, MODERATION, Call, Caller, Chat
from utils import jsonx, native

ENDPOINTS: Final[dict[str, tuple[str, Dialect]]] = {  # what they do, and what they speak
    "/v1/chat/completions": (CHAT, OPENAI),
    "/v1/completions": (COMPLETION, OPENAI),
    "/v1/embeddings": (EMBEDDING, OPENAI),
    "/v1/moderations": (MODERATION, OTHER),
    "/v1/responses": (CHAT, RESPONSES),
    "/v1/messages": (CHAT, ANTHROPIC),
}
MEMBERS: Final = frozenset({"custom_id", "method", "url", "body"})
MOST_CHARS: Final = 255  # of a custom_id
MOST_ERRORS: Final = 100  # that are told
TURN: Final = 16  # lines after which others have a turn
DIGEST: Final = 16  # bytes; of 50,000 names no two have the same


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a file and its lines may be."""

    lines: int
    line_bytes: int


@dataclass(frozen=True, slots=True)
class Line:
    """One call that is to be made: its place in the file, and what its caller calls it."""

    number: int
    start: int
    length: int
    custom_id: str
    model: str


class _Wrong(Exception):
    """A line that cannot be taken: code, message, member."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


@dataclass(slots=True)
class Check:
    """One file. Iterate `lines`; afterwards `errors` says what is wrong, as a batch shows it."""

    caller: Caller
    endpoint: str
    bounds: Bounds
    prompts: PromptBook
    is_there: Callable[[str], bool]  # whether the caller may use a model
    errors: list[dict[str, Any]] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)

    def lines(self, parts: Iterable[bytes]) -> Iterator[Line]:
        """The good lines of a file; ends where there are too many lines or errors."""
        count = 0
        for number, start, raw in split(parts, self.bounds.line_bytes):
            if not number % TURN:
                native.give_way()
            if raw is not None and not raw.strip():
                continue
            count += 1
            if count > self.bounds.lines:
                self._add(None, _Wrong("too_many_tasks", f"A batch may have {self.bounds.lines} requests."))
                return
            try:
                yield self._line(number, start, raw)
            except _Wrong as exc:
                self._add(number, exc)
                if len(self.errors) >= MOST_ERRORS:
                    return
        if not count:
            self._add(None, _Wrong("empty_batch", "The file has no requests."))

    def _line(self, number: int, start: int, raw: bytes | None) -> Line:
        if raw is None:
            raise _Wrong("invalid_request", f"The line may have {self.bounds.line_bytes:,} bytes.")
        try:
            given = jsonx.loads(raw)
        except jsonx.BadJson:
            given = None
        if not isinstance(given, dict):
            raise _Wrong("invalid_json_line", "This line is not parseable as valid JSON.")
        custom_id = _custom_id(given.get("custom_id"))
        if unknown := sorted(given.keys() - MEMBERS):
            raise _Wrong("invalid_request", f"`{unknown[0][:100]}` is not known here.", unknown[0][:100])
        if given.get("method") != "POST":
            raise _Wrong("invalid_method", "`method` must be `POST`.", "method")
        if given.get("url") != self.endpoint:
            raise _Wrong("url_mismatch", f"`url` must be `{self.endpoint}`, as the batch says.", "url")
        model = self._model(given.get("body"))
        digest = blake2b(custom_id.encode(), digest_size=DIGEST).digest()
        if digest in self._seen:
            raise _Wrong("duplicate_custom_id", f"`custom_id` is that of an earlier line: {custom_id}", "custom_id")
        self._seen.add(digest)
        return Line(number, start, len(raw), custom_id, model)

    def _model(self, body: object) -> str:
        """The model that a body asks for."""
        if not isinstance(body, dict):
            raise _Wrong("missing_required_parameter", "`body` must be an object.", "body")
        try:
            call = call_of(self.endpoint, body, self.caller, "", self.prompts)
        except (InvalidRequest, NotFound) as exc:
            raise _Wrong("invalid_request", str(exc), f"body.{exc.param}") from None
        if call.is_stream:
            raise _Wrong("invalid_request", "`stream` cannot be true in a batch.", "body.stream")
        model: str = call.body["model"]
        if not self.is_there(model):
            raise _Wrong("model_not_found", f"Model '{model[:200]}' is not available to you.", "body.model")
        return model

    def _add(self, number: int | None, wrong: _Wrong) -> None:
        self.errors.append({"code": wrong.code, "line": number, "message": str(wrong), "param": wrong.param})


def call_of(endpoint: str, body: Chat, caller: Caller, request_id: str, prompts: PromptBook) -> Call:
    """The call of a line.

    Raises:
        InvalidRequest: its body.
        NotFound: it names a stored prompt that is not there.
        AccountingUnavailable: the database, which has the prompt, does not answer.
    """
    operation, dialect = ENDPOINTS[endpoint]
    if operation == CHAT and dialect is OPENAI:
        dialect = prompts.dialect
    else:
        refuse(body)
    return dialect.call(operation, jsonx.dumps(body), caller, request_id)


def split(parts: Iterable[bytes], most: int) -> Iterator[tuple[int, int, bytes | None]]:
    """The lines of a file as number from 1, place and bytes, of which none has more than `most`: None then."""
    number, start, size = 1, 0, 0
    held: list[bytes] = []
    for part in parts:
        begin = 0
        while (end := part.find(b"\n", begin)) >= 0:
            held.append(part[begin:end])
            size += end - begin
            yield number, start, b"".join(held) if size <= most else None
            number, start, held, size = number + 1, start + size + 1, [], 0
            begin = end + 1
        size += len(part) - begin
        if size > most:
            held.clear()
        else:
            held.append(part[begin:])
    if size:
        yield number, start, b"".join(held) if size <= most else None


def _custom_id(given: object) -> str:
    if given is None:
        raise _Wrong("missing_required_parameter", "`custom_id` is required.", "custom_id")
    if not isinstance(given, str) or not 1 <= len(given) <= MOST_CHARS or not given.isprintable():
        raise _Wrong("invalid_request", f"`custom_id` must have 1 to {MOST_CHARS} printable characters.", "custom_id")
    return given
