"""A caller who leaves: the upstream hears of it soon, the row has what was delivered, on every route."""

import json
import os
import signal
import socket
import time

import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import assert_books_agree, open_holds, rows, with_upstream

SOON_S = 10.0  # at most a second on a machine with time; who is not told hears of it after 25 s, or never
PATIENCE_S = 30.0
ROUTES = {
    "/v1/chat/completions": {"model": "fast", "messages": [{"role": "user", "content": "one two three %s"}]},
    "/v1/completions": {"model": "fast", "prompt": "one two three %s"},
    "/v1/embeddings": {"model": "fast", "input": "one two three %s"},
}


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    running = serve(WORKER_CLASS=request.param, GRACEFUL_TIMEOUT="6")
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


def send(served, path, plan, **members):
    """A request on a connection of its own, with a plan for the upstream in its text."""
    text = json.dumps(ROUTES[path] | members).replace("%s", json.dumps("{" + json.dumps(plan) + "}")[1:-1])
    line = socket.create_connection(("127.0.0.1", served.port))
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {TOKEN}",
        f"Content-Length: {len(text.encode())}",
    ]
    line.sendall("\r\n".join([*head, "", text]).encode())
    return line


def read_until(line, mark):
    data = b""
    line.settimeout(PATIENCE_S)
    while mark not in data:
        more = line.recv(65536)
        assert more, data
        data += more
    return data


def settled(served, count=1, within=PATIENCE_S):
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = rows(served.engine)
        if len(found) >= count and not open_holds(served.engine):
            break
        time.sleep(0.02)
    assert_books_agree(served.engine)
    return found


def left_soon(upstream, left_at):
    served = upstream.wait_for(1)[0]
    end = time.monotonic() + SOON_S
    while served.peer_left_at is None and time.monotonic() < end:
        time.sleep(0.01)
    assert served.peer_left_at is not None, "the upstream was never told"
    assert served.peer_left_at - left_at < SOON_S
    return served


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("plan", "mark"),
    [
        pytest.param({"words": 500, "every_s": 0.05}, b"word3 ", id="chunks flowing"),
        pytest.param({"words": 500, "mute_after": 4}, b"word3 ", id="upstream silent"),
        pytest.param({"words": 500, "first_s": 30}, None, id="before the first byte"),
    ],
)
def test_from_a_stream(served, upstream, path, plan, mark):
    line = send(served, path, plan, stream=True)
    if mark:
        read_until(line, mark)
    else:
        upstream.wait_for(1)
        time.sleep(0.3)
    line.close()
    seen = left_soon(upstream, time.monotonic())
    (row,) = settled(served)
    assert (row.outcome, row.state) == ("client_gone", "estimated")
    assert row.input_tokens >= 3
    delivered = seen.words_sent
    if mark:
        assert 4 <= row.output_tokens <= 4 * delivered, "each word is two or three tokens"
    else:
        assert row.output_tokens == 0
    assert row.cost_nanousd == row.input_tokens * 150 + row.output_tokens * 600


@pytest.mark.parametrize("path", ROUTES)
def test_from_a_whole_answer(served, upstream, path):
    line = send(served, path, {"first_s": 30})
    upstream.wait_for(1)
    time.sleep(0.3)
    line.close()
    left_soon(upstream, time.monotonic())
    (row,) = settled(served)
    assert (row.outcome, row.status, row.output_tokens) == ("client_gone", 499, 0)


def test_a_stream_ends_within_the_grace_of_a_stop(served, upstream):
    """Short streams are finished, long ones are ended with an event and booked; nobody is left."""
    short = send(served, "/v1/chat/completions", {"words": 20, "every_s": 0.05}, stream=True)
    long = [send(served, "/v1/chat/completions", {"words": 5000, "every_s": 0.05}, stream=True) for _ in range(5)]
    mute = send(served, "/v1/chat/completions", {"words": 50, "mute_after": 2}, stream=True)
    for line in (short, *long, mute):
        read_until(line, b"word1 ")
    served.process.send_signal(signal.SIGTERM)
    assert b"[DONE]" in read_until(short, b"[DONE]")
    for line in (*long, mute):
        text = read_until(line, b'"error"')
        assert b"shutting_down" in text
        assert b"[DONE]" not in text
    for line in (short, *long, mute):
        line.close()
    assert served.process.wait(PATIENCE_S) == 0
    found = settled(served, 7)
    assert sorted(row.outcome for row in found) == ["drained"] * 6 + ["ok"]
    assert [row.state for row in found if row.outcome == "drained"] == ["estimated"] * 6
    assert all(row.output_tokens > 0 for row in found)


def test_a_connection_that_only_waits_does_not_hold_up_a_stop(served):
    """As a proxy keeps them. One that is being answered is answered to its end, and told that it closes."""
    idle = send(served, "/v1/embeddings", {})
    assert b"connection: keep-alive" in read_until(idle, b"}").lower()
    busy = send(served, "/v1/chat/completions", {"words": 20, "every_s": 0.05}, stream=True)
    read_until(busy, b"word1 ")
    served.process.send_signal(signal.SIGTERM)
    assert b"[DONE]" in read_until(busy, b"[DONE]")
    assert idle.recv(1) == b""
    for line in (idle, busy):
        line.close()
    assert served.process.wait(PATIENCE_S) == 0
    assert "graceful timeout" not in served.output()
    assert [row.outcome for row in settled(served, 2)] == ["ok", "ok"]


def test_ctrl_c_ends_every_stream_at_once_and_books_it(served, upstream):
    lines = [send(served, "/v1/chat/completions", {"words": 5000, "every_s": 0.05}, stream=True) for _ in range(4)]
    for line in lines:
        read_until(line, b"word1 ")
    os.killpg(served.process.pid, signal.SIGINT)  # as a terminal does it: to the master and to every worker
    for line in lines:
        assert b"shutting_down" in read_until(line, b'"error"')
        line.close()
    assert served.process.wait(PATIENCE_S) == 0
    assert [(row.outcome, row.state) for row in settled(served, 4)] == [("drained", "estimated")] * 4
    assert "Traceback" not in served.output()
