"""Anthropic's dialect without a network: what is refused and where, what only its own API can do."""

import json
from dataclasses import replace

import pytest

from services.dialects import ANTHROPIC, anthropic
from services.errors import InvalidRequest, RateLimited, UpstreamError
from services.providers import WIRES
from services.providers.base import CLAUDES_PROMPT, CLAUDES_TURN
from services.types import CHAT, PublicModel
from tests.calls import CALLER, DEPLOYMENT, make_call

HI = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
WEB = {"type": "web_search_20250305", "name": "web_search"}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def call_of(given=None, **members):
    body = {"model": "fast", "max_tokens": 100, "messages": [HI], **members} if given is None else given
    return ANTHROPIC.call(CHAT, json.dumps(body).encode(), CALLER, make_call().id)


def said(*blocks, role="user"):
    return {"messages": [{"role": role, "content": list(blocks)}]}


def block(kind, **members):
    return said({"type": kind, **members})


def assistant(kind, **members):
    return said({"type": kind, **members}, role="assistant")


def result(**members):
    return block("tool_result", **{"tool_use_id": "t", **members})


MISTAKES = [
    ({"model": None}, "model"),
    ({"model": " "}, "model"),
    ({"model": 7}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["hi"]}, "messages"),
    ({"messages": {}}, "messages"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 2**31}, "max_tokens"),
    ({"system": 7}, "system"),
    ({"system": ["x"]}, "system.0"),
    ({"system": [{"type": "text"}]}, "system.0.text"),
    ({"system": [{"text": "x"}]}, "system.0.type"),
    ({"stream": "yes"}, "stream"),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"stop_sequences": [7]}, "stop_sequences"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": True}, "top_p"),
    ({"top_k": 0.5}, "top_k"),
    ({"tools": {}}, "tools"),
    ({"tools": [7]}, "tools"),
    ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
    ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
    ({"tools": [TOOL, TOOL | {"input_schema": []}]}, "tools.1.input_schema"),
    ({"tools": [TOOL | {"description": 7}]}, "tools.0.description"),
    ({"tools": [TOOL | {"strict": 1}]}, "tools.0.strict"),
    ({"tools": [TOOL | {"cache_control": True}]}, "tools.0.cache_control"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {}}, "tool_choice.type"),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tool_choice": {"type": "any", "disable_parallel_tool_use": 1}}, "tool_choice.disable_parallel_tool_use"),
    ({"thinking": "on"}, "thinking"),
    ({"thinking": {}}, "thinking.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({"output_config": []}, "output_config"),
    ({"output_config": {"effort": 7}}, "output_config.effort"),
    ({"output_config": {"format": "json"}}, "output_config.format"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"output_config": {"format": {"schema": {}}}}, "output_config.format.type"),
    ({"output_format": 7}, "output_format"),
    ({"output_format": {"type": "json_schema", "schema": []}}, "output_format.schema"),
    ({"metadata": 7}, "metadata"),
    ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ({"service_tier": 7}, "service_tier"),
    ({"mcp_servers": [7]}, "mcp_servers"),
    ({"messages": [{"content": "x"}]}, "messages.0.role"),
    ({"messages": [HI, {"role": "tool", "content": "x"}]}, "messages.1.role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
    (said("x"), "messages.0.content.0"),
    (said({"text": "x"}), "messages.0.content.0.type"),
    (said({"type": 7}), "messages.0.content.0.type"),
    (block("text"), "messages.0.content.0.text"),
    (block("text", text="x", cache_control="yes"), "messages.0.content.0.cache_control"),
    (block("image"), "messages.0.content.0.source"),
    (block("image", source={}), "messages.0.content.0.source.type"),
    (block("image", source={"type": "url"}), "messages.0.content.0.source.url"),
    (block("image", source=PNG | {"data": 7}), "messages.0.content.0.source.data"),
    (block("image", source=PNG | {"media_type": "image/png;x"}), "messages.0.content.0.source.media_type"),
    (block("document", source={"type": "text"}), "messages.0.content.0.source.data"),
    (block("document", source={"type": "content", "content": 7}), "messages.0.content.0.source.content"),
    (block("document", source={"type": "content", "content": [7]}), "messages.0.content.0.source.content.0"),
    (block("document", source={"type": "url"}, title=7), "messages.0.content.0.title"),
    (block("search_result", content="x", source="x"), "messages.0.content.0.title"),
    (block("tool_result"), "messages.0.content.0.tool_use_id"),
    (result(content=7), "messages.0.content.0.content"),
    (result(content=[{"type": "text"}]), "messages.0.content.0.content.0.text"),
    (result(is_error="yes"), "messages.0.content.0.is_error"),
    (assistant("thinking"), "messages.0.content.0.thinking"),
    (assistant("thinking", thinking="x", signature=7), "messages.0.content.0.signature"),
    (assistant("redacted_thinking"), "messages.0.content.0.data"),
    (assistant("tool_use", name="f", input={}), "messages.0.content.0.id"),
    (assistant("tool_use", id="t", input={}), "messages.0.content.0.name"),
    (assistant("tool_use", id="t", name="f", input="{}"), "messages.0.content.0.input"),
    (assistant("tool_use", id="t", name="f"), "messages.0.content.0.input"),
]


@pytest.mark.parametrize(
    ("change", "place"), MISTAKES, ids=[f"{place} {index}" for index, (_, place) in enumerate(MISTAKES)]
)
def test_a_mistake_is_named_with_its_place(change, place):
    with pytest.raises(InvalidRequest) as found:
        call_of(**change)
    assert (found.value.param, found.value.status) == (place, 400)
    assert str(found.value).startswith(f"`{place}` ")


@pytest.mark.parametrize("raw", [b"", b"[", b"[]", b"7", b'"x"'])
def test_a_body_that_is_no_object(raw):
    with pytest.raises(InvalidRequest) as found:
        ANTHROPIC.call(CHAT, raw, CALLER, "req_1")
    assert found.value.param == "body"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tools": [TOOL, WEB]}, "tools.1"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution_20260120"]}]}, "tools.0.allowed_callers"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
        ({"system": [{"type": "image", "source": PNG}]}, "system.0"),
        (block("image", source={"type": "file", "file_id": "f"}), "messages.0.content.0.source"),
        (block("document", source={"type": "url", "url": "https://example.test/a.pdf"}), "messages.0.content.0.source"),
        (block("container_upload", file_id="f"), "messages.0.content.0"),
        (result(content=[{"type": "tool_reference", "tool_name": "f"}]), "messages.0.content.0.content.0"),
        (
            said({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, role="assistant"),
            "messages.0.content.0",
        ),
        (
            said(
                {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "code"}}, role="assistant"
            ),
            "messages.0.content.0.caller",
        ),
    ],
)
def test_what_only_anthropics_own_api_can_do_is_kept_for_it(change, place):
    call = call_of(**change)
    assert call.native_only is not None
    assert (call.native_only.param, call.native_only.status) == (place, 400)
    assert call.native == {"model": "fast", "max_tokens": 100, "messages": [HI], **change}


def test_most_requests_can_be_served_by_anybody():
    tool = TOOL | {"allowed_callers": ["direct", "code_execution_20260120"]}
    call = call_of(tools=[tool], mcp_servers=[], container=None, service_tier="auto", speed="standard")
    assert (call.native_only, call.untranslated) == (None, ())
    assert (call.dialect, call.wants_usage, call.is_stream) == ("anthropic", True, False)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"service_tier": "standard_only"}, ["service_tier"]),
        (
            {"context_management": {"edits": []}, "diagnostics": {}, "speed": "fast"},
            ["context_management", "diagnostics", "speed"],
        ),
        ({"cache_control": {"type": "ephemeral"}, "unheard_of": 1}, ["cache_control", "unheard_of"]),
        ({"thinking": {"type": "between_tools"}}, ["thinking"]),
        (
            {"output_config": {"effort": "extreme", "task_budget": {}}},
            ["output_config.effort", "output_config.task_budget"],
        ),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "disabled"}}, ["output_config.effort"]),
        ({"tools": [TOOL | {"input_examples": [{}]}]}, ["tools.0.input_examples"]),
        (
            block("document", source={"type": "text", "data": "x"}, citations={"enabled": True}),
            ["messages.0.content.0.citations"],
        ),
    ],
)
def test_tuning_that_cannot_be_said_is_left_out_and_named(change, names):
    assert list(call_of(**change).untranslated) == names


@pytest.mark.parametrize(
    ("given", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, "high"),
        ({"output_config": {"effort": "medium"}}, "medium"),
        ({"output_config": {"effort": "xhigh"}}, "high"),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 32_000}}, "low"),
    ],
)
def test_how_hard_to_think(given, effort):
    assert call_of(**given).body.get("reasoning_effort") == effort


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        ({"type": "object", "additionalProperties": False}, True),
        ({"type": "object"}, False),
        ({"type": "object", "properties": {"a": {}}, "required": [7], "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {}}, "required": "a", "additionalProperties": False}, False),
        ({"anyOf": [{"type": "string"}, {"properties": {}}]}, False),
        ({"enum": ["a", "b"], "type": "string"}, True),
    ],
)
def test_a_schema_is_strict_where_openais_strict_mode_takes_it(schema, is_strict):
    call = call_of(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert call.body["response_format"]["json_schema"]["strict"] is is_strict


def test_a_long_user_id_is_shortened_the_same_way_each_time():
    short, long = (call_of(metadata={"user_id": "u" * length}).body["user"] for length in (64, 65))
    assert (short, len(long)) == ("u" * 64, 64)
    assert long == call_of(metadata={"user_id": "u" * 65}).body["user"]


def test_thinking_that_nobody_signed_does_not_go_to_anthropic():
    unsigned, text = {"type": "thinking", "thinking": "x", "signature": ""}, {"type": "text", "text": "y"}
    alone, both = ({"role": "assistant", "content": blocks} for blocks in ([unsigned], [unsigned, text]))
    call = call_of(messages=[HI, both, HI, alone, HI])
    assert call.native["messages"] == [HI, {"role": "assistant", "content": [text]}, HI, alone, HI]
    assert [message.get("reasoning_content") for message in call.body["messages"]] == [None, "x", None, "x", None]
    signed = said({"type": "thinking", "thinking": "x", "signature": "s"}, text, role="assistant")
    assert call_of(**signed).native["messages"] == signed["messages"]


# How much a call may use


MODEL = PublicModel("fast", "tests", 0, (), max_output_tokens=500)
WINDOWED = PublicModel("fast", "tests", 0, (), context_window=200_000)


def demand(model=MODEL, **members):
    call = call_of(**members)
    return call, ANTHROPIC.demand(call, model, 4096)


def test_the_input_is_bounded_by_the_bytes_of_the_body():
    call, found = demand()
    assert (found.input_tokens, found.choices, found.output_tokens) == (call.body_bytes, 1, 100)
    assert (found.most_output_tokens, found.is_bounded) == (500, True)
    assert ANTHROPIC.demand(call, WINDOWED, 4096).most_output_tokens == 4096


@pytest.mark.parametrize(
    ("members", "prompts"),
    [
        ({}, 0),
        ({"tools": [TOOL]}, 1),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, 1),
        ({"tools": [TOOL], "output_config": {"format": {"type": "json_schema", "schema": {}}}}, 2),
    ],
)
def test_prompts_that_its_vendor_adds_are_part_of_the_bound_where_it_is_asked(members, prompts):
    call, found = demand(**members)
    assert found.input_tokens == call.body_bytes
    assert WIRES["anthropic"].hidden_tokens(call, DEPLOYMENT) == CLAUDES_TURN + prompts * CLAUDES_PROMPT
    claude = replace(DEPLOYMENT, model="anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert WIRES["bedrock"].hidden_tokens(call, claude) == CLAUDES_TURN + prompts * CLAUDES_PROMPT
    others = [WIRES[name].hidden_tokens(call, DEPLOYMENT) for name in WIRES if name != "anthropic"]
    assert set(others) == {0}


def test_a_picture_is_bounded_by_its_own_rule_and_not_by_its_bytes():
    big = PNG | {"data": "A" * 1_000_000}
    _call, found = demand(**block("image", source=big))
    assert 48_000 < found.input_tokens < 49_000
    assert found.is_bounded


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [WEB]},
        {"mcp_servers": [{}]},
        block("document", source={"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}),
    ],
)
def test_what_nobody_can_bound_is_as_large_as_the_window(members):
    assert not demand(**members)[1].is_bounded
    _call, found = demand(WINDOWED, **members)
    assert (found.input_tokens, found.is_bounded) == (200_000, True)


def test_filling_a_cache_generates_nothing():
    _call, found = demand(max_tokens=0)
    assert (found.output_tokens, found.is_bounded) == (0, True)


# Errors


def test_an_error_names_its_code_and_place():
    body = anthropic.error_body(InvalidRequest("Wrong.", param="messages"))
    assert body == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "Wrong.",
            "details": {"error_code": "validation_error", "param": "messages"},
        },
        "request_id": None,
    }
    event = ANTHROPIC.error_event(UpstreamError("early"))
    assert event.startswith(b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"early"')
    assert RateLimited.status == 429
