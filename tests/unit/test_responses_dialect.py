"""The Responses API as a dialect: what is refused, what is lost, and upstreams that answer nonsense."""

import json

import pytest

from services.dialects import RESPONSES, responses
from services.dialects.base import Translated
from services.errors import NotFound, Unsupported, UpstreamError, UpstreamRefused
from services.providers.openai import OpenAIStream
from services.types import PublicModel
from tests.calls import DEPLOYMENT
from tests.responses import FUNCTION, make, told


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [FUNCTION, {"type": "web_search"}, {"type": "mcp"}]}, "tools.2"),
        ({"tools": [FUNCTION, {"type": "web_search"}], "tool_choice": "required"}, "tools.1"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"prompt": {"id": "pmpt_1"}, "given": None}, "prompt"),
        ({"given": [{"type": "web_search_call"}, {"type": "mcp_call"}]}, "input.0"),
        ({"given": [{"role": "user", "content": [{"type": "input_image", "file_id": "a"}]}]}, "input.0.content.0"),
        ({"given": [{"role": "user", "content": [{"type": "input_file", "file_url": "a"}]}]}, "input.0.content.0"),
        ({"given": [{"role": "user", "content": [{"type": "new"}]}]}, "input.0.content.0"),
    ],
)
def test_what_only_openai_can_serve_waits_for_it(body, param):
    call = make(**body)
    assert isinstance(call.native_only, Unsupported)
    assert call.native_only.param == param
    windowed = PublicModel("fast", "tests", 0, (DEPLOYMENT,), context_window=5000)
    unknown = PublicModel("fast", "tests", 0, (DEPLOYMENT,))
    assert RESPONSES.demand(call, windowed, 10).input_tokens == 5000
    assert (RESPONSES.demand(call, windowed, 10).is_bounded, RESPONSES.demand(call, unknown, 10).is_bounded) == (
        True,
        False,
    )
    assert RESPONSES.demand(make(), unknown, 10).is_bounded


def test_a_hosted_tool_that_need_not_be_used_is_left_out_and_named():
    call = make(tools=[{"type": "web_search"}, FUNCTION, {"type": "image_generation"}], truncation="auto")
    assert call.native_only is None
    assert call.untranslated == ("truncation", "tools.image_generation", "tools.web_search")
    assert [tool["function"]["name"] for tool in call.body["tools"]] == ["f"]
    assert len(call.native["tools"]) == 3, "a provider that has them is offered them"


def test_a_tool_in_a_namespace_is_called_by_both_names():
    space = {"type": "namespace", "name": "n" * 40, "tools": [{"type": "function", "name": "m" * 40}, {"type": "new"}]}
    choice = {"type": "function", "name": "m" * 40, "namespace": "n" * 40}
    call = make(tools=[space], tool_choice=choice)
    name = call.body["tools"][0]["function"]["name"]
    assert (len(name), call.body["tool_choice"]["function"]["name"]) == (64, name), "what providers take"
    body = {"choices": [{"message": {"tool_calls": [{"id": "a", "function": {"name": name}}]}}]}
    (item,) = json.loads(RESPONSES.translation.answer(call, json.dumps(body).encode()))["output"]
    assert (item["namespace"], item["name"]) == ("n" * 40, "m" * 40)


def test_tuning_without_a_word_for_it_is_named():
    call = make(truncation="auto", context_management=[{"type": "compaction"}], a_new_one=1, metadata={"a": "b"})
    assert call.untranslated == ("a_new_one", "context_management", "truncation")
    assert make(truncation="disabled", max_tool_calls=0, include=[]).untranslated == ()


def test_which_bodies_are_meant_for_this_api():
    assert responses.is_meant({"input": [{"role": "user", "content": "x"}]})
    assert responses.is_meant({"input": "x", "max_output_tokens": 5})
    assert responses.is_meant({"input": "x", "instructions": "y"})
    assert not any(map(responses.is_meant, ({"input": "x"}, {"input": ["x"]}, {"input": []}, {"input": [[1]]})))


def test_the_past_is_put_before_what_is_said_now():
    call = make([{"id": "msg_1"}, {"role": "user", "content": "now"}], previous_response_id="resp_0")
    before = call.body_bytes
    past = [
        {"role": "user", "content": "then"},
        {"type": "function_call", "id": "fc_0", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "id": "fco_0", "call_id": "a", "output": "r"},
    ]
    said = {"type": "message", "id": "msg_1", "role": "assistant", "content": "yes"}
    assert responses.references(call) == ["msg_1"]
    responses.resolve(call, past, {"msg_1": said}, 100)
    assert [message["role"] for message in call.body["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert [item.get("id") for item in call.native["input"]] == [None, None, None, "msg_1", None]
    assert call.reply.given == [said, {"role": "user", "content": "now"}]
    assert (call.body_bytes, "previous_response_id" in call.native) == (before + 100, False)
    with pytest.raises(NotFound) as unknown:
        responses.resolve(make([{"id": "msg_2"}]), [], {}, 0)
    assert unknown.value.param == "input.0.id"


def test_what_the_past_has_of_openais_own_is_blamed_on_it():
    call = make([{"role": "user", "content": [{"type": "new"}]}], previous_response_id="resp_0")
    responses.resolve(call, [{"type": "web_search_call"}], {}, 0)
    assert call.native_only.param == "previous_response_id"
    responses.resolve(call, [], {}, 0)
    assert call.native_only.param == "input.0.content.0"


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": [1]}',
        b'{"choices": [{"message": 1}]}',
        b'{"choices": [{"message": {"content": 1}}]}',
        b'{"choices": [{"message": {"content": ["x"]}}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": {}}]}',
        b'{"choices": [{"message": {"tool_calls": [1]}}]}',
        b'{"choices": [{"message": {"tool_calls": [{"function": {"arguments": ""}}]}}]}',
        b'{"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}}]}',
        b'{"choices": [{"message": {"thinking_blocks": 1}}]}',
        b'{"choices": [{"message": {"refusal": 1}}]}',
        b'{"choices": [{"message": {"content": "x", "annotations": [1]}}]}',
        b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{}]}}]}',
    ],
)
def test_an_answer_that_is_none_is_the_upstreams_fault(answer):
    with pytest.raises(UpstreamError):
        RESPONSES.translation.answer(make(), answer)


def test_odd_usage_is_left_out_and_never_made_up():
    for usage in (None, 1, {}, {"prompt_tokens": 1}, {"prompt_tokens": True, "completion_tokens": 1}):
        body = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage, "model": 7})
        answer = json.loads(RESPONSES.translation.answer(make(), body.encode()))
        assert "usage" not in answer
        assert answer["model"] == "fast"


@pytest.mark.parametrize(
    "delta",
    [
        {"content": 1},
        {"content": [1]},
        {"reasoning_content": 1},
        {"thinking_blocks": 1},
        {"refusal": 1},
        {"tool_calls": 1},
        {"tool_calls": [{"index": [], "function": {"name": "f"}}]},
        {"tool_calls": [{"function": {"name": 1}}]},
        {"tool_calls": [{"id": 1, "function": {"name": "f"}}]},
        {"annotations": [1]},
    ],
    ids=str,
)
def test_a_malformed_piece_is_the_upstreams_fault(delta):
    translator = RESPONSES.translation.stream(make())
    with pytest.raises(UpstreamError, match="malformed"):
        translator.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")


def test_reasoning_too_deep_to_be_sealed_is_the_upstreams_fault():
    translator = RESPONSES.translation.stream(make())
    deep = b'[{"a":' + b"[" * 400 + b"]" * 400 + b"}]"
    translator.feed(b'data: {"choices": [{"delta": {"thinking_blocks": ' + deep + b"}}]}\n\n")
    with pytest.raises(UpstreamError, match="completion"):
        translator.end()


def test_events_that_come_together_are_translated_one_by_one():
    call = make()
    decoder = Translated(OpenAIStream(call, wants_usage=True), RESPONSES.translation.stream(call))
    hub = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

    class Both:
        usage, is_done = None, False

        def feed(self, data):
            yield from (hub + hub, b"", b": ping\n\n", hub)

        def end(self):
            yield hub + b"data: [DONE]\n\n"

    decoder._decoder = Both()
    assert not decoder.is_done
    out = b"".join(decoder.feed(b"")) + b"".join(decoder.end())
    assert [piece["delta"] for piece in told(out) if piece["type"] == "response.output_text.delta"] == ["a"] * 4


def test_a_piece_without_text_says_nothing():
    translator = RESPONSES.translation.stream(make())
    raw = b'data: {"choices":[{"delta":{"content":[{"type":"thinking","thinking":[]}]}}]}\n\n'
    assert [piece["type"] for piece in told(translator.feed(raw))] == ["response.created", "response.in_progress"]


def test_a_tool_that_never_says_its_name_is_none():
    call = make(tools=[FUNCTION])
    translator = RESPONSES.translation.stream(call)
    out = translator.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}\n\n') + translator.end()
    assert told(out)[-1]["response"]["output"] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamError("x"), "server_error"),
        (UpstreamRefused("x", status=429), "rate_limit_exceeded"),
        (UpstreamRefused("x", status=400, code="context_length_exceeded"), "context_length_exceeded"),
        (UpstreamRefused("x", status=400, code="else"), "server_error"),
    ],
)
def test_a_stream_that_failed_ends_with_the_answer_and_the_error(error, code):
    call = make()
    created, failed, last = told(RESPONSES.last_event(call, error))
    assert (created["type"], failed["type"], last["type"]) == ("response.created", "response.failed", "error")
    assert failed["response"]["error"] == {"code": code, "message": "x"}
    assert (failed["response"]["status"], failed["response"]["id"]) == ("failed", "resp_1")
    assert last["error"]["message"] == last["message"] == "x"
    assert told(RESPONSES.error_event(error))[0]["sequence_number"] == 0


def test_what_came_before_the_error_is_in_the_answer_that_failed():
    call = make()
    translator = RESPONSES.translation.stream(call)
    translator.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    (failed, _last) = told(RESPONSES.last_event(call, UpstreamError("x")))
    assert failed["sequence_number"] == 5
    assert [item["type"] for item in failed["response"]["output"]] == ["message"]
