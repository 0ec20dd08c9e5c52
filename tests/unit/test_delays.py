"""Buckets of milliseconds, and the percentiles that come out of them."""

import math
import random
from collections import Counter

import pytest

from services.delays import ERROR, LONGEST_MS, bucket_of, middle_ms, percentile_ms

EDGES = [edge + off for power in range(25) for edge in (2**power, 3 * 2**power) for off in (-1, 0, 1)]


def test_a_bucket_holds_what_is_near_its_middle() -> None:
    for delay in sorted({0, *EDGES, *range(3000)}):
        if delay <= LONGEST_MS:
            assert abs(middle_ms(bucket_of(delay)) - delay) <= ERROR * delay, delay
        if delay:
            assert 0 <= bucket_of(delay) - bucket_of(delay - 1) <= 1
    assert bucket_of(10 * LONGEST_MS) == bucket_of(LONGEST_MS)


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99, 1])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_percentiles_are_as_near_as_they_say(part: float, count: int) -> None:
    for seed in range(20):
        dice = random.Random(seed)
        found = sorted(round(dice.lognormvariate(6, 2)) for _place in range(count))
        exact = found[math.ceil(part * count) - 1]
        near = percentile_ms(Counter(map(bucket_of, found)), part)
        assert near is not None
        assert abs(near - exact) <= ERROR * exact


def test_without_a_call_there_is_no_percentile() -> None:
    assert percentile_ms({}, 0.5) is None
    assert percentile_ms({3: 0}, 0.5) is None
