"""Errors of `/api/v1`: `{"code", "message", "request_id", "details"?}`, with codes in capitals."""

from typing import Any, Final

from routes import wording
from services.errors import GatewayError, UpstreamError, UpstreamTimeout

PREFIX: Final = "/api/v1"
CODES: Final = {
    400: "VALIDATION_ERROR",
    401: "UNAUTHORIZED",
    402: "INSUFFICIENT_TOKENS",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMIT_EXCEEDED",
    503: "SERVICE_UNAVAILABLE",
}
SERVER_ERROR: Final = 500


def code(exc: GatewayError) -> str:
    """The word for what went wrong, by its kind and status."""
    if isinstance(exc, UpstreamError):
        return "LLM_TIMEOUT" if isinstance(exc, UpstreamTimeout) else "LLM_ERROR"
    return CODES.get(exc.status, "INTERNAL_ERROR" if exc.status >= SERVER_ERROR else "VALIDATION_ERROR")


def body(exc: GatewayError, request_id: str) -> dict[str, Any]:
    """What the sender reads, in its language; `details` has the numbers and the part of the request that is meant."""
    details = wording.details(exc)
    if exc.param is not None:
        details["param"] = exc.param
    if exc.retry_after_s is not None:
        details.setdefault("retry_after", exc.retry_after_s)
    found = {"code": code(exc), "message": wording.say(str(exc)), "request_id": request_id}
    return found | {"details": details} if details else found
