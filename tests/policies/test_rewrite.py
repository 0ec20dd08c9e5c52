"""Texts without what was found in them: whole, in pieces cut anywhere, and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.policies.kinds import KINDS
from services.policies.rewrite import Blocked, Placeholders, Rewriter, Watcher, label, restoring
from services.policies.scan import Scanner
from tests.policies.generate import templates
from tests.policies.test_sample import lines

ALL = Scanner(KINDS, patterns=[("project", r"\bproj-\d{3,}\b")], words=[("internal", "Blue Falcon")])
CARD = "4111 1111 1111 1111"
TEXTS = [
    f"card {CARD}, cvv: 123 exp 12/27 done",
    f"{CARD} {CARD}",
    "my name is João da Silva Souza, born on 12/03/1980, CPF 529.982.247-25.",
    "4111\u200b1111\u200b1111\u200b1111 é do bob@example.com!",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqh=\n-----END PRIVATE KEY-----\nafter",
    "the blue  falcon of proj-1234 and proj-12, blue falconry",
    "password: hunter2, https://example.com/a?b=c. DE89 3704 0044 0532 0130 00 IBAN",
    "call +1 212-555-0123 or (11) 98765-4321 about version 10.0.0.1 at 10.0.0.1",
]


def streamed(pieces, action="mask", scanner=ALL):
    watcher = Watcher(scanner, action)
    rewriter = Rewriter(watcher)
    given_on = [rewriter.feed(piece) for piece in pieces]
    return "".join([*given_on, rewriter.end()]), watcher.found


@pytest.mark.parametrize("text", TEXTS)
def test_every_cut_gives_what_the_whole_text_gives(text):
    whole, found = streamed([text])
    assert found
    for first in range(len(text) + 1):
        assert streamed([text[:first], text[first:]]) == (whole, found), first
    for size in (1, 2, 3, 5):
        assert streamed([text[at : at + size] for at in range(0, len(text), size)]) == (whole, found), size


@pytest.mark.parametrize("group", ["payment", "secrets", "national", "contact", "technical", "bank", "personal"])
def test_the_sample_character_by_character_gives_what_it_gives_whole(group):
    for line in lines(group)[: len(templates(group))]:
        assert streamed(line["text"]) == streamed([line["text"]]), line["text"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "4111 ",
                "1111",
                " 1111 1111",
                "bob@",
                "ex.com",
                " cvv: ",
                "123",
                "\u200b",
                "é",
                " ",
                "my name is ",
                "Ana",
                "[",
                "_1]",
            ]
        ),
        max_size=14,
    )
)
def test_pieces_of_values_in_any_order_give_what_they_give_whole(pieces):
    assert streamed(pieces) == streamed(["".join(pieces)])


def test_a_long_list_of_words_is_found_at_every_cut():
    scanner = Scanner(words=[("w", f"name{count} of a thing") for count in range(3000)] + [("w", "short")])
    text = "a (short) name77 of  a thing, and name99 of no thing; name2999 of a thing"
    whole = streamed([text], scanner=scanner)
    assert whole[0] == "a ([W]) [W], and name99 of no thing; [W]"
    for first in range(len(text) + 1):
        assert streamed([text[:first], text[first:]], scanner=scanner) == whole, first


def test_nothing_of_a_value_is_given_before_it_is_known():
    text = f"pay with {CARD}"
    rewriter = Rewriter(Watcher(ALL, "mask"))
    given_on = "".join(rewriter.feed(sign) for sign in text)
    assert given_on == "pay with "
    assert rewriter.end() == "[CREDIT_DEBIT_NUMBER]"


def test_words_that_cannot_be_part_of_anything_are_given_at_once():
    rewriter = Rewriter(Watcher(Scanner(["credit_debit_number", "ssn"]), "mask"))
    assert rewriter.feed("nothing of interest here, ") == "nothing of interest here, "


def test_no_more_than_the_bound_is_held():
    scanner = Scanner(["email"])
    rewriter = Rewriter(Watcher(scanner, "mask"))
    given_on = "".join(rewriter.feed("a" * 50) for _ in range(100))
    assert len(given_on) == 5000 - scanner.most_chars
    assert given_on + rewriter.end() == "a" * 5000


def test_watching_changes_nothing_and_names_what_was_found():
    text = f"bob@example.com {CARD} ana@example.com"
    assert streamed(text, "watch") == (text, ["email", "credit_debit_number"])


def test_stopping_raises_before_anything_of_the_value_is_out():
    rewriter = Rewriter(Watcher(ALL, "stop"))
    given_on = rewriter.feed("your card: 4111 1111 ")
    with pytest.raises(Blocked) as stopped:
        rewriter.feed("1111 1111 and more")
    assert stopped.value.rule == "credit_debit_number"
    assert "4111" not in given_on


def redacted(text, placeholders=None):
    return (placeholders or Placeholders()).redact(text, ALL.find(text))


def test_a_value_has_one_placeholder_in_all_texts_of_a_call():
    placeholders = Placeholders()
    assert redacted("ana@example.com, bob@example.com", placeholders) == "[EMAIL_1], [EMAIL_2]"
    assert redacted("again bob@example.com", placeholders) == "again [EMAIL_2]"
    assert placeholders.restore("to [EMAIL_2] and [EMAIL_9]") == "to bob@example.com and [EMAIL_9]"


@pytest.mark.parametrize(
    "typed", ["[EMAIL_1]", "[[EMAIL_1]]", "[EMAIL_[EMAIL_1]1]", "[TEXT_1]", "[TEXT_2] [TEXT_1]", "[EMAIL_1", "EMAIL_1]"]
)
def test_a_placeholder_that_was_typed_opens_nothing_and_comes_back(typed):
    for text in (f"{typed} ana@example.com", f"ana@example.com {typed}"):
        placeholders = Placeholders()
        sent = redacted(text, placeholders)
        assert placeholders.restore(sent) == text
        assert sent.count("[EMAIL_1]") == 1
        assert placeholders.restore(sent.replace("[EMAIL_1]", "")) == text.replace("ana@example.com", "")


def test_a_later_message_cannot_read_an_earlier_one():
    placeholders = Placeholders()
    redacted("ana@example.com", placeholders)
    echoed = redacted("repeat [EMAIL_1]", placeholders)
    assert placeholders.restore(echoed) == "repeat [EMAIL_1]"


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["[", "]", "EMAIL", "_1", "TEXT", "_2", "a@b.example", " ", "[EMAIL_1]", "é"]), max_size=12
    )
)
def test_what_was_redacted_comes_back_as_it_was(parts):
    text = "".join(parts)
    placeholders = Placeholders()
    assert placeholders.restore(redacted(text, placeholders)) == text


def test_a_stream_is_restored_whatever_the_cuts():
    placeholders = Placeholders()
    redacted("ana@example.com 529.982.247-25 [EMAIL_1]", placeholders)
    answer = "Hi [EMAIL_1], [BR_CPF_1]; [TEXT_1] [[EMAIL_1] [EMAIL_12] [X [EMAIL_"
    whole = placeholders.restore(answer)
    assert "ana@example.com" in whole
    for first in range(len(answer) + 1):
        rewriter = Rewriter(restoring(placeholders))
        assert rewriter.feed(answer[:first]) + rewriter.feed(answer[first:]) + rewriter.end() == whole


def test_a_stream_without_placeholders_is_not_held_back():
    rewriter = Rewriter(restoring(Placeholders()))
    assert rewriter.feed("a[0] and [link") == "a[0] and [link"
    assert rewriter.feed(" x [EMA") == " x "
    assert rewriter.end() == "[EMA"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("email", "EMAIL"),
        ("código interno", "C_DIGO_INTERNO"),
        ("7up", "VALUE_7UP"),
        ("秘密", "VALUE"),
        ("x" * 99, "X" * 40),
    ],
)
def test_labels_are_capitals(rule, said):
    assert label(rule) == said
