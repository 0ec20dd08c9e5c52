"""Prices as people write them."""

from decimal import Decimal

import pytest

from services import pricewords
from services.errors import InvalidRequest
from services.types import Price, Tier

BOTH = {"input_per_million": "2.50", "output_per_million": 10}


def read(given, **more):
    return pricewords.read(given, source="s", **more)


def test_rates_are_read_per_million_and_per_thousand():
    price = Price(2_500_000_000, 10_000_000_000, source="s")
    assert read(BOTH) == price
    assert read({"input_per_1k": "$0.0025", "output_per_1k": Decimal("0.010"), "reasoning_per_1k": ""}) == price


def test_every_field_sets_what_it_names():
    given = {f"{kind}_per_million": place for place, kind in enumerate(pricewords.KINDS, 1)}
    found = read(given | {"per_request": "0.005", "per_image": "0.04"})
    assert [getattr(found, name) // 10**9 for name in pricewords.KINDS.values()] == list(range(1, 9))
    assert (found.request_nanousd, found.image_nanousd) == (5_000_000, 40_000_000)


def test_free_is_said_in_words():
    found = read({}, is_free=True)
    assert (found.is_free, found.input_rate, found.output_rate, found.source) == (True, 0, 0, "s")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "what input and what output cost"),
        ({"input_per_million": 1}, "what input and what output cost"),
        ({"input_per_million": 0, "output_per_million": 0}, "mark the model as free"),
        ({"input_per_million": -1, "output_per_million": 1}, "cannot be negative"),
        ({"input_per_million": "-1e-30", "output_per_million": 1}, "cannot be negative"),
        ({"input_per_million": "cheap", "output_per_million": 1}, "is not an amount"),
        ({"input_per_million": "NaN", "output_per_million": 1}, "out of range"),
        ({"input_per_million": "Infinity", "output_per_million": 1}, "out of range"),
        ({"input_per_million": "1000001", "output_per_million": 1}, "out of range"),
        ({"input_per_1k": "1000.1", "output_per_million": 1}, "out of range"),
        ({"input_per_million": "1e999999999", "output_per_million": 1}, "out of range"),
        ({"input_per_million": "0.0000000001", "output_per_million": 1}, "finer than"),
        ({"input_per_million": "1e-999999999", "output_per_million": 1}, "finer than"),
        (BOTH | {"input_per_1k": 1}, "says again"),
    ],
)
def test_a_price_that_cannot_be_is_refused(given, said):
    with pytest.raises(InvalidRequest, match=said):
        read(given)


@pytest.mark.parametrize("more", [{"tiers": [{"above": 1, "input_per_million": 1}]}, {"given": BOTH}])
def test_a_free_model_has_no_rates(more):
    with pytest.raises(InvalidRequest, match="no rates"):
        read(more.get("given", {}), tiers=more.get("tiers", ()), is_free=True)


def test_a_price_that_is_zero_but_for_one_part_is_a_price():
    zero = {"input_per_million": 0, "output_per_million": 0}
    assert not read(zero | {"per_request": 1}).is_free
    assert not read(zero, tiers=[{"above": 9, "input_per_million": 1}]).is_free


TEXT = "200000: input=2.5 output=15 cached_input=0.25; 1000000: output=20"


def test_tiers_are_read_and_shown_in_the_same_words():
    price = read(BOTH | {"cached_input_per_million": 1}, tiers=pricewords.read_tiers(TEXT))
    assert price.tiers == (
        Tier(2_500_000_000, 15_000_000_000, 250_000_000, above=200_000),
        Tier(2_500_000_000, 20_000_000_000, 10**9, above=1_000_000),
    )
    assert pricewords.show_tiers(price) == TEXT.replace("input=2.5 output=15", "output=15"), "only what differs"
    again = pricewords.add_tiers(price, pricewords.read_tiers(pricewords.show_tiers(price)))
    assert again == price
    assert pricewords.read_tiers(" \n") == []


@pytest.mark.parametrize(
    "text",
    [
        "200000", "200000:", "200000: input", "x: input=1", "200000: inputs=1", "200000: input=1 output",
        "2" * 30 + ": input=1", "1.5: input=1", "200000: input=", "٢: input=1",
    ],
)  # fmt: skip
def test_a_tier_in_other_words_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no tier"):
        pricewords.read_tiers(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0: input=1", "cannot begin"),
        ("4294967296: input=1", "cannot begin"),
        ("5: input=1; 5: output=1", "same place"),
        ("5: input=x", "not an amount"),
        ("5: input=1 input=2", "is no tier"),
    ],
)
def test_tiers_that_cannot_be_are_refused(text, said):
    with pytest.raises(InvalidRequest, match=said):
        read(BOTH, tiers=pricewords.read_tiers(text))


def test_a_tier_says_something_about_tokens():
    for tier in ({"above": 5}, {"above": 5, "per_request": 1}):
        with pytest.raises(InvalidRequest, match="what tokens cost"):
            read(BOTH, tiers=[tier])


def test_a_price_in_a_line():
    assert pricewords.show(None) == "unknown"
    assert pricewords.show(read({}, is_free=True)) == "free"
    price = read(BOTH | {"per_request": "0.005"}, tiers=pricewords.read_tiers("9: input=3"))
    assert pricewords.show(price) == "input $2.50, output $10.00, each request $0.005 (above 9: input=3)"
