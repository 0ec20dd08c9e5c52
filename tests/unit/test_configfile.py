"""Reading the configuration file: plain data only, every mistake with its line, nothing that blows up."""

import pytest

from services import configfile
from services.configfile import ConfigFileError
from services.providers.common import Drain, drain_of
from services.types import Price, Tier

FILE = """\
providers:
  - name: main
    kind: openai
    base_url: https://api.example.com/v1
    api_key: ${KEY}
models:
  - name: fast
    deployments:
      - provider: main
        model: gpt-4o-mini
    price: {input_per_million: 0.15, output_per_million: 0.6}
"""
PROVIDER = FILE.split("models:", maxsplit=1)[0]


@pytest.fixture
def read(tmp_path):
    def of(text, **environ):
        path = tmp_path / "house.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return configfile.read(path, {"KEY": "sk-1", **environ})

    return of


@pytest.fixture
def problems(read):
    def of(text, **environ):
        with pytest.raises(ConfigFileError) as caught:
            read(text, **environ)
        assert str(caught.value).splitlines()[0].endswith("house.yaml cannot be applied:")
        return caught.value.problems

    return of


def test_a_whole_file_is_read(read):
    found = read(FILE)
    assert (found.providers[0].name, found.providers[0].api_key) == ("main", "sk-1")
    assert str(found.models[0].price.input_per_million) == "0.15"


@pytest.mark.parametrize("text", ["{}", "providers: []\n"])
def test_a_file_may_name_nothing_on_purpose(read, text):
    assert (read(text).providers, read(text).models) == ([], [])


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "---\n"])
def test_an_empty_file_is_a_mistake(problems, text):
    """It would switch off everything."""
    (found,) = problems(text)
    assert found.startswith("it is empty.")


@pytest.mark.parametrize("kind", ["openai", "custom"])
def test_a_provider_of_any_kind_may_have_the_common_settings(read, kind):
    common = "operations: [chat], on_disconnect: drain, drain_max_s: 2.5, drain_max_streams: 3"
    own = {"openai": "", "custom": ", request: {p: '{prompt}'}, path: /x, answer_text: a"}[kind]
    text = FILE.replace("kind: openai", f"kind: {kind}").replace(
        "    api_key", f"    settings: {{{common}{own}}}\n    api_key"
    )
    assert drain_of(read(text).providers[0].settings) == Drain(2.5, 3)


def test_settings_that_are_right_or_say_nothing_are_taken(read):
    given = "{rename: {seed: random_seed}, drop: 'user, seed', stream_usage: false, responses: 'true', vendor: vllm}"
    entry = read(PROVIDER + f"    settings: {given}\n").providers[0]
    assert entry.settings["rename"] == {"seed": "random_seed"}


def test_variables_stand_for_texts_of_the_environment(read):
    found = read(
        FILE.replace("${KEY}", "'${A}-${B}'").replace("api.example.com", "${HOST_}"), A="1", B="2", HOST_="h.test"
    )
    assert (found.providers[0].api_key, found.providers[0].base_url) == ("1-2", "https://h.test/v1")
    assert read(FILE, KEY="${OTHER}").providers[0].api_key == "${OTHER}", "a value is not looked into again"


def test_a_key_that_no_header_can_carry_is_a_mistake_that_does_not_repeat_it(problems):
    (found,) = problems(FILE, KEY="sk-abc\u2026")
    assert found.startswith("line 5: `providers.0.api_key`: has characters other than ASCII")
    assert "sk-abc" not in found


def test_variables_that_are_not_set_are_named_with_their_lines(problems):
    found = problems(FILE.replace("${KEY}", "${NO_KEY}").replace("gpt-4o-mini", "${NO_MODEL}"))
    assert "line 5: the variable `NO_KEY` is not set" in found
    assert "line 10: the variable `NO_MODEL` is not set" in found


def test_all_mistakes_are_named_at_once(problems):
    wrong = FILE.replace("kind: openai", "kind: closed").replace("price:", "prize:").replace("${KEY}", "${GONE}")
    assert sorted(problem.split(":")[0] for problem in problems(wrong)) == ["line 11", "line 3", "line 5"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        pytest.param("providers: 7", 1, "`providers`: Input should be a valid list", id="no list"),
        pytest.param("- a\n- b", 1, "``: Input should be a valid dictionary", id="no mapping"),
        pytest.param("servers: []", 1, "`servers` is not a key this file may have", id="unknown key"),
        pytest.param(FILE + "    prices: 1\n", 12, "`models.0.prices` is not a key", id="unknown key inside"),
        pytest.param(FILE + "    name: slow\n", 12, "`name` stands twice in one place", id="key twice"),
        pytest.param(FILE + FILE.split("models:\n")[1], 12, "`fast` is named twice", id="model twice"),
        pytest.param(FILE + "    aliases: [quick, fast]\n", 12, "the alias `fast` is", id="its own alias"),
        pytest.param(FILE + "    aliases: [quick, quick]\n", 12, "the alias `quick` is the name", id="alias twice"),
        pytest.param(FILE.replace("name: main", "name: off"), 2, "quotes make one of what YAML reads", id="no text"),
        pytest.param(FILE + "    fallbacks: [slow, fast]\n", 12, "cannot fall back on itself", id="its own fallback"),
        pytest.param(
            FILE.replace("    price:", "      - {provider: main, model: gpt-4o-mini, weight: 2}\n    price:"),
            11,
            "`gpt-4o-mini` at `main` is there twice",
            id="deployment twice",
        ),
        pytest.param(
            FILE.replace("${KEY}", "[1]"), 5, "`providers.0.api_key`: Input should be a valid string", id="type"
        ),
        *(
            pytest.param(
                FILE.replace("    api_key", f"    settings: {{{name}: {value}}}\n    api_key"), 2, said, id=value
            )
            for name, value, said in (
                ("operations", "chat", "settings: `operations` must be a list of chat, "),
                ("operations", "[chat, fax]", "settings: `operations` must be a list of chat, "),
                ("operations", "[]", "settings: `operations` must be a list of chat, "),
                ("on_disconnect", "wait", "settings: `on_disconnect` must be `cancel` or `drain`"),
                ("drain_max_s", "0", "settings: `drain_max_s` must be seconds, up to 86400"),
                ("drain_max_s", "yes", "settings: `drain_max_s` must be seconds"),
                ("drain_max_streams", "1.5", "settings: `drain_max_streams` must be a whole number from 1 to 10000"),
            )
        ),
        pytest.param(FILE.replace("https:", "ftp:"), 2, "`providers.0`: base_url: `ftp://", id="address"),
        pytest.param(PROVIDER.replace("name: main", "name: ''"), 2, "at least 1 character", id="no name"),
        pytest.param(
            PROVIDER.replace("name: main", "name: a\\nb").replace("a\\nb", '"a\\nb"'), 2, "pattern", id="name"
        ),
        pytest.param(FILE.replace("name: fast", "name: very fast"), 7, "pattern", id="name of a model"),
        pytest.param(FILE.replace("0.15", "-1"), 11, "greater than or equal to 0", id="negative rate"),
        pytest.param(FILE.replace("0.15", ".inf"), 11, "finite", id="endless rate"),
        pytest.param(FILE.replace("0.15", "2000000"), 11, "less than or equal to", id="huge rate"),
        pytest.param(FILE.replace("0.6}", "0.6, free: true}"), 11, "A free model has no rates", id="free with rates"),
        pytest.param(FILE.replace(", output_per_million: 0.6", ""), 11, "or that the model is free", id="half a price"),
        pytest.param(FILE.replace("0.15", "0").replace("0.6}", "0}"), 11, "mark the model as free", id="zero unsaid"),
        pytest.param(
            FILE.replace("0.6}", "0.6, input_per_1k: 1}"), 11, "`input_per_1k` says again", id="a rate said twice"
        ),
        pytest.param(
            FILE.replace("input_per_million: 0.15", "input_per_1k: x"), 11, "`input_per_1k` is not", id="no rate"
        ),
        pytest.param(FILE.replace("0.6}", "0.6, tiers: [{above: 5}]}"), 11, "what tokens cost", id="a tier of nothing"),
        pytest.param(
            FILE.replace("0.6}", "0.6, tiers: [{above: 0, input_per_million: 1}]}"), 11, "greater than 0", id="no tier"
        ),
        pytest.param(FILE.replace("0.15", "0.0000000001"), 11, "finer than", id="too fine a rate"),
        pytest.param(FILE + "    max_output_tokens: 0\n", 12, "greater than or equal to 1", id="no output"),
        *(
            pytest.param(
                PROVIDER.replace("kind: openai", f"kind: {kind}") + f"    settings: {{{setting}}}\n",
                2,
                said,
                id=setting,
            )
            for kind, setting, said in (
                ("openai", "rename: [seed]", "`rename` must give a text for each name"),
                ("azure", "finish_reasons: {eos: 1}", "`finish_reasons` must give"),
                ("openai", "drop: 5", "`drop` must be a list of names"),
                ("azure", "drop_from_messages: [1]", "`drop_from_messages` must be a list"),
                ("azure", "stream_usage: 'no'", "`stream_usage` must be `true` or `false`"),
                ("azure", "responses: 1", "`responses` must be `true` or `false`"),
                ("openai", "vendor: vlm", "`vendor` names no vendor that is known"),
                ("azure", "tool_ids: 9", "`tool_ids` must be `short`, or empty"),
                ("azure", "usage_in: [a]", "`usage_in` must be a text"),
                ("azure", "organization: ö", "`organization` has characters other than ASCII"),
                ("anthropic", "auth: basic", "`auth` must be `bearer`, or empty"),
            )
        ),
        pytest.param("models:\n- name: m\n  deployments: []\n", 3, "at least 1 item", id="no deployment"),
        pytest.param(FILE.replace("${KEY}", "!!python/name:os.system"), 5, "is not plain data", id="python tag"),
        pytest.param(FILE.replace("${KEY}", "!mine x"), 5, "`!mine` is not plain data", id="own tag"),
        pytest.param(FILE.replace("${KEY}", "!!int x"), 5, "is not plain data", id="no integer"),
        pytest.param(FILE.replace("${KEY}", "!!bool x"), 5, "is not plain data", id="no boolean"),
        pytest.param(FILE.replace("${KEY}", "!!timestamp x"), 5, "is not plain data", id="no moment"),
        pytest.param(FILE.replace("${KEY}", "2026-13-45"), 5, "is not plain data", id="no such day"),
        pytest.param(FILE.replace("${KEY}", "9" * 5000), 5, "is not plain data", id="number of 5000 digits"),
    ],
)
def test_a_mistake_is_named_with_its_line(problems, text, line, said):
    found = problems(text)
    assert any(problem.startswith(f"line {line}: ") and said in problem for problem in found), found


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: [", id="not closed"),
        pytest.param("a: b: c", id="two in a line"),
        pytest.param("a\x00b: c", id="NUL"),
        pytest.param("a: *gone", id="no such anchor"),
        pytest.param("--- {}\n--- {}", id="two documents"),
    ],
)
def test_what_is_not_yaml_is_refused_in_one_line(problems, text):
    (found,) = problems(text)
    assert "\n" not in found


def test_what_cannot_be_read_is_refused(tmp_path, problems):
    assert "cannot be read" in problems(b"\xff\xfe\x00")[0]
    with pytest.raises(ConfigFileError, match="cannot be read"):
        configfile.read(tmp_path / "gone.yaml", {})
    with pytest.raises(ConfigFileError, match="cannot be read"):
        configfile.read(tmp_path, {})


def test_an_alias_stands_for_what_it_names(read):
    text = "models:\n- &m {name: a, deployments: &d [{provider: p, model: x}]}\n- {name: b, deployments: *d}\n"
    assert [model.deployments[0].model for model in read(text).models] == ["x", "x"]


@pytest.mark.timeout(20)
def test_aliases_that_unfold_to_billions_are_refused_at_once(problems):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 11)]
    text = PROVIDER + "    settings:\n" + "".join(f"      {level}\n" for level in levels)
    assert any("more than 100,000 values" in problem for problem in problems(text))


def test_a_file_beyond_the_limit_is_refused_rather_than_cut_short(problems, read):
    def text(times):
        return PROVIDER + f"    settings:\n      a: &a [{'1,' * 499}]\n      b: [{'*a,' * times}]\n"

    assert len(read(text(190)).providers[0].settings["b"]) == 190
    assert problems(text(200)) == ["line 7: more than 100,000 values"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("providers: &a [*a]", id="an alias within its own anchor"),
        pytest.param("providers: " + "[" * 5000 + "]" * 5000, id="nested 5000 deep"),
    ],
)
def test_a_file_without_a_bottom_is_refused(problems, text):
    (found,) = problems(text)
    assert "nested too deep" in found


def test_every_part_of_a_price_has_a_key(read):
    found = read(
        FILE.replace(
            "0.6}",
            "0.6, cached_input_per_1k: 0.0001, cache_write_per_million: 2, cache_write_1h_per_million: 3, "
            "input_audio_per_million: 4, output_audio_per_million: 5, reasoning_per_million: 6, per_request: 0.005, "
            "per_image: 0.04, tiers: [{above: 200000, input_per_1k: 0.0003}, {above: 500000, output_per_million: 9}]}",
        )
    )
    price = found.models[0].price.price("file")
    tiers = tuple(
        Tier(rate, output, 10**8, 2 * 10**9, 3 * 10**9, 4 * 10**9, 5 * 10**9, 6 * 10**9, above)
        for above, rate, output in ((200_000, 300_000_000, 600_000_000), (500_000, 150_000_000, 9 * 10**9))
    )
    rates = (150_000_000, 600_000_000, 10**8, 2 * 10**9, 3 * 10**9, 4 * 10**9, 5 * 10**9, 6 * 10**9)
    assert price == Price(*rates, 5_000_000, 40_000_000, tiers, source="file")
