"""An OpenID provider on loopback that says whatever a test wants, right or wrong."""

import base64
import hashlib
import hmac
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT = "tollhouse-test"
SECRET = "client-secret-canary-0123456789"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key of that name, made once a run."""
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(name: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return rsa_key(name).public_key().public_bytes(serialization.Encoding.PEM, form)


def jwk(name: str) -> dict[str, Any]:
    """The public half, as providers publish it."""
    is_ec = name.startswith("ec")
    algorithm = jwt.algorithms.ECAlgorithm if is_ec else jwt.algorithms.RSAAlgorithm
    key: Any = ec_key(name).public_key() if is_ec else rsa_key(name).public_key()
    published: dict[str, Any] = algorithm.to_jwk(key, as_dict=True)
    return {name: value for name, value in published.items() if name != "key_ops"} | {"kid": name, "use": "sig"}


def encoded(part: object) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class OpenIdProvider:
    """Discovery, keys, tokens and userinfo. A test plays the page on which people sign in."""

    def __init__(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, "GET", {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
                provider.answer(self, "POST", {name: values[0] for name, values in parse_qs(body).items()})

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.asked: list[str] = []  # paths, in their order
        self.forms: list[dict[str, str]] = []  # what the token endpoint was sent
        self.authorization: list[str | None] = []  # and its header
        self.keys = [jwk("one")]
        self.metadata: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        self.userinfo: dict[str, Any] = {}
        self.tokens: dict[str, Any] = {}  # answers by code, each given once
        self.raw: dict[str, tuple[int, bytes]] = {}  # by path: instead of the right answer

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, path: str) -> int:
        return self.asked.count(path)

    def claims(self, nonce: str, /, **changed: Any) -> dict[str, Any]:
        """Those of a good ID token; None takes one away."""
        now = int(time.time())
        good = {"iss": self.url, "aud": CLIENT, "sub": "1234", "iat": now, "exp": now + 300, "nonce": nonce}
        good |= {"preferred_username": "ana", "email": "ana@example.test"} | changed
        return {name: value for name, value in good.items() if value is not None}

    def sign(self, claims: dict[str, Any], key: str = "one", **header: Any) -> str:
        if key.startswith("ec"):
            return jwt.encode(claims, ec_key(key), "ES256", {"kid": key, **header})
        return jwt.encode(claims, rsa_key(key), "RS256", {"kid": key, **header})

    def sign_bytes(self, payload: bytes) -> str:
        """Whatever it is, signed well."""
        return jwt.api_jws.encode(payload, rsa_key("one"), "RS256", {"kid": "one"})

    def forge(self, header: dict[str, Any], claims: dict[str, Any], secret: bytes | None = None) -> str:
        """A token that no library would make; with a secret it is signed as HS256 is."""
        text = f"{encoded(header)}.{encoded(claims)}"
        signature = b"" if secret is None else hmac.new(secret, text.encode(), hashlib.sha256).digest()
        return f"{text}.{encoded(signature)}"

    def offer(self, id_token: str | None, code: str = "code-1") -> str:
        """What the token endpoint answers to a code, once."""
        self.tokens[code] = {"access_token": "at-canary-0123456789", "token_type": "Bearer", "expires_in": 300}
        if id_token is not None:
            self.tokens[code]["id_token"] = id_token
        return code

    def answer(self, request: BaseHTTPRequestHandler, method: str, form: dict[str, str]) -> None:
        path = request.path.partition("?")[0]
        self.asked.append(path)
        status, body = self.raw.get(path) or self._right(request, method, path, form)
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        if status in (301, 302, 307):
            request.send_header("location", f"{self.url}/elsewhere")
        request.end_headers()
        request.wfile.write(body)

    def _right(
        self, request: BaseHTTPRequestHandler, method: str, path: str, form: dict[str, str]
    ) -> tuple[int, bytes]:
        if method == "POST" and path == "/token":
            self.forms.append(form)
            self.authorization.append(request.headers.get("authorization"))
            found = self.tokens.pop(form.get("code", ""), None)
            return (200, json.dumps(found).encode()) if found else (400, b'{"error": "invalid_grant"}')
        found = {
            "/.well-known/openid-configuration": self.metadata,
            "/keys": {"keys": self.keys},
            "/userinfo": self.userinfo,
        }.get(path)
        return (404, b"{}") if found is None else (200, json.dumps(found).encode())
