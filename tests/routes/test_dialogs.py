"""Dialogs over `/api/v1`: made, listed, answered as streams and whole, booked like every call, refused in one form."""

import json

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import AuditEntry, Dialog, Message, User
from services import removal
from tests.callers import add_user, bearer, issue
from tests.conftest import PASSWORD
from tests.helpers import AUTH, add_model, rows, with_upstream
from tests.routes.test_query_budget import statements

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


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
def test_a_dialog_of_somebody_else_costs_the_statements_of_a_missing_one(spoken, method, path, body):
    dialog, (_number, maria) = make(spoken), person(spoken, "maria")
    seen = []
    for name in (dialog, NOBODYS):
        with statements(spoken) as asked:
            assert ask(spoken, method, f"{DIALOGS}/{name}{path}", body, maria).status_code == 404
        seen.append([statement for statement in asked if statement.split()[-1] in {"dialogs", "messages", "audit_log"}])
    assert seen[0] == seen[1] != []


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
