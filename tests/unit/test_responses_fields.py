"""Malformed requests of the Responses API: each is refused, and the member that is wrong is named."""

import pytest

from services.dialects import RESPONSES
from services.errors import InvalidRequest
from tests.responses import FUNCTION, make


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"model": None}, "model", id="no model"),
        pytest.param({"model": " "}, "model", id="a blank model"),
        pytest.param({"given": None}, "input", id="no input"),
        pytest.param({"given": 1}, "input", id="a number as input"),
        pytest.param({"given": {"role": "user"}}, "input", id="an object as input"),
        pytest.param({"given": ["x"]}, "input.0", id="an item that is a text"),
        pytest.param({"given": [{"type": 1}]}, "input.0.type", id="a type that is a number"),
        pytest.param({"given": [{"content": "x"}]}, "input.0.role", id="a message without a role"),
        pytest.param({"given": [{"role": "tool", "content": "x"}]}, "input.0.role", id="an unknown role"),
        pytest.param({"given": [{"role": ["user"], "content": "x"}]}, "input.0.role", id="a role that is a list"),
        pytest.param({"given": [{"role": "user"}]}, "input.0.content", id="a message without content"),
        pytest.param({"given": [{"role": "user", "content": ["x"]}]}, "input.0.content.0", id="a part that is a text"),
        pytest.param(
            {"given": [{"role": "user", "content": [{}]}]}, "input.0.content.0.type", id="a part without a type"
        ),
        pytest.param(
            {"given": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input.0.content.0.text",
            id="a text part without text",
        ),
        pytest.param(
            {"given": [{"role": "assistant", "content": [{"type": "refusal"}]}]},
            "input.0.content.0.refusal",
            id="a refusal without text",
        ),
        pytest.param(
            {"given": [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}]},
            "input.0.content.0.image_url",
            id="a picture in the form of chats",
        ),
        pytest.param(
            {"given": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input.0.content.0.input_audio",
            id="sound without sound",
        ),
        pytest.param({"given": [{"type": "function_call"}]}, "input.0.call_id", id="a call without an id"),
        pytest.param(
            {"given": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}]},
            "input.0.arguments",
            id="arguments that are an object",
        ),
        pytest.param(
            {"given": [{"type": "custom_tool_call", "call_id": "a", "name": "f"}]},
            "input.0.input",
            id="a custom call without input",
        ),
        pytest.param({"given": [{"type": "function_call_output"}]}, "input.0.call_id", id="a result of no call"),
        pytest.param(
            {"given": [{"type": "function_call_output", "call_id": "a"}]}, "input.0.output", id="a call without result"
        ),
        pytest.param(
            {"given": [{"type": "function_call_output", "call_id": "a", "output": [1]}]},
            "input.0.output.0",
            id="a result that is a number",
        ),
        pytest.param({"given": [{"type": "reasoning", "summary": "x"}]}, "input.0.summary", id="a summary of text"),
        pytest.param(
            {"given": [{"type": "reasoning", "summary": [{}]}]}, "input.0.summary.0.text", id="a summary of nothing"
        ),
        pytest.param(
            {"given": [{"type": "reasoning", "encrypted_content": 1}]},
            "input.0.encrypted_content",
            id="reasoning sealed as a number",
        ),
        *(
            pytest.param(
                {"given": [{"type": "reasoning", "encrypted_content": f"tollhouse.{sealed}"}]},
                "input.0.encrypted_content",
                id=f"reasoning sealed as {sealed or 'nothing'}",
            )
            for sealed in ("e30=", "!", "", "é", "e3")
        ),
        pytest.param({"given": [{"type": "item_reference"}]}, "input.0.id", id="a reference to nothing"),
        pytest.param({"given": [{"id": 1}]}, "input.0.id", id="a reference to a number"),
        pytest.param({"tools": {}}, "tools", id="tools that are an object"),
        pytest.param({"tools": [{}]}, "tools.0.type", id="a tool without a type"),
        pytest.param({"tools": [FUNCTION, {"type": "function"}]}, "tools.1.name", id="a function without a name"),
        pytest.param({"tools": [{"type": "custom"}]}, "tools.0.name", id="a custom tool without a name"),
        pytest.param({"tools": [{"type": "namespace", "name": "n"}]}, "tools.0.tools", id="an empty namespace"),
        pytest.param(
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]},
            "tools.0.tools.0.name",
            id="a function without a name in a namespace",
        ),
        pytest.param({"tools": [FUNCTION | {"parameters": "x"}]}, "tools.0.parameters", id="parameters of text"),
        pytest.param({"tools": [FUNCTION | {"strict": "x"}]}, "tools.0.strict", id="strict in words"),
        pytest.param({"tool_choice": "some"}, "tool_choice", id="an unknown choice"),
        pytest.param({"tool_choice": ["auto"]}, "tool_choice", id="a list of choices"),
        pytest.param({"tool_choice": {}}, "tool_choice.type", id="a choice of nothing"),
        pytest.param({"tool_choice": {"type": "function"}}, "tool_choice.name", id="a choice of no function"),
        pytest.param({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools", id="a choice of no tools"),
        pytest.param(
            {"tool_choice": {"type": "allowed_tools", "mode": "x", "tools": []}}, "tool_choice.mode", id="a choice how"
        ),
        pytest.param(
            {"tool_choice": {"type": "allowed_tools", "tools": [{"name": []}]}},
            "tool_choice.tools.0.name",
            id="a choice of a list",
        ),
        pytest.param({"text": "x"}, "text", id="text that is text"),
        pytest.param({"text": {"verbosity": 1}}, "text.verbosity", id="verbosity in numbers"),
        pytest.param({"text": {"format": "x"}}, "text.format", id="a format of text"),
        pytest.param({"text": {"format": {"type": "xml"}}}, "text.format.type", id="an unknown format"),
        pytest.param({"text": {"format": {"type": "json_schema"}}}, "text.format.name", id="a schema without a name"),
        pytest.param(
            {"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", id="no schema at all"
        ),
        pytest.param({"reasoning": {"effort": 1}}, "reasoning.effort", id="effort in numbers"),
        pytest.param({"metadata": {"a": 1}}, "metadata.a", id="metadata of numbers"),
        pytest.param({"include": [1]}, "include", id="numbers to include"),
        pytest.param({"temperature": "hot"}, "temperature", id="a hot temperature"),
        pytest.param({"max_output_tokens": 0}, "max_output_tokens", id="no output"),
        pytest.param({"stream": "yes"}, "stream", id="stream in words"),
        pytest.param({"truncation": "some"}, "truncation", id="an unknown truncation"),
        pytest.param({"previous_response_id": ""}, "previous_response_id", id="an empty id"),
        pytest.param({"background": True}, "background", id="in the background"),
        pytest.param({"conversation": "conv_1"}, "conversation", id="a conversation"),
        pytest.param({"conversation": {"id": "conv_1"}}, "conversation", id="a conversation as an object"),
    ],
)
def test_what_is_wrong_is_named(body, param):
    with pytest.raises(InvalidRequest) as wrong:
        make(**body)
    assert wrong.value.param == param
    assert wrong.value.status == 400
    assert RESPONSES.error_body(wrong.value)["error"]["param"] == param
