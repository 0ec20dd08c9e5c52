"""Ollama's wire, without a network: what is sent for what was asked, and what is said for what came."""

import base64
import json

import pytest

from services.errors import Unsupported, UpstreamError, UpstreamRefused
from services.providers.ollama import MAX_LINE_BYTES, Ollama
from services.types import COMPLETION, EMBEDDING
from tests.calls import DEPLOYMENT, make_call

PIXEL = base64.b64encode(b"\x89PNG").decode()


def messages(*given, **more):
    return {"model": "llama", "messages": list(given), **more}


def sent(body, **fields):
    request = Ollama().encode(make_call(body, **fields), DEPLOYMENT)
    return request, json.loads(request.body)


def said(answer, **fields):
    whole = Ollama().decode(make_call(messages(), **fields), json.dumps(answer).encode())
    return json.loads(whole.body), whole


def test_a_conversation_with_tools_keeps_who_said_what():
    body = messages(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "?"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lisbon"}'}},
                {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        {"role": "function", "name": "old", "content": "x"},
        tools=[{"type": "function", "function": {"name": "weather"}}],
    )
    _request, wire = sent(body)
    assert wire["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"city": "Lisbon"}}},
                {"function": {"name": "clock", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "noon", "tool_name": "clock"},
        {"role": "tool", "content": "x", "tool_name": "old"},
    ]
    assert wire["tools"] == body["tools"]
    assert "tools" not in sent(body | {"tool_choice": "none"})[1]


@pytest.mark.parametrize("image", [f"data:image/png;base64,{PIXEL}", {"url": f"data:image/png;base64,{PIXEL}"}])
def test_pictures_are_sent_as_they_are(image):
    part = {"type": "image_url", "image_url": image}
    _request, wire = sent(messages({"role": "user", "content": [{"type": "text", "text": "this"}, part]}))
    assert wire["messages"] == [{"role": "user", "content": "this", "images": [PIXEL]}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}},
        {"type": "image_url", "image_url": {"url": "data:image/png,raw"}},
        {"type": "image_url", "image_url": {"url": 7}},
        {"type": "input_audio", "input_audio": {}},
    ],
)
def test_content_that_would_be_lost_is_refused(part):
    with pytest.raises(Unsupported) as caught:
        sent(messages({"role": "user", "content": [part]}))
    assert caught.value.param == "messages"


def test_arguments_that_are_not_json_are_refused():
    call = {"id": "c", "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(Unsupported, match="must be JSON"):
        sent(messages({"role": "assistant", "tool_calls": [call]}))


@pytest.mark.parametrize(
    ("asked", "wire"),
    [
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
            {"format": {"type": "object"}},
        ),
        ({"response_format": {"type": "text"}}, {}),
        ({"reasoning_effort": "high"}, {"think": True}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"think": "low", "reasoning_effort": "none"}, {"think": "low"}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"keep_alive": "5m"}, {"keep_alive": "5m"}),
        ({"stop": "x", "max_tokens": 9, "top_k": 4}, {"options": {"stop": ["x"], "num_predict": 9, "top_k": 4}}),
        ({"stop": ["x", "y"], "temperature": 0}, {"options": {"stop": ["x", "y"], "temperature": 0}}),
        ({"options": {"mirostat": 1}, "seed": 3}, {"options": {"mirostat": 1, "seed": 3}}),
        ({"options": 7}, {}),
    ],
)
def test_tuning_is_translated(asked, wire):
    request, body = sent(messages({"role": "user", "content": "hi"}, **asked))
    plain = {"model": DEPLOYMENT.model, "messages": [{"role": "user", "content": "hi"}], "stream": False, "options": {}}
    assert body == plain | wire
    assert request.dropped == ()


def test_what_ollama_does_not_know_is_named():
    request, body = sent(messages(user="x", logit_bias={}, tool_choice="required"))
    assert request.dropped == ("logit_bias", "tool_choice", "user")
    assert {"user", "logit_bias", "tool_choice"}.isdisjoint(body)
    assert sent(messages(tool_choice="auto"))[0].dropped == ()


def test_the_gateways_own_limit_goes_before_the_callers():
    assert sent(messages(max_tokens=99), max_output_tokens=5)[1]["options"] == {"num_predict": 5}


def test_more_than_one_choice_is_refused():
    with pytest.raises(Unsupported, match="one choice"):
        sent(messages(n=2))


def test_a_completion_is_asked_for():
    request, body = sent({"model": "m", "prompt": ["once"], "suffix": "end"}, operation=COMPLETION)
    assert (request.path, body["prompt"], body["suffix"]) == ("/api/generate", "once", "end")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "logprobs": 1}, "logprobs"),
    ],
)
def test_completions_that_cannot_be_had_are_refused(body, param):
    with pytest.raises(Unsupported) as caught:
        sent({"model": "m", **body}, operation=COMPLETION)
    assert caught.value.param == param


def test_embeddings_are_asked_for():
    request, body = sent({"model": "m", "input": "a", "dimensions": 8}, operation=EMBEDDING)
    assert (request.path, body) == ("/api/embed", {"model": DEPLOYMENT.model, "input": ["a"], "dimensions": 8})
    with pytest.raises(Unsupported):
        sent({"model": "m", "input": [1, 2]}, operation=EMBEDDING)


def test_without_a_credential_no_header_is_sent():
    assert dict(Ollama().model_list({}, "")[1]) == {"content-type": "application/json"}
    assert Ollama().model_list({}, "sk-1")[1]["authorization"] == "Bearer sk-1"


def test_an_answer_with_thought_and_tools():
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}]
    message = {"role": "assistant", "content": "so", "thinking": "hm", "tool_calls": calls}
    body, whole = said({"message": message, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4})
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("so", "hm")
    assert [(call["function"], call["id"][-2:], "index" in call) for call in choice["message"]["tool_calls"]] == [
        ({"name": "f", "arguments": '{"a":1}'}, "_0", False),
        ({"name": "g", "arguments": "{}"}, "_1", False),
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert "".join(whole.pieces) == 'hmsof{"a":1}g{}'


@pytest.mark.parametrize(
    ("reason", "finish"), [("stop", "stop"), ("length", "length"), ("load", "stop"), ("other", "stop")]
)
def test_why_an_answer_ended(reason, finish):
    body, _whole = said({"message": {"content": "x"}, "done_reason": reason})
    assert body["choices"][0]["finish_reason"] == finish
    assert "usage" not in body


def test_a_completion_is_said():
    body, _whole = said({"response": "upon a time"}, operation=COMPLETION)
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "upon a time")
    assert said({}, operation=COMPLETION)[0]["choices"][0]["text"] == ""


def test_embeddings_are_said_plainly_or_packed():
    call = make_call({"model": "m", "input": "a", "encoding_format": "base64"}, operation=EMBEDDING)
    raw = json.dumps({"embeddings": [[0.5, 1.0]], "prompt_eval_count": 2}).encode()
    packed = json.loads(Ollama().decode(call, raw).body)
    assert packed["data"][0]["embedding"] == base64.b64encode(b"\x00\x00\x00?\x00\x00\x80?").decode()
    assert packed["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    body, whole = said({"embeddings": [[0.5]]}, operation=EMBEDDING)
    assert (body["data"][0]["embedding"], whole.usage.input_tokens, whole.usage.output_tokens) == ([0.5], None, 0)


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ({"message": "text"}, {}),
        ({}, {}),
        ({"message": {"content": 7}}, {}),
        ({"message": {"tool_calls": [7]}}, {}),
        ({"response": 7}, {"operation": COMPLETION}),
        ({"embeddings": "x"}, {"operation": EMBEDDING}),
        ([], {}),
    ],
)
def test_answers_of_another_shape_are_the_upstreams_error(answer, fields):
    with pytest.raises(UpstreamError) as caught:
        said(answer, **fields)
    assert not isinstance(caught.value, UpstreamRefused)


def test_an_error_in_an_answer_is_handed_on():
    with pytest.raises(UpstreamRefused, match="no memory"):
        said({"error": "no memory"})
    with pytest.raises(UpstreamRefused, match="no memory"):
        list(Ollama().stream(make_call(messages(), is_stream=True)).feed(b'{"error": "no memory"}\n'))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"error": "no such model"}'])
def test_an_error_of_any_shape_keeps_its_status(body):
    assert Ollama().error(404, {}, body, DEPLOYMENT).status == 404


@pytest.mark.parametrize("body", [b"{}", b'{"models": {}}', b"<html>"])
def test_a_list_of_models_that_is_none(body):
    with pytest.raises(UpstreamError):
        Ollama().model_names(body)


def test_entries_of_the_list_that_are_none_are_left_out():
    assert Ollama().model_names(b'{"models": [7, {}, {"name": 7}, {"name": "a"}]}') == ["a"]


def test_a_line_without_an_end_is_refused():
    decoder = Ollama().stream(make_call(messages(), is_stream=True))
    with pytest.raises(UpstreamError, match="line is larger"):
        list(decoder.feed(b"x" * (MAX_LINE_BYTES + 1)))


def test_what_follows_the_end_is_not_handed_on():
    decoder = Ollama().stream(make_call(messages(), is_stream=True))
    done = b'{"message": {"content": "a"}, "done": true}\n'
    assert b"".join(decoder.feed(done)).count(b'"content":"a"') == 1
    assert b"".join(decoder.feed(done + b"\n")) == b""
    assert b"".join(decoder.end()) == b"data: [DONE]\n\n"
