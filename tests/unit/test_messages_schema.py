"""Anthropic's own OpenAPI document: our recorded requests are its clients', and what we answer is what it promises."""

import json

import pytest

from services.dialects import anthropic
from services.errors import GatewayError
from tests.published import problems
from tests.test_golden import GOLDEN

CASES = sorted((GOLDEN / "dialect-anthropic").iterdir())
NEWER = {"only-native", "structured-output-loose", "thinking"}  # newer members, and what other providers left unsigned


def cases(name):
    return [pytest.param(case, id=case.name) for case in CASES if (case / name).exists()]


@pytest.mark.parametrize("case", cases("answer.out"))
def test_an_answer_is_a_message(case):
    assert problems("anthropic", "Message", json.loads((case / "answer.out").read_bytes())) == []


@pytest.mark.parametrize("case", cases("stream.out"))
def test_every_event_of_a_stream_is_one_and_says_so_in_its_name(case):
    kinds = []
    for event in (case / "stream.out").read_text(encoding="utf-8").split("\n\n"):
        if not event or event.startswith(":"):
            continue
        name, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert problems("anthropic", "MessageStreamEvent", value) == []
        assert name == f"event: {value['type']}"
        kinds.append(value["type"])
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


@pytest.mark.parametrize("case", cases("stream.out"))
def test_one_block_is_open_at_a_time(case):
    """A block begins after the one before it has ended, and its deltas are its own."""
    open_block, blocks = None, 0
    for line in (case / "stream.out").read_text(encoding="utf-8").splitlines():
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"type": ""}
        if event["type"] == "content_block_start":
            assert (open_block, event["index"]) == (None, blocks)
            open_block, blocks = blocks, blocks + 1
        elif event["type"].startswith("content_block"):
            assert event["index"] == open_block
            open_block = None if event["type"] == "content_block_stop" else open_block
    assert open_block is None


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 429, 499, 500, 502, 503, 504, 529])
def test_an_error_is_one(status):
    exc = GatewayError("Something is wrong.")
    exc.status = status
    body = anthropic.error_body(exc) | {"request_id": "req_1"}
    if status == 413:  # documented on platform.claude.com/docs/en/api/errors, missing in the document
        assert body["error"]["type"] == "request_too_large"
        body["error"]["type"] = "invalid_request_error"
    assert problems("anthropic", "ErrorResponse", body) == []


@pytest.mark.parametrize("case", [case for case in cases("request.in") if case.id not in NEWER])
def test_a_recorded_request_is_what_its_clients_send(case):
    assert problems("anthropic", "CreateMessageParams", json.loads((case / "request.in").read_bytes())) == []
