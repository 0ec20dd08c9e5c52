"""Restarts, reloads, and callers who send or read slowly, in front of a gateway that others use (docs/faults.md)."""

import json
import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import TOKEN
from tests.degraded.conftest import SOAK, Crowd, figure, part_of
from tests.deploy.edge import NAME
from tests.deploy.test_systemd import Unit
from tests.helpers import chat, rows
from tests.races.conftest import wait_until_clean

MIB = 2**20
SLOW = 500 if SOAK else 100  # slow senders
READERS = 200 if SOAK else 40  # slow readers
pytestmark = pytest.mark.timeout(600)
LONG = pytest.mark.skipif(not SOAK, reason="more than a minute: `make soak` runs it")


class Port:
    """What Crowd needs of a gateway."""

    def __init__(self, port):
        self.host, self.port = "127.0.0.1", port


class PlainEdge(Port):
    """nginx, spoken to without TLS at the port of its tests: a line of TLS for each connection that comes."""

    def __init__(self, edge):
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        super().__init__(listener.getsockname()[1])
        self.edge, self.listener = edge, listener
        self.context = ssl.create_default_context(cafile=str(edge.authority.ca))
        threading.Thread(target=self._accept, daemon=True).start()

    def connect(self):
        line = socket.create_connection(("127.0.0.1", self.edge.tls_port), timeout=60)
        return self.context.wrap_socket(line, server_hostname=NAME)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        while True:
            try:
                near, _address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        """One request and its whole answer."""
        with near:
            try:
                with self.connect() as far:
                    asked = near.recv(65536)
                    while b"\r\n\r\n" not in asked or not asked.endswith(b"}"):
                        asked += near.recv(65536)
                    head, _, body = asked.partition(b"\r\n\r\n")
                    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"host:")]
                    far.sendall(
                        b"\r\n".join([*lines, b"Host: " + NAME.encode(), b"Connection: close", b"", b""]) + body
                    )
                    while piece := far.recv(65536):
                        near.sendall(piece)
            except OSError:
                return  # its caller sees that nothing more comes


def test_nginx_is_reloaded_under_load(site, upstream):
    """F49: no burst of errors. F50, with open streams, is in test_nginx.py."""
    here = site(WEB_CONCURRENCY="2")
    edge = PlainEdge(here.edge)
    crowd = Crowd(edge, 8, {"words": 5, "every_s": 0.01})
    for _ in range(20 if SOAK else 5):
        time.sleep(1.0)
        here.edge.process.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    crowd.stop()
    edge.stop()
    assert set(crowd.statuses()) == {200}, crowd.statuses()
    wait_until_clean(here.engine, 30)
    assert len(rows(here.engine)) == len(upstream.served) == len(crowd.answers)
    figure("F49", reloads=20 if SOAK else 5, answers=crowd.statuses(), failed=0)


def test_slow_senders_wait_at_nginx(site, upstream):
    """F19: they hold no worker, and others do not notice them."""
    here = site(WORKER_CLASS="gthread", THREADS="4")
    edge = PlainEdge(here.edge)
    slow = [edge.connect() for _ in range(SLOW)]
    for number, line in enumerate(slow):
        line.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: " + NAME.encode() + b"\r\n")
        if number % 2:  # half of them are slow with the body
            head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
            line.sendall(head.encode() + b"{")
    crowd = Crowd(edge, 4, {})
    for _ in range(5):
        time.sleep(1.0)
        for number, line in enumerate(slow):
            line.sendall(b" " if number % 2 else b"X-Slow: 1\r\n")
    crowd.stop()
    for line in slow:
        line.close()
    edge.stop()
    assert set(crowd.statuses()) == {200}, crowd.statuses()
    assert len(crowd.answers) > 10
    figure("F19", slow=SLOW, good=len(crowd.answers), p50_s=f"{part_of(crowd.seconds(200), 0.5):.3f}",
           p99_s=f"{part_of(crowd.seconds(200), 0.99):.3f}")  # fmt: skip


def slow_reader(port, number):
    """A stream of a megabyte that is begun and hardly read."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", port))
    body = json.dumps(chat('one {{"words": 3000}}', stream=True, max_tokens=4000)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x{number}\r\nAuthorization: Bearer {TOKEN}\r\n"
    line.sendall(head.encode() + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return line


@LONG
def test_slow_readers_take_no_memory_and_nobodys_time(serve, site, upstream):
    """F18, at the gateway itself: nothing in front of it takes the answers off its hands."""
    here = site()
    (pid,) = here.served.workers()

    def memory():
        return int(Path(f"/proc/{pid}/status").read_text("ascii").split("RssAnon:")[1].split()[0]) * 1024

    alone = Crowd(here.served, 2, {})
    time.sleep(3.0)
    alone.stop()
    before = memory()
    readers = [slow_reader(here.served.port, number) for number in range(READERS)]
    time.sleep(3.0)
    beside = Crowd(here.served, 2, {})
    for _ in range(5):
        for line in readers:
            line.recv(1024)
        time.sleep(1.0)
    beside.stop()
    grown = memory() - before
    for line in readers:
        line.close()
    assert set(beside.statuses()) == {200}
    assert grown < READERS * MIB, "the answers wait at their providers"
    wait_until_clean(here.engine, 60)
    assert len(rows(here.engine)) == len(upstream.served)
    figure("F18", readers=READERS, grown_mib=f"{grown / MIB:.1f}",
           p50_s=f"{part_of(alone.seconds(200), 0.5):.3f} to {part_of(beside.seconds(200), 0.5):.3f}",
           p99_s=f"{part_of(alone.seconds(200), 0.99):.3f} to {part_of(beside.seconds(200), 0.99):.3f}")  # fmt: skip


@LONG
def test_old_and_new_serve_together_and_nobody_is_refused(tmp_path, sqlite_database, books_here, upstream):
    """F38: the next one is started on the same socket before the last one is told to end. F2: streams are finished."""
    unit = Unit(tmp_path, sqlite_database)
    port = Port(unit.socket.getsockname()[1])
    try:
        unit.start()
        crowd = Crowd(port, 6, {"words": 20, "every_s": 0.02})
        for _ in range(10 if SOAK else 2):
            old = unit.process
            time.sleep(1.0)
            unit.start()
            time.sleep(0.5)
            old.terminate()
            assert old.wait(30) == 0
        crowd.stop()
        assert set(crowd.statuses()) == {200}, [one for one in crowd.answers if one[0] != 200][:3]
        cut = [text for _status, text, *_ in crowd.answers if text.startswith("data:") and "[DONE]" not in text]
        assert cut == []
        wait_until_clean(books_here, 30)
        assert len(rows(books_here)) == len(upstream.served) == len(crowd.answers)
        figure("F38", restarts=10 if SOAK else 2, answers=crowd.statuses(), failed=0, streams_cut=0)
    finally:
        if unit.process is not None and unit.process.poll() is None:
            os.kill(unit.process.pid, signal.SIGTERM)
            unit.process.wait(40)
        unit.socket.close()
        unit.notify.close()


@pytest.fixture
def books_here(tmp_path, sqlite_database, upstream):
    """The books of the test's file; model `fast` is on the fake provider."""
    from app import create_app
    from tests.conftest import make_config
    from tests.helpers import with_upstream

    app = with_upstream(create_app(make_config(tmp_path, DATABASE_URL=sqlite_database)), upstream)
    yield app.extensions["gateway"].engine
    app.extensions["gateway"].close()
    app.extensions["gateway"].engine.dispose()
