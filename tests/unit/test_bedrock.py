"""Bedrock's wire beyond its recorded cases: what is refused, how requests are signed, what comes in streams."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.errors import GatewayError, Unsupported, UpstreamError, UpstreamRefused
from services.providers.base import UpstreamRequest
from services.providers.bedrock import Bedrock
from services.providers.bedrock_models import claude_version
from services.transport import _head, origin_of
from tests.calls import DEPLOYMENT, UPSTREAM, make_call
from tests.fakes import eventstream
from utils import clock

NOW_MS = 1_790_000_000_123
KEYS = "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "https://bedrock-runtime.eu-west-3.amazonaws.com"
MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


def encode(body=None, *, base_url=HOST, credential=KEYS, settings=None, model=MODEL, **fields):
    upstream = replace(
        UPSTREAM, kind="bedrock", base_url=base_url, credential=credential, settings=settings or {}, name="aws"
    )
    return Bedrock().encode(make_call(body, **fields), replace(DEPLOYMENT, upstream=upstream, model=model))


def sent(*messages, **more):
    body = {"model": "fast", "messages": list(messages) or [{"role": "user", "content": "hi"}], **more}
    return json.loads(encode(body).body)


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS)


@pytest.mark.parametrize("base_url", [HOST, "http://127.0.0.1:8080/aws/", "https://[::1]", "https://h.example:443"])
@pytest.mark.parametrize("credential", [KEYS, KEYS + ":IQoJb3JpZ2luX2VjE+/=="])
def test_requests_are_signed_as_botocore_signs_them_and_as_they_are_sent(monkeypatch, base_url, credential):
    request = encode(base_url=base_url, credential=credential, settings={"region": "eu-west-3"}, is_stream=True)
    headers = dict(request.headers)
    head = _head(origin_of(base_url), UpstreamRequest("POST", request.path, (), request.body)).decode().split("\r\n")
    path, host = head[0].split(" ")[1], head[1].removeprefix("host: ")
    assert path.endswith(f"/model/{MODEL.replace(':', '%3A')}/converse-stream")
    theirs = AWSRequest("POST", f"{base_url.partition(':')[0]}://{host}{path}", data=request.body)
    theirs.headers["content-type"] = "application/json"
    theirs.headers["host"] = host
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(NOW_MS // 1000, UTC))
    access, secret, *token = credential.split(":")
    SigV4Auth(Credentials(access, secret, *token), "bedrock", "eu-west-3").add_auth(theirs)
    assert headers["authorization"] == theirs.headers["Authorization"]
    assert headers["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert headers.get("x-amz-security-token") == theirs.headers["X-Amz-Security-Token"]
    assert ("x-amz-security-token" in headers) == bool(token)


@pytest.mark.parametrize(
    ("base_url", "region"),
    [
        (HOST, "eu-west-3"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("https://vpce-0a.bedrock-runtime.us-east-1.vpce.amazonaws.com", "us-east-1"),
    ],
)
def test_the_region_stands_in_the_host(base_url, region):
    assert f"/{region}/bedrock/aws4_request" in dict(encode(base_url=base_url).headers)["authorization"]
    set_by_hand = dict(encode(base_url=base_url, settings={"region": "us-west-2"}).headers)["authorization"]
    assert "/us-west-2/bedrock/aws4_request" in set_by_hand


def test_a_host_that_names_no_region_needs_a_setting():
    with pytest.raises(GatewayError, match="set `region` for the provider `aws`"):
        encode(base_url="https://bedrock.example.com")


def test_every_try_is_signed_anew(monkeypatch):
    first = dict(encode().headers)["x-amz-date"]
    monkeypatch.setattr(clock, "now_ms", lambda: NOW_MS + 600_000)
    assert first != dict(encode().headers)["x-amz-date"]


def test_other_credentials_are_sent_as_they_are():
    assert dict(encode(credential="ABSKQmVkcm9jaw==").headers)["authorization"] == "Bearer ABSKQmVkcm9jaw=="
    assert "authorization" not in dict(encode(credential="").headers)


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (4, 5)),
        ("anthropic.claude-opus-4-20250514-v1:0", (4, 0)),
        ("anthropic.claude-opus-4-6-v1", (4, 6)),
        ("anthropic.claude-opus-5", (5, 0)),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", (3, 7)),
        ("anthropic.claude-3-haiku-20240307-v1:0", (3, 0)),
        ("anthropic.claude-v2:1", (2, 0)),
        ("anthropic.claude-instant-v1", (1, 0)),
        ("anthropic.claude-mythos-preview", (99, 0)),
        ("amazon.nova-lite-v1:0", None),
    ],
)
def test_the_version_of_a_claude_stands_in_its_id(model, version):
    assert claude_version(model) == version


def call(**more):
    return {"role": "assistant", "content": None, "tool_calls": [{"type": "function", **more}]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com/cat.png"}]},
            "not fetched",
        ),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/bmp;base64,AAAA"}]}, "image/bmp"),
        (call(function={"name": "f", "arguments": "{}"}), "must have an id"),
        ({"role": "function", "name": "f", "content": "x"}, "must have an id"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "`tool_calls` can"),
    ],
)
def test_content_that_would_be_lost_is_refused(message, said):
    with pytest.raises(Unsupported, match=said) as caught:
        sent(message)
    assert caught.value.param == "messages"


def test_results_hold_no_sounds():
    asked = call(id="c1", function={"name": "f", "arguments": "{}"})
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    with pytest.raises(Unsupported, match="sounds"):
        sent(asked, {"role": "tool", "tool_call_id": "c1", "content": [sound]})


@pytest.mark.parametrize(("more", "param"), [({"n": 2}, "n"), ({"modalities": ["text", "audio"]}, "modalities")])
def test_what_changes_the_meaning_is_refused(more, param):
    with pytest.raises(Unsupported) as caught:
        sent(**more)
    assert caught.value.param == param


def test_models_are_not_listed():
    for ask in (lambda: Bedrock().model_list({}, ""), lambda: Bedrock().model_names(b"{}")):
        with pytest.raises(UpstreamError, match="Bedrock lists"):
            ask()


START = eventstream.event("messageStart", {"role": "assistant"})


@pytest.mark.parametrize(
    ("raw", "said", "status", "is_retryable"),
    [
        (eventstream.exception("throttlingException", {"message": "Slow down."}), "Slow down.", 429, True),
        (eventstream.exception("validationException", {"message": "No."}), "No.", 400, False),
        (eventstream.exception("modelStreamErrorException", {}), "reported `modelStreamErrorException`", 502, True),
        (
            eventstream.message(b"", {":message-type": "error", ":error-code": "Oops", ":error-message": "It broke."}),
            "It broke.",
            502,
            True,
        ),
        (eventstream.message(b"<html>", {}), "reported `unknown`", 502, True),
    ],
)
def test_an_exception_in_a_stream_is_handed_on(raw, said, status, is_retryable):
    with pytest.raises(UpstreamRefused, match=said) as caught:
        list(Bedrock().stream(make_call(is_stream=True)).feed(START + raw))
    assert (caught.value.status, caught.value.is_retryable) == (status, is_retryable)


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_an_answer_that_the_model_broke_off_is_no_answer(reason):
    usage = {"inputTokens": 5, "outputTokens": 1, "totalTokens": 6}
    answer = {"output": {"message": {"content": []}}, "stopReason": reason, "usage": usage}
    with pytest.raises(UpstreamError, match=reason):
        Bedrock().decode(make_call(), json.dumps(answer).encode())
    decoder = Bedrock().stream(make_call(is_stream=True))
    raw = eventstream.stream(("messageStop", {"stopReason": reason}), ("metadata", {"usage": usage}))
    with pytest.raises(UpstreamError, match=reason):
        [*decoder.feed(raw), *decoder.end()]
    assert decoder.is_done
    assert decoder.usage is not None
    assert decoder.usage.output_tokens == 1


def test_arguments_of_a_tool_that_was_not_called():
    raw = eventstream.event("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{}"}}})
    with pytest.raises(UpstreamError, match="malformed"):
        list(Bedrock().stream(make_call(is_stream=True)).feed(raw))


@pytest.mark.parametrize(
    ("details", "written", "found"),
    [([{"ttl": "1h", "inputTokens": 9}], 8, None), ([{"ttl": "1h"}], 8, None), ([7, {"ttl": "5m"}], 8, None)],
)
def test_counts_that_cannot_be_are_not_believed(details, written, found):
    usage = {"inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": written, "cacheDetails": details}
    answer = {"output": {"message": {"content": []}}, "stopReason": "end_turn", "usage": usage}
    told = Bedrock().decode(make_call(), json.dumps(answer).encode()).usage
    assert told is not None
    assert (told.input_tokens, told.cache_creation_1h_input_tokens) == (9, found)


def test_an_answer_without_usage_has_none():
    answer = {"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "end_turn", "usage": {}}
    whole = Bedrock().decode(make_call(), json.dumps(answer).encode())
    assert whole.usage is None
    assert "usage" not in json.loads(whole.body)
