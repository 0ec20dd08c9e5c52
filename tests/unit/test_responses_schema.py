"""Answers and events of the Responses API are what OpenAI's published document says they are."""

import json

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from services.dialects import RESPONSES
from services.dialects.responses_stream import last_event
from services.errors import UpstreamError
from services.types import CHAT
from tests.calls import CALLER
from tests.test_golden import cases, dialect_of, name_of
from tests.vendor_schemas import faults

CASES = [case for case in cases("request.in") if dialect_of(case) == RESPONSES.name]


def events_of(raw: bytes) -> list[dict]:
    """The events of a stream; each says its type twice, and their numbers rise by one."""
    told = [event.split("\n") for event in raw.decode().strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _kind, data in told]
    assert [kind.removeprefix("event: ") for kind, _data in told] == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


@pytest.mark.parametrize("case", [case for case in CASES if (case / "answer.out").exists()], ids=name_of)
def test_whole_answers(case):
    assert faults("openai", "Response", json.loads((case / "answer.out").read_bytes())) == []


@pytest.mark.parametrize("case", [case for case in CASES if (case / "stream.out").exists()], ids=name_of)
def test_streams(case):
    for event in events_of((case / "stream.out").read_bytes()):
        assert faults("openai", "ResponseStreamEvent", event) == [], event["type"]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_official_sdk_finds_every_member_that_it_declares(case):
    """Its types are newer than the document, and with strict validation it raises where one is missing."""
    if (case / "answer.out").exists():
        Response.model_validate_json((case / "answer.out").read_bytes())
    for event in events_of((case / "stream.out").read_bytes()) if (case / "stream.out").exists() else ():
        TypeAdapter(ResponseStreamEvent).validate_python(event)


def test_the_end_of_a_stream_that_failed():
    call = RESPONSES.call(CHAT, b'{"model": "fast", "input": "x", "stream": true}', CALLER, "req_1")
    for event in events_of(last_event(call, UpstreamError("it broke"))):
        assert faults("openai", "ResponseStreamEvent", event) == [], event["type"]


def test_what_breaks_the_document_is_seen():
    answer = json.loads((CASES[0].parent / "text/answer.out").read_bytes())
    assert faults("openai", "Response", answer | {"status": "done"}) != []
    assert faults("openai", "Response", {**answer, "output": [{"type": "message"}]}) != []
    del answer["tools"]
    assert faults("openai", "Response", answer) != []
