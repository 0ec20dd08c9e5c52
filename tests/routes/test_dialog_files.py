"""Export and import of dialogs: a file goes round unchanged; one with mistakes changes nothing and says all of them."""

import copy
import json
import tracemalloc

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import AuditEntry, Dialog, Message
from services import dialogfiles
from tests.helpers import AUTH, with_upstream
from tests.routes.test_dialogs import DIALOGS, ask, engine, make, person, say, stored

EXPORT = "/api/v1/export"
IMPORT = "/api/v1/export/import"
OLD = "2024-02-29T12:00:00.123+00:00"
FILE = {
    "version": "1.0",
    "dialogs": [
        {
            "id": "3f2b8f4e-1111-4222-8333-444455556666",
            "title": "Old talk 👋",
            "system_prompt": "Be brief.",
            "model_name": "gone-model",
            "agent_config": {"agent_type": "gone", "temperature": 0.2},
            "created_at": OLD,
            "updated_at": "2024-03-01T00:00:00Z",
            "messages": [
                {"role": "user", "content": "Olá", "created_at": OLD},
                {"role": "assistant", "content": "Oi!", "prompt_tokens": 3, "completion_tokens": 2, "created_at": OLD},
            ],
        },
        {"model_name": "fast"},
    ],
}


@pytest.fixture
def spoken(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def small(lite, upstream):
    return with_upstream(lite, upstream)


def exported(app, headers=AUTH):
    answer = ask(app, "GET", EXPORT, headers=headers, buffered=True)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


def told(file):
    """What a file says, without ids and moments of its making."""
    return sorted(
        json.dumps(
            [dialog[name] for name in ("title", "system_prompt", "model_name", "agent_config")]
            + [[message[name] for name in message if name != "id"] for message in dialog["messages"]]
            + [dialog["created_at"], dialog["updated_at"]]
        )
        for dialog in file["dialogs"]
    )


def test_a_file_has_all_of_ones_own_and_goes_round(spoken, monkeypatch):
    monkeypatch.setattr(dialogfiles, "AT_ONCE", 2)
    monkeypatch.setattr(dialogfiles, "MESSAGES_AT_ONCE", 2)
    number, maria = person(spoken, "maria")
    for title in ("one", "two", "three", "four", 'five "quoted"'):
        dialog = make(spoken, maria, title=title, agent_config={"temperature": 0.5})
        say(spoken, dialog, "hi", maria)
        say(spoken, dialog, "again", maria)
    make(spoken, maria)
    say(spoken, make(spoken), "somebody else's")
    file = exported(spoken, maria)
    assert list(file) == ["version", "exported_at", "user_id", "dialogs", "dialog_count", "message_count"]
    assert (file["version"], file["user_id"], file["dialog_count"], file["message_count"]) == ("1.0", number, 6, 20)
    assert "somebody" not in json.dumps(file)
    assert [one["role"] for one in file["dialogs"][0]["messages"][:2]] in ([], ["user", "assistant"])

    _number, ana = person(spoken, "ana")
    answer = ask(spoken, "POST", IMPORT, file, ana)
    assert (answer.status_code, answer.json) == (200, {"dialogs_imported": 6, "messages_imported": 20, "errors": []})
    assert told(exported(spoken, ana)) == told(file) == told(exported(spoken, maria))
    assert not {one["id"] for one in exported(spoken, ana)["dialogs"]} & {one["id"] for one in file["dialogs"]}
    with Session(engine(spoken)) as session:
        actions = ("export_dialogs", "import_dialogs")
        found = session.query(AuditEntry).filter(AuditEntry.action.in_(actions)).order_by(AuditEntry.id)
        first, second, *_more = [(entry.action, entry.details) for entry in found]
    assert first == ("export_dialogs", {})
    assert second == ("import_dialogs", {"dialogs_imported": 6, "messages_imported": 20})


def test_an_empty_file_is_one(spoken):
    file = exported(spoken)
    assert (file["dialogs"], file["dialog_count"], file["message_count"]) == ([], 0, 0)
    assert ask(spoken, "POST", IMPORT, file).json["dialogs_imported"] == 0


def test_what_came_in_can_be_read_searched_and_gone_on_with(spoken, upstream):
    assert ask(spoken, "POST", IMPORT, FILE).status_code == 200
    listed = ask(spoken, "GET", DIALOGS).json["items"]
    (old,) = (one for one in listed if one["title"])
    assert old["created_at"].startswith("2024-02-29T12:00:00.123")
    assert old["message_count"] == 2
    assert [(one["content"], one["completion_tokens"]) for one in stored(spoken, old["id"])] == [
        ("Olá", None),
        ("Oi!", 2),
    ]
    assert [one["id"] for one in ask(spoken, "GET", f"{DIALOGS}?q=Oi").json["items"]] == [old["id"]]
    assert say(spoken, old["id"], model_name="fast", agent_config={"agent_type": "default"}).status_code == 201
    assert [one["content"] for one in upstream.served[-1].body["messages"]] == [
        "Be brief.",
        "Olá",
        "Oi!",
        "Hello there",
    ]


def changed(path, value):
    """The file with another value at a place."""
    file = copy.deepcopy(FILE)
    *way, last = path
    place = file
    for step in way:
        place = place[step]
    place[last] = value
    return file


M = ("dialogs", 0, "messages", 1)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), "2.0", "`version`"),
        (("dialogs",), {}, "`dialogs`"),
        (("dialogs",), None, "`dialogs`"),
        (("dialog_count",), 3, "`dialog_count`"),
        (("message_count",), 1, "`message_count`"),
        (("dialogs", 1), "x", "`dialogs.1`"),
        (("dialogs", 1), FILE["dialogs"][0], "`dialogs.1.id`"),
        (("dialogs", 0, "title"), "x" * 256, "`dialogs.0.title`"),
        (("dialogs", 0, "title"), 5, "`dialogs.0.title`"),
        (("dialogs", 0, "model_name"), None, "`dialogs.0.model_name`"),
        (("dialogs", 0, "agent_config"), {"temperature": 9}, "`dialogs.0.agent_config`"),
        (("dialogs", 0, "messages"), "x", "`dialogs.0.messages`"),
        (("dialogs", 0, "messages"), [FILE["dialogs"][0]["messages"][0]] * 1001, "`dialogs.0.messages`"),
        (("dialogs", 0, "created_at"), "yesterday", "`dialogs.0.created_at`"),
        (("dialogs", 0, "created_at"), "9999-12-31T23:59:59-14:00", "`dialogs.0.created_at`"),
        (("dialogs", 0, "updated_at"), "0001-01-01T00:00:00+14:00", "`dialogs.0.updated_at`"),
        (("dialogs", 0, "created_at"), 1e300, "`dialogs.0.created_at`"),
        (M, None, "`dialogs.0.messages.1`"),
        ((*M, "role"), "tool", "`dialogs.0.messages.1.role`"),
        ((*M, "role"), None, "`dialogs.0.messages.1.role`"),
        ((*M, "content"), ["x"], "`dialogs.0.messages.1.content`"),
        ((*M, "content"), "a\0", "`dialogs.0.messages.1.content`"),
        ((*M, "content"), None, "`dialogs.0.messages.1.content`"),
        ((*M, "prompt_tokens"), -1, "`dialogs.0.messages.1.prompt_tokens`"),
        ((*M, "completion_tokens"), 2**63, "`dialogs.0.messages.1.completion_tokens`"),
        (("dialogs", 0, "messages", 0, "content"), "x" * 100_001, "`dialogs.0.messages.0.content`"),
    ],
)
def test_a_mistake_anywhere_stores_nothing(small, path, value, said):
    answer = ask(small, "POST", IMPORT, changed(path, value))
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR"), answer.text
    assert answer.json["details"] == {
        "dialogs_imported": 0,
        "messages_imported": 0,
        "errors": answer.json["details"]["errors"],
    }
    (error,) = answer.json["details"]["errors"]
    assert said in error
    assert ask(small, "GET", DIALOGS).json["total"] == 0


def test_all_mistakes_are_told_up_to_a_hundred(small):
    file = changed(("dialogs", 0, "title"), 5)
    file["dialogs"][0]["messages"][1]["role"] = "x"
    assert len(ask(small, "POST", IMPORT, file).json["details"]["errors"]) == 2
    many = {"dialogs": [{"model_name": "fast", "messages": [{}] * 900}]}
    assert len(ask(small, "POST", IMPORT, many).json["details"]["errors"]) == 100


def test_a_file_that_is_cut_anywhere_stores_nothing(small):
    whole = json.dumps(FILE).encode()
    for end in range(0, len(whole) - 1, 7):
        answer = small.test_client().post(IMPORT, data=whole[:end], headers=AUTH)
        assert answer.status_code == 400, whole[:end]
    assert ask(small, "GET", DIALOGS).json["total"] == 0


def test_ids_and_users_of_a_file_count_for_nothing(small):
    number, maria = person(small, "maria")
    theirs = make(small)
    file = changed(("dialogs", 0, "id"), theirs)
    file |= {"user_id": 1}
    file["dialogs"][0] |= {"user_id": 1, "busy_until": 2**53, "message_count": 7}
    file["dialogs"][0]["messages"][0] |= {"user_id": 1, "dialog_id": theirs, "request_id": "req_x", "number": 1}
    assert ask(small, "POST", IMPORT, file, maria).status_code == 200
    assert (stored(small, theirs), ask(small, "GET", DIALOGS).json["total"]) == ([], 1)
    with Session(engine(small)) as session:
        assert {message.user_id for message in session.query(Message)} == {number}
        assert {message.request_id for message in session.query(Message)} == {None}
        assert {(one.message_count, one.busy_until) for one in session.query(Dialog).filter_by(user_id=number)} == {
            (2, None),
            (0, None),
        }


def test_a_file_that_is_too_large_is_not_read(make_app, sqlite_database):
    app = make_app(sqlite_database, MAX_IMPORT_BYTES="1000")
    answer = ask(app, "POST", IMPORT, FILE | {"more": "x" * 1000})
    assert (answer.status_code, answer.json["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_database_that_refuses_one_message_or_dialog_takes_none(spoken, monkeypatch):
    monkeypatch.setattr(dialogfiles, "BATCH", 1)
    monkeypatch.setitem(dialogfiles.MESSAGE_PARTS, "role", lambda _value: None)
    monkeypatch.setitem(dialogfiles.DIALOG_PARTS, "title", lambda _value: None)
    for file in (changed((*M, "role"), "tool"), changed(("dialogs", 1), {"model_name": "fast", "title": {"x": 1}})):
        assert ask(spoken, "POST", IMPORT, file).status_code == 500
        assert ask(spoken, "GET", DIALOGS).json["total"] == 0
        with Session(engine(spoken)) as session:
            assert session.query(Message).count() == 0


def test_an_export_takes_no_more_memory_for_more_dialogs(small):
    """A thousand dialogs with sixteen messages of a kilobyte: 16 MB go out, a few hundred kilobytes are held."""
    with Session(engine(small)) as session, session.begin():
        for number in range(1000):
            dialog = {"id": f"{number:08x}-0000-4000-8000-000000000000", "user_id": 1, "model_name": "fast"}
            message = {"dialog_id": dialog["id"], "user_id": 1, "role": "user", "content": "x" * 1000}
            session.execute(insert(Dialog).values(dialog))
            session.execute(insert(Message), [message] * 16)
    answer = ask(small, "GET", EXPORT)
    pieces, size = answer.iter_encoded(), 0
    tracemalloc.start()
    try:
        for piece in pieces:
            size += len(piece)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    answer.close()
    assert size > 16_000_000
    assert most < 2_000_000
