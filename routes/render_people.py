"""Errors of `/users`, `/usage`, `/models`: the texts that clients compare in `detail`, the explanation in `error`."""

from typing import Any, Final

from flask_babel import gettext

from routes import wording
from services.errors import AuthenticationFailed, GatewayError, PermissionDenied

PATHS: Final = ("/users", "/usage", "/models")


def body(exc: GatewayError, request_id: str) -> dict[str, Any]:
    """What the sender reads, in its language; `details` has the parts of the request that are wrong."""
    message = wording.say(str(exc))
    found = {"detail": _fixed(exc) or message, "error": message, "code": exc.code, "request_id": request_id}
    return found | ({"details": wording.details(exc)} if exc.details else {})


def _fixed(exc: GatewayError) -> str:
    """The text that a kind of refusal has on these paths; empty: it has none."""
    if isinstance(exc, AuthenticationFailed):
        is_missing = exc.code == "missing_api_key"
        return str(gettext("Not authenticated") if is_missing else gettext("Could not validate credentials"))
    is_plain = isinstance(exc, PermissionDenied) and exc.code == PermissionDenied.code
    return str(gettext("Not enough permissions")) if is_plain else ""
