"""Full-text search in one's own dialogs: words are words, whatever they look like to a database."""

import json

import pytest

from services import dialogs
from tests.helpers import AUTH, with_upstream
from tests.routes.test_dialogs import DIALOGS, ask, make, person, say

HOSTILE = [
    *('"', '""', "'", "')", "*", "a*", "word0*", "NEAR(a b)", "a AND b", "OR", "NOT", "-word0", "^word0", "content:x"),
    *('user_id:"1" OR a', '") OR user_id:("1', "{content}:x", "x) OR (y", "\\", "%", "_", "&", "!", "|", "<->", ":*"),
    *(
        "word0 & !x",
        "word0:*",
        "<b1>",
        "<!--x-->",
        "a\x00b",
        "\x00",
        "\u202e",
        "ﬀ",
        "e\u0301",
        "😀",
        "٣",
        "½",
        "²",
        "ª",
    ),
    *("http://a.b/c?d=e", "x@y.z", "1e999", "-5", "+", "x" * 200, "١٢", "\ufffd", "  ", "\t", ";DROP TABLE messages"),
]


@pytest.fixture
def spoken(app, upstream):
    return with_upstream(app, upstream)


def search(app, query, headers=AUTH, **more):
    answer = ask(app, "GET", DIALOGS, headers=headers, query_string={"q": query, **more})
    assert answer.status_code == 200, (query, answer.text)
    return [item["id"] for item in answer.json["items"]]


def said(app, words, headers=AUTH):
    dialog = make(app, headers)
    assert say(app, dialog, words, headers).status_code == 201
    return dialog


def test_words_are_found_in_whatever_order_in_ones_own_dialogs_alone(spoken):
    number, maria = person(spoken, "maria")
    tides, moon = said(spoken, "The tides follow the Moon", maria), said(spoken, "the moon is far", maria)
    theirs = said(spoken, "moon tides of somebody else")
    assert set(search(spoken, "moon", maria)) == {tides, moon}
    assert search(spoken, "MOON tides", maria) == [tides]
    assert search(spoken, "word3", maria) != [], "answers are searched too"
    assert search(spoken, "tides far", maria) == []
    assert search(spoken, "moon") == [theirs]
    assert search(spoken, f"user{number} moon") == search(spoken, f"{number} tides", maria) == []
    found = ask(spoken, "GET", DIALOGS, headers=maria, query_string={"q": "moon", "page_size": 1}).json
    assert (found["total"], found["has_next"], len(found["items"])) == (2, True, 1)
    assert search(spoken, "moon", maria, page_size=1, page=2) != [found["items"][0]["id"]]


def test_what_is_deleted_is_found_no_longer(spoken):
    dialog = said(spoken, "a passing thought")
    assert search(spoken, "passing") == [dialog]
    assert ask(spoken, "DELETE", f"{DIALOGS}/{dialog}").status_code == 204
    assert search(spoken, "passing") == []


def test_letters_of_all_kinds_are_found(spoken):
    for words in ("Ação e reação", "данные сети", "數據 網絡", "naïve café"):
        dialog = said(spoken, words)
        for word in words.split():
            assert dialog in search(spoken, word), word


def test_hostile_input_is_just_words(spoken):
    mine, (_number, maria) = said(spoken, "plain text"), person(spoken, "maria")
    said(spoken, "plain text of maria", maria)
    for query in HOSTILE:
        assert set(search(spoken, query)) <= {mine}, query
    for query in ("", " ", "!", "<b1>", "½½", "*", '"', ":*", "\x00"):
        assert search(spoken, query) == [], query


def test_a_query_that_is_too_long_is_refused(spoken):
    answer = ask(spoken, "GET", DIALOGS, query_string={"q": "x" * 201})
    assert (answer.status_code, answer.json["details"]) == (400, {"param": "q"})


def test_a_search_looks_at_the_newest_messages_that_fit(spoken, monkeypatch):
    monkeypatch.setattr(dialogs, "MOST_HITS", 2)
    _first, second, third = (said(spoken, f"thing {number}") for number in range(3))
    assert set(search(spoken, "thing")) == {second, third}


def test_an_answer_of_many_words_is_stored_and_found(spoken, upstream):
    """Postgres makes no index entry of more than a megabyte; what is longer is found by its beginning."""
    words = " ".join(f"w{number:x}" for number in range(400_000))
    body = {"choices": [{"message": {"role": "assistant", "content": words}}], "usage": None}
    upstream.will(body=json.dumps(body))
    dialog = said(spoken, "much")
    assert search(spoken, "w1f") == [dialog]
