"""The corners of the wires: lists that are none, lines without an end, silences that somebody beats time to."""

import pytest

from services.errors import UpstreamError
from services.providers import WIRES
from services.providers.base import UpstreamRequest
from services.providers.echo import CUT, LONG_S, respond
from services.settlement import settlement_of
from services.types import EMBEDDING, Usage
from tests.calls import attempted, make_call
from utils import jsonx, sse


@pytest.mark.parametrize("body", [b"{}", b'{"data": {}}', b"[]", b"<html>"])
def test_a_list_of_models_that_is_none(body):
    with pytest.raises(UpstreamError):
        WIRES["openai"].model_names(body)


def test_entries_of_the_list_that_are_none_are_left_out():
    assert WIRES["openai"].model_names(b'{"data": [7, {}, {"id": 7}, {"id": "a"}]}') == ["a"]


def test_an_event_without_an_end_is_refused():
    decoder = WIRES["openai"].stream(make_call(is_stream=True))
    with pytest.raises(UpstreamError, match="larger than"):
        list(decoder.feed(b"x" * (sse.MAX_EVENT_BYTES + 1)))


def test_the_organization_is_named_where_one_is_set():
    headers = dict(WIRES["openai"].model_list({"organization": "org-1"}, "sk-1")[1])
    assert headers == {
        "content-type": "application/json",
        "authorization": "Bearer sk-1",
        "openai-organization": "org-1",
    }


def test_echo_lists_itself():
    answer = respond(UpstreamRequest("GET", "/models", (), b""))
    listed = WIRES["openai"].model_names(b"".join(answer.steps))
    assert {"echo", "echo-slow", "echo-cut"} <= set(listed)


def test_the_mute_scenario_is_silent_before_its_first_word():
    body = {"model": "echo-mute", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    steps = list(respond(UpstreamRequest("POST", "/chat/completions", (), jsonx.dumps(body))).steps)
    assert steps[0] == LONG_S


def test_an_embedding_without_counts_is_estimated_by_its_input():
    """No answer of an embedding has output, whatever an estimate says."""
    call = attempted(make_call({"model": "fast", "input": "a"}, operation=EMBEDDING, is_answered=True))
    found = settlement_of(call, lambda _call: Usage(7, 99))
    assert (found.state, found.usage.input_tokens, found.usage.output_tokens) == ("estimated", 7, 0)


def test_output_alone_is_completed_by_the_estimate():
    call = attempted(make_call(is_answered=True, usage=Usage(None, 4)))
    found = settlement_of(call, lambda _call: Usage(7, 99))
    assert (found.state, found.usage.input_tokens, found.usage.output_tokens) == ("estimated", 7, 4)
    call = attempted(make_call(is_answered=True, usage=Usage(5, None)))
    found = settlement_of(call, lambda _call: Usage(7, 99))
    assert (found.usage.input_tokens, found.usage.output_tokens) == (5, 99)


def test_a_cut_stream_of_echo_ends_at_its_cut():
    body = {"model": "echo-cut", "stream": True, "messages": [{"role": "user", "content": "a b c d e f"}]}
    steps = list(respond(UpstreamRequest("POST", "/chat/completions", (), jsonx.dumps(body))).steps)
    assert steps[-1] is CUT
    assert sum(b'"content":' in step for step in steps[:-1]) == 4, "the opening and three words"
