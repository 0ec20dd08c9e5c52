"""Anthropic's wire, without a network: what is sent for what was asked."""

import json
from dataclasses import replace

import pytest

from services.errors import Unsupported
from services.providers.anthropic import Anthropic
from services.providers.anthropic_tuning import LIMIT, version_of
from services.types import CHAT, Bound
from tests.calls import DEPLOYMENT, MODEL, make_call

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
CALLED = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}
OLD, NEWER, NEWEST = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-5"


def asked(*messages, **more):
    return {"model": "fast", "messages": list(messages or (USER,)), **more}


def sent(body, name=OLD, settings=None, **fields):
    upstream = replace(DEPLOYMENT.upstream, kind="anthropic", settings=settings or {})
    request = Anthropic().encode(make_call(body, **fields), replace(DEPLOYMENT, model=name, upstream=upstream))
    return request, json.loads(request.body)


def only(wire, *names):
    return {name: wire[name] for name in names if name in wire}


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-3-7-sonnet-latest", (3, 7)),
        ("claude-3-opus-20240229", (3, 0)),
        ("anthropic/claude-4.6-opus", (4, 6)),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", (4, 5)),
        ("claude-opus-4-1@20250805", (4, 1)),
        ("claude-fable-5-1", (5, 1)),
        ("claude-mythos-preview", (99, 0)),
        ("claude-20250514", (99, 0)),
        ("glm-5", None),
    ],
)
def test_the_version_in_a_name(model, version):
    assert version_of(model) == version


@pytest.mark.parametrize(
    ("given", "fields", "limit"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 7}, {"max_output_tokens": None}, 7),
        ({"max_tokens": 9}, {"bound": Bound(1, 8)}, 9),
        ({}, {"max_output_tokens": 5, "model": replace(MODEL, max_output_tokens=6)}, 5),
        ({}, {"model": replace(MODEL, max_output_tokens=6), "bound": Bound(1, 8)}, 6),
        ({}, {"bound": Bound(1, 8)}, 8),
        ({}, {}, LIMIT),
        ({}, {"model": None}, LIMIT),
    ],
)
def test_an_output_limit_is_always_sent_and_never_above_what_was_admitted(given, fields, limit):
    assert sent(asked(**given), **fields)[1]["max_tokens"] == limit


@pytest.mark.parametrize(
    ("model", "effort", "limit", "wire"),
    [
        (OLD, "minimal", 20_000, {"thinking": {"type": "enabled", "budget_tokens": 2_000}}),
        (OLD, "low", 2_000, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OLD, "medium", 20_000, {"thinking": {"type": "enabled", "budget_tokens": 10_000}}),
        (OLD, "max", 1025, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (OLD, "none", 20_000, {}),
        (NEWER, "none", 20_000, {"thinking": {"type": "disabled"}}),
        (NEWER, "xhigh", 900, {"effort": "high"}),
        (NEWER, "max", 900, {"effort": "max"}),
        ("claude-opus-4-7", "xhigh", 900, {"effort": "xhigh"}),
        (NEWEST, "minimal", 900, {"effort": "low"}),
        (NEWEST, "none", 900, {"output_config": {"effort": "low"}}),
    ],
)
def test_reasoning_effort(model, effort, limit, wire):
    request, body = sent(asked(reasoning_effort=effort, max_tokens=limit), model)
    if "effort" in wire:
        adaptive = {"type": "adaptive", "display": "summarized"}
        wire = {"thinking": adaptive, "output_config": {"effort": wire["effort"]}}
    assert only(body, "thinking", "output_config") == wire
    assert (body["max_tokens"], request.dropped) == (limit, ())


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (OLD, asked(reasoning_effort="high", max_tokens=1024)),
        (OLD, asked(reasoning_effort="extreme", max_tokens=9000)),
        (OLD, asked(reasoning_effort="high", max_tokens=9000, tools=[TOOL], tool_choice="required")),
        (OLD, asked(USER, CALLED, RESULT, reasoning_effort="high", max_tokens=9000, tools=[TOOL])),
        ("claude-3-5-haiku-20241022", asked(reasoning_effort="high", max_tokens=9000)),
        (NEWEST, asked(reasoning_effort="extreme", max_tokens=9000)),
    ],
)
def test_thinking_that_cannot_be_had_is_named(model, body):
    request, wire = sent(body, model)
    assert request.dropped == ("reasoning_effort",)
    assert "thinking" not in wire
    assert "output_config" not in wire


def test_a_model_may_think_again_after_the_tools_are_done():
    ended = {"role": "assistant", "content": "done"}
    body = asked(USER, CALLED, RESULT, ended, USER, reasoning_effort="high", max_tokens=9000, tools=[TOOL])
    assert sent(body)[1]["thinking"]["budget_tokens"] == 7200


def test_a_forced_tool_leaves_the_effort_and_no_thinking():
    body = asked(reasoning_effort="high", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    wire = sent(body, NEWEST)[1]
    assert only(wire, "thinking", "output_config") == {"output_config": {"effort": "high"}}


def test_a_provider_may_say_that_its_models_are_new():
    wire = sent(asked(reasoning_effort="low"), "house", {"thinking": "adaptive"})[1]
    assert only(wire, "output_config") == {"output_config": {"effort": "low"}}


@pytest.mark.parametrize(
    ("own", "limit", "found", "dropped"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, 4000, {"type": "enabled", "budget_tokens": 2000}, ()),
        ({"type": "enabled", "budget_tokens": 9000}, 4000, {"type": "enabled", "budget_tokens": 3999}, ()),
        ({"type": "enabled", "budget_tokens": 9000}, 1000, None, ("thinking",)),
        ({"type": "between_tools"}, 1000, {"type": "between_tools"}, ()),
    ],
)
def test_thinking_of_the_callers_own_stays_below_the_limit(own, limit, found, dropped):
    request, wire = sent(asked(thinking=own, max_tokens=limit))
    assert (wire.get("thinking"), request.dropped) == (found, dropped)


def test_thinking_of_the_callers_own_goes_before_an_effort():
    own = {"type": "enabled", "budget_tokens": 2000}
    request, wire = sent(asked(thinking=own, reasoning_effort="high"))
    assert (wire["thinking"], request.dropped) == (own, ("reasoning_effort",))
    request, wire = sent(asked(thinking={"type": "disabled"}, reasoning_effort="low"), NEWER)
    assert only(wire, "thinking", "output_config") == {
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low"},
    }


@pytest.mark.parametrize(
    ("model", "given", "wire", "dropped"),
    [
        (OLD, {"temperature": 1.7}, {"temperature": 1}, ()),
        (OLD, {"temperature": -1, "top_k": 3}, {"temperature": 0, "top_k": 3}, ()),
        (OLD, {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}, ("top_p",)),
        (OLD, {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}, ()),
        (OLD, {"top_p": 0.5}, {"top_p": 0.5}, ()),
        ("claude-3-haiku-20240307", {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}, ()),
        ("glm-5", {"temperature": 2, "top_p": 0.5, "top_k": 2}, {"temperature": 1, "top_p": 0.5, "top_k": 2}, ()),
        (NEWER, {"temperature": 0.5, "top_k": 2}, {"temperature": 0.5, "top_k": 2}, ()),
        (NEWEST, {"temperature": 0.5, "top_p": 0.5, "top_k": 2}, {}, ("temperature", "top_k", "top_p")),
        (NEWEST, {"temperature": 1, "top_p": 0.99}, {}, ()),
        (NEWER, {"reasoning_effort": "low", "temperature": 0, "top_p": 0.5}, {}, ("temperature", "top_p")),
        (NEWER, {"reasoning_effort": "low", "top_p": 0.95}, {"top_p": 0.95}, ()),
    ],
)
def test_sampling(model, given, wire, dropped):
    request, body = sent(asked(**given), model)
    assert only(body, "temperature", "top_p", "top_k") == wire
    assert request.dropped == dropped


@pytest.mark.parametrize(
    ("given", "wire", "dropped"),
    [
        ({"stop": ["\n", "x", " "]}, {"stop_sequences": ["x"]}, ("stop",)),
        ({"stop": "\n"}, {}, ("stop",)),
        ({"metadata": {"user_id": "u"}, "user": "v"}, {"metadata": {"user_id": "u"}}, ()),
        ({"metadata": {"user_id": 7}}, {}, ("user",)),
        ({"user": "v" * 600}, {}, ("user",)),
        ({"service_tier": "auto"}, {"service_tier": "auto"}, ()),
        ({"service_tier": "flex"}, {}, ("service_tier",)),
        ({"response_format": {"type": "text"}}, {}, ()),
        ({"logprobs": False, "store": False, "prediction": None, "logit_bias": {}}, {}, ()),
        ({"store": True, "web_search_options": {}}, {}, ("store", "web_search_options")),
        ({"tool_choice": "none"}, {}, ()),
        ({"tool_choice": "required"}, {}, ("tool_choice",)),
        ({"tools": [TOOL], "tool_choice": "auto"}, {}, ()),
        ({"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": False}, {"tool_choice": {"type": "none"}}, ()),
        (
            {"tools": [TOOL], "parallel_tool_calls": False},
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            (),
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": 7}}, {}, ()),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [7, {"function": 7}]}},
            },
            {},
            (),
        ),
    ],
)
def test_the_rest(given, wire, dropped):
    request, body = sent(asked(**given))
    assert only(body, "stop_sequences", "metadata", "service_tier", "output_config", "tool_choice") == wire
    assert request.dropped == dropped


def test_a_json_schema_without_a_schema_is_any_json():
    wire = sent(asked(response_format={"type": "json_schema", "json_schema": {"name": "x"}}))[1]
    assert wire["system"].startswith("Answer with one JSON object")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (asked(n=2), "n"),
        (asked(functions=[{"name": "f"}]), "functions"),
        (asked(audio={"voice": "x"}), "audio"),
        (asked(modalities=["text", "audio"]), "modalities"),
        (asked(thinking=7), "thinking"),
        (asked(response_format={"type": "grammar"}), "response_format"),
        (asked(response_format={"type": "json_schema"}), "response_format"),
        (asked(tools=[{"type": "web_search_20260209", "name": "web_search"}]), "tools.0"),
        (asked(tools=[TOOL, {"type": "function"}]), "tools.1"),
        (asked(tool_choice={"type": "custom", "custom": {"name": "x"}}), "tool_choice"),
        (asked(tool_choice={"type": "function"}), "tool_choice"),
        (asked({"role": "function", "name": "f", "content": "x"}), "messages.0"),
        (asked(USER, {"role": "assistant", "audio": {"id": "a"}}), "messages.1.audio"),
        (asked(USER, {"role": "assistant", "function_call": {"name": "f"}}), "messages.1.function_call"),
        (asked({"role": "tool", "content": "x"}), "messages.0"),
        (asked({"role": "assistant", "tool_calls": [{"id": "c"}]}), "messages.0.tool_calls"),
        (asked({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}), "messages.0.tool_calls"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_place(body, param):
    with pytest.raises(Unsupported) as caught:
        sent(body)
    assert caught.value.param == param


@pytest.mark.parametrize("arguments", ["{", "[1]", "7"])
def test_arguments_that_are_no_object_are_refused(arguments):
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(Unsupported, match=r"`arguments` .* must be (a )?JSON"):
        sent(asked({"role": "assistant", "tool_calls": [call]}))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {}},
        {"type": "image_url", "image_url": {"url": 7}},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": "ftp://x/cat.png"},
        {"type": "image_url", "image_url": "data:image/png,raw"},
        {"type": "image_url", "image_url": "data:image/png;base64,"},
        {"type": "image_url", "image_url": "data:image/tiff;base64,AAAA"},
        {"type": "image_url", "image_url": "data:;base64,AAAA"},
        {"type": "file"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,***"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}},
    ],
)
def test_content_that_would_be_lost_is_refused(part):
    with pytest.raises(Unsupported) as caught:
        sent(asked({"role": "user", "content": [{"type": "text", "text": "see"}, part]}))
    assert caught.value.param == "messages.0.content.1"


def test_pictures_do_not_belong_into_a_system_prompt():
    image = {"type": "image_url", "image_url": "https://x.test/a.png"}
    with pytest.raises(Unsupported, match="`image_url` content"):
        sent(asked({"role": "system", "content": [image]}, USER))


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "x"}], [{"role": "user", "content": " \n"}]])
def test_a_conversation_without_a_word_of_the_user_is_opened(messages):
    assert sent(asked(*messages))[1]["messages"] == [USER | {"content": "."}]


def test_a_mark_for_the_cache_may_stand_on_a_message():
    mark = {"type": "ephemeral"}
    thought = {"type": "redacted_thinking", "data": "x"}
    marked = [
        {"role": "system", "content": "s", "cache_control": mark},
        {"role": "user", "content": "u", "cache_control": mark},
        {"role": "assistant", "content": "", "thinking_blocks": [thought], "cache_control": mark},
        {"role": "user", "content": "", "cache_control": mark},
    ]
    wire = sent(asked(*marked))[1]
    assert wire["system"] == [{"type": "text", "text": "s", "cache_control": mark}]
    assert [turn["content"] for turn in wire["messages"]] == [
        [{"type": "text", "text": "u", "cache_control": mark}],
        [thought],
    ]


@pytest.mark.parametrize("blocks", [7, [[]], [{"type": []}], [{"type": "thinking", "thinking": "t", "signature": 7}]])
def test_thinking_that_is_not_signed_is_left_out(blocks):
    body = asked(USER, {"role": "assistant", "content": "x", "thinking_blocks": blocks}, USER)
    assert sent(body)[1]["messages"][1] == {"role": "assistant", "content": "x"}


def test_how_the_gateway_shows_who_it_is():
    plain = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    key = DEPLOYMENT.upstream.credential
    assert dict(sent(asked())[0].headers) == plain | {"x-api-key": key}
    assert dict(sent(asked(), settings={"auth": "bearer"})[0].headers) == plain | {"authorization": f"Bearer {key}"}
    assert Anthropic().model_list({}, "") == ("/v1/models?limit=1000", plain)


def test_callers_of_the_same_dialect_bring_their_version_and_features():
    forwarded = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "a,b"))
    native = {"max_tokens": 9, "model": "fast", "messages": []}
    request, wire = sent(asked(), dialect="anthropic", native=native, forwarded=forwarded, max_output_tokens=5)
    assert request.is_native
    assert wire == native | {"model": OLD, "max_tokens": 5}
    assert request.headers[-2:] == forwarded
    assert [name for name, _value in request.headers].count("anthropic-version") == 1
    assert ("anthropic-beta", "a,b") not in sent(asked(), dialect="openai", forwarded=forwarded)[0].headers


def test_only_chats_can_be_had():
    assert Anthropic().operations == {CHAT}
