"""Small requests outside the calls of `/v1`, with `requests`, on sockets that services/transport.py opens.

Loaded at its first use: most workers never need its 6 MB.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool
import urllib3.response

from services.addresses import AddressRules
from services.errors import UpstreamError, UpstreamUnreachable
from services.transport import PORTS, Origin, dial
from utils import clock

Client = TypeVar("Client", bound=requests.Session)

MAX_BYTES: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 65_536
MAX_CAUSES: Final = 10  # a circle of causes must end


class Fetcher:
    """Requests that follow no redirect and read no proxy variable and no .netrc."""

    def __init__(self, rules: AddressRules) -> None:
        self._session = guarded(requests.Session(), rules)

    def get(self, origin: Origin, path: str, headers: Mapping[str, str], timeout_s: float) -> bytes:
        """The body at a path.

        Raises:
            UpstreamError: not reached, not 200, or larger than 8 MiB.
        """
        status, body, url = self._ask("GET", origin, path, timeout_s, headers=dict(headers))
        if status != requests.codes.ok:
            raise UpstreamError(f"`{url}` answered {status}")
        return body

    def post(self, origin: Origin, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the answer to a JSON body.

        Raises:
            UpstreamError: not reached, or larger than 8 MiB.
        """
        headers = {"content-type": "application/json", "accept": "application/json"}
        status, answer, _url = self._ask("POST", origin, path, timeout_s, headers=headers, data=body)
        return status, answer

    def _ask(self, method: str, origin: Origin, path: str, timeout_s: float, **more: Any) -> tuple[int, bytes, str]:
        """Status, body and address of an answer."""
        url = f"{origin.scheme}://{origin.host_header}{origin.prefix}{path}"
        options: dict[str, Any] = {"timeout": timeout_s, "allow_redirects": False, "stream": True, **more}
        options["verify"] = origin.ca_file or True
        end_s = clock.monotonic_s() + timeout_s
        try:
            with self._session.request(method, url, **options) as response:
                body = _read(response.raw, end_s)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise UpstreamUnreachable(
                f"`{url}` could not be read: {_first_of_ours(exc) or type(exc).__name__}"
            ) from exc
        if len(body) > MAX_BYTES:
            raise UpstreamError(f"`{url}` answered more than {MAX_BYTES} bytes")
        return response.status_code, body, url

    def deliver(self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> int:
        """The status of the answer to a body; what else is answered is not read.

        The URL may hold a secret, so no error says it.

        Raises:
            UpstreamUnreachable: not sent, or no answer within the time.
        """
        options: dict[str, Any] = {"timeout": timeout_s, "allow_redirects": False, "stream": True}
        try:
            with self._session.post(url, data=body, headers=dict(headers), **options) as response:
                return int(response.status_code)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
            raise UpstreamUnreachable(
                f"the address did not take it: {_first_of_ours(exc) or type(exc).__name__}"
            ) from exc

    def hand_over(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts_s: tuple[float, float], most: int
    ) -> "Taken":
        """As `deliver`, with the beginning of what was answered; `timeouts_s`: to connect, and for the answer.

        Raises:
            UpstreamUnreachable: not sent, or no answer within the time.
        """
        options: dict[str, Any] = {"timeout": timeouts_s, "allow_redirects": False, "stream": True}
        try:
            with self._session.post(url, data=body, headers=dict(headers), **options) as response:
                said = b"" if response.ok else response.raw.read1(most * 4, decode_content=False)
                host = urlsplit(response.headers.get("location", "")).netloc
                return Taken(response.status_code, host, said.decode(errors="replace")[:most])
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise UpstreamUnreachable(
                f"the address did not take it: {_first_of_ours(exc) or type(exc).__name__}"
            ) from exc

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


@dataclass(frozen=True, slots=True)
class Taken:
    """What was answered to a body: status, the host that a redirect leads to, and the beginning of the answer."""

    status: int
    host: str
    said: str


def guarded(session: Client, rules: AddressRules) -> Client:
    """The session, on our sockets: it reaches only addresses that the rules allow, and nothing redirects or diverts it.

    What an answer says is read by whoever asks, within bounds: see `bounded`.
    """
    session.trust_env = False
    session.headers.update({"accept-encoding": "identity", "user-agent": "tollhouse"})
    for scheme in PORTS:
        session.mount(f"{scheme}://", _GuardedAdapter(rules))
    return session


def bounded(timeout_s: float) -> Callable[..., requests.Response]:
    """A hook for a session that libraries use as they like: it reads no more than 8 MiB, in so many seconds.

    Raises, when it runs:
        UpstreamError: the answer is larger.
        OSError: it is not there in time.
    """
    end_s = clock.monotonic_s() + timeout_s

    def read(response: requests.Response, **_options: object) -> requests.Response:
        try:
            with response:
                body = _read(response.raw, end_s)
        except urllib3.exceptions.HTTPError as exc:
            raise OSError("the answer broke off") from exc
        if len(body) > MAX_BYTES:
            raise UpstreamError(f"more than {MAX_BYTES} bytes were answered")
        response._content = body  # noqa: SLF001 - where it keeps what it has read
        return response

    return read


def _read(raw: urllib3.response.BaseHTTPResponse, end_s: float) -> bytes:
    """The body, or a little more than MAX_BYTES of it.

    Raises:
        OSError: it is not there in time; a timeout alone would begin again with every byte.
    """
    body = bytearray()
    while len(body) <= MAX_BYTES:
        piece = raw.read1(PIECE_BYTES, decode_content=False)
        if clock.monotonic_s() > end_s:
            raise TimeoutError("the answer took too long")
        if not piece:
            break
        body += piece
    return bytes(body)


def _hurried(self: urllib3.connection.HTTPConnection) -> urllib3.response.BaseHTTPResponse:
    """The head of an answer; when it is not there in time the line is cut, and what came of it is too late."""
    timer = threading.Timer(_timeout_s(self), _cut, (self.sock,))
    timer.daemon = True
    timer.start()
    try:
        return urllib3.connection.HTTPConnection.getresponse(self)
    finally:
        timer.cancel()


def _cut(sock: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not the TLS socket's own, which is not for two threads


def _timeout_s(connection: urllib3.connection.HTTPConnection) -> float:
    return connection.timeout if isinstance(connection.timeout, int | float) else 10.0


class _GuardedAdapter(requests.adapters.HTTPAdapter):
    """Connections to addresses that the rules allow, and no others."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See HTTPAdapter; replaces how connections are made."""
        super().init_poolmanager(*args, **kwargs)
        rules = self._rules

        def guarded(self: urllib3.connection.HTTPConnection) -> socket.socket:
            is_tls = isinstance(self, urllib3.connection.HTTPSConnection)
            return dial(self.host, self.port or self.default_port, rules, is_tls=is_tls, timeout_s=_timeout_s(self))

        own = {"_new_conn": guarded, "getresponse": _hurried}
        plain = type("GuardedConnection", (urllib3.connection.HTTPConnection,), own)
        secure = type("GuardedTLSConnection", (urllib3.connection.HTTPSConnection,), own)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("GuardedPool", (urllib3.connectionpool.HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("GuardedTLSPool", (urllib3.connectionpool.HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


def _first_of_ours(exc: BaseException) -> UpstreamError | None:
    """Our own error among the causes."""
    return next((cause for cause in _causes(exc) if isinstance(cause, UpstreamError)), None)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception, what it carries as its reason, and what it was raised from."""
    for _ in range(MAX_CAUSES):
        if exc is None:
            return
        yield exc
        carried = getattr(exc, "reason", None) or next(iter(exc.args), None)
        exc = carried if isinstance(carried, BaseException) else exc.__cause__ or exc.__context__
