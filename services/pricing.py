"""Usage times a price gives nano-USD. Pure, in integers, rounded half up once at the end.

A charge is a sum of lines (what, units, rate). Rates are nano-USD per million tokens, but for the lines named in
PER_UNIT, whose rate is nano-USD for each unit. Kinds of tokens are parts of each other (cached input and audio of
input, reasoning and audio of output); a part without a rate of its own is charged with the whole it belongs to, and
parts that add up to more than their whole are charged only as far as it reaches. So every token is charged once.
"""

from collections.abc import Iterable
from typing import Final

from services.types import Bound, ChargeLine, Price, Rates, Usage

PER_MILLION: Final = 1_000_000
REQUEST: Final = "request"
IMAGE: Final = "image"
PER_UNIT: Final = frozenset({REQUEST, IMAGE})
FREE: Final = Price(0, 0, is_free=True, source="free")
UNPRICED: Final = Price(0, 0, is_free=True, source="unpriced")  # booked at zero on purpose, and marked as such


def charge_nanousd(usage: Usage, price: Price) -> int:
    """The cost of a call in nano-USD. Tokens nobody reported cost nothing; estimate them first."""
    return amount_nanousd(charge_lines(usage, price))


def charge_lines(usage: Usage, price: Price) -> tuple[ChargeLine, ...]:
    """What a call is charged for, each kind of units once; nothing where the price is free."""
    if price.is_free:
        return ()
    rates = rates_at(price, usage.input_tokens or 0)
    lines = [*_input_lines(usage, rates), *_output_lines(usage, rates)]
    lines.append((REQUEST, 1, price.request_nanousd))
    lines.append((IMAGE, usage.images or 0, price.image_nanousd))
    return tuple(line for line in lines if line[1] and (line[2] or line[0] not in PER_UNIT))


def amount_nanousd(lines: Iterable[ChargeLine]) -> int:
    """What the lines add up to."""
    return round_half_up(sum(map(line_millionths, lines)))


def line_millionths(line: ChargeLine) -> int:
    """What one line comes to, in millionths of a nano-USD: exact, not rounded."""
    what, units, rate = line
    return units * rate * (PER_MILLION if what in PER_UNIT else 1)


def rates_at(price: Price, input_tokens: int) -> Rates:
    """The rates of a call with that much input, cached included: those of the highest tier it is above."""
    for tier in reversed(price.tiers):
        if input_tokens > tier.above:
            return tier
    return price


def ceiling_nanousd(bound: Bound, prices: Iterable[Price]) -> int:
    """The most a call within the bound can cost at any of these prices, rounded up."""
    return max((_ceiling(bound, price) for price in prices), default=0)


def affordable_output(bound: Bound, prices: Iterable[Price], nanousd: int) -> int:
    """The most output tokens that still fit the money, whichever price applies; 0 = none.

    Only the input (and what is made besides) counts of the bound; its output part is what is being asked for.
    """
    fits = []
    for price in prices:
        input_rate, output_rate = _dearest(bound, price)
        left = (nanousd - _besides(bound, price)) * PER_MILLION - bound.input_tokens * input_rate
        if left < 0:
            return 0
        if output_rate:
            fits.append(left // output_rate)
    return min(fits, default=bound.output_tokens)


def tokens_of(usage: Usage) -> int:
    """All tokens of a call: input (with cached) and output (with reasoning)."""
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def round_half_up(millionths: int) -> int:
    """Millionths of a nano-USD as nano-USD."""
    return (millionths + PER_MILLION // 2) // PER_MILLION


def _input_lines(usage: Usage, rates: Rates) -> Iterable[ChargeLine]:
    """The input, part by part. Cached audio is charged as cached: nobody reports which part of both it is."""
    left = usage.input_tokens or 0
    if rates.cache_read_rate is not None and usage.cache_read_input_tokens:
        read = min(usage.cache_read_input_tokens, left)
        left -= read
        yield "cached_input", read, rates.cache_read_rate
    written = min(usage.cache_creation_input_tokens or 0, left)
    if rates.cache_creation_1h_rate is not None and usage.cache_creation_1h_input_tokens:
        hour = min(usage.cache_creation_1h_input_tokens, written)
        left, written = left - hour, written - hour
        yield "cache_write_1h", hour, rates.cache_creation_1h_rate
    if rates.cache_creation_rate is not None:
        left -= written
        yield "cache_write", written, rates.cache_creation_rate
    if rates.input_audio_rate is not None and usage.input_audio_tokens:
        audio = min(usage.input_audio_tokens, left)
        left -= audio
        yield "input_audio", audio, rates.input_audio_rate
    yield "input", left, rates.input_rate


def _output_lines(usage: Usage, rates: Rates) -> Iterable[ChargeLine]:
    left = usage.output_tokens or 0
    if rates.output_audio_rate is not None and usage.output_audio_tokens:
        audio = min(usage.output_audio_tokens, left)
        left -= audio
        yield "output_audio", audio, rates.output_audio_rate
    if rates.reasoning_rate is not None and usage.reasoning_output_tokens:
        reasoning = min(usage.reasoning_output_tokens, left)
        left -= reasoning
        yield "reasoning", reasoning, rates.reasoning_rate
    yield "output", left, rates.output_rate


def _ceiling(bound: Bound, price: Price) -> int:
    input_rate, output_rate = _dearest(bound, price)
    millionths = bound.input_tokens * input_rate + bound.output_tokens * output_rate
    return -(-millionths // PER_MILLION) + _besides(bound, price)


def _besides(bound: Bound, price: Price) -> int:
    """What a call costs that is not tokens."""
    return price.request_nanousd + bound.images * price.image_nanousd


def _dearest(bound: Bound, price: Price) -> tuple[int, int]:
    """The dearest rates that a token of input and one of output can have, in any tier the call can reach."""
    reachable: list[Rates] = [price, *(tier for tier in price.tiers if tier.above < bound.input_tokens)]
    return max(map(_dearest_input, reachable)), max(map(_dearest_output, reachable))


def _dearest_input(rates: Rates) -> int:
    parts = (rates.cache_read_rate, rates.cache_creation_rate, rates.cache_creation_1h_rate, rates.input_audio_rate)
    return max(rates.input_rate, *(rate or 0 for rate in parts))


def _dearest_output(rates: Rates) -> int:
    return max(rates.output_rate, rates.output_audio_rate or 0, rates.reasoning_rate or 0)
