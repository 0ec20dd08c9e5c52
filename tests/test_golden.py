"""Every recorded stream, cut at every byte, gives the same bytes to the caller and the same usage to the books.

`make golden-update` rewrites what is expected; the difference is then the review.
"""

import json
import os
from pathlib import Path

import pytest

from services.errors import UpstreamError
from services.providers import WIRES
from services.types import Usage
from tests.calls import make_call

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/stream.in"))


def decode(case: Path, pieces: list[bytes]) -> tuple[bytes, Usage | None, list[str]]:
    fields = json.loads((case / "case.json").read_text(encoding="utf-8"))["call"]
    call = make_call(is_stream=True, **fields)
    decoder = WIRES[case.parent.name].stream(call)
    out = b"".join(event for piece in pieces for event in decoder.feed(piece)) + b"".join(decoder.end())
    return out, decoder.usage, call.pieces


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_stream_cut_anywhere_says_the_same(case):
    raw = (case / "stream.in").read_bytes()
    out, usage, pieces = decode(case, [raw])
    for cut in range(len(raw) + 1):
        assert decode(case, [raw[:cut], raw[cut:]]) == (out, usage, pieces)
    assert decode(case, [raw[i : i + 1] for i in range(len(raw))]) == (out, usage, pieces)
    expected = json.loads((case / "case.json").read_text(encoding="utf-8"))["usage"]
    assert usage == (None if expected is None else Usage(**expected))
    if os.environ.get("GOLDEN_UPDATE"):
        (case / "stream.out").write_bytes(out)
    assert out == (case / "stream.out").read_bytes()


def test_what_nobody_asked_for_is_all_that_is_taken_away():
    """The load-bearing fact of the pass-through, spelled out."""
    raw = (GOLDEN / "openai/text-usage-asked/stream.in").read_bytes()
    assert (GOLDEN / "openai/text-usage-asked/stream.out").read_bytes() == raw
    stripped = (GOLDEN / "openai/text-usage-not-asked/stream.out").read_bytes()
    usage_event = raw[raw.index(b'data: {"id"', raw.rindex(b'"finish_reason":"stop"')) : raw.index(b"data: [DONE]")]
    assert stripped == raw.replace(usage_event, b"").replace(b',"usage":null', b"")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_stream_that_ends_early_is_not_taken_for_whole(case):
    """No invented `stop`: without an end mark or a finish reason, the end is an error."""
    raw = (case / "stream.in").read_bytes()
    first_finish = min(
        raw.find(mark) for mark in (b'"finish_reason":"', b'"finish_reason": "', b'"done": true') if mark in raw
    )
    for cut in (0, first_finish // 2, first_finish - 2):
        with pytest.raises(UpstreamError, match=r"early|malformed|JSON"):
            decode(case, [raw[:cut]])
