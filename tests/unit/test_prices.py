"""Rows of prices: which one is in force, how one follows another; and the catalogue's prices in our units."""

from datetime import UTC, datetime, timedelta

import pytest

from models import Model
from models import Price as PriceRow
from services import prices
from services.pricing import FREE
from services.types import Price, Tier

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OPENAI = "https://api.openai.com/v1"


def row(source="admin", *, rate=1, days=-1, until=None, deployment=None, number=None):
    ends = None if until is None else NOW + timedelta(days=until)
    return PriceRow(
        id=number,
        input_rate=rate,
        output_rate=rate,
        request_nanousd=0,
        image_nanousd=0,
        is_free=False,
        source=source,
        deployment_id=deployment,
        valid_from_at=NOW + timedelta(days=days),
        valid_until_at=ends,
    )


@pytest.mark.parametrize(
    ("rows", "deployment", "rate"),
    [
        pytest.param([], 7, None, id="none"),
        pytest.param([row(rate=2), row(rate=3, days=-2)], 7, 2, id="the newest"),
        pytest.param([row(rate=2), row(rate=3, days=1)], 7, 2, id="not what is still to come"),
        pytest.param([row(rate=2, until=0), row(rate=3, days=-9)], 7, 3, id="not what has ended"),
        pytest.param([row(rate=2, until=1)], 7, 2, id="what will end is in force"),
        pytest.param([row(rate=2, days=0)], 7, 2, id="from its very moment on"),
        pytest.param([row(rate=2), row(rate=3, days=-9, deployment=7)], 7, 3, id="its own before its model's"),
        pytest.param([row(rate=2), row(rate=3, deployment=7)], 8, 2, id="not another deployment's"),
        pytest.param([row(rate=2), row(rate=3, deployment=7)], None, 2, id="the model's for any"),
        pytest.param(
            [row("genai-prices 9", rate=2, deployment=7), row(rate=3, days=-9)], 7, 3, id="people before the catalogue"
        ),
        pytest.param(
            [row("free", rate=2, days=-9), row("genai-prices 9", rate=3, deployment=7, days=-20)],
            7,
            3,
            id="a local model's is looked up like others",
        ),
        pytest.param([row(rate=2, number=1), row(rate=3, number=2)], 7, 3, id="the later one of the same moment"),
    ],
)
def test_which_price_is_in_force(rows, deployment, rate):
    found = prices.in_force(rows, deployment, NOW)
    assert (found and found.input_rate) == rate


def test_the_next_moment_at_which_something_changes():
    rows = [row(days=3), row(until=2), row(days=-5, until=-3), row()]
    assert prices.next_change(rows, NOW) == NOW + timedelta(days=2)
    assert prices.next_change(rows[2:], NOW) is None


@pytest.fixture
def model():
    return Model(name="m", prices=[row(rate=1), row("genai-prices 1", rate=5, deployment=7), row(rate=9, days=4)])


def test_a_new_price_ends_the_old_ones_and_leaves_the_future(model):
    assert prices.supersede(model, {None: Price(2, 2, source="admin")}, NOW)
    assert [(p.input_rate, p.valid_until_at) for p in model.prices] == [(1, NOW), (5, NOW), (9, None), (2, None)]
    assert model.prices[-1].valid_from_at == NOW
    assert prices.in_force(model.prices, 7, NOW).input_rate == 2
    assert prices.in_force(model.prices, 7, NOW + timedelta(days=5)).input_rate == 9


def test_what_is_wanted_already_stays_as_it_is(model):
    assert not prices.supersede(
        model, {None: Price(1, 1, source="admin"), 7: Price(5, 5, source="genai-prices 2")}, NOW
    )
    assert [p.valid_until_at for p in model.prices] == [None, None, None]
    assert prices.supersede(model, {None: Price(1, 1, source="file"), 7: Price(5, 5, source="genai-prices 2")}, NOW)


def test_only_what_may_be_replaced_is_ended(model):
    wanted = {7: Price(6, 6, source="genai-prices 2")}
    assert prices.supersede(model, wanted, NOW, replaces=lambda row: prices.is_catalogue(row.source))
    assert [(p.input_rate, p.valid_until_at) for p in model.prices] == [(1, None), (5, NOW), (9, None), (6, None)]


def test_no_price_is_wanted(model):
    assert prices.supersede(model, {}, NOW)
    assert prices.in_force(model.prices, 7, NOW) is None


def test_a_price_survives_its_row():
    price = Price(
        3,
        4,
        1,
        None,
        2,
        5,
        6,
        7,
        8,
        9,
        (Tier(6, 8, 1, None, 4, 5, 6, 7, above=10), Tier(3, 9, 1, above=20)),
        source="x",
    )
    found = prices.row_of(price, 7, NOW)
    assert found.tiers[0] == {"above": 10, "input_rate": 6, "output_rate": 8, "cache_creation_1h_rate": 4}
    found.tiers.reverse()
    assert prices.record_of(found) == price
    assert (found.deployment_id, found.valid_from_at) == (7, NOW)


# The catalogue.


def entry(address, model, at=NOW):
    return prices.find_entry("openai", address, model, at)


def test_every_kind_that_the_catalogue_prices_is_taken_over():
    found = entry("https://api.anthropic.com", "claude-3-7-sonnet-20250219").price
    assert (found.cache_read_rate, found.cache_creation_rate, found.cache_creation_1h_rate) == (
        300_000_000, 3_750_000_000, 6_000_000_000,
    )  # fmt: skip
    audio = entry(OPENAI, "gpt-audio").price
    assert (audio.input_audio_rate, audio.output_audio_rate) == (32_000_000_000, 64_000_000_000)
    sonar = entry("https://api.perplexity.ai", "sonar-deep-research").price
    assert (sonar.output_rate, sonar.reasoning_rate) == (8_000_000_000, 3_000_000_000)
    assert entry("https://api.perplexity.ai", "sonar").price.request_nanousd == 12_000_000
    assert audio.source.startswith("genai-prices ")


def test_tiers_are_taken_over_with_every_rate_they_have():
    found = entry("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-2.5-pro").price
    (tier,) = found.tiers
    assert (found.input_rate, found.output_rate, found.cache_read_rate) == (1_250_000_000, 10_000_000_000, 125_000_000)
    assert (tier.above, tier.input_rate, tier.output_rate, tier.cache_read_rate) == (
        200_000, 2_500_000_000, 15_000_000_000, 250_000_000,
    )  # fmt: skip


def test_of_prices_by_the_hour_the_dearest_is_taken_whatever_the_hour():
    hours = [NOW + timedelta(hours=hour) for hour in range(24)]
    found = {entry("https://api.deepseek.com/v1", "deepseek-chat", hour).price.input_rate for hour in hours}
    assert len(found) == 1
    reasoner = entry("https://api.deepseek.com/v1", "deepseek-reasoner").price
    assert (reasoner.input_rate, reasoner.output_rate) == (550_000_000, 2_190_000_000)


def test_embeddings_have_input_only_and_a_window():
    found = entry(OPENAI, "text-embedding-3-small")
    assert (found.price.input_rate, found.price.output_rate, found.context_window) == (20_000_000, 0, 8192)


def test_ones_own_machine_is_free():
    assert prices.find_entry("ollama", "http://127.0.0.1:11434", "llama3.2").price is FREE


def test_providers_are_known_by_their_address():
    assert prices.catalogue_provider("https://api.x.ai/v1") == "x-ai"
    assert prices.catalogue_provider("http://127.0.0.1:1/v1") is None


class Found:
    """A catalogue with one model of these rates."""

    def __init__(self, **rates):
        from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice

        self.model = ModelInfo("m", ClauseEquals("m"), prices=ModelPrice(**rates))

    def find_provider_model(self, *_asked):
        return None, self.model


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, None),
        ({"input_mtok": 0, "output_mtok": 0}, Price(0, 0, is_free=True, source="s")),
        ({"input_mtok": 0, "output_mtok": 0, "audio_hours": 3}, None),
        ({"input_mtok": 0, "output_mtok": 0, "requests_kcount": 3}, Price(0, 0, request_nanousd=3_000_000, source="s")),
        ({"input_mtok": 2, "output_mtok": 1, "output_image_mtok": 30}, None),
        ({"input_mtok": 2, "output_mtok": 3, "output_image_mtok": 3}, Price(2 * 10**9, 3 * 10**9, source="s")),
        ({"output_mtok": 1}, None),
        ({"input_mtok": 10**7, "output_mtok": 1}, None),
        ({"input_mtok": -1, "output_mtok": 1}, None),
        ({"input_mtok": 10**12, "output_mtok": 1}, None),
    ],
    ids=[
        "nothing", "free", "zero, but priced by the hour", "zero, but each request costs", "dearer image tokens",
        "image tokens as others", "no input", "more than a dollar a token", "negative", "beyond all numbers",
    ],
)  # fmt: skip
def test_what_the_catalogue_may_say(rates, expected):
    from decimal import Decimal

    found = prices.entry_in(Found(**{name: Decimal(value) for name, value in rates.items()}), "", "m", source="s")
    assert found.price == expected
