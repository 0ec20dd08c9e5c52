"""The other endpoints of OpenAI's dialect: bytes pass through in both directions, and usage is read on the way.

Shapes as in OpenAI's API reference; rerank as Jina, Cohere and vLLM answer it (all read 2026-11-21).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from services.errors import UpstreamError
from services.providers.base import (
    SHAPE_ERRORS,
    StreamDecoder,
    UpstreamRequest,
    WholeAnswer,
    error_event,
    parse_object,
    tokens,
)
from services.providers.events import EventStream
from services.types import (
    IMAGE,
    IMAGE_EDIT,
    IMAGE_VARIATION,
    MODERATION,
    RERANK,
    SPEECH,
    TRANSCRIPTION,
    TRANSLATION,
    WITHOUT_OUTPUT,
    Call,
    Deployment,
    Usage,
)
from utils import jsonx, sse
from utils.forms import Upload

PATHS: Final = {
    MODERATION: "/moderations",
    IMAGE: "/images/generations",
    IMAGE_EDIT: "/images/edits",
    IMAGE_VARIATION: "/images/variations",
    SPEECH: "/audio/speech",
    TRANSCRIPTION: "/audio/transcriptions",
    TRANSLATION: "/audio/translations",
    RERANK: "/rerank",
}
PICTURES: Final = frozenset({IMAGE, IMAGE_EDIT, IMAGE_VARIATION})
TEXTS: Final = {  # formats of a transcription that are no JSON
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
BYTES_TYPE: Final = "application/octet-stream"
SOUND_TYPE: Final = re.compile(r"(audio|video)/[a-zA-Z0-9.+-]{1,60}(; ?[a-zA-Z0-9-]{1,20}=[a-zA-Z0-9.-]{1,20}){0,4}")
PART_TYPE: Final = re.compile(r"[a-zA-Z0-9.+-]{1,60}/[a-zA-Z0-9.+-]{1,60}")

# Estimates of what came, for when the provider does not say.
SOUND_BYTES_PER_TOKEN: Final = {"opus": 300, "flac": 1200, "wav": 2400, "pcm": 2400}  # 20 tokens are a second
USUAL_BYTES_PER_TOKEN: Final = 800
PICTURE_TOKENS: Final = {"low": 272, "medium": 1056}  # one of 1024 x 1024 by gpt-image-1 …
BEST_PICTURE_TOKENS: Final = 4160  # … of the highest quality
PARTIAL_TOKENS: Final = 100


def encode(call: Call, deployment: Deployment, headers: tuple[tuple[str, str], ...]) -> UpstreamRequest:
    """The caller's own body with another model name; a form is written anew."""
    body = {**call.body, "model": deployment.model}
    if not call.uploads:
        return UpstreamRequest("POST", PATHS[call.operation], headers, jsonx.dumps(body))
    boundary = f"form-{call.id}"  # random, and told to nobody before: no file has it
    others = tuple((name, value) for name, value in headers if name != "content-type")
    kind = ("content-type", f"multipart/form-data; boundary={boundary}")
    return UpstreamRequest("POST", PATHS[call.operation], (kind, *others), _form(body, call.uploads, boundary))


def decode(call: Call, body: bytes) -> WholeAnswer:
    """A whole answer.

    Raises:
        UpstreamError: it is not what this endpoint answers.
    """
    kind = call.upstream_type.partition(";")[0].strip().lower()
    if call.operation in LISTENS and call.body.get("response_format") in TEXTS and kind != "application/json":
        if kind == "text/html":
            raise UpstreamError("the upstream answered with HTML")
        return WholeAnswer(body, None, (body.decode("utf-8", "replace"),), TEXTS[call.body["response_format"]])
    answer = parse_object(body)
    if answer.get("error"):
        raise error_event(answer["error"])
    member, is_good = MEMBERS[call.operation]
    if not is_good(answer.get(member)):
        raise UpstreamError(f"the upstream answered with JSON that has no `{member}`")
    usage = usage_of(call.operation, answer.get("usage") or _of_meta(answer.get("meta")))
    if call.operation in PICTURES:
        usage = usage or Usage()
        usage.images = len(answer["data"])
    return WholeAnswer(body, usage, (answer["text"],) if call.operation in LISTENS else ())


def stream(call: Call) -> StreamDecoder:
    """A decoder for one stream.

    Raises:
        UpstreamError: the upstream sends a sound where events were wanted.
    """
    kind = call.upstream_type.lower()
    if call.is_binary:
        return Sound(call)
    if kind.startswith(("audio/", "video/", BYTES_TYPE)):
        raise UpstreamError("the upstream was asked for events and answered with bytes")
    return Events(call)


class Sound:
    """Hands bytes on as they come, but for the last one, which waits until the call is booked."""

    def __init__(self, call: Call) -> None:
        self.usage: Usage | None = None
        self.is_done = False
        self._call, self._size, self._held = call, 0, b""
        given = call.body.get("response_format") or ""
        self._bytes_per_token = SOUND_BYTES_PER_TOKEN.get(given, USUAL_BYTES_PER_TOKEN)
        call.content_type = call.upstream_type if SOUND_TYPE.fullmatch(call.upstream_type) else BYTES_TYPE

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        self._size += len(data)
        self._call.media_tokens = -(-self._size // self._bytes_per_token)
        out, self._held = self._held + data[:-1], data[-1:]
        yield out

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        if not self._size:
            raise UpstreamError("the upstream sent an empty sound")
        yield self._held


class Events(EventStream):
    """Hands events on as they come, but for the one that ends the answer, which waits until the call is booked."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._call = call

    def _event(self, event: bytes) -> bytes:
        """What is handed on now: what was held back, and the event unless it may be the last one."""
        payload = sse.data_of(event)
        if self.is_done:
            return b""
        if payload is not None and payload.strip() == b"[DONE]":
            self.is_done = True
            self._held += event
            return b""
        is_last = payload is not None and self._is_last(payload)
        out, self._held = (self._held, event) if is_last else (self._held + event, b"")
        return out

    def _is_last(self, payload: bytes) -> bool:
        """Whether an event ends a picture, a sound or a text; reads its usage and what it brings."""
        try:
            chunk = jsonx.peek(payload)
            if chunk.get("error"):
                raise error_event(chunk["error"])
            self._collect(chunk, str(chunk.get("type") or ""))
            is_last = str(chunk.get("type")).endswith((".done", ".completed")) or any(
                choice.get("finish_reason") for choice in chunk.get("choices") or ()
            )
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc
        self._is_finished = self._is_finished or is_last
        return is_last

    def _collect(self, chunk: dict[str, Any], kind: str) -> None:
        call = self._call
        if kind.endswith(".text.delta"):
            call.pieces.append(str(chunk["delta"]))
        elif kind == "speech.audio.delta":
            size = len(chunk["audio"]) * 3 // 4
            given = call.body.get("response_format") or ""
            call.media_tokens += -(-size // SOUND_BYTES_PER_TOKEN.get(given, USUAL_BYTES_PER_TOKEN))
        elif kind.endswith(".partial_image"):
            whole = PICTURE_TOKENS.get(call.body.get("quality") or "", BEST_PICTURE_TOKENS)
            call.media_tokens += PARTIAL_TOKENS if call.media_tokens else PARTIAL_TOKENS + whole
        for choice in chunk.get("choices") or ():  # how vLLM streams a transcription
            call.pieces.append(str((choice.get("delta") or {}).get("content") or ""))
        self._count(chunk, kind)

    def _count(self, chunk: dict[str, Any], kind: str) -> None:
        """Every picture has an event of its own with its own usage."""
        found = usage_of(self._call.operation, chunk.get("usage"))
        if self._call.operation not in PICTURES:
            self.usage = found or self.usage
        elif kind.endswith(".completed"):
            known, found = self.usage or Usage(), found or Usage()
            self.usage = Usage(
                _sum(known.input_tokens, found.input_tokens),
                _sum(known.output_tokens, found.output_tokens),
                images=(known.images or 0) + 1,
            )


def usage_of(operation: str, raw: Any) -> Usage | None:
    """What these endpoints report; None when it counts no tokens, such as a duration."""
    if not isinstance(raw, dict):
        return None
    given, output = _first(raw, "input_tokens", "prompt_tokens"), _first(raw, "output_tokens", "completion_tokens")
    if given is None and operation in WITHOUT_OUTPUT:
        given = tokens(raw.get("total_tokens"))
    if given is None and output is None:
        return None
    details = raw.get("input_token_details")
    audio = tokens(details.get("audio_tokens")) if isinstance(details, dict) else None
    return Usage(
        given,
        output,
        input_audio_tokens=audio if audio is None or audio <= (given or 0) else None,
        output_audio_tokens=output if operation == SPEECH else None,
    )


def _first(raw: dict[str, Any], *names: str) -> int | None:
    return next((found for name in names if (found := tokens(raw.get(name))) is not None), None)


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


def _of_meta(meta: Any) -> Any:
    """Where Cohere says how many tokens it read."""
    return meta.get("tokens") if isinstance(meta, dict) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


LISTENS: Final = frozenset({TRANSCRIPTION, TRANSLATION})
MEMBERS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {  # what an answer must have
    MODERATION: ("results", _is_list),
    RERANK: ("results", _is_list),
    TRANSCRIPTION: ("text", _is_text),
    TRANSLATION: ("text", _is_text),
    **dict.fromkeys(PICTURES, ("data", _is_list)),
}


def _form(body: dict[str, Any], uploads: tuple[Upload, ...], boundary: str) -> bytes:
    """A multipart body (RFC 7578): the fields, those that came several times so often, then the files."""
    parts = []
    for name, given in body.items():
        for value in given if isinstance(given, list) else [given]:
            parts += [_head(boundary, name), b"\r\n\r\n", str(value).encode(), b"\r\n"]
    for upload in uploads:
        kind = upload.content_type if PART_TYPE.fullmatch(upload.content_type) else BYTES_TYPE
        head = _head(boundary, upload.name, upload.filename)
        parts += [head, f"\r\ncontent-type: {kind}\r\n\r\n".encode(), upload.data, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _head(boundary: str, name: str, filename: str | None = None) -> bytes:
    """The lines that name a part; browsers write quotes and line ends in names like this."""
    named = f'; filename="{_quoted(filename)}"' if filename is not None else ""
    return f'--{boundary}\r\ncontent-disposition: form-data; name="{_quoted(name)}"{named}'.encode("utf-8", "replace")


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
