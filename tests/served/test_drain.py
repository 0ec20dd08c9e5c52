"""A caller who leaves a provider that bills on: the answer is read on without him, and the books have the bill."""

import json
import os
import signal
import socket
import time

import anthropic
import openai
import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import add_model, add_provider, assert_books_agree, open_holds, rows

PATIENCE_S = 30.0
DRAIN = {"on_disconnect": "drain"}
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
PACE = {"every_s": 0.05}
CALLS = [  # path, model, whether it streams
    (CHAT, "fast", True),
    (CHAT, "fast", False),
    (CHAT, "claude", True),
    (MESSAGES, "claude", True),
    (MESSAGES, "claude", False),
    (MESSAGES, "fast", True),
    (RESPONSES, "own", True),
    (RESPONSES, "fast", True),
]


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    own = {"settings": DRAIN | {"responses": True}}
    add_model(app, add_provider(app, upstream, settings=DRAIN))
    add_model(app, add_provider(app, upstream, "anthropic", kind="anthropic", settings=DRAIN), "claude")
    add_model(app, add_provider(app, upstream, "own", **own), "own")
    add_model(app, add_provider(app, upstream, "hasty", settings=DRAIN | {"drain_max_s": 1}), "hasty")
    add_model(app, add_provider(app, upstream, "narrow", settings=DRAIN | {"drain_max_streams": 2}), "narrow")
    running = serve(WORKER_CLASS=request.param, GRACEFUL_TIMEOUT="5", THREADS="16")
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


def send(served, path, model, *, is_stream=True, **plan):
    """A request on a connection of its own, with a plan for the upstream in its text."""
    said = "one two three {" + json.dumps(plan) + "}"
    asked = {"input": said} if path == RESPONSES else {"messages": [{"role": "user", "content": said}]}
    body = json.dumps({"model": model, "stream": is_stream, "max_tokens": 900, **asked}).encode()
    line = socket.create_connection(("127.0.0.1", served.port))
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", f"Content-Length: {len(body)}"]
    line.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return line


def read_until(line, mark=b"word1 "):
    data = b""
    line.settimeout(PATIENCE_S)
    while mark not in data:
        more = line.recv(65536)
        assert more, data
        data += more


def wait(until, within=PATIENCE_S):
    end = time.monotonic() + within
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def settled(served, count):
    wait(lambda: len(rows(served.engine)) >= count and not open_holds(served.engine))
    assert_books_agree(served.engine)
    return rows(served.engine)


def leave(served, upstream, *calls, words=60, whole_s=3.0):
    """Calls that have begun, each with a word more than the one before, and whose callers then leave.

    A stream has 20 words a second; what is no stream is answered after `whole_s`.
    """
    lines = [
        send(
            served,
            path,
            model,
            is_stream=is_stream,
            words=words + number,
            **(PACE if is_stream else {"first_s": whole_s}),
        )
        for number, (path, model, is_stream) in enumerate(calls)
    ]
    for line, (_path, _model, is_stream) in zip(lines, calls, strict=True):
        if is_stream:
            read_until(line)
    upstream.wait_for(len(calls))
    for line in lines:
        line.close()


def test_the_books_have_what_the_provider_bills(served, upstream):
    leave(served, upstream, *CALLS)
    time.sleep(1.0)
    assert open_holds(served.engine) == len(CALLS), "money is held until the end"
    found = settled(served, len(CALLS))
    assert [served.peer_left_at for served in upstream.served] == [None] * len(CALLS)
    assert sorted((row.input_tokens, row.output_tokens) for row in found) == sorted(
        served.billed for served in upstream.served
    )
    assert {(row.outcome, row.state) for row in found} == {("client_gone", "measured")}
    assert {row.status for row in found if not row.is_stream} == {499}


def test_a_silent_caller_who_leaves_before_the_first_byte_costs_what_is_billed(served, upstream):
    line = send(served, CHAT, "fast", words=7, first_s=1.5)
    upstream.wait_for(1)
    line.close()
    (row,) = settled(served, 1)
    assert (row.input_tokens, row.output_tokens) == upstream.served[0].billed
    assert (row.outcome, row.status, row.state) == ("client_gone", 499, "measured")


def test_official_clients_that_break_off_cost_what_is_billed(served, upstream):
    said = [{"role": "user", "content": 'one two {{"words": 60, "every_s": 0.05}}'}]
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as client:
        with client.chat.completions.create(model="fast", messages=said, stream=True) as stream:
            next(iter(stream))
        with client.responses.create(model="own", input=said, stream=True) as events:
            next(iter(events))
    with (
        anthropic.Anthropic(base_url=served.url, api_key=TOKEN, max_retries=0) as client,
        client.messages.create(model="claude", messages=said, max_tokens=900, stream=True) as stream,
    ):
        next(iter(stream))
    found = settled(served, 3)
    assert sorted((row.input_tokens, row.output_tokens) for row in found) == sorted(
        served.billed for served in upstream.served
    )
    assert {(row.outcome, row.state) for row in found} == {("client_gone", "measured")}


def test_an_answer_is_read_on_no_longer_than_the_provider_says(served, upstream):
    leave(served, upstream, (CHAT, "hasty", True), (CHAT, "hasty", True), words=900)
    left_at = time.monotonic()
    found = settled(served, 2)
    for seen in upstream.served:
        wait(lambda seen=seen: seen.peer_left_at is not None)
        assert 0.5 < seen.peer_left_at - left_at < 15.0
    assert {(row.outcome, row.state) for row in found} == {("client_gone", "estimated")}
    assert all(row.output_tokens > 15 for row in found), "what was read on is paid for"


def test_no_more_answers_are_read_on_at_once_than_the_provider_says(served, upstream):
    leave(served, upstream, *[(CHAT, "narrow", True)] * 4, words=60)
    found = settled(served, 4)
    assert sorted(row.state for row in found) == ["estimated", "estimated", "measured", "measured"]
    assert sum(seen.peer_left_at is not None for seen in upstream.served) == 2
    assert {row.outcome for row in found} == {"client_gone"}


def test_a_worker_that_must_go_ends_them_in_time(served, upstream):
    leave(served, upstream, (CHAT, "fast", True), (CHAT, "fast", False), words=900, whole_s=30)
    time.sleep(0.5)
    begun = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - begun < 20
    assert {(row.outcome, row.is_stream) for row in settled(served, 2)} == {
        ("client_gone", True),
        ("client_gone", False),
    }


def test_a_worker_that_dies_leaves_a_hold_that_is_settled(served, upstream):
    leave(served, upstream, (CHAT, "fast", True), words=900)
    time.sleep(1.5)
    assert (rows(served.engine), open_holds(served.engine)) == ([], 1)
    os.kill(served.workers()[0], signal.SIGKILL)
    (row,) = settled(served, 1)
    assert (row.outcome, row.state, row.output_tokens > 0) == ("recovered", "estimated", True)
