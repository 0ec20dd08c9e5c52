"""Anthropic's Messages API, as its clients send and read it.

The caller's JSON stays as it is for upstreams that speak the same; the hub format is made of it for all others.
"""

from typing import Any, Final

from services.dialects import anthropic_answer, anthropic_request, openai
from services.dialects.anthropic_stream import MessagesStream
from services.errors import GatewayError
from services.types import CHAT, Call, Caller, Demand, PublicModel
from utils import clock, sse

NAME: Final = "anthropic"
ERROR_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
SERVER_ERROR: Final = 500
ID_HEADER: Final = "request-id"  # where its clients look for the id of a request


def call(operation: str, raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that begins now.

    Raises:
        InvalidRequest: naming the member that is wrong in `param`.
    """
    return _call(operation, raw, caller, request_id, needs_limit=True)


def draft(raw: bytes, caller: Caller, request_id: str) -> Call:
    """A call that is only counted, so that nobody must say how long its answer may be.

    Raises:
        InvalidRequest: as for `call`.
    """
    return _call(CHAT, raw, caller, request_id, needs_limit=False)


def error_body(exc: GatewayError) -> dict[str, Any]:
    """An error as Anthropic's clients expect it; whoever knows the request's id adds it."""
    usual = "api_error" if exc.status >= SERVER_ERROR else "invalid_request_error"
    details = {"error_code": exc.code, "param": exc.param}
    error = {"type": ERROR_TYPES.get(exc.status, usual), "message": str(exc), "details": details}
    return {"type": "error", "error": error, "request_id": None}


def error_event(exc: GatewayError) -> bytes:
    """The same as an event in a stream."""
    return _event(error_body(exc))


def last_event(call: Call, exc: GatewayError) -> bytes:
    """The same, with the id of the call."""
    return _event(error_body(exc) | {"request_id": call.id})


def demand(call: Call, model: PublicModel, default_output: int) -> Demand:
    """What the call may use at most: see the same function of OpenAI's dialect.

    What Anthropic's servers look up, run or fetch for a call goes into its input too, and nobody knows how much it is.
    """
    media, is_bounded = openai.media_tokens(call.body)
    is_bounded = is_bounded and (call.native_only is None or not call.body["max_tokens"])
    bound = call.body_bytes + media
    if model.context_window is not None:
        bound = min(bound, model.context_window) if is_bounded else model.context_window
        is_bounded = True
    return Demand(bound, 1, call.body["max_tokens"], model.max_output_tokens or default_output, is_bounded)


class Messages:
    """The Translation into this dialect."""

    def answer(self, call: Call, body: bytes) -> bytes:
        """See Translation.answer."""
        return anthropic_answer.answer(call, body)

    def stream(self, call: Call) -> MessagesStream:
        """See Translation.stream."""
        return MessagesStream(call)


def _event(body: dict[str, Any]) -> bytes:
    return b"event: error\n" + sse.format_event(body)


def _call(operation: str, raw: bytes, caller: Caller, request_id: str, *, needs_limit: bool) -> Call:
    native = openai.members(raw)
    body, notes = anthropic_request.hub(native, needs_limit=needs_limit)
    return Call(
        id=request_id,
        operation=operation,
        body=body,
        caller=caller,
        started_ms=clock.now_ms(),
        started_s=clock.monotonic_s(),
        body_bytes=len(raw),
        is_stream=bool(native.get("stream")),
        wants_usage=True,
        dialect=NAME,
        native=anthropic_request.own_thinking_removed(native),
        native_only=notes.native_only,
        untranslated=tuple(notes.left_out),
    )
