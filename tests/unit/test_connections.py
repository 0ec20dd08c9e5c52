"""Lines to providers that fail on purpose: what is asked twice, what an end may reach, how long a trickle lasts."""

import time

import pytest

from services import transport as under_test
from services.addresses import AddressRules
from services.errors import UpstreamTimeout, UpstreamUnreachable
from services.exchange import ConnectionLost, Patience
from services.providers.base import UpstreamRequest
from services.transport import Transport
from services.types import Upstream
from tests.calls import make_call
from tests.fakes.scripted import Scripted

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WARM, DEAR = (UpstreamRequest("POST", "/x", (), body) for body in (b"warm", b"dear"))


@pytest.fixture
def scripted():
    servers = []

    def start(answer):
        servers.append(Scripted(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def transport():
    made = Transport(AddressRules(allow_private=True), Patience(5.0, 20.0, 30.0), {})
    yield made
    made.close()


def upstream(server):
    return Upstream(1, "fake", "openai", server.url)


def opened(transport, server, request=WARM, attach=lambda _exchange: None):
    return transport.open(upstream(server), request, attach)


def warm(transport, server, count):
    """Leave so many connections idle."""
    exchanges = [opened(transport, server) for _ in range(count)]
    for exchange in exchanges:
        assert exchange.read(2) == b"ok"
        exchange.close()
    assert server.connections == count


def dying(after_s):
    """Answers what is cheap; takes what is dear, works on it, and dies without a word."""

    def answer(asked, line):
        if asked.body == b"warm":
            line.sendall(OK)
            return True
        time.sleep(after_s)
        return False

    return answer


def test_a_provider_that_took_a_request_for_a_while_and_died_gets_it_once(transport, scripted, monkeypatch):
    monkeypatch.setattr(under_test, "GOODBYE_S", 0.05)
    server = scripted(dying(after_s=0.2))
    warm(transport, server, 3)
    with pytest.raises(ConnectionLost):
        opened(transport, server, DEAR)
    assert [asked.body for asked in server.asked].count(b"dear") == 1


def test_of_many_idle_connections_that_die_one_is_replaced_by_a_fresh_one(transport, scripted, monkeypatch):
    monkeypatch.setattr(under_test, "GOODBYE_S", 30.0)
    server = scripted(dying(after_s=0.0))
    warm(transport, server, 4)
    with pytest.raises(ConnectionLost):
        opened(transport, server, DEAR)
    assert [asked.connection for asked in server.asked if asked.body == b"dear"] == [4, 5]


def test_idle_connections_that_were_closed_do_not_stay_in_the_pool(transport, scripted):
    server = scripted(lambda _asked, line: bool(line.sendall(OK)))
    warm(transport, server, 4)
    (idle,) = transport._idle.values()
    end = time.monotonic() + 60
    while idle and time.monotonic() < end:
        transport.prune()
        time.sleep(0.01)
    assert idle == []


def test_ending_a_call_leaves_a_connection_alone_that_another_call_uses_now(transport, scripted):
    """Its first attempt failed and left the connection to the pool; then its caller goes away."""

    def answer(asked, line):
        if asked.body == b"warm":
            line.sendall(OK)
        else:
            line.sendall(OK[:-1])
        return True

    server, call = scripted(answer), make_call()
    first = opened(transport, server, attach=lambda exchange: setattr(call, "exchange", exchange))
    first.read(2)
    first.close()
    second = opened(transport, server, DEAR)
    assert server.connections == 1
    call.abort_gone()
    assert second._sock.send(b" ") == 1, "the line was not shut down"
    second.close()


class Trickle:
    """Says the first part at once, and the second byte by byte, as long as anybody listens."""

    def __init__(self, before, after):
        self.before, self.after, self.said = before, after, 0

    def __call__(self, _asked, line):
        line.sendall(self.before)
        for byte in self.after:
            line.sendall(bytes([byte]))
            self.said += 1
            time.sleep(0.05)
        return False


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b" " * 100, id="in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 100 + b"\r\nContent-Length: 0\r\n\r\n", id="in the head"),
    ],
)
def test_a_small_read_that_trickles_is_given_up(transport, scripted, before, after):
    trickle = Trickle(before, after)
    server = scripted(trickle)
    with pytest.raises(UpstreamUnreachable, match="could not be read"):
        transport.fetch(upstream(server), "/models", {}, timeout_s=0.4)
    assert trickle.said < 90


def test_a_head_that_trickles_is_given_up(scripted):
    trickle = Trickle(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 100 + b"\r\nContent-Length: 0\r\n\r\n")
    hurried = Transport(AddressRules(allow_private=True), Patience(5.0, 2.0, 0.4), {})
    with pytest.raises(UpstreamTimeout, match="longer than allowed"):
        opened(hurried, scripted(trickle))
    assert trickle.said < 90
    hurried.close()
