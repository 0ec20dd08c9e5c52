"""Recorded wire bytes: every stream, cut at every byte, gives its caller the same bytes and the books the same usage.

`golden/NAME/CASE/`, where NAME is a wire or `dialect-` and a dialect. In each folder any of

- `request.in`, `request.out`: a wire gets the hub's body and sends these bytes; a dialect gets its client's body and
  makes that hub body;
- `answer.in`, `answer.out`: whole answers, from the provider to the hub, or from the hub to the dialect's client;
- `stream.in`, `stream.out`: the same, streamed;
- `error.in`, `error.out`: a provider's error body, and what is made of it;
- `case.json`: fields of the call, the deployment's model, the provider's settings and base URL, the usage, and what of
  the request is dropped; with `dialect`, the wire gets the body of a client of that dialect, which is also its own.

`make golden-update` rewrites what is expected; the difference is then the review.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.dialects import DIALECTS
from services.dialects.base import Translated
from services.errors import UpstreamError
from services.providers import WIRES
from services.providers.openai import OpenAIStream
from services.types import CHAT, Call, Usage
from tests.calls import CALLER, DEPLOYMENT, UPSTREAM, attempted, make_call

GOLDEN = Path(__file__).parent / "golden"
DIALECT = "dialect-"


def cases(name: str) -> list[Path]:
    return sorted(path.parent for path in GOLDEN.glob(f"*/*/{name}"))


def name_of(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


def told(case: Path) -> dict[str, Any]:
    path = case / "case.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def dialect_of(case: Path) -> str | None:
    name = case.parent.name
    return name.removeprefix(DIALECT) if name.startswith(DIALECT) else None


def usage_in(case: Path) -> Usage | None:
    expected = told(case).get("usage")
    return None if expected is None else Usage(**expected)


def call_of(case: Path, **more: Any) -> Call:
    fields = told(case).get("call", {})
    if "forwarded" in fields:
        fields["forwarded"] = tuple(map(tuple, fields["forwarded"]))
    path = case / "request.in"
    if path.exists() and (dialect := dialect_of(case) or told(case).get("dialect")):
        found = DIALECTS[dialect].call(fields.get("operation", CHAT), path.read_bytes(), CALLER, make_call().id)
        for name, value in {"started_ms": make_call().started_ms, **fields, **more}.items():
            setattr(found, name, value)
        return found
    if path.exists():
        more["body"] = json.loads(path.read_bytes())
    return make_call(**(fields | more))


def deployment_of(case: Path) -> Any:
    said = told(case)
    own = {name: said[name] for name in ("settings", "base_url") if name in said}
    upstream = replace(UPSTREAM, kind=case.parent.name, **own)
    return replace(DEPLOYMENT, upstream=upstream, model=said.get("model", DEPLOYMENT.model))


def compare(path: Path, found: bytes) -> None:
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_bytes(found)
    assert found == path.read_bytes()


def tried(case: Path, **more: Any) -> Call:
    """The call once it has been sent to the case's provider."""
    return attempted(call_of(case, **more), deployment_of(case))


def decode(case: Path, pieces: list[bytes]) -> tuple[bytes, Usage | None, list[str]]:
    call, dialect = tried(case, is_stream=True), dialect_of(case)
    if dialect is None:
        decoder = WIRES[case.parent.name].stream(call)
    else:
        translation = DIALECTS[dialect].translation
        assert translation is not None
        decoder = Translated(OpenAIStream(call, wants_usage=True), translation.stream(call))
    out = b"".join(event for piece in pieces for event in decoder.feed(piece)) + b"".join(decoder.end())
    return out, decoder.usage, call.pieces


@pytest.mark.parametrize("case", cases("stream.in"), ids=name_of)
def test_a_stream_cut_anywhere_says_the_same(case):
    raw = (case / "stream.in").read_bytes()
    out, usage, pieces = decode(case, [raw])
    for cut in range(len(raw) + 1):
        assert decode(case, [raw[:cut], raw[cut:]]) == (out, usage, pieces)
    assert decode(case, [raw[i : i + 1] for i in range(len(raw))]) == (out, usage, pieces)
    assert usage == usage_in(case)
    compare(case / "stream.out", out)


@pytest.mark.parametrize("case", cases("request.in"), ids=name_of)
def test_a_request_is_translated(case):
    call = call_of(case)
    if dialect_of(case) is not None:
        compare(case / "request.out", json.dumps(call.body, indent=1, ensure_ascii=False).encode() + b"\n")
        return
    sent = WIRES[case.parent.name].encode(call, deployment_of(case))
    compare(case / "request.out", f"{sent.method} {sent.path}\n".encode() + sent.body + b"\n")
    assert list(sent.dropped) == told(case).get("dropped", [])


@pytest.mark.parametrize("case", cases("answer.in"), ids=name_of)
def test_an_answer_is_translated(case):
    call, raw = tried(case), (case / "answer.in").read_bytes()
    if (dialect := dialect_of(case)) is not None:
        translation = DIALECTS[dialect].translation
        assert translation is not None
        compare(case / "answer.out", translation.answer(call, raw) + b"\n")
        return
    whole = WIRES[case.parent.name].decode(call, raw)
    compare(case / "answer.out", whole.body + b"\n")
    assert whole.usage == usage_in(case)


@pytest.mark.parametrize("case", cases("error.in"), ids=name_of)
def test_an_error_keeps_what_its_caller_can_act_on(case):
    raw, said = (case / "error.in").read_bytes(), told(case)
    wire = WIRES[case.parent.name]
    exc = wire.error(said["status"], said.get("headers", {}), raw, deployment_of(case))
    shown = {name: getattr(exc, name) for name in ("status", "type", "code", "param", "retry_after_s", "is_retryable")}
    compare(
        case / "error.out", json.dumps({"message": str(exc), **shown}, indent=1, ensure_ascii=False).encode() + b"\n"
    )


def test_what_nobody_asked_for_is_all_that_is_taken_away():
    """The load-bearing fact of the pass-through, spelled out."""
    raw = (GOLDEN / "openai/text-usage-asked/stream.in").read_bytes()
    assert (GOLDEN / "openai/text-usage-asked/stream.out").read_bytes() == raw
    stripped = (GOLDEN / "openai/text-usage-not-asked/stream.out").read_bytes()
    usage_event = raw[raw.index(b'data: {"id"', raw.rindex(b'"finish_reason":"stop"')) : raw.index(b"data: [DONE]")]
    assert stripped == raw.replace(usage_event, b"").replace(b',"usage":null', b"")


@pytest.mark.parametrize("case", cases("stream.in"), ids=name_of)
def test_a_stream_that_ends_early_is_not_taken_for_whole(case):
    """No invented `stop`: without an end mark or a finish reason, the end is an error."""
    raw = (case / "stream.in").read_bytes()
    marks = told(case).get("end_marks") or ['"finish_reason":"', '"finish_reason": "', '"done": true']
    first_finish = min(raw.find(mark.encode()) for mark in marks if mark.encode() in raw)
    for cut in (0, first_finish // 2, first_finish - 2):
        with pytest.raises(UpstreamError, match=r"early|malformed|JSON"):
            decode(case, [raw[:cut]])
