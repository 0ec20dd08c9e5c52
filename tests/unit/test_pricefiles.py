"""Files of prices: what is read of each format, and every mistake with its line."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models import Provider
from services import pricefiles
from services.pricebook import PriceFileError
from services.types import Price, Tier

OPENAI = Provider(name="main", base_url="https://api.openai.com/v1")
GOOGLE = Provider(name="g", base_url="https://generativelanguage.googleapis.com/v1beta/openai")
HOUSE = Provider(name="house", base_url="http://10.0.0.7/v1")


def problems(read, text):
    with pytest.raises(PriceFileError) as caught:
        read(text, "s")
    assert str(caught.value).startswith("nothing was stored:\n  - ")
    return list(caught.value.problems)


CSV = """model,provider,input_per_million,output_per_1k,tiers,free,valid_from
fast,,2.5,0.01,"200000: input=5; 900000: input=6",no,
slow,main,1,1,,,2027-01-01

gratis,,,,,yes,2027-01-01T02:00:00+02:00
"""


def test_csv_names_models_and_says_what_they_cost():
    fast, slow, gratis = pricefiles.read_csv(CSV, "s")
    assert (fast.number, fast.model, fast.provider, fast.valid_from) == (2, "fast", "", None)
    assert fast.price == Price(
        2_500_000_000,
        10**10,
        tiers=(Tier(5 * 10**9, 10**10, above=200_000), Tier(6 * 10**9, 10**10, above=900_000)),
        source="s",
    )
    assert (slow.provider, slow.valid_from) == ("main", datetime(2027, 1, 1, tzinfo=UTC))
    assert (gratis.number, gratis.price.is_free, gratis.valid_from) == (5, True, datetime(2027, 1, 1, tzinfo=UTC))


HEAD = "model,input_per_million,output_per_million,free,valid_from\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "line 1: there is no column `model`"),
        ("name,input_per_million\n", "line 1: there is no column `model`"),
        ("model,input_per_milion\n", "line 1: `input_per_milion` is no column; known are model, "),
        ("model,model\n", "line 1: a column is there twice"),
        (HEAD + "fast,1\n", "line 2: there are 2 cells, and 5 columns"),
        (HEAD + ",1,1,,\n", "line 2: there is no model"),
        (HEAD + "fast,1,1,maybe,\n", "line 2: `free` is `yes` or `no`"),
        (HEAD + "fast,1,1,yes,\n", "line 2: A free model has no rates."),
        (HEAD + "fast,0,0,,\n", "line 2: A price of zero"),
        (HEAD + "fast,-1,1,,\n", "line 2: `input_per_million` cannot be negative."),
        (HEAD + "fast,1,,,\n", "line 2: Say what input and what output cost"),
        (HEAD + "fast,1,1,,tomorrow\n", "line 2: `tomorrow` is not a moment"),
        (HEAD + "fast,1,1,,0001-01-01T00:00+23:59\n", "line 2: `0001-01-01T00:00+23:59` is not a moment"),
        (HEAD + "fast,1,1,,\nslow,1,1,,\nfast,2,2,,\n", "line 4: `fast` stands in line 2 already"),
        (HEAD + '"fast,1,1,,\n', "line 2: unexpected end of data"),
    ],
)
def test_a_mistake_in_csv_is_named_with_its_line(text, found):
    assert any(problem.startswith(found) for problem in problems(pricefiles.read_csv, text))


def test_all_mistakes_are_named_at_once():
    found = problems(pricefiles.read_csv, HEAD + "fast,x,1,,\nslow,1,1,,\nnone,,,,\n")
    assert [problem.partition(":")[0] for problem in found] == ["line 2", "line 4"]


LITELLM = {
    "sample_spec": {"input_cost_per_token": "what it costs"},
    "gpt-4o": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-06, "input_cost_per_token_batches": 1.25e-06, "max_tokens": 16384,
    },
    "gemini/gemini-2.5-pro": {
        "litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
        "output_cost_per_reasoning_token": 2e-05, "input_cost_per_audio_token": 7e-07,
        "output_cost_per_audio_token": None, "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "output_cost_per_token_above_200k_tokens": 1.5e-05, "input_cost_per_token_above_512000_tokens": 3e-06,
        "input_cost_per_token_above_200k_tokens_priority": 9e-06,
    },
    "house/ours": {
        "litellm_provider": "house", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
        "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 9e-06, "input_cost_per_request": 0.005,
    },
    "text-embedding-3-small": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
    "whisper-1": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001},
    "zero": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
    "half": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06},
    "painter": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
        "output_cost_per_image_token": 3e-05,
    },
    "dall-e-3": {
        "litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1, "output_cost_per_token": 1,
    },
}  # fmt: skip


def test_litellms_map_is_read_for_the_provider_that_it_names():
    find = pricefiles.read_litellm(json.dumps(LITELLM, indent=2), "litellm x.json")
    assert find(OPENAI, "gpt-4o") == Price(2_500_000_000, 10**10, 1_250_000_000, source="litellm x.json")
    assert find(GOOGLE, "gpt-4o") is None
    assert find(HOUSE, "gpt-4o") is None
    assert find(GOOGLE, "gemini-2.5-pro") == Price(
        1_250_000_000,
        10**10,
        input_audio_rate=700_000_000,
        reasoning_rate=2 * 10**10,
        tiers=(
            Tier(2_500_000_000, 15 * 10**9, input_audio_rate=700_000_000, reasoning_rate=2 * 10**10, above=200_000),
            Tier(3 * 10**9, 15 * 10**9, input_audio_rate=700_000_000, reasoning_rate=2 * 10**10, above=512_000),
        ),
        source="litellm x.json",
    )
    ours = find(HOUSE, "ours")
    assert (ours.cache_creation_rate, ours.cache_creation_1h_rate, ours.request_nanousd) == (
        3_750_000_000, 6_000_000_000, 5_000_000,
    )  # fmt: skip
    assert [(tier.above, tier.cache_creation_1h_rate) for tier in ours.tiers] == [(200_000, 9_000_000_000)]
    assert find(OPENAI, "text-embedding-3-small") == Price(20_000_000, 0, source="litellm x.json")


@pytest.mark.parametrize("model", ["whisper-1", "zero", "half", "painter", "dall-e-3", "sample_spec", "unheard-of"])
def test_what_litellms_map_does_not_price_by_tokens_stays_unknown(model):
    assert pricefiles.read_litellm(json.dumps(LITELLM), "s")(OPENAI, model) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", "line 1: this is not LiteLLM's format"),
        ('{\n"a": }', "line 2: this is not JSON: Expecting value"),
        ("[" * 100_000, "this is not JSON that can be read"),
        ('{"a": ' + "9" * 5000 + "}", "this is not JSON that can be read"),
        ('{\n "a": 7\n}', "line 2: `a`: this is no entry"),
        (
            '{\n "a": {},\n "b c": {\n "input_cost_per_token": -1}}',
            "line 3: `b c`: `input_cost_per_token` is not a cost",
        ),
        ('{"a": {"input_cost_per_token": "1e-6"}}', "line 1: `a`: `input_cost_per_token` is not a cost"),
        ('{"a": {"output_cost_per_token_above_2k_tokens": 2}}', "line 1: `a`: `output_cost_per_token_above_2k_tokens`"),
        ('{"a": {"input_cost_per_token": NaN}}', "line 1: `a`: `input_cost_per_token` is not a cost"),
        ('{"a": {"input_cost_per_token": true}}', "line 1: `a`: `input_cost_per_token` is not a cost"),
    ],
)
def test_a_mistake_in_litellms_map_is_named_with_its_line(text, found):
    assert problems(pricefiles.read_litellm, text)[0].startswith(found)


def genai(prices):
    model = {"id": "m-1", "match": {"equals": "m-1"}, "prices": prices}
    provider = {"id": "house", "name": "House", "api_pattern": "http://10\\.0\\.0\\.7", "models": [model]}
    return json.dumps([provider], indent=1)


def test_the_catalogues_own_data_are_read():
    tiered = {"base": 1.5, "tiers": [{"start": 200_000, "price": 3}]}
    find = pricefiles.read_genai(genai({"input_mtok": tiered, "output_mtok": 6}), "genai x.json")
    assert find(HOUSE, "m-1") == Price(
        1_500_000_000, 6 * 10**9, tiers=(Tier(3 * 10**9, 6 * 10**9, above=200_000),), source="genai x.json"
    )
    assert find(HOUSE, "m-2") is None
    assert find(OPENAI, "m-1") is None
    dated = [{"prices": {"input_mtok": 1, "output_mtok": 2}}]
    dated += [{"constraint": {"start_date": "2025-01-01"}, "prices": {"input_mtok": 3, "output_mtok": 4}}]
    assert pricefiles.read_genai(genai(dated), "s")(HOUSE, "m-1").input_rate == 3 * 10**9


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}", "line 1: this is not the format of genai-prices"),
        ("[7]", "line 1: this is no provider"),
        ('[{"id": "a", "models": []},\n{"id": "b"}]', "line 2: this is no provider"),
        ('[{"models": [{"id": 1}]}]', "line 1: "),
        (genai({"input_mtok": "much", "output_mtok": 2}), "line 8: Input should be"),
        (genai({"input_mtok": -1, "output_mtok": 2}), "line 8: a price cannot be"),
        (genai([{"prices": {"input_mtok": {"base": 1, "tiers": [{"start": 1, "price": 10**9}]}}}]), "line 8: a price"),
    ],
)
def test_a_mistake_in_the_catalogues_data_is_named_with_its_line(text, found):
    assert problems(pricefiles.read_genai, text)[0].startswith(found)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01T01:00+01:00", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01T00:00Z", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_moments(text, moment):
    assert pricefiles.moment(text) == moment


def test_the_page_about_prices_names_every_column_and_its_example_can_be_read():
    page = (Path(__file__).parents[2] / "docs/pricing.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    named = {f"{kind}{per}" for kind in kinds for per in ("_per_million", "_per_1k")} | set(
        re.findall(r"`(\w+)`", page)
    )
    assert set(pricefiles.COLUMNS) - named == set()
    example = page.split("```csv\n")[1].split("```")[0]
    fast, house, slow = pricefiles.read_csv(example, "s")
    assert (len(fast.price.tiers), house.price.is_free, slow.valid_from.year) == (2, True, 2027)
