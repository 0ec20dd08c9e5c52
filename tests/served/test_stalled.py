"""A caller who keeps his connection and takes nothing more of his answer: nobody can write to it, and it is ended."""

import json
import socket
import threading
import time

import pytest
from werkzeug.serving import make_server

from services import watch
from tests.conftest import TOKEN
from tests.fakes.scripted import Scripted
from tests.helpers import add_model, add_provider, assert_books_agree, chat, open_holds, rows

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % (b"word " * 4000)


def endless(_asked, line):
    """A stream without an end, for as long as anybody takes it."""
    line.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        line.sendall(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))


@pytest.fixture
def app(make_app, sqlite_database, monkeypatch):
    """The answers of this app may take 20 s from the provider, and their callers 1 s."""
    monkeypatch.setattr(watch, "STALL_S", 1.0 - 20.0)
    monkeypatch.setattr(watch, "LOOK_S", 0.05)
    provider = Scripted(endless)
    made = make_app(sqlite_database, PROXY_TIMEOUT="20s")
    add_model(made, add_provider(made, provider.url))
    yield made
    provider.stop()


@pytest.fixture
def port(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_he_is_hung_up_on_and_pays_for_what_was_sent(app, port):
    body = json.dumps(chat(stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    engine = app.extensions["gateway"].engine
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", port))
        line.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        end = time.monotonic() + 15
        while not rows(engine) and time.monotonic() < end:
            time.sleep(0.05)
        (row,) = rows(engine)
    assert (row.outcome, row.state, open_holds(engine)) == ("client_gone", "estimated", 0)
    assert row.output_tokens > 4000
    assert_books_agree(engine)
