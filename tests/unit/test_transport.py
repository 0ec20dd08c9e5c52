"""Connections to providers: TLS with one's own authority, redirects, pooled lines, and small reads beside the calls."""

import socket
import ssl
import threading

import pytest

from services import transport as under_test
from services.addresses import AddressRules
from services.errors import UpstreamError, UpstreamUnreachable
from services.exchange import Patience
from services.fetch import MAX_BYTES
from services.providers.base import UpstreamRequest
from services.transport import Transport, origin_of
from services.types import Upstream
from tests.fakes.certificates import make_certificate

REQUEST = UpstreamRequest("POST", "/x", (("authorization", "Bearer sk-1"),), b"{}")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that is its own authority, and its key, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def answering():
    """A server that says the same to everybody; gives its address and what it read."""
    listeners, threads = [], []

    def start(answer, certificate=None, *, times=1):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        seen = []

        def serve():
            for _ in range(times):
                try:
                    line, _address = listener.accept()
                    if certificate is not None:
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(certificate)
                        line = context.wrap_socket(line, server_side=True)
                    with line:
                        while data := line.recv(65536):
                            seen.append(data)
                            line.sendall(answer)
                except OSError:
                    return  # the other side did not like us, or the test is over

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return f"http{'s' if certificate else ''}://127.0.0.1:{listener.getsockname()[1]}/v1", seen

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def transport():
    made = Transport(AddressRules(allow_private=True, allowed=()), Patience(2.0, 2.0, 5.0), {})
    yield made
    made.close()


def upstream(url, **settings):
    return Upstream(1, "fake", "openai", url, "sk-1", settings)


def ask(transport, url, **settings):
    exchange = transport.open(upstream(url, **settings), REQUEST, lambda _exchange: None)
    try:
        return exchange.read(100)
    finally:
        exchange.close()


def test_tls_with_an_authority_of_ones_own(transport, answering, certificate):
    url, seen = answering(OK, certificate)
    assert ask(transport, url, ca_file=str(certificate)) == b"ok"
    assert ask(transport, url, ca_file=str(certificate)) == b"ok", "on the same connection: the server takes one"
    assert seen[0].startswith(b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:")


def test_a_certificate_that_nobody_vouches_for_is_refused(transport, answering, certificate):
    url, seen = answering(OK, certificate)
    with pytest.raises(UpstreamUnreachable, match=r"no TLS connection to `127\.0\.0\.1`: self.signed"):
        ask(transport, url)
    assert seen == []


def test_a_server_without_tls_is_refused(transport, answering):
    url, _seen = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(UpstreamUnreachable, match="no TLS connection"):
        ask(transport, url.replace("http:", "https:"))


def test_redirects_are_not_followed(transport, answering):
    url, _seen = answering(b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(UpstreamError, match=r"redirect \(307\), which is not followed"):
        ask(transport, url)


def test_a_line_break_in_a_credential_never_reaches_the_wire(transport, answering):
    url, seen = answering(OK)
    evil = UpstreamRequest("POST", "/x", (("authorization", "Bearer a\r\nx-evil: 1"),), b"")
    with pytest.raises(UpstreamError, match="control characters"):
        transport.open(upstream(url), evil, lambda _exchange: None)
    assert seen == []


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "http://", "http://u@h", "http://h/?a=1", "http://h/#a", "http://h:99999", "http://h /", "http://[::1"],
)
def test_addresses_that_are_none(url):
    with pytest.raises(UpstreamUnreachable):
        origin_of(url)


def test_an_address_of_version_6_keeps_its_brackets():
    assert origin_of("https://[::1]/v1/").host_header == "[::1]"
    assert origin_of("http://[::1]:81").host_header == "[::1]:81"


def test_a_host_that_nobody_can_know(transport):
    with pytest.raises(UpstreamUnreachable, match="is not known"):
        ask(transport, f"http://{'x' * 70}.test/v1")


def test_addresses_that_the_rules_refuse_are_not_connected_to(answering):
    url, seen = answering(OK)
    strict = Transport(AddressRules(allow_private=False, allowed=()), Patience(1.0, 1.0, 1.0), {})
    with pytest.raises(UpstreamUnreachable, match="no connection to"):
        ask(strict, url)
    assert seen == []


def test_a_full_or_old_pool_lets_connections_go(transport, answering, monkeypatch):
    url, _seen = answering(OK, times=3)
    monkeypatch.setattr(under_test, "IDLE_MAX", 0)
    assert ask(transport, url) == b"ok"
    monkeypatch.setattr(under_test, "IDLE_MAX", 1)
    assert ask(transport, url) == b"ok"
    monkeypatch.setattr(under_test, "IDLE_S", -1.0)
    assert ask(transport, url) == b"ok", "the server takes one connection after the other: the old one was closed"


def fetch(transport, url, **settings):
    return transport.fetch(upstream(url, **settings), "/models", {"authorization": "Bearer sk-1"}, timeout_s=2.0)


def test_a_small_read(transport, answering, certificate):
    url, seen = answering(OK)
    assert fetch(transport, url) == b"ok"
    assert seen[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization: Bearer sk-1" in seen[0].replace(b"Authorization", b"authorization")
    url, seen = answering(OK, certificate)
    assert fetch(transport, url, ca_file=str(certificate)) == b"ok"
    url, seen = answering(OK, certificate)
    with pytest.raises(UpstreamUnreachable, match="could not be read"):
        fetch(transport, url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "answered 401"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BYTES + 1), f"more than {MAX_BYTES} bytes"),
        (b"SSH-2.0\r\n\r\n", "could not be read"),
    ],
)
def test_a_small_read_that_fails_says_why(transport, answering, answer, said):
    url, _seen = answering(answer)
    with pytest.raises(UpstreamError, match=said):
        fetch(transport, url)


def test_a_small_read_obeys_the_rules_too(answering):
    url, seen = answering(OK)
    strict = Transport(AddressRules(allow_private=False, allowed=()), Patience(1.0, 1.0, 1.0), {})
    with pytest.raises(UpstreamUnreachable, match="is a private address"):
        fetch(strict, url)
    assert seen == []
    strict.close()


def test_nothing_of_the_environment_directs_a_small_read(transport, answering, monkeypatch):
    url, _seen = answering(OK)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert fetch(transport, url) == b"ok"
