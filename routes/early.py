"""Refuses wrong keys before Flask makes a request of them: a flood of them then costs a third less."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from werkzeug.datastructures import EnvironHeaders

from routes import access, media, render
from services.errors import AuthenticationFailed, GatewayError
from services.metrics import Metrics
from utils import ids, jsonx, native
from utils.decorators import CALLER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from services.types import Caller

PATHS: Final = frozenset(
    f"{surface}/{name}"
    for surface in ("/v1", "/api/providers/openai/v1", "/api/providers/openai")
    for name in ("chat/completions", "completions", "embeddings", *(path[1:] for path in media.PATHS))
) | {"/v1/messages", "/v1/messages/count_tokens", "/v1/responses"}

ELSEWHERE: Final = frozenset({"HTTP_ORIGIN", "HTTP_ACCEPT_LANGUAGE"})  # other origins and languages need more words


class EarlyRefusal:
    """WSGI middleware. Whom it lets in, `require_api_key` need not ask again."""

    def __init__(
        self,
        app: "WSGIApplication",
        identify: "Callable[[EnvironHeaders], Caller]",
        metrics: Metrics,
        refused: Callable[[str, GatewayError], None],
    ) -> None:
        self._app, self._identify, self._metrics, self._refused = app, identify, metrics, refused

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """See PEP 3333. What needs more than a plain refusal is left to Flask."""
        if environ["PATH_INFO"] in PATHS and environ["REQUEST_METHOD"] == "POST" and not ELSEWHERE & environ.keys():
            try:
                environ[CALLER] = self._identify(EnvironHeaders(environ))
            except AuthenticationFailed as exc:
                native.give_way()  # it waits for nothing, and a flood of them must not keep others waiting
                request_id = environ[render.REQUEST_ID] = ids.request_id()
                access.answered(self._metrics, environ, ("POST", environ["PATH_INFO"], exc.status), 0.0)
                self._metrics.count("errors_total", exc.code or "")
                self._refused(request_id, exc)
                return _refusal(exc, request_id, environ["PATH_INFO"], start_response)
            except GatewayError:
                pass  # Flask asks again, and answers
        return self._app(environ, start_response)


def _refusal(exc: AuthenticationFailed, request_id: str, path: str, start_response: "StartResponse") -> list[bytes]:
    render.note(exc, request_id)
    told, more = render.told(exc, path, request_id)
    body = jsonx.dumps(told)
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *more.items()]
    start_response("401 UNAUTHORIZED", [*headers, ("x-request-id", request_id), ("www-authenticate", "Bearer")])
    return [body]
