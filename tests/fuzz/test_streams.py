"""Random cuts and random damage: how the network and a lying upstream treat a stream.

Short in the suite; TOLLHOUSE_FUZZ=100000 (`make fuzz`) sets how many cases. A failure names its seed.
"""

import os
import random

import pytest

from services.errors import UpstreamError
from tests.test_golden import cases, decode

CASES = cases("stream.in")
COUNT = int(os.environ.get("TOLLHOUSE_FUZZ", "3000"))
SEED = int(os.environ.get("TOLLHOUSE_SEED", "20261121"))


def test_random_cuts_never_change_what_a_stream_says():
    streams = [(case, (case / "stream.in").read_bytes()) for case in cases("stream.in")]
    whole = {case: decode(case, [raw]) for case, raw in streams}
    for seed in range(SEED, SEED + COUNT):
        chance = random.Random(seed)
        case, raw = chance.choice(streams)
        cuts = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.choice((1, 2, 3, 7, 30, 200))))
        pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        assert decode(case, pieces) == whole[case], f"{case.name}, seed {seed}"


def test_a_damaged_stream_is_an_upstreams_error_or_handed_on_and_nothing_else():
    streams = [(case, (case / "stream.in").read_bytes()) for case in cases("stream.in")]
    ends = {"whole": 0, "refused": 0}
    for seed in range(SEED, SEED + COUNT):
        chance = random.Random(seed)
        case, raw = chance.choice(streams)
        try:
            _out, usage, pieces = decode(case, [_damaged(chance, raw)])
        except UpstreamError:
            ends["refused"] += 1
            continue
        except Exception as exc:  # noqa: BLE001 - whatever it is, the seed must be named
            pytest.fail(f"{case.name}, seed {seed}: {exc!r}")
        ends["whole"] += 1
        assert all(isinstance(piece, str) for piece in pieces), f"{case.name}, seed {seed}"
        if usage is not None:
            for count in (usage.input_tokens, usage.output_tokens):
                assert count is None or (type(count) is int and count >= 0), f"{case.name}, seed {seed}"
    assert min(ends.values()) > COUNT / 20, ends


def _damaged(chance: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        where = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data[where] = chance.randrange(256)
        elif kind == 1:
            del data[where : where + chance.randrange(1, 40)]
        elif kind == 2:
            data[where:where] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 3:
            data[where:where] = chance.choice(WORDS)
        else:
            other = chance.randrange(len(data))
            data[where:where] = data[other : other + chance.randrange(1, 60)]
        if not data:
            return b""
    return bytes(data)


WORDS = [
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"1e999",
    b"-1",
    b"NaN",
    b"\x00",
    b"\xed\xa0\x80",
    b"\n\n",
    b"data: ",
    b"data: null\n\n",
    b"data: []\n\n",
    b'data: {"choices":null}\n\n',
    b'data: {"choices":[null]}\n\n',
    b'data: {"choices":[{"delta":[]}]}\n\n',
    b'data: {"choices":[{"index":-1,"delta":{"content":7}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":1.5}}\n\n',
    b'data: {"choices":[],"usage":[]}\n\n',
    b'{"done":true}\n',
    b'{"message":7}\n',
    b'{"error":{}}\n',
    b"[" * 500,
]
