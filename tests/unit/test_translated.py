"""Chats that were translated from another dialect: what servers of OpenAI's dialect get of them."""

import json
from dataclasses import replace

import pytest

from services.providers import WIRES
from tests.calls import DEPLOYMENT, UPSTREAM, make_call

MARK = {"cache_control": {"type": "ephemeral"}}
TEXT = {"type": "text", "text": "Be brief."}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}}
BODY = {
    "model": "fast",
    "messages": [
        {
            "role": "system",
            "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.", **MARK}],
        },
        {"role": "user", "content": [{**PICTURE, **MARK}, {"type": "text", "text": "What is it?"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}, **MARK}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "7"},
    ],
    "max_tokens": 9,
    "top_k": 3,
    "reasoning_effort": "low",
    "tools": [{"type": "function", "function": {"name": "f"}, **MARK}],
}


def sent(model="gpt-5", base_url="http://127.0.0.1:1/v1", settings=None, body=None, **fields):
    upstream = replace(UPSTREAM, base_url=base_url, settings=settings or {})
    call = make_call(body or BODY, **({"dialect": "anthropic", "native": {}} | fields))
    request = WIRES["openai"].encode(call, replace(DEPLOYMENT, upstream=upstream, model=model))
    return json.loads(request.body), request.dropped


def test_members_that_only_the_hub_has_do_not_go_out():
    body, dropped = sent()
    assert b"cache_control" not in json.dumps(body).encode()
    assert body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": [PICTURE, {"type": "text", "text": "What is it?"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "7"},
    ]
    assert (body["max_tokens"], body["top_k"], body["tools"], dropped) == (
        9,
        3,
        [{"type": "function", "function": {"name": "f"}}],
        (),
    )


def test_a_server_that_knows_the_marks_of_the_cache_gets_them():
    body, _dropped = sent(settings={"cache_control": True})
    messages = [{name: value for name, value in one.items() if name != "thinking_blocks"} for one in BODY["messages"]]
    assert (body["messages"], body["tools"]) == (messages, BODY["tools"])


@pytest.mark.parametrize(
    ("model", "dropped"), [("gpt-5", ("top_k",)), ("gpt-4o-mini", ("top_k", "reasoning_effort")), ("o3", ("top_k",))]
)
def test_openai_itself_is_asked_in_its_own_words(model, dropped):
    body, found = sent(model, "https://api.openai.com/v1")
    assert found == dropped
    assert body.get("reasoning_effort") == (None if "reasoning_effort" in dropped else "low")
    assert (body["max_completion_tokens"], "max_tokens" in body, "top_k" in body) == (9, False, False)
    assert "reasoning_content" not in body["messages"][2]


def test_a_limit_for_the_budget_goes_before_the_callers():
    body, _dropped = sent(base_url="https://api.openai.com/v1", max_output_tokens=5)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (5, False)


def test_a_body_without_tools_and_limit():
    body, _dropped = sent(body={"model": "fast", "messages": [{"role": "user", "content": "hi"}]})
    assert body == {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}


def test_what_callers_of_the_dialect_send_is_left_alone():
    body, dropped = sent(base_url="https://api.openai.com/v1", dialect="openai", native=None)
    assert body == BODY | {"model": "gpt-5"}
    assert dropped == ()
