"""Messages of a dialog: answered as streams and whole, stored and booked like every call, one at a time."""

import json
from collections import Counter

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import Dialog, Message
from services.turns import Turn
from tests.helpers import assert_books_agree, last, with_upstream
from tests.routes.test_dialogs import DIALOGS, admin_of, ask, audited, engine, make, person, say, stored, stream
from tests.routes.test_query_budget import RESERVE, SETTLE, kind, statements, warm  # noqa: F401 - fixtures


@pytest.fixture
def spoken(app, upstream):
    """An app with the model `fast`."""
    return with_upstream(app, upstream)


@pytest.fixture
def small(lite, upstream):
    """The same on SQLite alone."""
    return with_upstream(lite, upstream)


def test_an_answer_is_streamed_stored_and_booked(spoken, upstream):
    dialog = make(spoken, system_prompt="Be brief.")
    *words, end = stream(spoken, dialog)
    assert words == [{"content": f"word{number} ", "done": False} for number in range(5)]
    asked, answered = stored(spoken, dialog)
    row = last(engine(spoken))
    assert end == {
        "content": "",
        "done": True,
        "message_id": answered["id"],
        "prompt_tokens": row.input_tokens,
        "completion_tokens": row.output_tokens,
    }
    assert row.output_tokens == 5
    assert answered.keys() == {
        *("id", "dialog_id", "role", "content", "prompt_tokens", "completion_tokens", "created_at")
    }
    assert (asked["role"], asked["content"], asked["prompt_tokens"]) == ("user", "Hello there", None)
    assert (answered["role"], answered["content"]) == ("assistant", "word0 word1 word2 word3 word4 ")
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (row.input_tokens, 5)
    sent = upstream.served[-1].body
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
    assert (sent["temperature"], sent["stream"]) == (0.7, True)
    with Session(engine(spoken)) as session:
        assert {message.request_id for message in session.query(Message)} == {row.request_id}
        assert session.query(Dialog.message_count, Dialog.busy_until).one() == (2, None)
    assert_books_agree(engine(spoken))
    ((_action, whose, details),) = audited(spoken, "message_send")
    assert whose == dialog
    assert details == {"message_id": asked["id"], "request_id": row.request_id, "outcome": "ok"}


def test_the_headers_of_a_stream_keep_proxies_from_holding_it(small):
    answer = ask(small, "POST", f"{DIALOGS}/{make(small)}/messages", {"content": "x"}, buffered=True)
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert answer.headers["x-request-id"] == last(engine(small)).request_id


def test_a_whole_answer_is_the_stored_message_and_the_next_one_knows_what_was_said(spoken, upstream):
    dialog = make(spoken)
    first = say(spoken, dialog, "one")
    assert first.status_code == 201
    assert first.json == stored(spoken, dialog)[1]
    assert say(spoken, dialog, "two").status_code == 201
    assert "stream" not in upstream.served[-1].body
    assert [(one["role"], one["content"]) for one in upstream.served[-1].body["messages"]] == [
        ("user", "one"),
        ("assistant", first.json["content"]),
        ("user", "two"),
    ]
    assert [one["role"] for one in stored(spoken, dialog)] == ["user", "assistant"] * 2
    assert [one["content"] for one in stored(spoken, dialog, query="?skip=2&limit=1")] == ["two"]
    assert_books_agree(engine(spoken))


@pytest.mark.parametrize("query", ["skip=-1", "skip=x", "limit=0", "limit=201", "limit=1e3"])
def test_a_part_of_the_messages_that_cannot_be(small, query):
    answer = ask(small, "GET", f"{DIALOGS}/{make(small)}/messages?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")


def test_where_the_provider_says_nothing_of_tokens_they_are_counted(small, upstream):
    upstream.will(usage=None)
    dialog = make(small)
    end = stream(small, dialog)[-1]
    assert last(engine(small)).state == "estimated"
    assert end["prompt_tokens"] > 0
    assert end["completion_tokens"] == stored(small, dialog)[1]["completion_tokens"] > 0


def test_without_balance_nothing_is_sent_and_nothing_is_stored(spoken, upstream):
    heard = []
    spoken.extensions["gateway"].events.listen(lambda name, facts: heard.append((name, facts["code"])))
    _number, maria = person(spoken, "maria")
    dialog = make(spoken, maria)
    number = ask(spoken, "GET", f"{DIALOGS}/{dialog}", headers=maria).json["user_id"]
    path = f"/api/v1/admin/users/{number}/tokens"
    assert ask(spoken, "POST", path, {"amount": 1}, admin_of(spoken)).status_code == 200
    for answer in (
        say(spoken, dialog, headers=maria),
        ask(spoken, "POST", f"{DIALOGS}/{dialog}/messages", {"content": "x"}, maria),
    ):
        assert (answer.status_code, answer.json["code"]) == (402, "INSUFFICIENT_TOKENS")
    assert stored(spoken, dialog, maria) == []
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}", headers=maria).json["message_count"] == 0
    assert (upstream.served, audited(spoken, "message_send")) == ([], [])
    assert heard == [("balance_exhausted", "budget_exceeded")] * 2


def test_a_balance_pays_for_messages(spoken):
    number, maria = person(spoken, "maria")
    ask(spoken, "POST", f"/api/v1/admin/users/{number}/tokens", {"amount": 100_000}, admin_of(spoken))
    answer = say(spoken, make(spoken, maria), headers=maria).json
    left = ask(spoken, "GET", "/api/v1/users/me/tokens", headers=maria).json
    assert left["balance"] == 100_000 - answer["prompt_tokens"] - answer["completion_tokens"]
    assert_books_agree(engine(spoken))


def test_a_failed_call_keeps_the_message_and_leaves_the_dialog_free(spoken, upstream):
    dialog = make(spoken)
    upstream.will(status=500)
    answer = ask(spoken, "POST", f"{DIALOGS}/{dialog}/messages", {"content": "one"})
    assert (answer.status_code, answer.json["code"]) == (502, "LLM_ERROR")
    upstream.will(status=500)
    assert say(spoken, dialog, "two").status_code == 502
    assert [(one["role"], one["content"]) for one in stored(spoken, dialog)] == [("user", "one"), ("user", "two")]
    assert say(spoken, dialog, "three").status_code == 201
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}").json["message_count"] == 4
    assert_books_agree(engine(spoken))


def test_a_stream_that_breaks_says_so_and_what_came_is_kept(spoken, upstream):
    dialog = make(spoken)
    upstream.will(cut_after=2, usage=None)
    *words, end = stream(spoken, dialog)
    assert [event["content"] for event in words] == ["word0 ", "word1 "]
    assert (end.keys(), end["done"]) == ({"error", "done"}, True)
    _asked, kept = stored(spoken, dialog)
    assert (kept["content"], kept["completion_tokens"]) == ("word0 word1 ", last(engine(spoken)).output_tokens)
    assert say(spoken, dialog).status_code == 201
    assert_books_agree(engine(spoken))


def test_whoever_leaves_during_a_stream_is_charged_for_what_came_and_finds_it_stored(spoken, upstream):
    dialog = make(spoken)
    upstream.will(words=50, every_s=0.01)
    answer = ask(spoken, "POST", f"{DIALOGS}/{dialog}/messages", {"content": "x"})
    began = next(answer.iter_encoded())
    answer.close()
    assert b'"content":"word0 "' in began
    asked, kept = stored(spoken, dialog)
    assert asked["role"] == "user"
    assert kept["content"].startswith("word0 ")
    row = last(engine(spoken))
    assert (row.outcome, kept["completion_tokens"]) == ("client_gone", row.output_tokens)
    with Session(engine(spoken)) as session:
        assert session.query(Dialog.busy_until).scalar() is None
    assert_books_agree(engine(spoken))


def test_a_second_message_during_an_answer_is_refused(spoken, upstream):
    dialog = make(spoken)
    upstream.will(words=20, every_s=0.01)
    answer = ask(spoken, "POST", f"{DIALOGS}/{dialog}/messages", {"content": "first"})
    next(answer.iter_encoded())
    second = say(spoken, dialog, "second")
    assert (second.status_code, second.json["code"], second.headers["retry-after"]) == (409, "CONFLICT", "1")
    answer.close()
    assert [one["content"] for one in stored(spoken, dialog) if one["role"] == "user"] == ["first"]
    assert say(spoken, dialog, "third").status_code == 201


def test_a_dialog_whose_worker_died_is_free_again_when_its_call_would_be_over(small):
    dialog = make(small)
    with Session(engine(small)) as session, session.begin():
        session.query(Dialog).update({"busy_until": 1})
    assert say(small, dialog).status_code == 201
    with Session(engine(small)) as session:
        assert session.query(Dialog.busy_until).scalar() is None


def test_an_answer_to_a_dialog_that_is_deleted_meanwhile_is_booked_and_not_stored(spoken, upstream):
    dialog = make(spoken)
    upstream.will(words=3, every_s=0.01)
    answer = ask(spoken, "POST", f"{DIALOGS}/{dialog}/messages", {"content": "first"})
    read = answer.iter_encoded()
    next(read)
    assert ask(spoken, "DELETE", f"{DIALOGS}/{dialog}").status_code == 204
    *_words, end = [event for event in b"".join(read).split(b"\n\n") if event]
    answer.close()
    assert json.loads(end.removeprefix(b"data: ")) == {
        "error": "The answer could not be stored; it is not in the dialog.",
        "done": True,
    }
    with Session(engine(spoken)) as session:
        assert session.query(Message).count() == 0
    assert last(engine(spoken)).outcome == "ok"
    assert_books_agree(engine(spoken))


def test_the_limits_of_a_dialog(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, MAX_MESSAGES_PER_DIALOG="4", MAX_CONTENT_LENGTH="10"), upstream)
    dialog = make(app)
    assert say(app, dialog, "0123456789").status_code == 201
    for words in ("0123456789x", "", "   ", None, 5, ["x"], "a\0b"):
        answer = say(app, dialog, words)
        assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR"), words
    assert say(app, dialog, "😀" * 10).status_code == 201
    full = say(app, dialog, "more")
    assert (full.status_code, full.json["details"]) == (400, {"param": "content"})
    assert len(upstream.served) == 2
    assert ask(app, "GET", f"{DIALOGS}/{dialog}").json["message_count"] == 4


def test_a_dialog_that_no_request_can_carry_is_refused(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, MAX_BODY_BYTES="2000"), upstream)
    dialog = make(app)
    assert say(app, dialog, "x" * 1500).status_code == 201
    assert say(app, dialog, "y" * 1500).status_code == 201
    assert (say(app, dialog, "z").status_code, len(upstream.served)) == (413, 2)
    assert ask(app, "GET", f"{DIALOGS}/{dialog}").json["message_count"] == 4


MESSAGE = {  # statements on the pages' connections, before the call and after it
    "before": ["UPDATE dialogs", "SELECT messages", "INSERT messages"],
    "after": [
        *("UPDATE dialogs", "INSERT messages", "UPDATE audit_head", "INSERT audit_log", "UPDATE audit_head"),
        "SELECT messages",
    ],
}


def test_what_a_message_asks_of_the_database(warm, kind):  # noqa: F811 - a fixture
    dialog = make(warm)
    warm.extensions["gateway"].catalog.refresh()
    with statements(warm) as seen:
        assert say(warm, dialog).status_code == 201
    call = [*RESERVE[kind], *SETTLE[kind]]
    assert Counter(seen) == Counter([*MESSAGE["before"], *call, *MESSAGE["after"]])
    assert seen[: len(MESSAGE["before"])] == MESSAGE["before"]


def test_an_answer_that_cannot_be_stored_is_said_to_be_lost(small, monkeypatch):
    def away(_turn, _session):
        raise OperationalError("UPDATE dialogs", {}, Exception("gone"))

    dialogs = [make(small), make(small)]
    monkeypatch.setattr(Turn, "_close", away)
    *words, end = stream(small, dialogs[0])
    assert (len(words), end["done"], "could not be stored" in end["error"]) == (5, True, True)
    answer = say(small, dialogs[1])
    assert (answer.status_code, answer.json["code"]) == (503, "SERVICE_UNAVAILABLE")
    monkeypatch.undo()
    assert [one["role"] for one in stored(small, dialogs[0])] == ["user"]
    assert say(small, dialogs[0]).status_code == 409, "nobody knows when its call will be over"
    assert_books_agree(engine(small))
