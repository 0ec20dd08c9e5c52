"""Which surfaces answer on which port: ADMIN_PORT and PROXY_PORT serve theirs alone, every other port serves all."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from flask import Flask
from werkzeug.exceptions import NotFound

from config import Config
from routes import render

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ADMIN: Final = frozenset({"admin"})
PROXY: Final = frozenset({"proxy"})
BOTH: Final = ADMIN | PROXY
ROUTES: Final = "/api/routes/"
CALLS: Final = ("POST", "OPTIONS")  # a browser asks first
SURFACES: Final = {  # of a path and all below it; the longest beginning counts, and what has none is on neither port
    "/admin": ADMIN,
    "/api": ADMIN,
    "/api/call": PROXY,
    "/api/providers": PROXY,
    "/api/v1/agents": BOTH,
    "/api/v1/dialogs": BOTH,
    "/api/v1/export": BOTH,
    "/api/v1/models": BOTH,
    "/api/v1/usage": BOTH,
    "/api/v1/users/me": BOTH,
    "/bootstrap": ADMIN,
    "/docs": ADMIN,
    "/health": BOTH,
    "/login": ADMIN,
    "/openapi.json": ADMIN,
    "/playground": ADMIN,
    "/portal": ADMIN,
    "/redoc": ADMIN,
    "/metrics": ADMIN,
    "/models": ADMIN,
    "/models/all": BOTH,
    "/register": ADMIN,
    "/static": ADMIN,
    "/usage": BOTH,
    "/user": PROXY,
    "/users": ADMIN,
    "/users/me": BOTH,
    "/users/usage": BOTH,
    "/v1": PROXY,
}


class PortGuard:
    """WSGI middleware, the outermost one: what comes from a proxy in front must not change the port."""

    def __init__(self, app: Flask, inner: "WSGIApplication", config: Config) -> None:
        self._app, self._inner = app, inner
        ports = {config.admin_port: "admin", config.proxy_port: "proxy"}
        self._served = {str(port): surface for port, surface in ports.items() if port is not None}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """See PEP 3333. gunicorn says in SERVER_PORT on which of its ports the connection came in."""
        surface = self._served.get(environ["SERVER_PORT"])
        if surface is None or surface in surfaces_of(environ["PATH_INFO"], environ["REQUEST_METHOD"]):
            return self._inner(environ, start_response)
        with self._app.request_context(environ):  # the error reads as if there were no such route
            response = self._app.make_response(render.http_error(NotFound()))
        return response(environ, start_response)


def surfaces_of(path: str, method: str = "GET") -> frozenset[str]:
    """The names of the surfaces that a path belongs to; those below ROUTES are called with POST."""
    if path == "/":  # leads people to the panel
        return ADMIN
    if path.startswith(ROUTES) and method in CALLS:
        return PROXY
    found = [start for start in SURFACES if path == start or path.startswith(f"{start}/")]
    return SURFACES[max(found, key=len)] if found else frozenset()
