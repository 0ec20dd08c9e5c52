"""Providers with a Responses API of their own: which have it, and what they may get wrong."""

import json
from dataclasses import replace

import pytest

from services.dialects import RESPONSES
from services.errors import UpstreamError
from services.providers import WIRES
from services.providers.responses import usage_of
from services.types import Usage
from tests.calls import DEPLOYMENT, make_call
from tests.responses import make, told


def native(**more):
    call = make(**more)
    call.is_native = True
    return call


def event(**members):
    return b"event: x\ndata: " + json.dumps(members).encode() + b"\n\n"


def test_it_is_openais_unless_a_setting_says_otherwise():
    wire = WIRES["openai"]

    def path(base_url="http://x/v1", **settings):
        upstream = replace(DEPLOYMENT.upstream, base_url=base_url, settings=settings)
        return wire.encode(make(), replace(DEPLOYMENT, upstream=upstream)).path

    assert (path(), path(responses=True)) == ("/chat/completions", "/responses")
    official = "https://api.openai.com/v1"
    assert (path(official), path(official, responses=False)) == ("/responses", "/chat/completions")


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b'{"output": {}}',
        b'{"output": [1]}',
        b'{"output": [{"content": 1}]}',
        b'{"error": {"message": "x", "code": "server_error"}}',
        b'{"error": "x", "output": []}',
    ],
)
def test_an_own_answer_that_is_none_is_the_upstreams_fault(answer):
    with pytest.raises(UpstreamError):
        WIRES["openai"].decode(native(), answer)


@pytest.mark.parametrize(
    "bad",
    [
        b"data: 1\n\n",
        b"data: {\n\n",
        b"data: {}\n\n",
        event(type=["x"]),
        event(type="response.created"),
        event(type="response.completed", response=1),
        event(type="response.output_item.added"),
        event(type="response.output_item.added", item=1),
        event(type="response.failed", response=1),
        b'data: {"type":"response.completed","response":' + b'{"a":' * 300 + b"1" + b"}" * 301 + b"\n\n",
        b"data: " + b"x" * (9 * 1024 * 1024),
    ],
    ids=lambda bad: bad[:60].decode(),
)
def test_an_own_event_that_is_none_is_the_upstreams_fault(bad):
    decoder = WIRES["openai"].stream(native(stream=True))
    with pytest.raises(UpstreamError):
        list(decoder.feed(bad))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ({"type": "error", "code": "server_error", "message": "flat", "param": None}, "flat"),
        ({"type": "error", "error": {"message": "nested"}}, "nested"),
        ({"type": "response.failed", "response": {"error": {"code": "x", "message": "failed"}}}, "failed"),
        ({"type": "response.failed"}, "the upstream reported an error"),
    ],
)
def test_an_error_in_an_own_stream_raises(failure, message):
    call = native(stream=True)
    decoder = WIRES["openai"].stream(call)
    opening = event(type="response.created", sequence_number=0, response={"id": "resp_up", "output": []})
    assert b"".join(decoder.feed(opening)).count(b"resp_1") == 1
    with pytest.raises(UpstreamError, match=message):
        list(decoder.feed(event(sequence_number=1, **failure)))
    (failed, _last) = told(RESPONSES.last_event(call, UpstreamError(message)))
    assert (failed["response"]["id"], failed["sequence_number"]) == ("resp_1", 2)


def test_usage_of_a_failed_answer_is_read():
    decoder = WIRES["openai"].stream(native(stream=True))
    used = {"input_tokens": 5, "output_tokens": 2}
    with pytest.raises(UpstreamError):
        list(decoder.feed(event(type="response.failed", response={"error": {"message": "x"}, "usage": used})))
    assert decoder.usage == Usage(5, 2)


def test_usage_that_says_nothing_is_none():
    assert usage_of(None) is usage_of({}) is usage_of({"input_tokens": -1}) is None
    assert usage_of({"input_tokens": 3, "input_tokens_details": 1}) == Usage(3, None)


def test_a_chat_stays_a_chat():
    wire, chat = WIRES["openai"], make_call()
    assert wire.encode(chat, DEPLOYMENT).path == "/chat/completions"
    answer = b'{"choices":[{"message":{"content":"a"}}]}'
    assert wire.decode(chat, answer).pieces == ("a",)
    translated = make([{"type": "reasoning", "summary": [{"text": "t"}]}, {"role": "assistant", "content": "a"}])
    assert [*translated.body["messages"][0]] == ["role", "content", "reasoning_content"]
    sent = json.loads(wire.encode(translated, DEPLOYMENT).body)
    assert sent["messages"] == [{"role": "assistant", "content": "a", "reasoning_content": "t"}]
    assert "max_tokens" not in sent
    limited = json.loads(wire.encode(make(max_output_tokens=5), DEPLOYMENT).body)
    assert limited["max_tokens"] == 5
