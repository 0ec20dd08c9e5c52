"""What the pipeline needs around one attempt: its request, and what of the answer's head its caller may see."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from services.dialects.base import Dialect
from services.errors import GatewayError, UpstreamError
from services.providers.base import UpstreamRequest, Wire
from services.transport import Answer
from services.types import TRANSCRIPTION, Call, Deployment, PublicModel

MAX_ERROR_BYTES: Final = 65_536
EVENTS: Final = "text/event-stream"
SHOWN: Final = {  # headers of an upstream that its caller may see, and what they are called then
    "openai-processing-ms": "openai-processing-ms",
    "openai-version": "openai-version",
    "x-generation-id": "x-generation-id",
    "x-request-id": "x-upstream-request-id",
    "request-id": "x-upstream-request-id",
}


def widest(model: PublicModel, asked: Sequence[PublicModel]) -> PublicModel:
    """The model with the window that bounds the input whichever is asked; None where one window is unknown."""
    windows = [one.context_window for one in asked]
    known = [window for window in windows if window is not None]
    window = max(known) if known and len(known) == len(windows) else None
    return model if window == model.context_window else replace(model, context_window=window)


def encoded(wire: Wire, call: Call, deployment: Deployment) -> UpstreamRequest:
    """The request for this deployment; the call notes what is lost on the way.

    Raises:
        Unsupported: content that this upstream cannot take.
    """
    request = wire.encode(call, deployment)
    call.dropped, call.is_native = list(request.dropped), request.is_native
    if not call.is_native:
        if call.native_only is not None:
            raise call.native_only
        call.dropped += call.untranslated
    return request


def last_words(call: Call, dialect: Dialect) -> Callable[[GatewayError], bytes]:
    """How a stream tells its caller of an error."""
    return partial(dialect.last_event, call) if dialect.last_event else dialect.error_event


def attach(call: Call, answer: Answer) -> None:
    """From now on the call can be ended from another thread, or is at once if that was wanted already."""
    call.exchange = answer
    if call.abort_reason is not None:
        raise call.abort_reason


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
    """Whether what comes is a stream.

    Raises:
        UpstreamError: it is something else.
    """
    kind = _kind(answer)
    if kind in wire.not_streams:
        raise UpstreamError(f"the upstream was asked for a stream and answered with `{kind}`")
