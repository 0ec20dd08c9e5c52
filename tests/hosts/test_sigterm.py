"""SIGTERM with 200 open streams: what can end does, the rest is ended and told so, and every one is booked."""

import json
import selectors
import signal
import socket
import time
from collections import Counter

import pytest

from tests.conftest import TOKEN
from tests.helpers import assert_books_agree, chat, rows, with_upstream
from tests.races.conftest import SOAK

STREAMS = 200
GRACEFUL_S = 10  # streams are ended 3 s before
SHORT = '{{"words": 10, "every_s": 0.1}}'
LONG = '{{"words": 1000, "every_s": 0.25}}'
WORDS = 10
WITHIN_S = 60.0


class Streams:
    """Calls on connections of their own that are read side by side; half of them end in time."""

    def __init__(self, served):
        self.said = {}
        self.selector = selectors.DefaultSelector()
        for number in range(STREAMS):
            line = socket.create_connection((served.host, served.port))
            body = json.dumps(chat(f"one two {SHORT if number % 2 else LONG}", stream=True, max_tokens=900)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            line.setblocking(False)
            self.said[line] = b""
            self.selector.register(line, selectors.EVENT_READ)

    def read(self, until):
        """Take what comes until that is true of each stream, or it was closed."""
        end = time.monotonic() + WITHIN_S
        left = {line for line, said in self.said.items() if not until(said)}
        while left:
            assert time.monotonic() < end, f"{len(left)} streams are silent"
            for key, _events in self.selector.select(1.0):
                data = key.fileobj.recv(65536)
                self.said[key.fileobj] += data
                if not data:
                    self.selector.unregister(key.fileobj)
                if not data or until(self.said[key.fileobj]):
                    left.discard(key.fileobj)

    def close(self):
        self.selector.close()
        for line in self.said:
            line.close()


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gevent"])
def test_two_hundred_open_streams_are_all_settled(app, database, serve, upstream, worker_class):
    with_upstream(app, upstream)
    engine = app.extensions["gateway"].engine
    served = serve(
        DATABASE_URL=database,
        WORKER_CLASS=worker_class,
        THREADS="220",
        WEB_CONCURRENCY="2",
        GRACEFUL_TIMEOUT=str(GRACEFUL_S),
    )
    streams = Streams(served)
    streams.read(lambda said: b"word0 " in said)
    assert all(said.startswith(b"HTTP/1.1 200") for said in streams.said.values())
    begun = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    streams.read(lambda said: said.endswith(b"0\r\n\r\n"))  # else they wait for another request
    took_s = time.monotonic() - begun
    assert served.process.wait(WITHIN_S) == 0
    streams.close()
    ended = Counter(b'"error"' in said for said in streams.said.values() if said.endswith(b"0\r\n\r\n"))
    booked = Counter((row.outcome, row.state) for row in rows(engine))
    assert sum(booked.values()) == STREAMS, booked
    assert_books_agree(engine)
    print(
        f"{engine.dialect.name}, {worker_class}: {STREAMS} streams at SIGTERM, {dict(booked)}, "
        f"0 lost, over after {took_s:.1f} s"
    )
    assert sum(ended.values()) == STREAMS, "who was cut off is told so"
    assert booked == {("ok", "measured"): ended[False], ("drained", "estimated"): ended[True]}
    assert min(ended.values()) > STREAMS / 4
    assert {row.output_tokens for row in rows(engine) if row.outcome == "ok"} == {WORDS}
    assert all(row.output_tokens for row in rows(engine)), "what was delivered is paid for"
