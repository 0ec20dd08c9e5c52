"""GigaChat where recordings do not reach: what cannot be sent, answers of any shape, lists, tokens."""

from dataclasses import replace
from typing import Any

import pytest

from services.errors import Unsupported, UpstreamError
from services.providers import WIRES
from services.providers.base import TokenWire
from services.providers.gigachat_answers import usage_of
from services.types import EMBEDDING, Usage
from tests.calls import UPSTREAM, make_call
from utils import jsonx, sse

WIRE = WIRES["gigachat"]
STATE = "77d3fb14-457a-46ba-937e-8d856156d003"


def chat(**body: Any) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": "hi"}], **body}


def encode(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    deployment = make_call().candidates[0]
    found: dict[str, Any] = jsonx.loads(WIRE.encode(make_call(body, **fields), deployment).body)
    return found


PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
BROKEN = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"arguments": "{"}}]}


@pytest.mark.parametrize(
    ("body", "fields", "param"),
    [
        pytest.param(chat(messages=[PICTURE]), {}, "messages", id="a picture"),
        pytest.param(chat(tools=[{"type": "custom", "custom": {"name": "x"}}]), {}, "tools", id="another type of tool"),
        pytest.param(chat(messages=[BROKEN]), {}, "messages", id="broken arguments"),
        pytest.param({"model": "fast", "input": [[1, 2]]}, {"operation": EMBEDDING}, "input", id="token ids"),
    ],
)
def test_content_that_cannot_be_sent_is_refused(body: dict[str, Any], fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        encode(body, **fields)
    assert caught.value.param == param


def test_files_that_were_uploaded_there_are_named() -> None:
    message = {"role": "user", "content": "see", "attachments": ["f1"]}
    assert encode(chat(messages=[message]))["messages"] == [message]


def test_a_function_call_without_a_name_or_arguments_is_sent_as_such() -> None:
    message = {"role": "assistant", "content": "", "function_call": {}}
    sent = encode(chat(messages=[message]))["messages"]
    assert sent == [{**message, "function_call": {"name": "", "arguments": {}}}]
    given = {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": {"a": 1}}}
    assert encode(chat(messages=[given]))["messages"] == [given], "an object already"


def test_a_tool_call_without_its_result_is_sent_alone() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = encode(chat(messages=[{"role": "assistant", "tool_calls": [call]}]))["messages"]
    assert sent == [{"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": {}}}]


def test_no_functions_no_choice() -> None:
    assert encode(chat(tool_choice="required")).keys() == {"messages", "model"}


def test_what_streams_and_what_does_not_is_said_in_a_header() -> None:
    deployment = make_call().candidates[0]
    for is_stream, kind in ((True, "text/event-stream"), (False, "application/json")):
        sent = WIRE.encode(make_call(chat(), is_stream=is_stream), deployment)
        assert dict(sent.headers) == {"content-type": "application/json", "accept": kind}, "and no credential"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": 7},
        {"choices": [7]},
        {"choices": [{"message": 7}]},
        {"choices": [{"message": {"content": 7}}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]},
        {"choices": [{"message": {"function_call": 7}}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": {}}]},
        {"error": "broken"},
    ],
)
def test_answers_of_any_shape_are_its_fault(body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        WIRE.decode(make_call(chat()), jsonx.dumps(body))


@pytest.mark.parametrize("data", [None, [7], [{}], [{"embedding": 7}], [{"embedding": ["a"]}]])
def test_embeddings_of_any_shape_are_its_fault(data: Any) -> None:
    call = make_call({"model": "fast", "input": "a", "encoding_format": "base64"}, operation=EMBEDDING)
    with pytest.raises(UpstreamError):
        WIRE.decode(call, jsonx.dumps({"data": data}))


@pytest.mark.parametrize("choice", [7, {"delta": {"content": 7}}, {"delta": {}, "finish_reason": "error"}])
def test_events_of_any_shape_are_its_fault(choice: Any) -> None:
    with pytest.raises(UpstreamError):
        list(WIRE.stream(make_call(chat(), is_stream=True)).feed(sse.format_event({"choices": [choice]})))


def test_a_chunk_that_says_nothing_gives_nothing() -> None:
    decoder = WIRE.stream(make_call(chat(), is_stream=True, wants_usage=True))
    first = b"".join(decoder.feed(sse.format_event({"choices": [{"index": 0, "delta": {"content": "a"}}]})))
    assert b'"content":"a"' in first
    nothing = [{"choices": [{"index": 0, "delta": {}}]}, {"choices": []}, {"usage": {"prompt_tokens": 3}}]
    assert b"".join(decoder.feed(b"".join(map(sse.format_event, nothing)))) == b""
    assert decoder.usage == Usage(3), "known to the books, and too little to tell anybody"


def test_callers_of_the_old_form_get_it_in_streams_too() -> None:
    decoder = WIRE.stream(make_call(chat(functions=[{"name": "f"}]), is_stream=True))
    delta = {"function_call": {"name": "f", "arguments": {"a": 1}}}
    raw = sse.format_event({"choices": [{"index": 0, "delta": delta, "finish_reason": "function_call"}]})
    out = b"".join(decoder.feed(raw))
    assert b'"function_call":{"name":"f","arguments":"{\\"a\\":1}"}' in out
    assert b'"finish_reason":"function_call"' in out


def counts(given: Any, output: Any, cached: Any, total: Any = None) -> dict[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "precached_prompt_tokens", "total_tokens")
    return {name: value for name, value in zip(names, (given, output, cached, total), strict=True) if value is not None}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({}, None),
        (counts(1, 4, 37, 5), Usage(38, 4, 37)),
        (counts(38, 4, 37, 5), Usage(38, 4, 37)),
        (counts(9, 2, 0), Usage(9, 2, 0)),
        (counts(None, 2, 4), Usage(None, 2)),
        (counts(-1, 2.5, None), None),
    ],
)
def test_cached_tokens_come_on_top_of_what_is_charged(raw: Any, expected: Usage | None) -> None:
    assert usage_of(raw) == expected


@pytest.mark.parametrize("body", [b"{}", b'{"access_token": 7, "expires_at": 1}', b'{"tok": "a"}', b"<html>"])
def test_an_answer_without_a_token(body: bytes) -> None:
    assert isinstance(WIRE, TokenWire)
    with pytest.raises(UpstreamError):
        WIRE.token_of(body)


def test_where_tokens_are_had() -> None:
    assert isinstance(WIRE, TokenWire)
    base_url, request = WIRE.token_request(replace(UPSTREAM, credential="a2V5", settings={}), "u-1")
    assert (base_url, request.path) == ("https://ngw.devices.sberbank.ru:9443", "/api/v2/oauth")
    assert request.body == b"scope=GIGACHAT_API_PERS"
    own = replace(UPSTREAM, credential="a2V5", settings={"auth_url": "https://auth.test", "scope": "A B"})
    base_url, request = WIRE.token_request(own, "u-1")
    assert (base_url, request.path, request.body) == ("https://auth.test", "/", b"scope=A%20B")


def test_its_list_of_models() -> None:
    assert WIRE.model_list({}, "tok") == ("/models", {"accept": "application/json", "authorization": "Bearer tok"})
    assert WIRE.model_names(b'{"data": [{"id": "GigaChat-2"}, 7, {"id": 7}]}') == ["GigaChat-2"]
    with pytest.raises(UpstreamError, match="model list"):
        WIRE.model_names(b"{}")
