"""Errors of the proxy surface, `/api/providers`: OpenAI's envelope with the status as its code and fixed messages.

Clients of that surface compare messages, so each cause has one text for good. What the gateway has to say beyond it,
such as the numbers of a limit, stands in `detail`; where there is no text, the message says it too.
"""

from typing import Any, Final

from services.errors import (
    AuthenticationFailed,
    BodyEmpty,
    BodyTooLarge,
    BodyUnreadable,
    BudgetExceeded,
    GatewayError,
    ModelNotAllowed,
    NotFound,
    PermissionDenied,
    PolicyViolation,
    RateLimited,
    UpstreamUnreachable,
)
from utils import sse

ANY: Final = None  # whatever the code or status
NOT_PRESENT: Final = "[BricksLLM] bearer token is not present"
TOO_MANY: Final = "[BricksLLM] too many requests"
TEXTS: Final[tuple[tuple[type[GatewayError], str | int | None, str], ...]] = (  # the first that fits
    (AuthenticationFailed, "missing_api_key", NOT_PRESENT),
    (AuthenticationFailed, "invalid_auth_format", NOT_PRESENT),
    (AuthenticationFailed, "key_revoked", "[BricksLLM] api key has been revoked"),
    (AuthenticationFailed, "key_expired", "[BricksLLM] key has expired"),
    (AuthenticationFailed, ANY, "[BricksLLM] api key is not registered"),
    (ModelNotAllowed, ANY, "[BricksLLM] model is not allowed"),
    (PolicyViolation, ANY, "[BricksLLM] request blocked"),
    (PermissionDenied, "path_not_allowed", "[BricksLLM] path is not allowed"),
    (NotFound, "route_not_found", "[BricksLLM] route config not found"),
    (RateLimited, ANY, TOO_MANY),
    (BudgetExceeded, 429, TOO_MANY),
    (BodyEmpty, ANY, "[BricksLLM] request is empty"),
    (BodyUnreadable, ANY, "[BricksLLM] error when parsing the request body"),
    (BodyTooLarge, ANY, "[BricksLLM] error when reading the request body"),
    (UpstreamUnreachable, ANY, "[BricksLLM] failed to send http request to openai"),
)


def error_body(exc: GatewayError) -> dict[str, Any]:
    """An error as clients of the proxy surface expect it."""
    detail = str(exc)
    error = {"message": _text(exc) or detail, "type": exc.type, "param": exc.param, "code": exc.status}
    return {"error": error | {"detail": detail}}


def error_event(exc: GatewayError) -> bytes:
    """The same as an event in a stream."""
    return sse.format_event(error_body(exc))


def _text(exc: GatewayError) -> str | None:
    return next(
        (text for kind, mark, text in TEXTS if isinstance(exc, kind) and mark in (ANY, exc.code, exc.status)), None
    )
