"""Somebody outside, on loopback: an issuer that publishes keys, and a back end that signs people in and lists them.

Each path answers with what `answers` says of it: a function that writes to the socket, or a body that is sent as JSON.
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SHARED = "a-secret-that-two-services-share-0123456789"
KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
AUDIENCE, ISSUER = "the-gateway", "https://issuer.test"

Write = Callable[[BaseHTTPRequestHandler], None]


def public(key: Any, kid: str | None = "one", **more: Any) -> dict[str, Any]:
    """The entry of a key in a document."""
    kind: Any = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    row: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    row.pop("key_ops", None)
    return row | ({} if kid is None else {"kid": kid}) | more


def token(
    key: Any = KEY,
    algorithm: str = "RS256",
    kid: str | None = "one",
    header: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A token that is good for ten minutes; a claim that is None is left out."""
    now = int(time.time())
    said = {"sub": "5", "iat": now, "exp": now + 600, "aud": AUDIENCE, "iss": ISSUER} | claims
    head = ({} if kid is None else {"kid": kid}) | (header or {})
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm, headers=head)


def shared(**claims: Any) -> str:
    """The same, as a back end with the shared secret makes it."""
    return token(SHARED, "HS256", None, **{"aud": None, "iss": None, "sub": None, "user_id": 5} | claims)


class Outsider:
    """The server; `asked` has what came in: path, headers, body."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/keys": {"keys": [public(KEY)]}}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(1 for asked, _headers, _body in self.asked if asked.partition("?")[0] == path)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def status(code: int, body: bytes = b"", kind: str = "text/html", **headers: str) -> Write:
    """An answer with that status."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return write


def silence(seconds: float) -> Write:
    """No answer for so long, then a closed connection."""
    return lambda _handler: time.sleep(seconds)


def trickle(seconds: float) -> Write:
    """A byte now and then, for so long."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(int(seconds * 10)):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)

    return write


class _Handler(BaseHTTPRequestHandler):
    fake: Outsider

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.loads(raw) if raw else None
        self.fake.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.fake.answers.get(self.path.partition("?")[0], status(404))
        try:
            write = answer if callable(answer) else status(200, json.dumps(answer).encode(), "application/json")
            write(self)
        except OSError:  # whoever asked has left
            self.close_connection = True

    do_GET = do_POST = _answer  # noqa: N815 - as the server calls them

    def log_message(self, *_arguments: object) -> None:
        """Tests read what was asked."""
