"""Streamed answers on every surface: a number that is cut anywhere is never told, and texts are put back."""

import json

import pytest

from tests.guard.world import CARD, EMAIL, engine, events, kinds, policy, post, said
from tests.helpers import add_model, add_provider, assert_books_agree, last

BEFORE, AFTER = "Pay with ", " please. "
USAGE = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}


def sse(*told, end="data: [DONE]\n\n"):
    lines = [f"event: {one['type']}\n" if "type" in one else "" for one in told]
    return [f"{line}data: {json.dumps(one)}\n\n" for line, one in zip(lines, told, strict=True)] + [end]


def hub(pieces, *, is_tool=False, is_text=False):
    """A stream of OpenAI's dialect that says these pieces."""

    def chunk(delta, finish=None):
        body = {"text": delta} if is_text else {"delta": delta}
        return {
            "id": "c",
            "object": "x",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": finish, **body}],
        }

    if is_text:
        told = [chunk(piece) for piece in pieces] + [chunk("", "stop")]
    elif is_tool:
        opened = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "pay", "arguments": ""}}
        told = [chunk({"role": "assistant", "tool_calls": [opened]})]
        told += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces]
        told += [chunk({}, "tool_calls")]
    else:
        told = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
        told += [chunk({}, "stop")]
    return sse(*told, {"id": "c", "object": "x", "created": 1, "model": "m", "choices": [], "usage": USAGE})


def anthropic(pieces, *, is_tool=False):
    """The same in Anthropic's."""
    frame = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    block = (
        {"type": "tool_use", "id": "toolu_1", "name": "pay", "input": {}} if is_tool else {"type": "text", "text": ""}
    )
    kind, member = ("input_json_delta", "partial_json") if is_tool else ("text_delta", "text")
    grown = [{"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: piece}} for piece in pieces]
    ended = {"stop_reason": "tool_use" if is_tool else "end_turn", "stop_sequence": None}
    usage = {"input_tokens": 3, "output_tokens": 1}
    return sse(
        {"type": "message_start", "message": {**frame, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *grown,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
        end="",
    )


def responses(pieces, *, is_tool=False):
    """The same in that of the Responses API."""
    text, place = "".join(pieces), {"item_id": "i_1", "output_index": 0}
    if is_tool:
        item = {
            "id": "i_1",
            "type": "function_call",
            "call_id": "c1",
            "name": "pay",
            "arguments": text,
            "status": "completed",
        }
        stem, done = "response.function_call_arguments", {"arguments": text}
    else:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"id": "i_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        stem, done, place = "response.output_text", {"text": text}, {**place, "content_index": 0}
    answer = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": []}
    usage = {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10}
    told = [
        {"type": "response.created", "response": answer},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": [], "arguments": ""}},
        *({"type": f"{stem}.delta", **place, "delta": piece} for piece in pieces),
        {"type": f"{stem}.done", **place, **done},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**answer, "status": "completed", "output": [item], "usage": usage}},
    ]
    return sse(*({**one, "sequence_number": number} for number, one in enumerate(told)), end="")


CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hello"}], "stream": True}
SAYS = {
    "chat": ("/v1/chat/completions", CHAT),
    "proxy": ("/api/providers/openai/v1/chat/completions", CHAT),
    "completions": ("/v1/completions", {"model": "fast", "prompt": "hello", "stream": True}),
    "messages": ("/v1/messages", {**CHAT, "max_tokens": 50}),
    "responses": ("/v1/responses", {"model": "fast", "input": "hello", "stream": True}),
}
TOOLS = {
    "chat": {"tools": [TOOL]},
    "messages": {"tools": [{"name": "pay", "input_schema": {"type": "object"}}]},
    "responses": {"tools": [{"type": "function", "name": "pay", "parameters": {"type": "object"}}]},
}
ROADS = [  # surface, kind of provider, what it streams
    ("chat", "openai", hub),
    ("proxy", "openai", hub),
    ("completions", "openai", lambda pieces: hub(pieces, is_text=True)),
    ("messages", "openai", hub),
    ("responses", "openai", hub),
    ("chat", "anthropic", anthropic),
    ("messages", "anthropic", anthropic),
    ("responses", "anthropic", anthropic),
    ("responses", "native", responses),
]
IDS = [f"{surface} by {kind}" for surface, kind, _told in ROADS]
roads = pytest.mark.parametrize(("surface", "kind", "told"), ROADS, ids=IDS)


def provide(app, upstream, kind):
    settings = {"responses": "true" if kind == "native" else "false"}
    provider = add_provider(app, upstream, kind="anthropic" if kind == "anthropic" else "openai", settings=settings)
    add_model(app, provider, max_output_tokens=100)


def stream(app, surface, **more):
    path, body = SAYS[surface]
    answer = post(app, path, {**body, **more})
    return answer, answer.get_data(as_text=True)


@roads
def test_a_number_that_is_cut_anywhere_is_masked(lite, upstream, surface, kind, told):
    provide(lite, upstream, kind)
    policy(lite, **kinds(credit_debit_number="allow_but_redact"), appliesTo=["answers"])
    text = f"{BEFORE}{CARD}{AFTER}"
    for cut in range(len(BEFORE), len(BEFORE) + len(CARD) + 1):
        upstream.will(script=told([text[:cut], text[cut:]]))
        answer, body = stream(lite, surface)
        assert answer.status_code == 200
        assert said(body) == f"{BEFORE}[CREDIT_DEBIT_NUMBER]{AFTER}", cut
        assert CARD not in body
    assert last(engine(lite)).action == "redacted"
    assert_books_agree(engine(lite))


@roads
def test_a_number_that_is_cut_anywhere_ends_the_answer(lite, upstream, surface, kind, told):
    provide(lite, upstream, kind)
    policy(lite, **kinds(credit_debit_number="block"), appliesTo=["answers"])
    text = f"{BEFORE}{CARD}{AFTER}"
    for cut in range(len(BEFORE), len(BEFORE) + len(CARD) + 1):
        upstream.will(script=told([text[:cut], text[cut:]]))
        answer, body = stream(lite, surface)
        shown = said(body) if answer.status_code == 200 else ""
        assert BEFORE.startswith(shown), cut
        assert not any(CARD[:digits] in body for digits in range(5, 17))
        assert "let this through" in body or "request blocked" in body
        assert "[DONE]" not in body
    row = last(engine(lite))
    assert (row.action, row.outcome, row.state) == ("blocked", "blocked", "estimated")
    assert row.input_tokens > 0
    assert_books_agree(engine(lite))


@roads
def test_what_was_hidden_comes_back_in_pieces(lite, upstream, surface, kind, told):
    provide(lite, upstream, kind)
    policy(lite, **kinds(email="allow_but_redact"))
    path, body = SAYS[surface]
    asked = json.loads(json.dumps(body).replace("hello", f"write to {EMAIL}"))
    text = "Sent to [EMAIL_1] and [EMAIL_2]."
    for cut in range(8, 18):
        upstream.will(script=told([text[:cut], text[cut:]]))
        answer = post(lite, path, asked)
        assert said(answer.get_data(as_text=True)) == f"Sent to {EMAIL} and [EMAIL_2]."
    sent = json.dumps(upstream.served[0].body)
    assert EMAIL not in sent
    assert "[EMAIL_1]" in sent


@pytest.mark.parametrize(
    ("surface", "kind", "told"),
    [road for road in ROADS if road[0] in TOOLS],
    ids=[name for name, road in zip(IDS, ROADS, strict=True) if road[0] in TOOLS],
)
def test_what_a_tool_is_called_with_is_read_too(lite, upstream, surface, kind, told):
    provide(lite, upstream, kind)
    policy(lite, **kinds(credit_debit_number="allow_but_redact"), appliesTo=["answers"])
    arguments = json.dumps({"card": CARD, "number": int(CARD), "note": 'a "quote"'})
    for cut in range(10, 30):
        upstream.will(script=told([arguments[:cut], arguments[cut:]], is_tool=True))
        _answer, body = stream(lite, surface, **TOOLS[surface])
        assert json.loads(said(body)) == {
            "card": "[CREDIT_DEBIT_NUMBER]",
            "number": "[CREDIT_DEBIT_NUMBER]",
            "note": 'a "quote"',
        }
        assert CARD not in body


def test_events_of_the_responses_api_stay_numbered(lite, upstream):
    provide(lite, upstream, "native")
    policy(lite, **kinds(credit_debit_number="allow_but_redact"), appliesTo=["answers"])
    upstream.will(script=responses(["one ", CARD[:8], CARD[8:]]))
    _answer, body = stream(lite, "responses")
    numbers = [event["sequence_number"] for event in events(body)]
    assert numbers == list(range(len(numbers)))
    assert events(body)[-1]["response"]["output"][0]["content"][0]["text"] == "one [CREDIT_DEBIT_NUMBER]"
