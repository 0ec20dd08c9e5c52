"""Money and prices: integers, one rounding."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import pricing
from services.types import Bound, Price, Usage
from utils import money

CHEAP = Price(150_000_000, 600_000_000)
CACHED = Price(3_000_000_000, 15_000_000_000, 300_000_000, 3_750_000_000)
tokens = st.integers(0, 2_000_000)


@pytest.mark.parametrize(
    ("usd", "nanousd"),
    [
        ("1", 10**9),
        ("0.15", 150_000_000),
        (Decimal("0.0000000005"), 1),
        ("0.00000000049", 0),
        (2, 2 * 10**9),
        ("-1.5", -1_500_000_000),
    ],
)
def test_usd_to_nanousd(usd, nanousd):
    assert money.nanousd(usd) == nanousd


@pytest.mark.parametrize("usd", ["", "abc", "NaN", "Infinity", "1e30", "-1e12"])
def test_not_an_amount(usd):
    with pytest.raises(ValueError, match="amount"):
        money.nanousd(usd)


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [
        (0, "$0.00"),
        (10**9, "$1.00"),
        (1_234_500_000, "$1.2345"),
        (25, "$0.000000025"),
        (-1_500_000_000, "-$1.50"),
        (10**15, "$1,000,000.00"),
    ],
)
def test_shown(nanousd, shown):
    assert money.show_usd(nanousd) == shown
    assert money.usd(nanousd) == Decimal(nanousd) / 10**9


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        pytest.param(Usage(3, 5), CHEAP, 3 * 150 + 5 * 600, id="input and output"),
        pytest.param(Usage(1, 0), Price(500_000, 0), 1, id="half a nano-USD is rounded up"),
        pytest.param(Usage(1, 0), Price(499_999, 0), 0, id="less is rounded down"),
        pytest.param(
            Usage(1000, 0, cache_read_input_tokens=900),
            CACHED,
            100 * 3000 + 900 * 300,
            id="cached input at its rate, once",
        ),
        pytest.param(Usage(1000, 0, None, 1000), CACHED, 1000 * 3750, id="written to the cache"),
        pytest.param(Usage(1000, 10, 900), CHEAP, 1000 * 150 + 10 * 600, id="cached input without a rate is input"),
        pytest.param(Usage(10, 0, 50), CACHED, 10 * 300, id="more cached than input: no token is charged twice"),
        pytest.param(Usage(), CHEAP, 0, id="nothing reported costs nothing"),
        pytest.param(Usage(10, 10), pricing.FREE, 0, id="free"),
    ],
)
def test_charge(usage, price, cost):
    assert pricing.charge_nanousd(usage, price) == cost


@given(tokens, tokens, tokens, tokens, st.sampled_from([CHEAP, CACHED]))
def test_a_call_within_its_bound_never_costs_more_than_the_ceiling(used_in, used_out, more_in, more_out, price):
    bound = Bound(used_in + more_in, used_out + more_out)
    usage = Usage(used_in, used_out, used_in // 2, used_in // 3)
    assert pricing.charge_nanousd(usage, price) <= pricing.ceiling_nanousd(bound, [CHEAP, price])


@given(tokens, st.integers(0, 10**13), st.sampled_from([[CHEAP], [CACHED], [CHEAP, CACHED]]))
def test_affordable_output_fits_and_one_more_does_not(used_in, left, prices):
    output = pricing.affordable_output(Bound(used_in, 0), prices, left)
    if output:
        assert pricing.ceiling_nanousd(Bound(used_in, output), prices) <= left
    if pricing.ceiling_nanousd(Bound(used_in, 0), prices) <= left:
        assert pricing.ceiling_nanousd(Bound(used_in, output + 1), prices) > left


def test_output_without_a_rate_is_bounded_by_what_was_asked():
    assert pricing.affordable_output(Bound(10, 77), [Price(1_000_000, 0)], 10**9) == 77


def test_no_prices_no_ceiling():
    assert pricing.ceiling_nanousd(Bound(10, 10), []) == 0


def test_all_tokens_of_a_call():
    assert pricing.tokens_of(Usage(3, None)) == 3
    assert pricing.tokens_of(Usage(3, 4, cache_read_input_tokens=2, reasoning_output_tokens=1)) == 7
