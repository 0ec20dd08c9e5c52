"""Gemini's wire beyond its recorded cases: what is refused, where errors come in streams, what is listed."""

import json
from dataclasses import replace

import pytest

from services.errors import Unsupported, UpstreamError, UpstreamRefused
from services.providers.gemini import Gemini
from services.providers.gemini_request import version_of
from services.types import EMBEDDING
from tests.calls import DEPLOYMENT, make_call
from utils import sse

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def sent(*messages, **more):
    body = {"model": "fast", "messages": list(messages) or [{"role": "user", "content": "hi"}], **more}
    return json.loads(Gemini().encode(make_call(body), replace(DEPLOYMENT, model="gemini-2.5-flash")).body)


def user(*parts):
    return {"role": "user", "content": list(parts)}


def assistant(**more):
    return {"role": "assistant", "content": None, **more}


def function(name, arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (user({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}), "not fetched"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png,raw"}}), "base64 data URIs"),
        (user({"type": "image_url", "image_url": {"url": "data:png;base64,AAAA"}}), "base64 data URIs"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64,*"}}), "valid base64"),
        (user({"type": "file", "file": {"file_id": "file-1"}}), "`file` content"),
        (user({"type": "video_url", "video_url": {"url": PIXEL}}), "`video_url` content"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": PIXEL}]}, "text only"),
        ({"role": "tool", "tool_call_id": "nobody's", "content": "x"}, "must name a call"),
        (assistant(tool_calls=[function("f", "[1]")]), "must be a JSON object"),
        (assistant(tool_calls=[function("f", "{")]), "must be a JSON object"),
        (assistant(function_call={"name": "f", "arguments": "{}"}), "`tool_calls` can"),
        (assistant(content="x", extra_content={"google": {"thought_signature": 7}}), "shape"),
    ],
)
def test_content_that_would_be_lost_is_refused(message, said):
    with pytest.raises(Unsupported, match=said) as caught:
        sent(message)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"extra_body": {"google": 7}}, "reasoning_effort"),
    ],
)
def test_what_changes_the_meaning_is_refused(more, param):
    with pytest.raises(Unsupported) as caught:
        sent(**more)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("gemini-3.1-pro-preview", 3.1),
        ("models/gemini-2.5-flash", 2.5),
        ("gemini-1.5-pro-002", 1.5),
        ("gemini-flash-latest", 3.0),
        ("gemma-3-27b-it", 0.0),
    ],
)
def test_the_version_stands_in_the_name(model, version):
    assert version_of(model) == version


def test_without_tools_nothing_is_said_of_choosing():
    assert "toolConfig" not in sent(tool_choice="none")


def test_embeddings_are_of_texts():
    with pytest.raises(Unsupported) as caught:
        Gemini().encode(make_call({"model": "m", "input": [1, 2]}, operation=EMBEDDING), DEPLOYMENT)
    assert caught.value.param == "input"


def test_the_key_is_in_a_header_and_nowhere_else():
    request = Gemini().encode(make_call(), DEPLOYMENT)
    assert dict(request.headers) == {"content-type": "application/json", "x-goog-api-key": "sk-upstream-secret"}
    assert "secret" not in request.path
    assert Gemini().model_list({}, "k") == (
        "/v1beta/models?pageSize=1000",
        {"content-type": "application/json", "x-goog-api-key": "k"},
    )
    assert dict(Gemini().model_list({"api_version": "v1"}, "")[1]) == {"content-type": "application/json"}


def test_models_that_generate_or_embed_are_listed():
    listed = [
        {"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent", "countTokens"]},
        {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/imagen-4", "supportedGenerationMethods": ["predict", 7]},
        {"name": "models/silent"},
        {"name": 7},
        7,
    ]
    assert Gemini().model_names(json.dumps({"models": listed}).encode()) == [
        "gemini-2.5-flash",
        "gemini-embedding-001",
        "silent",
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"models": {}}', b"[]", b"<html>"])
def test_a_list_of_models_that_is_none(body):
    with pytest.raises(UpstreamError):
        Gemini().model_names(body)


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    "raw",
    [
        sse.format_event(ERROR),
        json.dumps(ERROR, indent=2).encode() + b"\n\n",
        json.dumps([ERROR], indent=2).encode() + b"\r\n\r\n",
        json.dumps(ERROR).encode(),
    ],
)
def test_an_error_in_a_stream_is_handed_on_however_it_is_written(raw):
    decoder = Gemini().stream(make_call(is_stream=True))
    with pytest.raises(UpstreamRefused, match="overloaded"):
        [*decoder.feed(b": a comment\n\n" + raw), *decoder.end()]


def test_an_error_in_an_answer_is_handed_on():
    with pytest.raises(UpstreamRefused, match="overloaded"):
        Gemini().decode(make_call(), json.dumps(ERROR).encode())


@pytest.mark.parametrize("end", [b"data: {\n\n", b"data: {"])
def test_an_event_that_is_none(end):
    decoder = Gemini().stream(make_call(is_stream=True))
    with pytest.raises(UpstreamError, match="malformed"):
        [*decoder.feed(end), *decoder.end()]


def test_an_event_without_an_end_is_refused():
    with pytest.raises(UpstreamError, match="larger than"):
        list(Gemini().stream(make_call(is_stream=True)).feed(b"x" * (sse.MAX_EVENT_BYTES + 1)))


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_an_answer_that_the_model_broke_off_is_no_answer(reason):
    answer = {"candidates": [{"finishReason": reason}], "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}
    with pytest.raises(UpstreamError, match=reason):
        Gemini().decode(make_call(), json.dumps(answer).encode())
    decoder = Gemini().stream(make_call(is_stream=True))
    with pytest.raises(UpstreamError, match=reason):
        [*decoder.feed(sse.format_event(answer)), *decoder.end()]
    assert decoder.usage is not None
    assert (decoder.usage.input_tokens, decoder.usage.output_tokens) == (5, 0)


def test_one_candidate_of_two_is_not_the_end():
    candidates = [{"index": 0, "finishReason": "STOP"}, {"index": 1, "content": {"parts": [{"text": "a"}]}}]
    decoder = Gemini().stream(make_call(is_stream=True))
    with pytest.raises(UpstreamError, match="early"):
        [*decoder.feed(sse.format_event({"candidates": candidates})), *decoder.end()]


def test_an_answer_without_candidates_is_none():
    with pytest.raises(UpstreamError, match="without a candidate"):
        Gemini().decode(make_call(), b"{}")


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ({"promptTokenCount": 9, "cachedContentTokenCount": 10, "candidatesTokenCount": 1}, (9, 1, None)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 9, "candidatesTokenCount": 1}, (9, 1, 9)),
        ({"promptTokenCount": 9, "totalTokenCount": 8}, (9, None, None)),
        ({"candidatesTokenCount": 3}, (None, 3, None)),
        ({"promptTokenCount": -1, "candidatesTokenCount": True}, None),
        (
            {"promptTokenCount": 1, "candidatesTokenCount": 1, "promptTokensDetails": [7, {"modality": "TEXT"}]},
            (1, 1, None),
        ),
    ],
)
def test_counts_that_cannot_be_are_not_believed(counts, found):
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts}
    usage = Gemini().decode(make_call(), json.dumps(answer).encode()).usage
    assert (usage and (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens)) == found


@pytest.mark.parametrize(("delay", "waits"), [("38s", 38), ("0.2s", 1), ("soon", None), ("-3s", None), ("infs", None)])
def test_how_long_to_wait_stands_in_the_error(delay, waits):
    body = json.dumps({"error": {"details": [{"retryDelay": delay}]}}).encode()
    assert Gemini().error(429, {}, body, DEPLOYMENT).retry_after_s == waits
    assert Gemini().error(429, {"retry-after": "5"}, body, DEPLOYMENT).retry_after_s == 5


def test_sounds_that_nobody_asked_for_are_left_out():
    parts = [{"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}, {"text": "a"}]
    answer = {"candidates": [{"finishReason": "STOP", "content": {"parts": parts}}]}
    message = json.loads(Gemini().decode(make_call(), json.dumps(answer).encode()).body)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "refusal": None}
