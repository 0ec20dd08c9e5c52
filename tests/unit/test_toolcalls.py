"""Pieces of tool calls as servers are known to send them, put together the way clients do: by index alone."""

import copy

import pytest

from services.providers.toolcalls import ToolCalls, mend_message


def piece(index=None, id_=None, name=None, arguments=None, **more):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    found = {"index": index, "id": id_, "function": function or None, **more}
    return {key: value for key, value in found.items() if value is not None}


def put_together(chunks):
    """What a client makes of the chunks, each a list of pieces."""
    mending, calls = ToolCalls("x"), {}
    for number, pieces in enumerate(chunks):
        is_last = number == len(chunks) - 1
        choice = {"index": 0, "delta": {"tool_calls": pieces}, "finish_reason": "tool_calls" if is_last else None}
        mending.mend(choice)
        seen = set()
        for got in choice["delta"]["tool_calls"]:
            assert got["index"] not in seen, "one entry for each call"
            seen.add(got["index"])
            call = calls.setdefault(got["index"], {"id": None, "name": "", "arguments": ""})
            call["id"] = got.get("id") or call["id"]
            call["name"] += (got.get("function") or {}).get("name") or ""
            call["arguments"] += (got.get("function") or {}).get("arguments") or ""
    assert list(calls) == list(range(len(calls)))
    return [(call["id"], call["name"], call["arguments"]) for call in calls.values()]


TWO = [("a", "f", '{"n":1}'), ("b", "g", '{"n":2}')]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [
                [piece(0, "a", "f", "")],
                [piece(0, arguments='{"n":')],
                [piece(0, arguments="1}")],
                [piece(1, "b", "g", '{"n":2}')],
            ],
            TWO,
            id="as OpenAI does",
        ),
        pytest.param([[piece(0, "a", "f", '{"n":1}')], [piece(0, "b", "g", '{"n":2}')]], TWO, id="always index 0"),
        pytest.param(
            [
                [piece(0, "a", "f", "")],
                [piece(0, arguments='{"n":1}')],
                [piece(0, "b", "g", "")],
                [piece(0, arguments='{"n":2}')],
            ],
            TWO,
            id="always index 0, in pieces",
        ),
        pytest.param([[piece(None, "a", "f", '{"n":1}'), piece(None, "b", "g", '{"n":2}')]], TWO, id="no index"),
        pytest.param(
            [[piece(None, "a", "f", "")], [piece(arguments='{"n":1}')], [piece(None, "b", "g", '{"n":2}')]],
            TWO,
            id="no index, in pieces",
        ),
        pytest.param(
            [[piece(1, "a", "f", '{"n":1}')], [piece(2, "b", "g", "")], [piece(2, arguments='{"n":2}')]],
            TWO,
            id="from 1",
        ),
        pytest.param(
            [[piece(0, "a", "f", ""), piece(0, arguments='{"n":1}')], [piece(1, "b", "g", '{"n":2}')]],
            TWO,
            id="twice in a chunk",
        ),
        pytest.param(
            [
                [piece(0, "a", "f", ""), piece(1, "b", "g", "")],
                [piece(1, arguments='{"n":2}'), piece(0, arguments='{"n":1}')],
            ],
            TWO,
            id="interleaved",
        ),
        pytest.param(
            [[piece(0, "a", "f", "")], [piece(0, "a", arguments='{"n":1}')], [piece(1, "b", "g", '{"n":2}')]],
            TWO,
            id="the id on every piece",
        ),
        pytest.param([[piece(0, "a", "f", {"n": 1})], [piece(1, "b", "g", {"n": 2})]], TWO, id="objects"),
        pytest.param([[piece(0, "a", "f", "")], []], [("a", "f", "{}")], id="no arguments"),
        pytest.param([[piece(0, "a", "f")]], [("a", "f", "{}")], id="no arguments at all"),
        pytest.param(
            [[piece(0, name="f", arguments="{}")], [piece(0, name="g", arguments="{}")]],
            [("call_x_0", "f", "{}"), ("call_x_1", "g", "{}")],
            id="no ids",
        ),
        pytest.param([[piece(0, "a", arguments="{}"), piece(0, "a", name="f")]], [("a", "f", "{}")], id="name last"),
        pytest.param([[piece(0, "a")], [piece(0, name="f", arguments="{}")]], [("a", "f", "{}")], id="id first"),
    ],
)
def test_pieces_find_their_call(chunks, expected):
    assert put_together(copy.deepcopy(chunks)) == expected


def test_what_is_right_is_left_alone():
    mending = ToolCalls("x")
    for pieces in ([piece(0, "a", "f", "", type="function")], [piece(0, arguments="{}")]):
        assert not mending.mend({"index": 0, "delta": {"tool_calls": pieces}})
    assert not mending.mend({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    assert not mending.mend({"index": 0, "delta": {"content": "a"}})


def test_choices_count_by_themselves():
    mending = ToolCalls("x")
    for number in (0, 1):
        choice = {"index": number, "delta": {"tool_calls": [piece(5, "a", "f", "{}")]}}
        assert mending.mend(choice)
        assert choice["delta"]["tool_calls"][0]["index"] == 0


def test_a_custom_tool_needs_no_arguments():
    mending = ToolCalls("x")
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}}
    assert not mending.mend({"index": 0, "delta": {"tool_calls": [first]}})
    assert not mending.mend({"index": 0, "delta": {}, "finish_reason": "tool_calls"})


@pytest.mark.parametrize(
    ("call", "mended"),
    [
        ({"id": "a", "function": {"name": "f", "arguments": "{}"}}, None),
        ({"id": "a", "type": "custom", "custom": {}}, None),
        (
            {"function": {"name": "f", "arguments": "{}"}},
            {"id": "call_x_0", "function": {"name": "f", "arguments": "{}"}},
        ),
        (
            {"id": "a", "function": {"name": "f", "arguments": ""}},
            {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        ),
        ({"id": "a", "function": {"name": "f"}}, {"id": "a", "function": {"name": "f", "arguments": "{}"}}),
        (
            {"id": "a", "function": {"name": "f", "arguments": {"n": 1}}},
            {"id": "a", "function": {"name": "f", "arguments": '{"n":1}'}},
        ),
    ],
)
def test_whole_messages(call, mended):
    message = {"tool_calls": [copy.deepcopy(call)]}
    assert mend_message(message, "x") is (mended is not None)
    assert message["tool_calls"] == [mended or call]
