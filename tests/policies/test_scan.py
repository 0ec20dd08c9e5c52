"""What is found, what is not, and that hostile texts cost no more than others."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.policies import scan
from services.policies.kinds import GROUPS, KINDS
from services.policies.scan import MOST_PATTERN, BadPattern, Finding, Scanner

ALL = Scanner(KINDS)
CARD = "4111 1111 1111 1111"
BIG = 1_000_000


def found(scanner: Scanner, text: str) -> list[tuple[str, str]]:
    return [(finding.rule, text[finding.start : finding.end]) for finding in scanner.find(text)]


def test_findings_come_by_start_with_their_places():
    text = f"mail bob@example.com, card {CARD}"
    assert Scanner(["credit_debit_number", "email"]).find(text) == [
        Finding("email", 5, 20),
        Finding("credit_debit_number", 27, 46),
    ]


def test_a_scanner_of_nothing_finds_nothing():
    scanner = Scanner()
    assert (scanner.find(CARD), scanner.most_chars, scanner.open_from(CARD)) == ([], 0, len(CARD))


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(KeyError):
        Scanner(["nonsense"])


@pytest.mark.parametrize(
    "text",
    [
        "4111\u200b1111\u200d1111\u20601111",  # zero-width characters
        "４１１１ １１１１ １１１１ １１１１",  # full-width digits
        "٤١١١ ١١١١ ١١١١ ١١١١",  # digits of Arabic
        "4111\u00a01111\u202f1111\u30001111",  # other spaces
        "4111\u20111111\u20131111\u22121111",  # other hyphens
        "\u202e4111 1111 1111 1111\u202c",  # marks of direction
        "4111\u00ad111111111111",
    ],
)
def test_a_card_number_does_not_escape_in_other_characters(text):
    given_text = f"olá «{text}» fim"
    [finding] = Scanner(["credit_debit_number"]).find(given_text)
    assert given_text[finding.start : finding.end].strip("\u202e\u202c") == text.strip("\u202e\u202c")


@pytest.mark.parametrize("before", ["", "é", "日本語", "\ud800", "🙂", "שלום "])
def test_places_are_characters_whatever_stands_before(before):
    assert found(ALL, f"{before} bob@example.com \udfff") == [("email", "bob@example.com")]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("see https://example.com/?mail=bob@example.com now", "url"),
        ("password: bob@example.com", "password"),
        ("card 4111-1111-1111-1111", "credit_debit_number"),
    ],
)
def test_of_overlapping_ones_the_longest_or_first_names_the_finding(text, rule):
    assert [one for one, _value in found(ALL, text)] == [rule]


def test_overlapping_findings_are_covered_whole():
    scanner = Scanner(patterns=[("left", "aaa bbbb"), ("right", "bbbb cc")])
    assert found(scanner, "x aaa bbbb cc y") == [("left", "aaa bbbb cc")]


def test_words_are_whole_in_any_case_and_script():
    scanner = Scanner(words=[("secret", "açaí bowl"), ("secret", "Проект"), ("code", "C++")])
    text = "AÇAÍ  Bowl, проект проекты xaçaí bowl C++ C++11"
    assert found(scanner, text) == [("secret", "AÇAÍ  Bowl"), ("secret", "проект"), ("code", "C++")]


def test_the_same_word_twice_in_a_row_is_found_twice():
    assert found(Scanner(words=[("w", "foo")]), "foo foo") == [("w", "foo"), ("w", "foo")]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "missing )"),
        ("(?=a)", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a{1001}", "invalid repetition size"),
        ("a*", "empty text"),
        ("\ud800", "not valid Unicode"),
        ("a" * (MOST_PATTERN + 1), "at most 2,000 characters"),
    ],
)
def test_a_bad_pattern_says_why(pattern, said):
    with pytest.raises(BadPattern, match=f"mine: .*{said.replace('(', '.').replace(')', '.')}"):
        Scanner(patterns=[("mine", pattern)])


def test_too_much_together_is_refused(monkeypatch):
    with pytest.raises(BadPattern, match="more than 200,000 characters together"):
        Scanner(words=[("mine", f"word{count:010}") for count in range(14_000)])
    monkeypatch.setattr(scan, "MEMORY_BYTES", 1 << 14)
    with pytest.raises(BadPattern, match="too large together"):
        Scanner(patterns=[(f"mine{count}", rf"\p{{L}}{{9}}{count}") for count in range(20)])
    with pytest.raises(BadPattern, match="mine: it is too large"):
        Scanner(patterns=[("mine", r"(\p{L}{1,50}){1,19}x")])


@pytest.mark.parametrize("word", [" ", "\u202f", "\u200b", "\u2060 \ufeff"])
def test_an_empty_word_is_refused(word):
    with pytest.raises(BadPattern, match="mine: a word is empty"):
        Scanner(words=[("mine", word)])


def test_a_word_is_found_however_it_is_written():
    scanner = Scanner(words=[("w", "sec\u200bret\u00a0ｐｌａｎ")])
    assert found(scanner, "the secret  plan") == [("w", "secret  plan")]


@pytest.mark.parametrize("pattern", ["(" * 300 + "a" + ")" * 300, "(" * 150 + "a" + ")+" * 150, r"\pL?" * 80 + "z"])
def test_where_too_much_may_have_begun_everything_is_held_back(pattern):
    scanner = Scanner(patterns=[("mine", pattern)])
    assert scanner.find("aaz")
    assert scanner.open_from("and more") == 0


@pytest.mark.timeout(60)  # exponential or quadratic work would take hours
@pytest.mark.parametrize(
    "text", ["a" * BIG, "1" * BIG, "a@" * (BIG // 2), "1 " * (BIG // 2), ".a" * (BIG // 2), "A1" * BIG]
)
def test_a_million_characters_of_nothing_are_nothing(text):
    assert ALL.find(text) == []


@pytest.mark.timeout(60)
def test_many_candidates_are_all_looked_at():
    assert len(Scanner(["credit_debit_number"]).find(f"{CARD}; " * 10_000)) == 10_000
    assert ALL.find("4111 1111 1111 1112; " * 10_000) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}b", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_a_hostile_pattern_is_linear(pattern):
    scanner = Scanner(patterns=[("evil", pattern)])
    assert scanner.find("a" * 50_000 + "!\n") == []


def test_every_kind_says_how_it_is_checked_and_is_bounded():
    for name, kind in KINDS.items():
        assert name == kind.name
        assert kind.title
        assert kind.how
        assert kind.group in GROUPS
        assert 0 < Scanner([name]).most_chars <= 8192


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=80))
@example("[EMAIL_1] \ud800 4111 1111 1111 1111")
def test_any_text_has_findings_in_order_inside_it(text):
    at = 0
    for finding in ALL.find(text):
        assert at <= finding.start < finding.end <= len(text)
        at = finding.end
    assert 0 <= ALL.open_from(text) <= len(text)
