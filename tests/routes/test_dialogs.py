"""Dialogs over `/api/v1`: made, listed, answered as streams and whole, booked like every call, refused in one form."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import AuditEntry, Dialog, Message, User
from services import removal
from tests.callers import add_user, bearer, issue
from tests.conftest import PASSWORD
from tests.helpers import AUTH, add_model, assert_books_agree, last, rows, with_upstream

DIALOGS = "/api/v1/dialogs"
VIEW = {
    *("id", "user_id", "title", "system_prompt", "model_name", "agent_config"),
    *("message_count", "created_at", "updated_at"),
}
NOBODYS = "00000000-0000-4000-8000-000000000000"


def engine(app):
    return app.extensions["gateway"].engine


@pytest.fixture
def spoken(app, upstream):
    """An app with the model `fast`."""
    return with_upstream(app, upstream)


@pytest.fixture
def small(lite, upstream):
    """The same on SQLite alone."""
    return with_upstream(lite, upstream)


def person(app, name):
    """A user's number and headers."""
    number = add_user(app, name)
    return number, bearer(issue(app, number).secret)


def admin_of(app):
    answer = app.test_client().post("/login", json={"username": "admin", "password": PASSWORD})
    return bearer(answer.json["access_token"])


def ask(app, method, path, body=None, headers=AUTH, **more):
    return app.test_client().open(path, method=method, json=body, headers=headers, **more)


def make(app, headers=AUTH, **members):
    answer = ask(app, "POST", DIALOGS, {"model_name": "fast"} | members, headers)
    assert answer.status_code == 201, answer.text
    return answer.json["id"]


def say(app, dialog, words="Hello there", headers=AUTH, **members):
    return ask(app, "POST", f"{DIALOGS}/{dialog}/messages/sync", {"content": words} | members, headers)


def stream(app, dialog, words="Hello there", headers=AUTH, **members):
    """The events of a streamed answer, as objects."""
    answer = ask(app, "POST", f"{DIALOGS}/{dialog}/messages", {"content": words} | members, headers, buffered=True)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream"), answer.text
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line.startswith("data")]


def stored(app, dialog, headers=AUTH, query=""):
    answer = ask(app, "GET", f"{DIALOGS}/{dialog}/messages{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json


def audited(app, *actions):
    with Session(engine(app)) as session:
        found = session.query(AuditEntry).filter(AuditEntry.action.in_(actions)).order_by(AuditEntry.id)
        return [(entry.action, entry.resource_id, entry.details) for entry in found]


def test_a_dialog_is_made_shown_renamed_and_deleted(spoken):
    members = {"title": "Olá 👋", "system_prompt": "Be brief.", "agent_config": {"temperature": 0.1}}
    made = ask(spoken, "POST", DIALOGS, members | {"model_name": "fast"})
    assert (made.status_code, made.json.keys()) == (201, VIEW)
    dialog = made.json["id"]
    assert {name: made.json[name] for name in members} == members
    assert (made.json["model_name"], made.json["message_count"]) == ("fast", 0)
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}").json == made.json
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog.upper()}").json == made.json

    renamed = ask(spoken, "PATCH", f"{DIALOGS}/{dialog}", {"title": "Other"})
    assert (renamed.status_code, renamed.json["title"]) == (200, "Other")
    assert ask(spoken, "PATCH", f"{DIALOGS}/{dialog}", {"title": None}).json["title"] is None
    assert say(spoken, dialog).status_code == 201
    gone = ask(spoken, "DELETE", f"{DIALOGS}/{dialog}")
    assert (gone.status_code, gone.data) == (204, b"")
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}").status_code == 404
    with Session(engine(spoken)) as session:
        assert (session.query(Dialog).count(), session.query(Message).count()) == (0, 0)
    created, *_renamed, deleted = audited(spoken, "dialog_create", "dialog_rename", "dialog_delete")
    assert created == ("dialog_create", dialog, {"model": "fast"})
    assert deleted == ("dialog_delete", dialog, {"messages": 2})


def test_the_model_is_that_of_the_settings_where_none_is_named(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, LLM_DEFAULT_MODEL="fast"), upstream)
    assert ask(app, "POST", DIALOGS, {}).json["model_name"] == "fast"


def test_without_such_a_setting_a_model_must_be_named(small):
    answer = ask(small, "POST", DIALOGS, {})
    assert (answer.status_code, answer.json["details"]) == (400, {"param": "model_name"})


@pytest.mark.parametrize("columns", [{}, {"is_enabled": False}], ids=["unknown", "disabled"])
def test_a_model_that_is_not_there_makes_no_dialog(small, upstream, columns):
    if columns:
        with Session(engine(small)) as session:
            provider = session.execute(text("SELECT id FROM providers WHERE name = 'fake'")).scalar_one()
        add_model(small, provider, "gone", **columns)
    answer = ask(small, "POST", DIALOGS, {"model_name": "gone"})
    assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND")


def test_the_list_has_pages_of_ones_own_dialogs_with_what_was_used_last_first(spoken):
    _number, maria = person(spoken, "maria")
    dialogs = [make(spoken, maria, title=str(number)) for number in range(5)]
    make(spoken, AUTH)
    say(spoken, dialogs[0], headers=maria)
    first = ask(spoken, "GET", f"{DIALOGS}?page_size=3", headers=maria).json
    second = ask(spoken, "GET", f"{DIALOGS}?page_size=3&page=2", headers=maria).json
    assert {name: first[name] for name in first if name != "items"} == {
        "total": 5,
        "page": 1,
        "page_size": 3,
        "has_next": True,
    }
    assert (second["page"], second["has_next"], len(second["items"])) == (2, False, 2)
    assert first["items"][0]["id"] == dialogs[0]
    assert sorted(item["id"] for item in first["items"] + second["items"]) == sorted(dialogs)
    assert ask(spoken, "GET", f"{DIALOGS}?page=9", headers=maria).json["items"] == []


@pytest.mark.parametrize("query", ["page=0", "page=x", "page_size=0", "page_size=101", "page=99999999", "page=-1"])
def test_a_page_that_cannot_be(small, query):
    assert ask(small, "GET", f"{DIALOGS}?{query}").json["code"] == "VALIDATION_ERROR"


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


FOREIGN = [
    ("GET", "", None),
    ("PATCH", "", {"title": "mine now"}),
    ("DELETE", "", None),
    ("GET", "/messages", None),
    ("POST", "/messages", {"content": "hi"}),
    ("POST", "/messages/sync", {"content": "hi"}),
]


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
def test_a_dialog_of_somebody_else_is_none(spoken, method, path, body):
    dialog, (_number, maria) = make(spoken), person(spoken, "maria")
    found = [
        ask(spoken, method, f"{DIALOGS}/{name}{path}", body, maria) for name in (dialog, NOBODYS, "x", "%00", "'--")
    ]
    told = {(one.status_code, one.json["code"], one.json["message"]) for one in found}
    assert told == {(404, "NOT_FOUND", "There is no dialog of this id.")}
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}").json["title"] is None
    assert (stored(spoken, dialog), audited(spoken, "dialog_read")) == ([], [])


def test_an_admin_who_has_signed_in_reads_others_which_is_audited_and_changes_nothing(spoken):
    number, maria = person(spoken, "maria")
    dialog, admin = make(spoken, maria), admin_of(spoken)
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}", headers=admin).json["user_id"] == number
    assert stored(spoken, dialog, admin) == []
    assert audited(spoken, "dialog_read") == [("dialog_read", dialog, {"owner": number})] * 2
    for method, path, body in FOREIGN[1:3] + FOREIGN[4:]:
        assert ask(spoken, method, f"{DIALOGS}/{dialog}{path}", body, admin).status_code == 404
    key = bearer(issue(spoken, 2).secret)  # a program with a key of the admin
    assert ask(spoken, "GET", f"{DIALOGS}/{dialog}", headers=key).status_code == 404
    own = make(spoken, admin)
    ask(spoken, "GET", f"{DIALOGS}/{own}", headers=admin)
    assert len(audited(spoken, "dialog_read")) == 2


def test_what_goes_with_a_user(spoken):
    number, maria = person(spoken, "maria")
    say(spoken, make(spoken, maria), headers=maria)
    ask(spoken, "POST", "/api/v1/agents", {"name": "mine"}, maria)
    kept = make(spoken)
    with Session(engine(spoken)) as session, session.begin():
        removal.user(session, number)
    with Session(engine(spoken)) as session:
        assert session.query(User).filter_by(id=number).count() == 0
        assert [row.id for row in session.query(Dialog)] == [kept]
        assert session.query(Message).count() == 0
        assert session.execute(text("SELECT COUNT(*) FROM agents")).scalar_one() == 0
    assert len(rows(engine(spoken))) == 1


def test_events_are_told_without_texts(small):
    heard = []
    events = small.extensions["gateway"].events
    events.listen(lambda _name, _facts: 1 / 0)
    events.listen(lambda name, facts: heard.append((name, facts)))
    dialog = make(small)
    answer = say(small, dialog, "a secret word").json
    assert [name for name, _facts in heard] == ["message_sent", "llm_response_received", "tokens_deducted"]
    sent, received, deducted = (facts for _name, facts in heard)
    assert (sent["dialog_id"], received["message_id"], received["model"]) == (dialog, answer["id"], "fast")
    assert deducted["tokens"] == answer["prompt_tokens"] + answer["completion_tokens"]
    assert received["latency_ms"] >= 0
    assert "secret" not in json.dumps(heard)


@pytest.mark.parametrize(
    "body",
    [
        {"title": "x" * 256},
        {"title": 5},
        {"title": "a\0b"},
        {"system_prompt": ["x"]},
        {"model_name": ""},
        {"model_name": "x" * 201},
        {"agent_config": []},
        {"agent_config": {"user_id": 1}},
        {"id": NOBODYS},
        {"user_id": 1},
        {"created_at": "2020-01-01T00:00:00Z"},
        {"message_count": -5},
        {"busy_until": 1},
    ],
)
def test_members_that_cannot_be_are_refused_by_name(small, body):
    answer = ask(small, "POST", DIALOGS, {"model_name": "fast"} | body)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json["details"] == {"param": next(iter(body))}
    dialog = make(small)
    if body.keys() != {"title"}:
        assert ask(small, "PATCH", f"{DIALOGS}/{dialog}", body).status_code == 400
        assert say(small, dialog, **body).status_code == (404 if "x" in body else 400)


def test_errors_are_translated(small):
    answer = ask(small, "GET", f"{DIALOGS}/{NOBODYS}", headers=AUTH | {"Accept-Language": "pt-BR"})
    assert answer.json["message"] == "Não há diálogo com este id."
