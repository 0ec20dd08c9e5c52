"""From an error to the answer its sender understands: one renderer per dialect, chosen by the path."""

import logging
import re
from collections.abc import Callable
from typing import Any, Final

from flask import Flask, Response, request
from flask_babel import gettext
from werkzeug.exceptions import HTTPException

from routes import headers as limit_headers
from routes import problems, render_people, render_v1, wording
from services.dialects import anthropic, openai, proxy
from services.errors import (
    AccountingUnavailable,
    AuthenticationFailed,
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
)
from utils import ids, jsonx
from utils.extensions import DATABASE_DOWN, PAGES, gateway, this_request

log = logging.getLogger(__name__)

REQUEST_ID: Final = "tollhouse.request_id"  # in the WSGI environment
ROUTE: Final = "tollhouse.route"  # there too: the headers about the providers that a failed call was sent to
MESSAGES: Final = "/v1/messages"
VERSION: Final = "anthropic-version"  # a header that Anthropic's clients send with every request, and no others
BODIES: Final[dict[str, Callable[[GatewayError], object]]] = {  # by the beginning of the path; the first one counts
    MESSAGES: anthropic.error_body,
    "/v1": openai.error_body,
    "/api/providers": proxy.error_body,
    "/api/key-management": problems.body,
    "/api/v2/key-management": problems.body,
    "/api/users": problems.body,
    **dict.fromkeys((problems.REPORTS, *problems.EVENTS), problems.body),
    problems.SETTINGS: problems.body,
    problems.POLICIES: problems.body,
    problems.ROUTES: lambda exc: proxy.error_body(exc) if problems.is_call() else problems.body(exc),
    render_v1.PREFIX: lambda exc: render_v1.body(exc, request_id()),
    **dict.fromkeys(render_people.PATHS, lambda exc: render_people.body(exc, request_id())),
}
SPOKEN: Final = (anthropic.error_body, openai.error_body)  # pure, so the language is put in before
CALLS: Final = re.compile(  # how the paths of calls end, whatever a client puts before or after them
    r"(/(?:chat/completions|completions|embeddings|responses|messages(?:/count_tokens)?|moderations|rerank|models))/?$"
)
UNEXPECTED: Final = "The gateway failed on this request; its id helps an admin to find out why."
SERVER_ERROR: Final = 500
BY_STATUS: Final[dict[int, tuple[type[GatewayError], str, str]]] = {
    400: (InvalidRequest, "The request is malformed.", "validation_error"),
    404: (NotFound, "There is nothing at this path.", "not_found"),
    405: (InvalidRequest, "This path does not answer to this method.", "method_not_allowed"),
    413: (BodyTooLarge, "The request body is too large.", "request_too_large"),
    415: (InvalidRequest, "The content type is not supported; send application/json.", "unsupported_media_type"),
}


def register(app: Flask) -> None:
    """Answer every error of the app in the dialect of its path."""
    app.register_error_handler(GatewayError, error)
    app.register_error_handler(HTTPException, http_error)
    for kind in DATABASE_DOWN:
        app.register_error_handler(kind, lambda exc: error(no_database(exc)))
    app.register_error_handler(Exception, _unexpected)


def request_id() -> str:
    """The id of this request: the same in headers, errors, logs and books."""
    environ = this_request().environ
    found: str | None = environ.get(REQUEST_ID)
    if found is None:
        found = environ[REQUEST_ID] = ids.request_id()
    return found


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer with the request id."""
    return Response(
        jsonx.dumps(body), status, {"x-request-id": request_id(), **(headers or {})}, mimetype="application/json"
    )


def speaks_anthropic() -> bool:
    """Whether the request comes from a client of Anthropic's API, on a path that others use too."""
    return VERSION in request.headers and request.path.startswith("/v1/")


def note(exc: GatewayError, request_id: str) -> None:
    """Log a failed request, once."""
    log.log(exc.level, "request failed request_id=%s status=%s code=%s", request_id, exc.status, exc.code)


def error(exc: GatewayError, path: str = "") -> Response:
    """The answer to a failed request, which is logged, in the dialect of a path: the request's own, or another one."""
    note(exc, request_id())
    gateway().metrics.count("errors_total", exc.code or "")
    if exc.refused is not None:
        gateway().refusals.note(request_id(), exc)
    place = MESSAGES if speaks_anthropic() else path or request.path
    body, headers = told(exc, place, request_id())
    headers |= request.environ.get(ROUTE, {})
    if isinstance(exc, AuthenticationFailed):
        headers["www-authenticate"] = "Bearer"
    if exc.retry_after_s is not None:
        headers["retry-after"] = str(exc.retry_after_s)
    if exc.should_retry is not None:
        headers["x-should-retry"] = "true" if exc.should_retry else "false"
    if isinstance(exc, RateLimited):
        headers |= limit_headers.of_refusal(exc)
        if anthropic.ID_HEADER in headers:
            headers |= limit_headers.for_anthropic([exc.room])
    return answer(body, exc.status, headers)


def told(exc: GatewayError, path: str, request_id: str) -> tuple[object, dict[str, str]]:
    """The body of an error at this path, and the headers that belong to it besides the usual ones."""
    render = body_of(path)
    if render in SPOKEN:
        exc.args = (wording.say(str(exc)),)
    if render is not anthropic.error_body:
        return render(exc), {}
    return anthropic.error_body(exc) | {"request_id": request_id}, {anthropic.ID_HEADER: request_id}


def body_of(path: str) -> Callable[[GatewayError], object]:
    """What makes the bodies of errors at this path."""
    fitting = (body for prefix, body in BODIES.items() if path == prefix or path.startswith(f"{prefix}/"))
    return next(fitting, _plain_body)


def _plain_body(exc: GatewayError) -> dict[str, Any]:
    """What clients of the smaller APIs read: `detail` and `error`, in the caller's language; `details` has numbers."""
    message = wording.say(str(exc))
    is_key = isinstance(exc, AuthenticationFailed) and request.path != "/login"
    body = {
        "detail": message,
        "error": gettext("Invalid or missing API key") if is_key else message,
        "code": exc.code,
        "request_id": request_id(),
    }
    return body | ({"details": wording.details(exc)} if exc.details else {})


def http_error(exc: HTTPException) -> Any:
    """Errors of the framework: pages for browsers, else an error like ours."""
    if request.path.startswith((*PAGES, "/static")) or (exc.response is not None and exc.code is None):
        return exc
    if exc.code is not None and exc.code < 400:  # noqa: PLR2004 - redirects, such as for a missing slash
        return exc
    kind, message, code = BY_STATUS.get(exc.code or SERVER_ERROR, (InvalidRequest, exc.description or "", "http_error"))
    if kind is BodyTooLarge and (most := request.max_content_length):
        message = f"The request body is too large: it may have {most:,} bytes."
    meant = _path_meant() if kind is NotFound else ""
    hint = f" This call is answered at `{meant}`: is the client's base URL right?" if meant else ""
    ours = kind(message + hint, code=code)
    ours.status = exc.code or SERVER_ERROR
    rendered = error(ours, meant)
    for name, value in exc.get_headers():
        if name.lower() == "allow":
            rendered.headers[name] = value
    return rendered


def _path_meant() -> str:
    """Where a call is answered that came to no path at all, as with a base URL without `/v1`, or with two; or empty."""
    is_anybodys = body_of(request.path) in (_plain_body, *map(body_of, ("/v1", MESSAGES)))
    match = CALLS.search(request.path) if is_anybodys else None
    meant = f"/v1{match[1]}" if match is not None else ""
    return "" if meant == request.path else meant  # a port that does not serve it says no more than of any other path


def no_database(exc: Exception) -> AccountingUnavailable:
    """What a driver's error means to whoever asked: nothing was stored, and trying again may help."""
    log.error("the database failed request_id=%s: %s", request_id(), str(exc).partition("\n")[0])
    return AccountingUnavailable("The database does not take this at the moment; please try again.")


def _unexpected(exc: Exception) -> Any:
    """The last resort: say nothing of the inside, log everything."""
    log.error("request failed request_id=%s", request_id(), exc_info=exc)
    if request.path.startswith(PAGES):
        return Response(f"{UNEXPECTED} ({request_id()})", SERVER_ERROR, mimetype="text/plain")
    return error(GatewayError(UNEXPECTED))
