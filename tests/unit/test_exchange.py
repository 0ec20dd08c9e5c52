"""One HTTP exchange over a real pair of sockets: framing, deadlines, breaks, and what may be used again."""

import contextlib
import socket
import struct
import threading

import pytest

from services.errors import UpstreamError, UpstreamTimeout
from services.exchange import MAX_HEAD_BYTES, ConnectionLost, Exchange, Patience

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = Patience(1.0, 0.1, 5.0)


class Line:
    """An exchange and the other end of its connection."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.given_back: list[socket.socket] = []
        self.exchange = Exchange(self.ours, patience, self.given_back.append)

    def says(self, data: bytes, *, leaves: bool = False) -> Exchange:
        self.theirs.sendall(data)
        if leaves:
            self.theirs.close()
        return self.exchange


@pytest.fixture
def make():
    lines = []

    def line(patience=PATIENCE):
        lines.append(Line(patience))
        return lines[-1]

    yield line
    for one in lines:
        one.ours.close()
        one.theirs.close()


@pytest.fixture
def line(make):
    return make()


def body(exchange):
    return [data for data in exchange.chunks() if data is not None]


def test_an_answer_is_read_and_its_connection_given_back(line):
    exchange = line.says(HEAD + b"hello")
    exchange.read_head()
    assert (exchange.status, exchange.headers, exchange.read(5)) == (200, {"content-length": "5"}, b"hello")
    exchange.close()
    exchange.close()
    assert line.given_back == [line.ours]


def test_a_large_request_is_sent_whole(line):
    """More than a socket's buffer takes at once, in head and body."""
    head, sent = b"h" * 3_000_000, b"b" * 3_000_000
    got = bytearray()

    def read():
        while len(got) < len(head) + len(sent):
            got.extend(line.theirs.recv(1 << 20))

    reader = threading.Thread(target=read)
    reader.start()
    line.exchange.send(head, sent)
    reader.join()
    assert bytes(got) == head + sent


def test_an_upstream_that_does_not_take_the_request_is_lost(line):
    line.theirs.close()
    with pytest.raises(ConnectionLost, match="while the request was sent"):
        line.exchange.send(b"x" * 100_000, b"")


def test_interim_answers_are_skipped(line):
    exchange = line.says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"hello")
    exchange.read_head()
    assert (exchange.status, list(exchange.headers)) == (200, ["content-length"])


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"", ConnectionLost, "without an answer"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", UpstreamError, "within the headers"),
        (b"SSH-2.0-x\r\n", UpstreamError, "not valid HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", UpstreamError, "not valid"),
        (HEAD[:-2] + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", UpstreamError, "bytes of headers"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000, UpstreamError, "bytes of headers"),
        (HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n", UpstreamError, "compressed"),
    ],
)
def test_a_head_that_cannot_be_used(line, data, kind, said):
    sender = threading.Thread(target=lambda: quietly(line, data))
    sender.start()
    with pytest.raises(kind, match=said):
        line.exchange.read_head()
    line.ours.close()
    sender.join()
    line.exchange.close()
    assert line.given_back == []


def quietly(line, data):
    with contextlib.suppress(OSError):
        line.says(data, leaves=True)


def test_silence_before_the_head(line):
    with pytest.raises(UpstreamTimeout, match=r"within 0\.1 s"):
        line.exchange.read_head()


def test_silence_before_the_head_counts_for_the_whole_too(make):
    line = make(Patience(1.0, 30.0, 0.05))
    with pytest.raises(UpstreamTimeout, match="longer than allowed"):
        line.exchange.read_head()


def test_silence_within_the_body(line):
    line.says(HEAD + b"he").read_head()
    with pytest.raises(UpstreamTimeout, match=r"silent for 0\.1 s"):
        body(line.exchange)


def test_a_beat_fills_the_silence(make):
    line = make(Patience(1.0, 5.0, 5.0))
    line.says(HEAD + b"he").read_head()
    chunks = line.exchange.chunks(0.02)
    assert [next(chunks), next(chunks), next(chunks)] == [b"he", None, None]
    line.theirs.sendall(b"llo")
    assert [data for data in chunks if data] == [b"llo"]


def test_the_whole_may_not_take_longer_than_allowed(make):
    line = make(Patience(1.0, 1.0, 0.05))
    line.says(HEAD + b"he").read_head()
    with pytest.raises(UpstreamTimeout, match="longer than allowed"):
        body(line.exchange)


@pytest.mark.parametrize("data", [HEAD + b"he", CHUNKED + b"5\r\nhe", CHUNKED + b"2\r\nhe\r\n"])
def test_an_early_end_is_an_error(line, data):
    line.says(data, leaves=True).read_head()
    with pytest.raises(UpstreamError, match="early"):
        body(line.exchange)
    line.exchange.close()
    assert line.given_back == []


def test_without_a_length_the_end_of_the_connection_is_the_end(line):
    line.says(b"HTTP/1.1 200 OK\r\n\r\nhello", leaves=True).read_head()
    assert line.exchange.read(9) == b"hello"
    line.exchange.close()
    assert line.given_back == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEAD[:-2] + b"Connection: close\r\n\r\nhello", id="says so"),
        pytest.param(HEAD + b"hello" + HEAD, id="a second answer"),
        pytest.param(HEAD + b"hello, and more", id="more than announced"),
    ],
)
def test_a_connection_that_is_not_clean_is_not_used_again(line, data):
    line.says(data).read_head()
    assert line.exchange.read(9) == b"hello"
    line.exchange.close()
    assert line.given_back == []


def test_a_body_beyond_the_limit_is_refused(line):
    line.says(HEAD + b"hello").read_head()
    with pytest.raises(UpstreamError, match="larger than 4"):
        line.exchange.read(4)


def test_the_last_bytes_are_taken_so_that_the_connection_is_clean(line):
    line.says(CHUNKED + b"5\r\nhello\r\n").read_head()
    assert next(line.exchange.chunks()) == b"hello"
    line.theirs.sendall(b"0\r\n\r\n")
    line.exchange.drain()
    line.exchange.drain()
    line.exchange.close()
    line.exchange.drain()
    assert line.given_back == [line.ours]


@pytest.mark.parametrize("rest", [b"", b"nonsense\r\n"])
def test_last_bytes_that_do_not_come_or_are_none_give_the_connection_up(line, rest):
    line.says(CHUNKED + b"5\r\nhello\r\n").read_head()
    next(line.exchange.chunks())
    line.theirs.sendall(rest)
    line.exchange.drain()
    line.exchange.close()
    assert line.given_back == []


def test_another_thread_may_end_it(make):
    line = make(Patience(1.0, 30.0, 30.0))
    line.says(HEAD + b"he").read_head()
    timer = threading.Timer(0.05, line.exchange.shutdown)
    timer.start()
    with pytest.raises(UpstreamError, match="early"):
        body(line.exchange)
    timer.join()
    line.exchange.close()
    line.exchange.shutdown()


@pytest.mark.parametrize(("before", "kind"), [(b"", ConnectionLost), (HEAD + b"he", UpstreamError)])
def test_a_reset_is_told_from_an_end(before, kind):
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _address = listener.accept()
    exchange = Exchange(ours, PATIENCE, lambda _sock: None)
    if before:
        theirs.sendall(before)
        exchange.read_head()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(kind, match="reset"):
        body(exchange) if before else exchange.read_head()
    exchange.close()
    listener.close()
