"""Whatever stands anywhere in a request or answer, it is an error with a name, never a failure of ours.

Every node of every recorded case is replaced by values of other types, one at a time.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.dialects import OPENAI
from services.errors import GatewayError, InvalidRequest, UpstreamError
from services.providers import WIRES
from services.providers.eventstream import MessageSplitter
from services.types import CHAT
from tests.calls import CALLER, DEPLOYMENT, make_call
from tests.fakes import eventstream
from utils import jsonx, sse

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
OURS = ("gemini", "bedrock")
JUNK = (None, True, 7, "x", [], {}, ["x"], [{}], {"x": 7})


def cases(name):
    found = [path for kind in OURS for path in sorted(GOLDEN.glob(f"{kind}/*/{name}"))]
    return [pytest.param(path, id=f"{path.parent.parent.name}/{path.parent.name}") for path in found]


def mutations(value: Any) -> Iterator[Any]:
    """The value with one node replaced or left out."""
    for path in nodes(value):
        for junk in (*JUNK, ...):
            changed = deepcopy(value)
            holder = changed
            for key in path[:-1]:
                holder = holder[key]
            if junk is ...:
                del holder[path[-1]]
            else:
                holder[path[-1]] = deepcopy(junk)
            yield changed


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from nodes(entry, (*path, key))


def told(path):
    return json.loads((path.parent / "case.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", cases("request.in"))
def test_requests_of_any_shape_are_sent_or_refused(path):
    said = told(path)
    wire, deployment = WIRES[path.parent.parent.name], replace(DEPLOYMENT, model=said["model"])
    operation = said.get("call", {}).get("operation", CHAT)
    sent, params = 0, []
    for body in mutations(json.loads(path.read_bytes())):
        try:
            call = OPENAI.call(operation, jsonx.dumps(body), CALLER, make_call().id)
            wire.encode(call, deployment)
            sent += 1
        except InvalidRequest as exc:
            params.append(exc.param)
    assert sent
    assert params
    assert all(params)


@pytest.mark.parametrize("path", cases("answer.in"))
def test_answers_of_any_shape_are_read_or_the_upstreams_error(path):
    wire, fields = WIRES[path.parent.parent.name], told(path).get("call", {})
    seen = set()
    for answer in mutations(json.loads(path.read_bytes())):
        try:
            whole = wire.decode(make_call(**fields), jsonx.dumps(answer))
            assert all(isinstance(piece, str) for piece in whole.pieces)
            seen.add("read")
        except UpstreamError:
            seen.add("refused")
    assert seen == {"read", "refused"}


def events_in(path) -> list[Any]:
    raw = path.read_bytes()
    if path.parent.parent.name == "bedrock":
        return [(headers[":event-type"], json.loads(body)) for headers, body in MessageSplitter().feed(raw)]
    split = sse.EventSplitter()
    return [json.loads(sse.data_of(event) or b"") for event in [*split.feed(raw), *split.end()]]


def written(path, events: list[Any]) -> bytes:
    if path.parent.parent.name == "bedrock":
        return eventstream.stream(*events)
    return b"".join(sse.format_event(event) for event in events)


@pytest.mark.parametrize("path", cases("stream.in"))
def test_streams_of_any_shape_are_read_or_the_upstreams_error(path):
    events, wire = events_in(path), WIRES[path.parent.parent.name]
    seen = set()
    for index, event in enumerate(events):
        for changed in mutations(event if isinstance(event, dict) else event[1]):
            given = changed if isinstance(event, dict) else (event[0], changed)
            call = make_call(is_stream=True, wants_usage=True)
            decoder = wire.stream(call)
            try:
                out = [*decoder.feed(written(path, [*events[:index], given, *events[index + 1 :]])), *decoder.end()]
                for data in map(sse.data_of, out[:-1]):
                    assert json.loads(data or b"")["object"] == "chat.completion.chunk"
                assert out[-1] == sse.DONE
                seen.add("read")
            except UpstreamError:
                seen.add("refused")
            assert all(isinstance(piece, str) for piece in call.pieces)
            assert decoder.usage is None or isinstance(decoder.usage.input_tokens, int | None)
    assert seen == {"read", "refused"}


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[7]", b"7", b'"x"', b'{"error": 7}', b'{"message": []}'])
@pytest.mark.parametrize("status", [400, 403, 429, 500, 599])
def test_errors_of_any_shape_keep_their_class(kind, body, status):
    exc = WIRES[kind].error(status, {}, body, DEPLOYMENT)
    assert isinstance(exc, GatewayError)
    assert exc.is_retryable == (status != 400)
