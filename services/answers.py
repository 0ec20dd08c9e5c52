"""What an upstream's answer says before it is decoded: headers that its caller may see, errors, what it came as."""

from typing import Final

from services.errors import UpstreamError
from services.providers.base import Wire
from services.transport import Answer
from services.types import TRANSCRIPTION, Call

MAX_ERROR_BYTES: Final = 65_536
EVENTS: Final = "text/event-stream"
SHOWN: Final = {  # headers of an upstream that its caller may see, and what they are called then
    "openai-processing-ms": "openai-processing-ms",
    "openai-version": "openai-version",
    "x-generation-id": "x-generation-id",
    "x-request-id": "x-upstream-request-id",
    "request-id": "x-upstream-request-id",
}


def shown(answer: Answer) -> dict[str, str]:
    """What of the answer's headers its caller may see."""
    return {ours: answer.headers[name] for name, ours in SHOWN.items() if name in answer.headers}


def read_error(answer: Answer) -> bytes:
    """The body of an error, as far as it can be had."""
    try:
        return answer.read(MAX_ERROR_BYTES)
    except UpstreamError:
        return b""


def _kind(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_whole(call: Call, answer: Answer) -> bool:
    """Whether a whole answer came where a stream was asked for, and may: whisper-1 ignores `stream`, as documented.

    Source: OpenAI's API reference, `stream` of "Create transcription", read 2026-11-22.
    """
    return call.operation == TRANSCRIPTION and _kind(answer) != EVENTS


def check_stream(answer: Answer, wire: Wire) -> None:
    """Whether events can come where a stream was asked for.

    Raises:
        UpstreamError: something else came.
    """
    kind = _kind(answer)
    if kind in wire.not_streams:
        raise UpstreamError(f"the upstream was asked for a stream and answered with `{kind}`")
