"""Odd answers and streams for Anthropic's clients: what becomes of what upstreams say out of order or wrongly."""

import json

import pytest

from services.dialects import ANTHROPIC
from services.dialects.base import Translated
from services.errors import UpstreamError
from services.providers import WIRES
from services.providers.openai import OpenAIStream
from tests.calls import make_call
from utils import jsonx, sse

CALL = {"dialect": "anthropic", "wants_usage": True, "body_bytes": 90}
PARTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def answer(message, finish="stop", **more):
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
    return json.loads(ANTHROPIC.translation.answer(make_call(**CALL), json.dumps(body).encode()))


def chunks(*deltas, finish="stop"):
    events = [sse.format_event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return [*events, sse.format_event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}), sse.DONE]


def stream(*events):
    call = make_call(**CALL, is_stream=True)
    decoder = Translated(OpenAIStream(call, wants_usage=True), ANTHROPIC.translation.stream(call))
    out = b"".join(event for raw in events for event in decoder.feed(raw)) + b"".join(decoder.end())
    return [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]


def blocks_of(events):
    """What a client puts together of a stream."""
    found = []
    for event in events:
        if event["type"] == "content_block_start":
            found.append(
                event["content_block"] | ({"input": ""} if event["content_block"]["type"] == "tool_use" else {})
            )
        elif event["type"] == "content_block_delta":
            kind = event["delta"]["type"]
            member = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}.get(
                kind, "input"
            )
            found[-1][member] += event["delta"].get("partial_json", event["delta"].get(member))
    return [(one["type"], one.get("text", one.get("thinking", one.get("input", one.get("data"))))) for one in found]


def tool(index, arguments, **more):
    return {"index": index, "function": {"arguments": arguments, **more.pop("function", {})}, **more}


def first(index, arguments=""):
    return tool(index, arguments, id=f"call_{index}", function={"name": "f"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":7}]}',
        b'{"choices":[{"message":{"content":7}}]}',
        b'{"choices":[{"message":{"tool_calls":[{}]}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":""}}]}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"[]"}}]}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{"}}]}}]}',
        b'{"choices":[{"message":{"thinking_blocks":[{}]}}]}',
        b'{"choices":[{"message":{},"finish_reason":["stop"]}]}',
    ],
)
def test_an_answer_of_another_shape_is_the_upstreams_error(body):
    with pytest.raises(UpstreamError):
        ANTHROPIC.translation.answer(make_call(**CALL), body)


def test_counts_that_cannot_be_are_not_believed():
    usage = answer(
        {"content": "x"},
        usage={"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}},
    )["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (5, 0, 1)
    usage = answer({"content": "x"}, usage={"prompt_tokens": -5, "completion_tokens": True})["usage"]
    assert usage["input_tokens"] > 0


def test_input_that_nobody_counted_is_told_roughly():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    body = {"model": "fast", "messages": [{"role": "user", "content": [picture, {"type": "text", "text": "x"}]}]}
    translator = ANTHROPIC.translation.stream(make_call(body, **CALL | {"body_bytes": 1_000_422}))
    start = json.loads(translator.feed(chunks({"content": "x"})[0]).split(b"data: ")[1].split(b"\n")[0])
    assert start["message"]["usage"]["input_tokens"] == 400 // 4 + 1000


@pytest.mark.parametrize("finish", [None, "stop", "eos", ""])
def test_an_unknown_end_is_a_plain_one(finish):
    assert answer({"content": "x"}, finish)["stop_reason"] == "end_turn"


def test_what_is_said_within_an_incomplete_call_comes_after_it():
    events = stream(
        *chunks(
            {"tool_calls": [first(0, '{"a":')]},
            {"content": "while"},
            {"reasoning_content": "hm"},
            {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
            {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
            {"tool_calls": [tool(0, "1}")]},
            {"content": "after"},
        )
    )
    expected = [
        ("tool_use", '{"a":1}'),
        ("text", "while"),
        ("thinking", "hm"),
        ("redacted_thinking", "d"),
        ("text", "after"),
    ]
    assert blocks_of(events) == expected
    assert [
        event["delta"]["signature"] for event in events if event.get("delta", {}).get("type") == "signature_delta"
    ] == ["s"]


def test_a_call_whose_name_comes_late_waits_for_it():
    events = stream(
        *chunks({"tool_calls": [tool(0, '{"a"', id="x")]}, {"tool_calls": [tool(0, ":1}", function={"name": "f"})]})
    )
    assert blocks_of(events) == [("tool_use", '{"a":1}')]


def test_a_call_without_a_name_is_the_upstreams_error():
    with pytest.raises(UpstreamError):
        stream(*chunks({"tool_calls": [tool(0, "{}")]}))


@pytest.mark.parametrize("arguments", ["[1]", '{"a"', "nothing"])
def test_arguments_that_never_become_an_object_are_the_upstreams_error(arguments):
    with pytest.raises(UpstreamError, match="no JSON object"):
        stream(*chunks({"tool_calls": [first(0, arguments)]}))
    with pytest.raises(UpstreamError, match="no JSON object"):
        stream(*chunks({"tool_calls": [first(0, arguments), first(1, "{}")]}))


def test_a_complete_call_takes_no_more_arguments():
    with pytest.raises(UpstreamError, match="complete call"):
        stream(*chunks({"tool_calls": [first(0, "{}"), first(1, "{}")]}, {"tool_calls": [tool(0, "x")]}))


def test_arguments_are_read_again_only_when_more_has_come(monkeypatch):
    """A hundred pieces of a second call do not make the first one be parsed a hundred times."""
    reads = []
    monkeypatch.setattr(
        "services.dialects.anthropic_stream.jsonx.loads", lambda text: reads.append(text) or jsonx.peek(text)
    )
    stream(
        *chunks(
            {"tool_calls": [first(0, '{"a"'), first(1, '{"b"')]},
            *[{"tool_calls": [tool(1, " ")]}] * 100,
            {"tool_calls": [tool(1, ":1}"), tool(0, ":1}")]},
        )
    )
    assert len(reads) < 10


@pytest.mark.parametrize(
    "delta",
    [
        {"content": 7},
        {"reasoning_content": ["x"]},
        {"refusal": {"a": 1}},
        {"tool_calls": [7]},
        {"tool_calls": [{"index": {"a": 1}}]},
        {"tool_calls": [tool(0, 7)]},
        {"tool_calls": [first(0) | {"function": {"name": 7}}]},
        {"thinking_blocks": [7]},
        {"thinking_blocks": [{"type": "redacted_thinking"}]},
        {"thinking_blocks": [{"type": "thinking", "signature": 7}]},
    ],
)
def test_a_delta_of_another_shape_is_the_upstreams_error(delta):
    translator = ANTHROPIC.translation.stream(make_call(**CALL))
    with pytest.raises(UpstreamError, match="malformed"):
        translator.feed(chunks(delta)[0])


def test_an_end_of_another_shape_is_the_upstreams_error():
    translator = ANTHROPIC.translation.stream(make_call(**CALL))
    translator.feed(sse.format_event({"choices": [{"finish_reason": ["stop"]}]}))
    with pytest.raises(UpstreamError):
        translator.end()


def test_a_stream_that_says_nothing_is_still_a_message():
    events = stream(sse.DONE)
    assert [event["type"] for event in events] == ["message_start", "message_delta", "message_stop"]


def test_other_choices_and_lines_without_data_are_left_out():
    translator = ANTHROPIC.translation.stream(make_call(**CALL))
    translator.feed(chunks({"content": "x"})[0])
    assert translator.feed(sse.format_event({"choices": [{"index": 1, "delta": {"content": "y"}}]})) == b""
    assert translator.feed(b"event: x\n\n") == b""
    assert translator.feed(b": ping\n\n") == b": ping\n\n"


def test_a_wire_that_hands_on_several_events_at_once():
    lines = [{"message": {"content": word}, "done": False} for word in ("one ", "two")]
    lines.append({"message": {"content": "!"}, "done": True, "prompt_eval_count": 3, "eval_count": 2})
    call = make_call(**CALL, is_stream=True)
    decoder = Translated(WIRES["ollama"].stream(call), ANTHROPIC.translation.stream(call))
    raw = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    out = b"".join(decoder.feed(raw)) + b"".join(decoder.end())
    events = [json.loads(line[6:]) for line in out.decode().splitlines() if line.startswith("data: ")]
    assert blocks_of(events) == [("text", "one two!")]
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (3, 2)
    assert (decoder.usage.output_tokens, decoder.is_done) == (2, True)
