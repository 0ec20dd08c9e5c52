"""`flask prices …` as an operator uses it, on both databases."""

import json

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

import config as settings
from models import AuditEntry, Model
from models import Price as PriceRow
from services import prices
from services.types import Price
from tests.helpers import AUTH, add_model, add_provider, chat, with_upstream

OPENAI = "https://api.openai.com/v1"


@pytest.fixture
def command(app):
    """Gives exit status and text."""

    def run(*arguments, given=None):
        result = app.test_cli_runner().invoke(args=["prices", *map(str, arguments)], input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def looked_up(app):
    """A model at OpenAI with last year's price of the catalogue."""
    add_model(app, add_provider(app, OPENAI, "openai"), "mini", price={"input_rate": 1, "output_rate": 2})
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.scalars(select(PriceRow).join(Model).where(Model.name == "mini")).one().source = "genai-prices 0.0.1"


def current(app, model="mini"):
    with Session(app.extensions["gateway"].engine) as session:
        row = session.scalars(select(Model).where(Model.name == model)).one()
        found = prices.in_force(row.prices, row.deployments[0].id, prices.now())
        return found and prices.record_of(found)


def test_a_price_is_set_and_shown(app, upstream, command):
    with_upstream(app, upstream)
    rates = [
        "--input",
        "2.50",
        "--output",
        "10",
        "--cached-input",
        "1.25",
        "--cache-write-1h",
        "4",
        "--reasoning",
        "12",
    ]
    tier = ["--tier", "200000: input=5 output=20", "--tier", "500000: input=6"]
    status, output = command("set", "fast", *rates, "--request", "0.005", "--image", "0.04", *tier)
    assert status == 0
    assert output.startswith("fast: input $0.15, output $0.60 [test] -> input $2.50, output $10.00, cached_input $1.25")
    found = current(app, "fast")
    assert (found.cache_read_rate, found.cache_creation_1h_rate, found.reasoning_rate) == (
        1_250_000_000, 4_000_000_000, 12_000_000_000,
    )  # fmt: skip
    assert (found.request_nanousd, found.image_nanousd) == (5_000_000, 40_000_000)
    assert [(tier.above, tier.input_rate, tier.output_rate) for tier in found.tiers] == [
        (200_000, 5 * 10**9, 20 * 10**9), (500_000, 6 * 10**9, 10**10),
    ]  # fmt: skip
    _status, output = command("show", "fast")
    assert "  cached_input: $1.25 per million tokens, $0.00125 per 1k\n" in output
    assert "(above 200000: input=5 output=20; 500000: input=6) [operator]" in output
    assert (
        command("set", "fast", *rates, "--request", "0.005", "--image", "0.04", *tier)[1] == "It costs that already.\n"
    )
    assert app.test_client().post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 200


def test_a_price_may_be_given_per_thousand_and_free(app, upstream, command):
    with_upstream(app, upstream)
    assert command("set", "fast", "--input", "0.01", "--output", "0.03", "--per", "1k")[0] == 0
    assert current(app, "fast") == Price(10 * 10**9, 30 * 10**9, source="operator")
    assert command("set", "fast", "--free") == (
        0, "fast: input $10.00, output $30.00 [operator] -> free [operator]\n",
    )  # fmt: skip
    assert current(app, "fast").is_free
    assert "fast (fake/gpt-4o-mini): free [operator]\n" in command("show")[1]


def test_a_price_may_begin_later_and_at_one_provider(app, upstream, command):
    with_upstream(app, upstream)
    rates = ["--input", "1", "--output", "1"]
    status, output = command("set", "fast", *rates, "--provider", "fake", "--valid-from", "2126-12-01")
    assert (status, output.splitlines()[0][-33:]) == (0, "[operator] from 2126-12-01 00:00:00 UTC"[-33:])
    assert current(app, "fast").input_rate == 150_000_000
    assert "2126-12-01 00:00:00 UTC (to come) (fake/gpt-4o-mini): input $1.00" in command("show", "fast")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fast"], "Say what input and what output cost"),
        (["fast", "--input", "1"], "Say what input and what output cost"),
        (["fast", "--input", "0", "--output", "0"], "mark the model as free"),
        (["fast", "--input", "-1", "--output", "1"], "cannot be negative"),
        (["fast", "--input", "1", "--output", "1", "--free"], "A free model has no rates"),
        (["fast", "--input", "1", "--output", "1", "--tier", "lots"], "`lots` is no tier"),
        (["fast", "--input", "1", "--output", "1", "--valid-from", "soon"], "`soon` is not a moment"),
        (["fast", "--input", "1", "--output", "1", "--valid-from", "2020-01-01"], "has passed"),
        (["gone", "--free"], "There is no model `gone`"),
        (["fast", "--free", "--provider", "gone"], "`fast` is not deployed at `gone`"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_stored(app, command, arguments, said):
    add_model(app, add_provider(app, OPENAI))
    status, output = command("set", *arguments)
    assert status == settings.EXIT_BAD_CONFIG
    assert said in output
    assert current(app, "fast").source == "test"


def test_what_the_catalogue_has_new_is_shown_then_stored(app, command, looked_up):
    status, output = command("diff")
    assert status == 0
    assert output.startswith(
        "mini (openai/gpt-4o-mini): input $0.000000001, output $0.000000002 [genai-prices 0.0.1] -> "
    )
    assert "input $0.15, output $0.60, cached_input $0.075 [genai-prices " in output
    assert current(app).input_rate == 1
    assert command("refresh", given="n\n")[0] == 1
    assert current(app).input_rate == 1
    status, output = command("refresh", given="y\n")
    assert (status, output.splitlines()[-1]) == (0, "1 price stored.")
    assert current(app).input_rate == 150_000_000
    assert command("refresh", "--yes") == (0, "The catalogue says what is stored.\n")
    with Session(app.extensions["gateway"].engine) as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "price_refresh"))
        assert (entry.actor, entry.details["deployment"]) == ("operator", "openai/gpt-4o-mini")


def test_what_people_set_stays_when_the_catalogue_is_refreshed(app, command, looked_up):
    assert command("set", "mini", "--input", "7", "--output", "8")[0] == 0
    assert command("refresh", "--yes") == (0, "The catalogue says what is stored.\n")
    assert current(app).input_rate == 7 * 10**9


LITELLM = {"gpt-4o-mini": {"litellm_provider": "openai", "input_cost_per_token": 2e-7, "output_cost_per_token": 8e-7}}
MODEL = {"id": "x", "match": {"equals": "gpt-4o-mini"}, "prices": {"input_mtok": 0.2, "output_mtok": 0.8}}
GENAI = [{"id": "openai", "name": "O", "api_pattern": "https://api\\.openai\\.com", "models": [MODEL]}]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("litellm", json.dumps(LITELLM)),
        ("genai", json.dumps(GENAI)),
        ("csv", "\ufeffmodel,input_per_million,output_per_1k\r\nmini,0.2,0.0008\r\n"),
    ],
)
def test_a_file_is_imported_after_a_dry_run(app, command, looked_up, tmp_path, kind, text):
    file = tmp_path / "new.prices"
    file.write_text(text, encoding="utf-8", newline="")
    status, output = command("import", file, "--format", kind, "--dry-run")
    assert (status, output.splitlines()[-1]) == (0, "1 price would be stored.")
    assert f"-> input $0.20, output $0.80 [{kind} new.prices]" in output
    assert current(app).input_rate == 1
    assert command("import", file, "--format", kind)[1].splitlines()[-1] == "1 price stored."
    assert (current(app).input_rate, current(app).source) == (200_000_000, f"{kind} new.prices")
    assert command("import", file, "--format", kind)[1] == "Nothing is different.\n0 prices stored.\n"
    with Session(app.extensions["gateway"].engine) as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "price_import"))
        assert entry.details["after"] == f"input $0.20, output $0.80 [{kind} new.prices]"


def test_an_imported_catalogue_leaves_what_people_set(app, command, looked_up, tmp_path):
    file = tmp_path / "litellm.json"
    file.write_text(json.dumps(LITELLM), encoding="utf-8")
    assert command("set", "mini", "--input", "7", "--output", "8")[0] == 0
    assert command("import", file, "--format", "litellm")[1] == "Nothing is different.\n0 prices stored.\n"


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        (
            "csv",
            b"model,input_per_million,output_per_million\nmini,1,1\ngone,1,1\n",
            "line 3: There is no model `gone`.",
        ),
        ("csv", b"model\nmini\n", "line 2: Say what input"),
        ("csv", b"\xff\xfe", "is not text in UTF-8"),
        ("litellm", b"{\n1}", "line 2: this is not JSON"),
        ("genai", b"{}", "line 1: this is not the format of genai-prices"),
    ],
)
@pytest.mark.usefixtures("looked_up")
def test_a_bad_file_stores_nothing(app, command, tmp_path, kind, content, said):
    file = tmp_path / "bad"
    file.write_bytes(content)
    status, output = command("import", file, "--format", kind)
    assert status == settings.EXIT_BAD_CONFIG
    assert said in output
    assert current(app).input_rate == 1


def test_a_file_that_is_not_there_is_said(command, tmp_path):
    status, output = command("import", tmp_path / "gone.csv", "--format", "csv")
    assert status == 69
    assert "No such file" in output


def test_a_model_that_is_not_there_cannot_be_shown(command):
    assert command("show", "gone") == (settings.EXIT_BAD_CONFIG, "There is no model `gone`.\n")
