"""A charge is a sum of lines that reach every token once, and never more than what was held for it."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services import pricing
from services.types import Bound, Price, Rates, Tier, Usage

counts = st.none() | st.integers(0, 3_000_000)
rates = st.integers(0, 10**15)
optional = st.none() | rates
PARTS = (
    "cache_read_rate", "cache_creation_rate", "cache_creation_1h_rate", "input_audio_rate", "output_audio_rate",
    "reasoning_rate",
)  # fmt: skip
COUNTED = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens", "cache_creation_1h_input_tokens", "images",
)  # fmt: skip
INPUT = {"input", "cached_input", "cache_write", "cache_write_1h", "input_audio"}
OUTPUT = {"output", "output_audio", "reasoning"}
rate_fields = {"input_rate": rates, "output_rate": rates, **dict.fromkeys(PARTS, optional)}
usages = st.builds(Usage, **dict.fromkeys(COUNTED, counts))


@st.composite
def prices(draw):
    starts = sorted(draw(st.sets(st.integers(0, 3_000_000), max_size=3)))
    tiers = tuple(draw(st.builds(Tier, above=st.just(above), **rate_fields)) for above in starts)
    besides = {"request_nanousd": rates, "image_nanousd": rates}
    return draw(st.builds(Price, tiers=st.just(tiers), **besides, **rate_fields))


@given(usages, prices(), *(st.integers(0, 1_000_000),) * 3, st.lists(prices(), max_size=2))
@example(Usage(200_001, 0), Price(1, 1, tiers=(Tier(9, 9, above=200_000),)), 0, 0, 0, [])
def test_no_usage_within_the_bound_costs_more_than_the_ceiling(usage, price, more_in, more_out, more_images, others):
    bound = Bound(
        (usage.input_tokens or 0) + more_in, (usage.output_tokens or 0) + more_out, (usage.images or 0) + more_images
    )
    assert pricing.charge_nanousd(usage, price) <= pricing.ceiling_nanousd(bound, [*others, price])


@given(usages, prices())
def test_lines_add_up_to_the_charge_and_reach_every_token_once(usage, price):
    lines = pricing.charge_lines(usage, price)
    parts = (Decimal(units * rate) / (1 if what in pricing.PER_UNIT else 10**6) for what, units, rate in lines)
    exact = sum(parts, Decimal(0))
    assert int(exact.quantize(Decimal(1), ROUND_HALF_UP)) == pricing.charge_nanousd(usage, price)
    assert sum(units for what, units, _ in lines if what in INPUT) == (usage.input_tokens or 0)
    assert sum(units for what, units, _ in lines if what in OUTPUT) == (usage.output_tokens or 0)
    assert len({what for what, _, _ in lines}) == len(lines)
    assert all(units > 0 for _, units, _ in lines)


@given(prices(), st.integers(0, 3_000_000), st.integers(0, 2), st.integers(0, 10**16))
def test_affordable_output_fits_and_one_more_does_not(price, used_in, images, left):
    bound = Bound(used_in, 0, images)
    output = pricing.affordable_output(bound, [price], left)
    if pricing.ceiling_nanousd(bound, [price]) > left:
        assert output == 0
    elif pricing.ceiling_nanousd(Bound(used_in, 1, images), [price]) > pricing.ceiling_nanousd(bound, [price]):
        assert pricing.ceiling_nanousd(Bound(used_in, output, images), [price]) <= left
        assert pricing.ceiling_nanousd(Bound(used_in, output + 1, images), [price]) > left


FULL = Price(1_000_000, 2_000_000, 100_000, 1_250_000, 2_000_000, 7_000_000, 9_000_000, 3_000_000, 500, 40)


@pytest.mark.parametrize(
    ("usage", "lines"),
    [
        pytest.param(Usage(), [("request", 1, 500)], id="nothing but the request"),
        pytest.param(
            Usage(100, 50, 30, 20, 10, 5, 15, 8, 2),
            [
                ("cached_input", 30, 100_000), ("cache_write_1h", 8, 2_000_000), ("cache_write", 12, 1_250_000),
                ("input_audio", 5, 7_000_000), ("input", 45, 1_000_000), ("output_audio", 15, 9_000_000),
                ("reasoning", 10, 3_000_000), ("output", 25, 2_000_000), ("request", 1, 500), ("image", 2, 40),
            ],
            id="every kind",
        ),
        pytest.param(
            Usage(10, 10, 8, 8, 9, 8, 9, 8),
            [
                ("cached_input", 8, 100_000), ("cache_write_1h", 2, 2_000_000), ("output_audio", 9, 9_000_000),
                ("reasoning", 1, 3_000_000), ("request", 1, 500),
            ],
            id="parts that overlap are charged as far as the whole reaches",
        ),
    ],
)  # fmt: skip
def test_lines(usage, lines):
    assert list(pricing.charge_lines(usage, FULL)) == lines


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(10**6, 0, None, 3 * 10**6), Usage(10, 0, None, 4, cache_creation_1h_input_tokens=2), 6 + 4 * 3),
        (Price(10**6, 0, None, None, 3 * 10**6), Usage(10, 0, None, 4, cache_creation_1h_input_tokens=2), 8 + 2 * 3),
        (Price(10**6, 0), Usage(10, 0, 3, 4, 0, 5, 0, 2), 10),
        (Price(0, 10**6), Usage(0, 10, reasoning_output_tokens=3, output_audio_tokens=4), 10),
    ],
    ids=["an hour as other writes", "other writes as input", "all input alike", "all output alike"],
)
def test_a_part_without_a_rate_is_charged_with_its_whole(price, usage, cost):
    assert pricing.charge_nanousd(usage, price) == cost


def test_the_tier_of_a_call_applies_to_all_its_tokens_by_its_whole_input():
    price = Price(10**6, 10**6, 0, tiers=(Tier(2 * 10**6, 3 * 10**6, 10**6, above=100), Tier(5, 5, above=200)))
    assert pricing.charge_nanousd(Usage(100, 1, 100), price) == 1, "the tier begins above its mark"
    assert pricing.charge_nanousd(Usage(101, 1, 100), price) == 2 + 100 + 3, "cached input counts towards it"
    assert pricing.charge_lines(Usage(201, 0), price) == (("input", 201, 5),)
    assert pricing.rates_at(price, 101) is price.tiers[0]


def test_the_ceiling_knows_that_a_higher_tier_may_be_cheaper():
    price = Price(9, 9, tiers=(Tier(1, 1, above=10),))
    assert pricing.ceiling_nanousd(Bound(10**6, 0), [price]) == 9
    assert pricing.ceiling_nanousd(Bound(10**6, 0), [Price(1, 1, tiers=(Tier(9, 9, above=10**6),))]) == 1


def test_what_is_free_has_no_lines():
    for price in (pricing.FREE, pricing.UNPRICED):
        assert pricing.charge_lines(Usage(10, 10, images=1), price) == ()
        assert pricing.charge_nanousd(Usage(10, 10), price) == 0


def test_a_tier_is_rates_and_a_price_is_its_own_first_tier():
    assert isinstance(pricing.rates_at(FULL, 10**9), Rates)
    assert pricing.rates_at(FULL, 10**9) is FULL
