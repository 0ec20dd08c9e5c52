"""The only place that opens a socket to a provider.

Calls of `/v1` go through `Transport.open`: pooled sockets with llhttp's parser (httptools), which costs 35-45 µs
of CPU a call where http.client costs 85-100 and urllib3 160-220 (docs/performance.md). Everything else, such as
model lists, goes through `Transport.fetch`. Redirects are not followed, proxies and .netrc are not read, and the
address that is really connected to is checked. Bodies are never logged.
"""

import select
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import certifi

from services.addresses import AddressRules
from services.errors import UpstreamError, UpstreamUnreachable
from services.exchange import ConnectionLost, Exchange, Patience
from services.local import LocalExchange
from services.providers.echo import Script
from services.types import Upstream
from utils import clock, native

if TYPE_CHECKING:
    from services.fetch import Fetcher

IDLE_S: Final = 55.0  # a pooled connection older than this is not used again; servers close theirs after 60
GOODBYE_S: Final = 0.5  # an idle connection that was closed says so at once
IDLE_MAX: Final = 1024  # pooled connections per origin
REDIRECT: Final = range(300, 400)
PORTS: Final = {"http": 80, "https": 443}


class Request(Protocol):
    """What a wire wants sent."""

    @property
    def method(self) -> str: ...  # noqa: D102 - see UpstreamRequest
    @property
    def path(self) -> str: ...  # noqa: D102 - a protocol says only the shape
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...  # noqa: D102 - a protocol says only the shape
    @property
    def body(self) -> bytes: ...  # noqa: D102 - a protocol says only the shape


class Answer(Protocol):
    """An upstream's answer under way: an Exchange, or one that needs no network."""

    status: int
    headers: dict[str, str]

    def chunks(self, beat_s: float = 0.0) -> Any: ...  # noqa: D102 - see Exchange
    def read(self, limit: int) -> bytes: ...  # noqa: D102 - a protocol says only the shape
    def drain(self) -> None: ...  # noqa: D102 - a protocol says only the shape
    def shutdown(self) -> None: ...  # noqa: D102 - a protocol says only the shape
    def close(self) -> None: ...  # noqa: D102 - a protocol says only the shape


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a base URL leads."""

    scheme: str
    host: str
    port: int
    prefix: str  # path of the base URL, without its last slash
    ca_file: str = ""

    @property
    def host_header(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if PORTS[self.scheme] == self.port else f"{name}:{self.port}"


@lru_cache(maxsize=1024)
def origin_of(base_url: str, ca_file: str = "") -> Origin:
    """The parts of a base URL.

    Raises:
        UpstreamUnreachable: not an http(s) URL with a host, or one with user name, query or fragment.
    """
    try:
        url = urlsplit(base_url)
        scheme, host, port = url.scheme.lower(), url.hostname, url.port
    except ValueError as exc:
        raise UpstreamUnreachable(f"`{base_url}` is not a URL") from exc
    if scheme not in PORTS or not host or url.username is not None or url.query or url.fragment:
        raise UpstreamUnreachable(f"`{base_url}` must be http(s)://host[:port][/path] and nothing else")
    if any(ord(char) <= ord(" ") for char in base_url):
        raise UpstreamUnreachable("a base URL must not contain spaces or control characters")
    return Origin(scheme, host, port or PORTS[scheme], url.path.rstrip("/"), ca_file)


class Transport:
    """Opens exchanges. `local` answers base URLs of its own schemes without a network, such as `echo:`."""

    def __init__(
        self, rules: AddressRules, patience: Patience, local: Mapping[str, Callable[[Request], Script]]
    ) -> None:
        self._rules, self._patience, self._local = rules, patience, local
        self._idle: defaultdict[Origin, list[tuple[socket.socket, float]]] = defaultdict(list)
        self._fetcher: Fetcher | None = None

    def open(
        self, upstream: Upstream, request: Request, attach: Callable[[Answer], None], patience: Patience | None = None
    ) -> Answer:
        """Send a request and wait for the head of its answer, as long as `patience` or else the settings say.

        `attach` is called with the exchange before anything is sent, so that another thread can end it.

        Raises:
            UpstreamUnreachable, UpstreamTimeout, UpstreamError: no usable answer; its connection is closed.
        """
        patience = patience or self._patience
        scheme = upstream.base_url.partition(":")[0]
        if scheme in self._local:
            local = LocalExchange(self._local[scheme](request), patience)
            attach(local)
            return local
        origin = origin_of(upstream.base_url, upstream.settings.get("ca_file", ""))
        pooled = self._pooled(origin)
        while True:
            sent_s = clock.monotonic_s()
            exchange = Exchange(pooled or self._dial(origin), patience, lambda sock: self._give_back(origin, sock))
            try:
                attach(exchange)
                exchange.send(_head(origin, request), request.body)
                exchange.read_head()
            except ConnectionLost:
                exchange.close()
                if pooled is None or clock.monotonic_s() - sent_s > GOODBYE_S:
                    raise  # it had the request for a while and may have worked on it: a second one may be billed twice
                pooled = None
                # The upstream closed the idle connection as we took it: nothing was answered, so a new one is tried.
            except BaseException:
                exchange.close()
                raise
            else:
                return _unless_redirect(exchange)

    def fetch(self, upstream: Upstream, path: str, headers: Mapping[str, str], *, timeout_s: float) -> bytes:
        """GET something small from a provider, outside the calls of `/v1`.

        Raises:
            UpstreamError: not reached, not 200, or too large.
        """
        origin = origin_of(upstream.base_url, upstream.settings.get("ca_file", ""))
        return self._fetching().get(origin, path, headers, timeout_s)

    def get(self, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> bytes:
        """GET something small from an address that a setting names.

        Raises:
            UpstreamError: not reached, not 200, or too large.
        """
        origin, path = _place(url)
        return self._fetching().get(origin, path, headers or {}, timeout_s)

    def post(self, url: str, body: bytes, *, timeout_s: float) -> tuple[int, bytes]:
        """POST a little JSON to an address that a setting names: status and body of the answer, whatever they are.

        Raises:
            UpstreamError: not reached, or too large.
        """
        origin, path = _place(url)
        return self._fetching().post(origin, path, body, timeout_s)

    def _fetching(self) -> "Fetcher":
        if self._fetcher is None:
            from services.fetch import Fetcher  # noqa: PLC0415 - see that module

            self._fetcher = Fetcher(self._rules)
        return self._fetcher

    def prune(self) -> None:
        """Close the idle connections that are old or that their upstream closed; calls only look at the last ones."""
        for idle in list(self._idle.values()):
            for _ in range(len(idle)):
                try:
                    sock, since_s = idle.pop(0)
                except IndexError:  # calls took the others meanwhile
                    break
                if _is_good(sock, since_s):
                    idle.append((sock, since_s))
                else:
                    sock.close()

    def close(self) -> None:
        """Close every idle connection."""
        if self._fetcher is not None:
            self._fetcher.close()
        for idle in self._idle.values():
            while idle:
                idle.pop()[0].close()

    def _pooled(self, origin: Origin) -> socket.socket | None:
        """The connection used last, if it is still good. A server has nothing to say on an idle one but goodbye."""
        idle = self._idle[origin]
        while True:
            try:
                sock, since_s = idle.pop()
            except IndexError:  # also when another thread was faster
                return None
            if _is_good(sock, since_s):
                return sock
            sock.close()

    def _give_back(self, origin: Origin, sock: socket.socket) -> None:
        idle = self._idle[origin]
        if len(idle) < IDLE_MAX:
            idle.append((sock, clock.monotonic_s()))
        else:
            sock.close()

    def _dial(self, origin: Origin) -> socket.socket:
        is_tls = origin.scheme == "https"
        sock = dial(origin.host, origin.port, self._rules, is_tls=is_tls, timeout_s=self._patience.connect_s)
        if not is_tls:
            return sock
        try:
            return _tls(origin.ca_file).wrap_socket(sock, server_hostname=origin.host)
        except (OSError, ValueError) as exc:
            sock.close()
            reason = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else type(exc).__name__
            raise UpstreamUnreachable(f"no TLS connection to `{origin.host}`: {reason}") from exc


def _place(url: str) -> tuple[Origin, str]:
    """Where an address leads, and the path there with its query, which a base URL has not."""
    parts = urlsplit(url)
    return origin_of(f"{parts.scheme}://{parts.netloc}"), parts.path + (f"?{parts.query}" if parts.query else "")


def _unless_redirect(exchange: Exchange) -> Exchange:
    if exchange.status in REDIRECT:
        exchange.close()
        raise UpstreamError(f"the upstream answered with a redirect ({exchange.status}), which is not followed")
    return exchange


def dial(host: str, port: int, rules: AddressRules, *, is_tls: bool, timeout_s: float) -> socket.socket:
    """A TCP connection to the first address of the host that the rules allow and that answers.

    Raises:
        UpstreamUnreachable: no such host, no allowed address, or nobody answers.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise UpstreamUnreachable(f"the host `{host}` is not known") from exc
    reason = ""
    for family, kind, protocol, _name, address in found:
        refusal = rules.refusal(str(address[0]), is_tls=is_tls)
        if refusal is not None:
            reason = refusal
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            sock.close()
            reason = exc.strerror or "no answer"
        else:
            return sock
    raise UpstreamUnreachable(f"no connection to `{host}:{port}`: {reason}")


def certificate_of(host: str, port: int, name: str, timeout_s: float) -> bytes:
    """The certificate (DER) that a TLS server shows to who asks for `name`; nothing is sent to it, so any will do.

    Raises:
        UpstreamUnreachable: nobody answers there, or it does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # one that has expired is to be seen too
    sock = dial(host, port, AddressRules(allow_private=True), is_tls=True, timeout_s=timeout_s)
    try:
        with context.wrap_socket(sock, server_hostname=name) as line:
            return line.getpeercert(binary_form=True) or b""
    except (OSError, ValueError) as exc:
        sock.close()
        raise UpstreamUnreachable(f"no TLS connection to `{host}:{port}`: {type(exc).__name__}") from exc


def _head(origin: Origin, request: Request) -> bytes:
    """Request line and headers.

    Raises:
        UpstreamError: a header holds a line break or another control character.
    """
    lines = [
        f"{request.method} {origin.prefix}{request.path} HTTP/1.1",
        f"host: {origin.host_header}",
        "accept-encoding: identity",
        *(f"{name}: {value}" for name, value in request.headers),
        f"content-length: {len(request.body)}",
    ]
    if any(not line.isprintable() for line in lines):
        raise UpstreamError("a header for the upstream holds control characters; check the provider's credential")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _is_good(sock: socket.socket, idle_since_s: float) -> bool:
    if clock.monotonic_s() - idle_since_s >= IDLE_S:
        return False
    poll = native.poll()
    poll.register(sock.fileno(), select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)


@lru_cache(maxsize=64)
def _tls(ca_file: str) -> ssl.SSLContext:
    """One context per set of authorities: making one costs tens of milliseconds."""
    if ca_file:
        return ssl.create_default_context(cafile=ca_file)
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context
