"""Tokens times rates gives nano-USD. Pure, in integers, rounded half up once at the end."""

from collections.abc import Iterable
from typing import Final

from services.types import Bound, Price, Usage

PER_MILLION: Final = 1_000_000
FREE: Final = Price(0, 0, is_free=True, source="free")
UNPRICED: Final = Price(0, 0, is_free=True, source="unpriced")  # booked at zero on purpose, and marked as such


def charge_nanousd(usage: Usage, price: Price) -> int:
    """The cost of a call in nano-USD. Tokens nobody reported cost nothing; estimate them first.

    Cached input is charged at its own rate where the price has one, else at the input rate. A provider that
    reports more cached than input tokens is charged for the cached ones, never less than nothing for the rest.
    """
    read, created = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    fresh = max(0, (usage.input_tokens or 0) - read - created)
    total = (
        fresh * price.input_rate
        + read * _or_input(price.cache_read_rate, price)
        + created * _or_input(price.cache_creation_rate, price)
        + (usage.output_tokens or 0) * price.output_rate
    )
    return round_half_up(total)


def ceiling_nanousd(bound: Bound, prices: Iterable[Price]) -> int:
    """The most a call within the bound can cost at any of these prices, rounded up."""
    return max((_ceiling(bound, price) for price in prices), default=0)


def affordable_output(bound: Bound, prices: Iterable[Price], nanousd: int) -> int:
    """The most output tokens that still fit the money, whichever price applies; 0 = none.

    Only the input part of the bound counts; its output part is what is being asked for.
    """
    fits = []
    for price in prices:
        left = nanousd * PER_MILLION - bound.input_tokens * _dearest_input(price)
        if left < 0:
            return 0
        if price.output_rate:
            fits.append(left // price.output_rate)
    return min(fits, default=bound.output_tokens)


def tokens_of(usage: Usage) -> int:
    """All tokens of a call: input (with cached) and output (with reasoning)."""
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def round_half_up(millionths: int) -> int:
    """Millionths of a nano-USD as nano-USD."""
    return (millionths + PER_MILLION // 2) // PER_MILLION


def _ceiling(bound: Bound, price: Price) -> int:
    return -(-(bound.input_tokens * _dearest_input(price) + bound.output_tokens * price.output_rate) // PER_MILLION)


def _dearest_input(price: Price) -> int:
    return max(price.input_rate, price.cache_read_rate or 0, price.cache_creation_rate or 0)


def _or_input(rate: int | None, price: Price) -> int:
    return price.input_rate if rate is None else rate
