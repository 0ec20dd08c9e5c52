"""Templates of stored prompts: places and nothing else, values that stay values, costs that stay linear."""

import tracemalloc
from contextlib import suppress

import pytest

from services import templating
from services.errors import InvalidRequest, VariablesInvalid
from services.promptfields import MAX_FILLED, MAX_TEMPLATE, filled, values, version


def fill(text, **given):
    return templating.fill(templating.pieces(text), given)


@pytest.mark.parametrize(
    ("text", "given", "made"),
    [
        ("Hello {{name}}!", {"name": "Ana"}, "Hello Ana!"),
        ("{{ name }}{{name}}", {"name": "x"}, "xx"),
        ("no places } { }} at all", {}, "no places } { }} at all"),
        (r"\{{name}}", {}, "{{name}}"),
        (r"\{{{{name}}}}", {"name": "x"}, "{{x}}"),
        ("{{a}}{{b}}", {"a": "{{b}}", "b": "2"}, "{{b}}2"),
        ("{{a}}", {"a": "{{7*7}} {{a}} \\{{"}, "{{7*7}} {{a}} \\{{"),
        ('{"question": {{a}} }', {"a": '"why?"'}, '{"question": "why?" }'),
        ("Olá 👋 {{a}}", {"a": "ção"}, "Olá 👋 ção"),
        ("", {}, ""),
    ],
)
def test_a_template_is_filled(text, given, made):
    assert fill(text, **given) == made


@pytest.mark.parametrize(
    "text",
    [
        "{{",
        "{{}}",
        "{{ }}",
        "{{name",
        "{{name}",
        "{{na me}}",
        "{{name.upper}}",
        "{{name[0]}}",
        "{{7*7}}",
        "{{#name}}x{{/name}}",
        "{{{name}}}",
        "{{{{name}}}}",
        "{{ção}}",
        "{{nаme}}",  # noqa: RUF001 - the second letter is Cyrillic
        "{{name\u200b}}",
        "{{\nname}}",
        "{{" + "n" * 65 + "}}",
        "{{" + " " * 99 + "n}}",
    ],
)
def test_what_is_no_place_is_refused_where_it_stands(text):
    with pytest.raises(templating.Malformed, match="at character 4"):
        templating.pieces("ok " + text)


@pytest.mark.timeout(60)  # a reading that takes more than each place once would take hours
@pytest.mark.parametrize(
    "text",
    [
        "{{a}}" * 200_000,
        "\\{{" * 300_000,
        "{" * 1_000_000,
        "\\{{{" * 250_000,
        "}}" * 500_000,
        "{{a" * 300_000,
        " " * 1_000_000,
    ],
    ids=["places", "escapes", "braces", "both", "ends", "open", "nothing"],
)
def test_a_megabyte_is_read_at_once(text):
    with suppress(templating.Malformed):
        templating.pieces(text)


def read(variables=(), content="x", **more):
    return version({"messages": [{"role": "user", "content": content}], "variables": list(variables), **more})


def test_the_whole_of_a_template_is_bounded():
    with pytest.raises(InvalidRequest, match=str(MAX_TEMPLATE)):
        version({"messages": [{"role": "user", "content": "x" * 60_000}] * 2})
    with pytest.raises(InvalidRequest, match="1000 places"):
        read([{"name": "a"}], "{{a}}" * 1001)


def test_what_is_made_of_a_template_is_bounded_before_it_is_made():
    reading = read([{"name": "a"}], "{{a}}" * 1000)
    texts = values(reading.variables, {"a": "x" * 1_000_000})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=str(MAX_FILLED)):
            filled(reading.messages, texts)
        assert tracemalloc.get_traced_memory()[1] < MAX_FILLED
    finally:
        tracemalloc.stop()


KINDS = [
    {"name": "s", "type": "string", "max_chars": 6},
    {"name": "i", "type": "integer"},
    {"name": "n", "type": "number"},
    {"name": "b", "type": "boolean"},
    {"name": "j", "type": "json"},
    {"name": "e", "type": "enum", "options": ["formal", "short"]},
]


def test_values_come_in_as_text_of_their_type():
    given = {"s": "a{{i}}", "i": -3, "n": 0.5, "b": False, "j": {"a": [1, "é"]}, "e": "short"}
    found = values(read(KINDS).variables, given)
    assert found == {"s": "a{{i}}", "i": "-3", "n": "0.5", "b": "false", "j": '{"a":[1,"é"]}', "e": "short"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("s", 1),
        ("s", "1234567"),
        ("s", "a\0"),
        ("i", 1.0),
        ("i", True),
        ("i", "1"),
        ("i", 2**64),
        ("n", "1"),
        ("n", True),
        ("b", 1),
        ("b", "true"),
        ("e", "long"),
        ("e", ["short"]),
        ("zzz", "x"),
    ],
)
def test_values_of_another_type_are_named(name, value):
    good = {"s": "a", "i": 1, "n": 1, "b": True, "j": 1, "e": "short"}
    with pytest.raises(VariablesInvalid) as caught:
        values(read(KINDS).variables, good | {name: value})
    assert caught.value.param == f"variables.{name}"
    assert set(caught.value.details) == {f"variables.{name}"}


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(VariablesInvalid) as caught:
        values(read(KINDS).variables, {"i": "x", "other": 1})
    missing = {f"variables.{name}": "is required" for name in ("s", "n", "b", "j", "e")}
    assert {name: caught.value.details[name] for name in missing} == missing
    assert caught.value.details["variables.i"].startswith("must be a whole number")
    assert caught.value.details["variables.other"] == "is not known to this prompt"


def test_defaults_and_what_may_be_missing():
    variables = [
        {"name": "tone", "type": "enum", "options": ["calm", "loud"], "default": "calm"},
        {"name": "more", "is_required": False},
    ]
    found = read(variables, "{{tone}}{{more}}")
    assert values(found.variables, None) == {"tone": "calm", "more": ""}
    assert values(found.variables, {"tone": None, "more": "x"}) == {"tone": "calm", "more": "x"}


@pytest.mark.parametrize(
    ("variables", "param"),
    [
        ([{"name": "a", "default": 1}], "variables.0.default"),
        ([{"name": "a", "type": "integer", "default": "x"}], "variables.0.default"),
        ([{"name": "a", "default": "x", "is_required": True}], "variables.0.default"),
        ([{"name": "a", "type": "enum"}], "variables.0.options"),
        ([{"name": "a", "options": ["x"]}], "variables.0.options"),
        ([{"name": "a", "type": "enum", "options": ["x"], "default": "y"}], "variables.0.default"),
        ([{"name": "a"}, {"name": "a"}], "variables"),
    ],
)
def test_variables_that_cannot_be(variables, param):
    with pytest.raises(InvalidRequest) as caught:
        read(variables)
    assert caught.value.param == param


def test_a_place_without_a_variable_is_refused():
    with pytest.raises(InvalidRequest, match="`b`, which is no variable"):
        read([{"name": "a"}], "{{a}} {{b}}")
