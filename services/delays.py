"""Milliseconds in buckets, so that medians come out of sums.

Up to 31 ms each has a bucket of its own; from there every doubling has sixteen of equal width. The middle of a bucket
is at most ERROR away from whatever is in it, as a share of it.
"""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

EXACT: Final = 32
STEPS: Final = 16  # to a doubling
FIRST_POWER: Final = 5  # 2 ** 5 = EXACT
LAST_POWER: Final = 23  # about 4.6 hours; whatever is longer counts as that
LONGEST_MS: Final = 2 ** (LAST_POWER + 1) - 1
ERROR: Final = 1 / (2 * STEPS)


def bucket_of(delay_ms: int) -> int:
    """The bucket of so many milliseconds."""
    if delay_ms < EXACT:
        return max(0, delay_ms)
    power = min(delay_ms, LONGEST_MS).bit_length() - 1
    return EXACT + (power - FIRST_POWER) * STEPS + (min(delay_ms, LONGEST_MS) - (1 << power) >> power - 4)


def middle_ms(bucket: int) -> float:
    """The middle of a bucket's milliseconds."""
    if bucket < EXACT:
        return float(bucket)
    power, step = divmod(bucket - EXACT, STEPS)
    width = 1 << power + 1
    return (STEPS + step) * width + (width - 1) / 2


def percentile_ms(calls: Mapping[int, int], part: float) -> float | None:
    """The delay that this part of the calls did not exceed, by nearest rank; `calls` by bucket. None = no call."""
    ranked = sorted(calls.items())
    rank = math.ceil(part * sum(count for _bucket, count in ranked))
    reached = accumulate(count for _bucket, count in ranked)
    return next(
        (middle_ms(bucket) for (bucket, _), so_far in zip(ranked, reached, strict=True) if so_far >= rank > 0), None
    )
