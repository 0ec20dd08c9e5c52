"""Anthropic's wire, without a network: what is said for what came, whatever it was."""

import json

import pytest

from services.errors import UpstreamError, UpstreamRefused
from services.providers.anthropic import Anthropic
from services.types import Usage
from tests.calls import make_call
from utils import sse

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n'


def said(answer, **fields):
    whole = Anthropic().decode(make_call(None, **fields), json.dumps(answer).encode())
    return json.loads(whole.body), whole


def streamed(*events, **fields):
    call = make_call(None, is_stream=True, **fields)
    decoder = Anthropic().stream(call)
    raw = b"".join(sse.format_event(event) for event in events)
    return b"".join([*decoder.feed(raw), *decoder.end()]), call


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"content": "text"},
        {"content": [7]},
        {"content": [{"type": "text", "text": {}}, 7]},
        {"content": [{"type": "tool_use", "name": 7}, None]},
        {"content": [{"type": "thinking", "thinking": []}, "x"]},
    ],
)
def test_answers_of_another_shape_are_the_upstreams_error(answer, is_native):
    with pytest.raises(UpstreamError) as caught:
        said(answer, is_native=is_native)
    assert not isinstance(caught.value, UpstreamRefused)


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"input_tokens": -1, "output_tokens": True}, None),
        ({"output_tokens": 3, "cache_read_input_tokens": 9}, Usage(None, 3)),
        ({"input_tokens": 3}, Usage(3, None)),
        ({"input_tokens": 2**31 - 1, "cache_read_input_tokens": 1}, Usage(None, None, 1)),
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "output_tokens_details": {"thinking_tokens": 3},
                "cache_creation": 7,
            },
            Usage(1, 2),
        ),
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 4,
                "cache_creation": {"ephemeral_1h_input_tokens": 5},
            },
            Usage(5, 2, cache_creation_input_tokens=4),
        ),
    ],
)
def test_usage_is_what_was_said_and_possible(usage, found):
    body, whole = said({"content": [], "usage": usage})
    assert whole.usage == found
    assert ("usage" in body) == (found is not None and None not in (found.input_tokens, found.output_tokens))


@pytest.mark.parametrize(
    "event",
    [
        7,
        {},
        {"type": "message_start"},
        {"type": "message_start", "message": {"usage": 7}},
        {"type": "content_block_start", "index": 0, "content_block": {}},
        {"type": "content_block_start", "index": [], "content_block": {"type": "tool_use"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 7}},
        {"type": "content_block_delta", "index": [], "delta": {"type": "signature_delta"}},
        {"type": "content_block_stop"},
        {"type": "message_delta", "delta": []},
    ],
)
def test_events_of_another_shape_are_the_upstreams_error(event):
    with pytest.raises(UpstreamError, match="malformed event"):
        streamed(event)


@pytest.mark.parametrize(
    "event", [7, {"type": "content_block_start", "content_block": 7}, {"type": "content_block_delta", "delta": 7}]
)
def test_events_that_nobody_can_read_are_not_handed_through(event):
    with pytest.raises(UpstreamError, match="malformed event"):
        streamed(event, is_native=True)


def test_texts_that_are_none_are_handed_through_and_not_counted():
    out, call = streamed(
        {"type": "content_block_start", "content_block": {"name": 7}},
        {"type": "content_block_delta", "delta": {"text": [1]}},
        {"type": "message_stop"},
        is_native=True,
    )
    assert out.count(b"data: ") == 3
    assert call.pieces == []


@pytest.mark.parametrize("is_native", [False, True])
def test_nothing_follows_the_end_mark(is_native):
    out, _call = streamed({"type": "message_stop"}, {"type": "error", "error": {}}, is_native=is_native)
    assert out.endswith(b'{"type":"message_stop"}\n\n' if is_native else b"data: [DONE]\n\n")
    assert b"error" not in out


@pytest.mark.parametrize("is_native", [False, True])
def test_an_event_without_an_end_is_refused(is_native):
    decoder = Anthropic().stream(make_call(is_native=is_native))
    with pytest.raises(UpstreamError, match="larger than"):
        list(decoder.feed(b"x" * (sse.MAX_EVENT_BYTES + 1)))


def test_an_end_mark_without_a_blank_line_is_one():
    for is_native, end in (
        (True, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
        (False, b"data: [DONE]\n\n"),
    ):
        decoder = Anthropic().stream(make_call(is_native=is_native))
        assert list(decoder.feed(b'event: message_stop\ndata: {"type":"message_stop"}\n')) == []
        assert b"".join(decoder.end()).endswith(end)


def test_an_event_may_have_its_data_on_several_lines():
    decoder = Anthropic().stream(make_call())
    list(decoder.feed(b'event: message_stop\ndata: {"type":\ndata: "message_stop"}\n\n'))
    assert decoder.is_done


def test_blocks_that_begin_with_text_lose_none_of_it():
    out, call = streamed(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "h"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m"}},
        {"type": "content_block_stop", "index": 0},  # without a signature: nothing to send back
        {"type": "content_block_delta", "index": 5, "delta": {"type": "thinking_delta", "thinking": "!"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "so"}},
        {"type": "message_stop"},
    )
    assert call.pieces == ["h", "m", "!", "so"]
    assert b"thinking_blocks" not in out


def test_tool_calls_are_numbered_whatever_their_blocks_say():
    events = [
        {"type": "content_block_start", "index": index, "content_block": {"type": "tool_use", "id": name, "name": name}}
        for index, name in ((3, "a"), (3, "b"), (9, "c"))
    ]
    out, _call = streamed(*events, {"type": "message_stop"})
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in out.split(b"\n\n")[:-2]]
    opened = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], call["id"]) for call in opened] == [(0, "a"), (1, "b"), (2, "c")]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_counts_are_cumulative_and_may_come_late():
    _out, call = streamed({"type": "message_stop"})
    decoder = Anthropic().stream(call)
    assert decoder.usage is None
    for event in (
        {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 12}},
    ):
        list(decoder.feed(sse.format_event(event)))
    assert decoder.usage == Usage(25, 12)


@pytest.mark.parametrize("is_native", [False, True])
@pytest.mark.parametrize(
    ("kind", "status", "is_retryable"),
    [
        ("overloaded_error", 503, True),
        ("api_error", 502, True),
        ("timeout_error", 504, True),
        ("rate_limit_error", 429, True),
        ("invalid_request_error", 400, False),
        ("request_too_large", 413, False),
        ("not_found_error", 404, False),
        ("authentication_error", 502, True),
        ("someday_error", 502, True),
    ],
)
def test_an_error_in_a_stream_has_the_status_of_its_type(kind, status, is_retryable, is_native):
    with pytest.raises(UpstreamError) as caught:
        streamed({"type": "error", "error": {"type": kind, "message": "no", "code": 7}}, is_native=is_native)
    assert (caught.value.status, caught.value.is_retryable) == (status, is_retryable)
    caught.value.hide("sk-upstream-secret")


@pytest.mark.parametrize("error", [None, "broken", 7, [], {}, {"type": 7, "message": 7}])
def test_an_error_of_any_shape_is_one(error):
    with pytest.raises(UpstreamRefused) as caught:
        streamed({"type": "error", "error": error})
    assert caught.value.status == 502


def test_an_error_with_status_200_is_one():
    error = {
        "type": "invalid_request_error",
        "message": "input length and `max_tokens` exceed context limit: 9 + 9 > 9",
    }
    with pytest.raises(UpstreamRefused) as caught:
        said({"type": "error", "error": error})
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize("body", [b"{}", b'{"data": {}}', b"[]", b"<html>"])
def test_a_list_of_models_that_is_none(body):
    with pytest.raises(UpstreamError):
        Anthropic().model_names(body)


def test_entries_of_the_list_that_are_none_are_left_out():
    assert Anthropic().model_names(b'{"data": [7, {}, {"id": 7}, {"id": "claude-opus-5"}]}') == ["claude-opus-5"]


def test_a_sign_of_life_is_handed_on():
    """A model may think for minutes without a word, and connections that say nothing are cut on the way."""
    out, _call = streamed({"type": "ping"}, {"type": "message_stop"})
    assert out.startswith(sse.PING)
