"""OpenAI's own wire where recordings do not reach: limits, errors in every form, parts larger than their whole."""

from dataclasses import replace
from typing import Any

import pytest

from services.errors import UpstreamError, UpstreamRefused
from services.providers import WIRES
from services.providers.openai import usage_of
from services.types import CHAT, COMPLETION, Usage
from tests.calls import DEPLOYMENT, UPSTREAM, make_call
from utils import jsonx, sse

PLAIN = WIRES["echo"]  # the wire itself, without what compatible vendors do differently


@pytest.mark.parametrize(
    ("operation", "base_url", "settings", "expected"),
    [
        (CHAT, "https://api.openai.com/v1", {}, "max_completion_tokens"),
        (CHAT, "http://127.0.0.1:1/v1", {}, "max_tokens"),
        (CHAT, "http://127.0.0.1:1/v1", {"max_tokens_field": "num"}, "num"),
        (COMPLETION, "https://api.openai.com/v1", {}, "max_tokens"),
    ],
)
def test_the_output_limit_has_the_name_that_is_known_there(
    operation: str, base_url: str, settings: dict[str, Any], expected: str
) -> None:
    deployment = replace(DEPLOYMENT, upstream=replace(UPSTREAM, base_url=base_url, settings=settings))
    body = {"model": "fast", "messages": [], "prompt": "x"}
    for wire in (PLAIN, WIRES["openai"]):
        sent = wire.encode(make_call(body, operation=operation, max_output_tokens=7), deployment)
        assert jsonx.loads(sent.body)[expected] == 7


def test_usage_in_streams_is_asked_for_unless_that_is_refused() -> None:
    body = {"model": "fast", "messages": [], "stream": True, "stream_options": {"include_obfuscation": False}}
    for settings, expected in (
        ({}, {"include_obfuscation": False, "include_usage": True}),
        ({"stream_usage": False}, None),
    ):
        deployment = replace(DEPLOYMENT, upstream=replace(UPSTREAM, settings=settings))
        sent = jsonx.loads(PLAIN.encode(make_call(body, is_stream=True), deployment).body)
        assert sent.get("stream_options") == expected


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b'{"detail": "Not Found"}', "Not Found", None),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "too many"}, {"msg": 7}, "odd"]}', "n: too many; odd", "n"),
        (b'{"detail": [{"loc": "n", "msg": "too many"}]}', "too many", None),
        (b'{"error": "broken"}', "broken", None),
        (b'{"error": {"message": "m", "metadata": {"raw": ""}}}', "m", None),
        (b'{"error": {"message": "m", "metadata": 7}}', "m", None),
        (b"7", "the upstream answered 400", None),
        (b"[]", "the upstream answered 400", None),
        (b"<html>", "the upstream answered 400", None),
    ],
)
def test_an_error_is_read_in_every_form(body: bytes, message: str, param: str | None) -> None:
    exc = PLAIN.error(400, {}, body, DEPLOYMENT)
    assert (str(exc), exc.param) == (message, param)


def test_an_error_within_a_stream_is_one() -> None:
    decoder = PLAIN.stream(make_call(is_stream=True))
    with pytest.raises(UpstreamRefused, match="no more"):
        list(decoder.feed(sse.format_event({"error": {"message": "no more"}})))


@pytest.mark.parametrize("body", [{}, {"choices": {}}])
def test_an_answer_that_is_no_completion(body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="no completion"):
        PLAIN.decode(make_call(), jsonx.dumps(body))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, None),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 4}, Usage(3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}, "cached_tokens": 2}, Usage(3, None, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cache_write_tokens": 4}}, Usage(3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": 7, "cached_tokens": 2}, Usage(3, None, 2)),
    ],
)
def test_cached_input_has_several_names_and_is_never_more_than_the_input(raw: Any, expected: Usage | None) -> None:
    assert usage_of(raw) == expected
