"""What others say of Anthropic's wire.

Anthropic's own OpenAPI document accepts what is sent to it, and says that our recordings are what it would send;
OpenAI's document and library accept what callers get.
"""

import json

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.published import problems
from tests.test_golden import GOLDEN

CASES = sorted(path for path in (GOLDEN / "anthropic").iterdir())
NOT_ANTHROPICS = {"other-servers", "unknown-blocks"}  # members and blocks that its document does not have
NEWER = {"native"}  # the caller's own members, which nobody checks


def cases(name, besides=frozenset()):
    return [pytest.param(case, id=case.name) for case in CASES if (case / name).exists() and case.name not in besides]


def sent(case):
    return json.loads((case / "request.out").read_bytes().split(b"\n", 1)[1])


@pytest.mark.parametrize("case", cases("request.out", besides=NEWER))
def test_anthropic_takes_what_is_sent(case):
    assert problems("anthropic", "CreateMessageParams", sent(case)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_tokens": "9"}, "max_tokens"),
        ({"temperature": 1.4}, "temperature"),
        ({"seed": 7}, "seed"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool"),
        ({"tools": [{"name": "f"}]}, "tools"),
    ],
)
def test_anthropic_refuses_what_is_wrong(change, told):
    (problem, *_more) = problems("anthropic", "CreateMessageParams", sent(GOLDEN / "anthropic/text") | change)
    assert told in problem


@pytest.mark.parametrize("case", cases("answer.in", besides=NOT_ANTHROPICS | NEWER))
def test_a_recorded_answer_is_anthropics(case):
    assert problems("anthropic", "Message", json.loads((case / "answer.in").read_bytes())) == []


@pytest.mark.parametrize("case", cases("stream.in", besides=NOT_ANTHROPICS | NEWER))
def test_recorded_events_are_anthropics(case):
    for line in (case / "stream.in").read_text(encoding="utf-8").splitlines():
        if line.startswith("data: ") and (event := json.loads(line[6:]))["type"] != "ping":
            assert problems("anthropic", "MessageStreamEvent", event) == []


@pytest.mark.parametrize("case", cases("error.in", besides={"error-of-a-proxy"}))
def test_recorded_errors_are_anthropics(case):
    assert problems("anthropic", "ErrorResponse", json.loads((case / "error.in").read_bytes())) == []


@pytest.mark.parametrize("case", cases("answer.out", besides={"native"}))
def test_what_is_said_to_callers_is_openais(case):
    assert problems("openai", "CreateChatCompletionResponse", json.loads((case / "answer.out").read_bytes())) == []


@pytest.mark.parametrize("case", cases("stream.out", besides={"native"}))
def test_what_is_streamed_to_callers_is_openais(case):
    *events, end = said_in(case)
    assert end == "[DONE]"
    for event in events:
        assert problems("openai", "CreateChatCompletionStreamResponse", json.loads(event)) == []


@pytest.mark.parametrize("case", cases("stream.out", besides={"native", "carriage-returns"}))
def test_openais_library_adds_a_stream_up_to_what_the_whole_answer_says(case):
    state = ChatCompletionStreamState()
    for event in said_in(case)[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(event))
    found = state.current_completion_snapshot.model_dump(exclude_none=True)
    said = json.loads((case / "answer.out").read_bytes())
    assert found.get("usage", said.get("usage")) == said.get("usage")
    (choice,), (whole,) = found["choices"], said["choices"]
    assert choice["finish_reason"] == whole["finish_reason"]
    assert without_indices(choice["message"]) == without_indices(whole["message"])


def said_in(case):
    """The data of the events that a caller gets; comments have none."""
    lines = (case / "stream.out").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def without_indices(message):
    """A message as whole answers have it: lists of it without the numbers, calls with the same JSON."""
    for call in message.get("tool_calls", ()):
        call["function"] = {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
    lists = {name: message.get(name, []) for name in ("tool_calls", "thinking_blocks")}
    for entries in lists.values():
        for entry in entries:
            entry.pop("index", None)
    texts = {name: message.get(name) or "" for name in ("role", "content", "reasoning_content")}
    return texts | lists
