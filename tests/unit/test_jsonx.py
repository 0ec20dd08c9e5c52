"""JSON at the border."""

import contextlib
import gc

import pytest

from utils import jsonx


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"a":Infinity}', id="Infinity"),
        pytest.param(b"1e999", id="a number that is infinite"),
        pytest.param(b'"\\ud800"', id="a lone surrogate"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte order mark"),
        pytest.param(b"[" * 101 + b"]" * 101, id="too deep"),
        pytest.param(b"[" * 100_000, id="a depth bomb"),
        pytest.param(b"[" * 1_000_000 + b"]" * 1_000_000, id="a whole depth bomb"),
        pytest.param(b'{"a":' * 150 + b"1" + b"}" * 150, id="objects too deep"),
    ],
)
def test_refused(raw):
    with pytest.raises(jsonx.BadJson):
        jsonx.loads(raw)


def test_duplicate_keys_collapse_to_the_last():
    assert jsonx.loads(b'{"model":"cheap","model":"dear"}') == {"model": "dear"}


def test_the_deepest_allowed_value_can_be_written_again():
    raw = b"[" * 100 + b"]" * 100
    assert jsonx.dumps(jsonx.loads(raw)) == raw


def test_many_brackets_side_by_side_are_not_deep():
    raw = b"[" + b",".join([b"[]"] * 500) + b"]"
    assert len(jsonx.loads(raw)) == 500


@pytest.mark.parametrize(("value", "levels"), [(1, 0), ([], 1), ([[], {}], 2), ({"a": [{"b": 1}]}, 3), ("[[[", 0)])
def test_depth(value, levels):
    assert jsonx.depth(value) == levels


def test_brackets_are_counted_in_text_and_bytes():
    assert jsonx.raw_brackets("[{") == jsonx.raw_brackets(b"[{") == jsonx.raw_brackets(memoryview(b"[{")) == 2


def test_peek_refuses_what_is_no_json():
    assert jsonx.peek(b"[1]") == [1]
    with pytest.raises(jsonx.BadJson):
        jsonx.peek(b"[")


@pytest.mark.parametrize("end", [b"0]", b"0"], ids=["good", "cut"])
def test_a_large_body_of_small_lists_hardly_sets_off_the_garbage_collector(end):
    seen = []
    gc.callbacks.append(note := lambda phase, _info: seen.append(phase))
    try:
        with contextlib.suppress(jsonx.BadJson):
            jsonx.loads(b"[" + b"[]," * 200_000 + end)
    finally:
        gc.callbacks.remove(note)
    assert len(seen) < 100
    assert gc.isenabled()
