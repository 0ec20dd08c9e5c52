"""Costs that other gateways got wrong, named by the thread that says so: what a provider reported, and what it cost.

From the usage object a provider sends, through its wire, to what is booked.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services import prices, pricing
from services.errors import ModelNotPriced
from services.providers import WIRES
from services.settlement import settlement_of
from services.types import Price, Usage
from tests.calls import DEPLOYMENT, attempted, make_call
from tests.helpers import AUTH, add_model, add_provider, chat, rows
from utils import jsonx, money

TODAY = datetime(2026, 11, 21, tzinfo=UTC)  # of the catalogue's version that these figures were taken from
GOOGLE, ANTHROPIC, OPENAI = (
    "https://generativelanguage.googleapis.com",
    "https://api.anthropic.com",
    "https://api.openai.com",
)
DOLLAR = money.NANO_PER_USD


def catalogue(address, model, at=TODAY):
    entry = prices.find_entry("openai", f"{address}/v1", model, at)
    assert entry is not None
    assert entry.price is not None
    return entry.price


def booked(usage, price):
    """What a call with that usage is charged, by lines that add up to it."""
    call = attempted(make_call(is_answered=True, outcome="ok", usage=usage), replace(DEPLOYMENT, price=price))
    found = settlement_of(call, lambda _call: pytest.fail("a reported usage is not estimated"))
    assert pricing.amount_nanousd(found.charge_lines) == found.cost_nanousd
    assert found.state == "measured"
    return money.usd(found.cost_nanousd)


def reported(usage):
    """The usage of an answer in OpenAI's dialect, whole and streamed: both say the same."""
    body = {"choices": [{"message": {"role": "assistant", "content": "hi"}}], "usage": usage}
    whole = WIRES["openai"].decode(make_call(), jsonx.dumps(body)).usage
    decoder = WIRES["openai"].stream(make_call(is_stream=True))
    chunk = jsonx.dumps({"choices": [], "usage": usage})
    assert list(decoder.feed(b"data: " + chunk + b"\n\n")) == [b""]
    assert decoder.usage == whole
    return whole


GEMINI = {  # BerriAI/litellm#14849
    "total_tokens": 264_704,
    "prompt_tokens": 262_960,
    "completion_tokens": 1744,
    "prompt_tokens_details": {"text_tokens": 262_960, "cached_tokens": 257_955},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def test_litellm_14849_cached_tokens_of_gemini_are_charged_once():
    thread = Price(DOLLAR * 125 // 100, DOLLAR * 10, DOLLAR * 625 // 1000)
    assert booked(reported(GEMINI), thread) == Decimal("0.184918125")  # the thread: 0.1849, not 0.7642
    assert booked(reported(GEMINI), catalogue(GOOGLE, "gemini-2.5-pro")) == Decimal("0.10316125")


def test_litellm_9812_what_is_written_to_anthropics_cache_is_part_of_the_input():
    usage = Usage(input_tokens=12_307, cache_creation_input_tokens=12_304, output_tokens=550)
    assert booked(usage, catalogue(ANTHROPIC, "claude-3-7-sonnet-20250219")) == Decimal("0.054399")


def test_litellm_11364_reads_and_writes_of_the_cache_in_one_call():
    usage = Usage(
        input_tokens=66_360 + 32_435 + 10,
        cache_read_input_tokens=66_360,
        cache_creation_input_tokens=32_435,
        output_tokens=5120,
    )
    assert booked(usage, catalogue(ANTHROPIC, "claude-opus-4-5")) == Decimal("0.36394875")


def test_librechat_12855_the_prompt_includes_what_was_cached():
    usage = reported(
        {
            "prompt_tokens": 11_125,
            "completion_tokens": 429,
            "total_tokens": 11_554,
            "prompt_tokens_details": {"cached_tokens": 7441},
            "completion_tokens_details": {"reasoning_tokens": 409},
        }
    )
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.reasoning_output_tokens) == (11_125, 7441, 409)
    price = Price(DOLLAR, DOLLAR * 10, DOLLAR // 10)
    assert booked(usage, price) == Decimal(11_125 - 7441 + 429 * 10) / 10**6 + Decimal(7441) / 10**7


@pytest.mark.parametrize("cached", [0, 1, 9_999, 10_000])
def test_aider_5516_a_cached_call_is_never_dearer_than_the_same_call_fresh(cached):
    """There it was about 10.9 times too dear: cached tokens were added to a prompt that had them already."""
    price = catalogue(OPENAI, "gpt-4o-mini")
    fresh = {"prompt_tokens": 10_000, "completion_tokens": 10, "total_tokens": 10_010}
    found = booked(reported(fresh | {"prompt_tokens_details": {"cached_tokens": cached}}), price)
    expected = (10_000 - cached) * price.input_rate + cached * price.cache_read_rate + 10 * price.output_rate
    assert found == Decimal(expected) / 10**15
    assert found <= booked(reported(fresh), price)


@pytest.mark.parametrize(("day", "dollars"), [((2025, 6, 1), 10), ((2025, 7, 1), 2)])
def test_the_catalogue_knows_what_o3_cost_on_a_day(day, dollars):
    assert catalogue(OPENAI, "o3", datetime(*day, tzinfo=UTC)).input_rate == dollars * DOLLAR


AUDIO = {
    "prompt_tokens": 200,
    "completion_tokens": 300,
    "total_tokens": 500,
    "prompt_tokens_details": {"cached_tokens": 50, "audio_tokens": 120},
    "completion_tokens_details": {"reasoning_tokens": 60, "audio_tokens": 200},
}


def test_audio_and_reasoning_have_their_own_rates_within_the_totals():
    price = Price(1, 10, 100, input_audio_rate=1000, output_audio_rate=10_000, reasoning_rate=100_000)
    by_rate = [30 * 1, 50 * 100, 120 * 1000, 40 * 10, 200 * 10_000, 60 * 100_000]
    assert booked(reported(AUDIO), price) == money.usd(pricing.round_half_up(sum(by_rate)))


@pytest.mark.parametrize(
    ("part", "name", "field"),
    [
        ("prompt_tokens_details", "cached_tokens", "cache_read_input_tokens"),
        ("prompt_tokens_details", "audio_tokens", "input_audio_tokens"),
        ("completion_tokens_details", "audio_tokens", "output_audio_tokens"),
        ("completion_tokens_details", "reasoning_tokens", "reasoning_output_tokens"),
    ],
)
@pytest.mark.parametrize("value", [301, -1, 1.5, "7", True, None, 2**40])
def test_a_part_that_cannot_be_is_not_believed(part, name, field, value):
    usage = reported(AUDIO | {part: {name: value}})
    assert getattr(usage, field) is None
    assert (usage.input_tokens, usage.output_tokens) == (200, 300)


@pytest.mark.parametrize("details", [None, [], "text", 7])
def test_details_that_are_no_object_are_passed_over(details):
    usage = reported(AUDIO | {"prompt_tokens_details": details, "completion_tokens_details": details})
    assert usage == Usage(200, 300)


def test_a_call_that_no_provider_took_is_charged_nothing_not_even_the_request():
    call = attempted(make_call(outcome="upstream_error"), replace(DEPLOYMENT, price=Price(1, 1, request_nanousd=9)))
    found = settlement_of(call, lambda _call: Usage(1, 1))
    assert (found.state, found.cost_nanousd, found.charge_lines) == ("void", 0, ())


def test_rag_maker_28_a_local_model_nobody_priced_is_refused_not_free(make_app, sqlite_database, upstream):
    app = make_app(sqlite_database, UNPRICED_POLICY="refuse")
    add_model(app, add_provider(app, upstream), "house", price=None)
    answer = app.test_client().post("/v1/chat/completions", json=chat(model="house"), headers=AUTH)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (402, ModelNotPriced.code)
    assert rows(app.extensions["gateway"].engine) == []
    assert upstream.served == []


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("whisper-1", id="by the second of audio"),
        pytest.param("tts-1", id="by the character"),
        pytest.param("gpt-image-1", id="image tokens that nobody counts for us"),
        pytest.param("omni-moderation-latest", id="no price at all"),
    ],
)
def test_a_model_priced_by_something_else_is_not_free(model):
    entry = prices.find_entry("openai", f"{OPENAI}/v1", model)
    assert entry is not None
    assert entry.price is None


@pytest.mark.parametrize("model", ["ft:gpt-4o-mini:acme::abc", "dall-e-3", "GigaChat-Pro", "our-own"])
def test_the_catalogue_does_not_guess(model):
    assert prices.find_entry("openai", f"{OPENAI}/v1", model) is None
    assert prices.find_entry("openai", "http://127.0.0.1:8000/v1", "gpt-4o-mini") is None
