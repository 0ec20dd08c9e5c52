"""Texts of calls: stored for keys that ask for it, redacted and sealed; who reads them, and when they go."""

import io
import json
import threading
from datetime import timedelta

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, StoredBody, User
from services import bodies
from services.audit import Actor
from services.pipeline import Pipeline
from tests.callers import add_user, bearer, change, issue
from tests.helpers import add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream
from tests.people import token
from utils import clock

BOTH = {"should_log_request": True, "should_log_response": True}
SECRET = "sk-th-AbCdEfGhIjKlMnOpQrStUvWx"
MISSING = "Nothing is stored of a call of this id."


@pytest.fixture
def keys(app, upstream):
    """Keys of one person on a model: of both switches, of each alone, of none."""
    with_upstream(app, upstream)
    user = add_user(app)
    switches = {"both": BOTH, "request": {"should_log_request": True}, "response": {"should_log_response": True}}
    return {name: issue(app, user, **columns) for name, columns in (switches | {"none": {}}).items()}


def here(app):
    return app.extensions["gateway"]


def post(app, key, path="/v1/chat/completions", body=None, *, buffered=True, **more):
    sent = {"json": chat() if body is None else body} | more
    return app.test_client().post(path, headers=bearer(key.secret), buffered=buffered, **sent)


def stored(app):
    """What is in the table, opened: (request, response) of each call, oldest first."""
    here(app).bodies.flush()
    opened = here(app).bodies.opened
    with Session(here(app).engine) as session:
        found = session.scalars(select(StoredBody).order_by(StoredBody.request_id)).all()
        return [(opened(row.request), opened(row.response)) for row in found]


def content(app, headers, request_id, method="GET"):
    return app.test_client().open(f"/api/v1/usage/{request_id}/content", method=method, headers=headers)


def test_each_switch_keeps_its_text_and_none_keeps_none(app, keys):
    for key in keys.values():
        assert post(app, key, body=chat("a question")).status_code == 200
    found = stored(app)
    assert [(request is not None, response is not None) for request, response in found] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    request, response = found[0]
    assert request == {"type": "application/json", "body": chat("a question"), "is_shortened": False}
    assert response["body"]["choices"][0]["message"]["content"]
    assert (response["type"], response["is_whole"], response["is_stream"]) == ("application/json", True, False)
    assert_books_agree(here(app).engine)


def test_what_is_stored_is_sealed_and_ends(app, keys):
    post(app, keys["both"], body=chat("a secret word"))
    here(app).bodies.flush()
    with Session(here(app).engine) as session:
        row = session.scalars(select(StoredBody)).one()
        assert b"secret word" not in row.request
        assert row.request_id == last(here(app).engine).request_id
        assert row.expires_at - row.created_at == timedelta(days=30)
        assert (row.key_id, row.user_id) == (keys["both"].id, session.get(ApiKey, keys["both"].id).user_id)


def test_credentials_and_media_are_not_stored(app, keys):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBO" * 400}}
    parts = [{"type": "text", "text": f"use {SECRET}"}, picture]
    assert (
        post(app, keys["both"], body={"model": "fast", "messages": [{"role": "user", "content": parts}]}).status_code
        == 200
    )
    assert post(app, keys["both"], "/api/call", {"model_name": "fast", "prompt": "x", "user_api_key": SECRET}).json
    seen, call = (request["body"] for request, _response in stored(app))
    assert seen["messages"][0]["content"][0]["text"] == "use sk-th-A***"
    assert seen["messages"][0]["content"][1]["image_url"]["url"] == "[image/png, 1200 bytes]"
    assert call["user_api_key"] == "[redacted]"


def test_patterns_of_the_operator(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, REDACT_PATTERNS=r"\d{3}-\d{4};;[Ss]mith"), upstream)
    post(app, issue(app, **BOTH), body=chat("call Smith at 555-1234"))
    assert stored(app)[0][0]["body"]["messages"][0]["content"] == "call [redacted] at [redacted]"


def test_a_stream_is_kept_as_its_text(app, keys, upstream):
    upstream.will(words=5)
    sent = post(app, keys["both"], body=chat(stream=True)).text
    events = [json.loads(line[6:]) for line in sent.split("\n\n") if line.startswith("data: {")]
    words = "".join(choice["delta"].get("content") or "" for one in events for choice in one["choices"])
    _request, response = stored(app)[0]
    assert response == {"type": "text/plain", "body": words, "is_stream": True, "is_whole": True, "is_shortened": False}
    assert words


def test_a_stream_that_breaks_is_marked(app, keys, upstream):
    upstream.will(words=9, cut_after=3)
    post(app, keys["both"], body=chat(stream=True))
    _request, response = stored(app)[0]
    assert (response["is_whole"], response["is_stream"]) == (False, True)
    assert len(response["body"].split()) == 3
    assert last(here(app).engine).outcome == "upstream_cut"


def test_of_a_caller_who_left_is_kept_what_was_sent(lite, upstream):
    add_model(lite, add_provider(lite, upstream, settings={"on_disconnect": "drain"}))
    key = issue(lite, **BOTH)
    upstream.will(words=30, every_s=0.01)
    answer = post(lite, key, body=chat(stream=True), buffered=False)
    next(answer.response)
    answer.close()
    _request, response = stored(lite)[0]
    assert response["is_whole"] is False
    assert len(response["body"].split()) < 30
    assert last(here(lite).engine).outcome == "client_gone"


def test_a_call_that_fails_keeps_the_error_that_its_caller_got(app, keys, upstream):
    upstream.will(status=500)
    answer = post(app, keys["both"])
    assert answer.status_code == 502
    request, response = stored(app)[0]
    assert request["body"] == chat()
    assert response["body"] == answer.json


def test_a_call_that_was_refused_leaves_nothing(app, keys):
    assert post(app, keys["both"], body=chat(model="nobody")).status_code == 400
    assert post(app, keys["both"], "/v1/explain").status_code == 200
    assert stored(app) == []


CALLS = {
    "messages": ("/v1/messages", {"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    "responses": ("/v1/responses", {"model": "fast", "input": "hi"}),
    "completions": ("/v1/completions", {"model": "fast", "prompt": "hi"}),
    "embeddings": ("/v1/embeddings", {"model": "fast", "input": "hi"}),
    "moderations": ("/v1/moderations", {"model": "fast", "input": "hi"}),
    "images": ("/v1/images/generations", {"model": "fast", "prompt": "hi"}),
    "proxy": ("/api/providers/openai/v1/chat/completions", chat("hi")),
}


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
def test_every_dialect_as_its_caller_sent_and_got_it(lite, upstream, path, body):
    key = issue(with_upstream(lite, upstream), **BOTH)
    answer = post(lite, key, path, body)
    assert answer.status_code == 200, answer.text
    request, response = stored(lite)[0]
    assert request["body"] == body
    assert set(response["body"]) == set(answer.json)
    if path in ("/v1/messages", "/v1/responses"):
        upstream.will(words=3)
        post(lite, key, path, body | {"stream": True})
        assert len(stored(lite)[1][1]["body"].split()) == 3


def test_a_form_is_kept_without_its_file_and_sound_without_its_bytes(lite, upstream):
    key = issue(with_upstream(lite, upstream), **BOTH)
    form = {"model": "fast", "prompt": "names", "file": (io.BytesIO(b"RIFF" + bytes(4000)), "a.wav")}
    heard = post(lite, key, "/v1/audio/transcriptions", None, json=None, data=form, content_type="multipart/form-data")
    assert heard.status_code == 200
    post(lite, key, "/v1/audio/speech", {"model": "fast", "input": "one", "voice": "alloy"})
    (form_kept, text_kept), (_asked, sound_kept) = stored(lite)
    assert form_kept["body"] == {
        "fields": [["model", "fast"], ["prompt", "names"]],
        "files": [{"name": "file", "filename": "a.wav", "content": "[audio/x-wav, 4004 bytes]"}],
    }
    assert text_kept["body"] == heard.json
    assert sound_kept["body"] == "[audio/mpeg]"


def test_a_message_of_a_dialog_is_kept_too(lite, upstream):
    key = issue(with_upstream(lite, upstream), **BOTH)
    made = post(lite, key, "/api/v1/dialogs", {"model_name": "fast"}).json
    answer = post(lite, key, f"/api/v1/dialogs/{made['id']}/messages/sync", {"content": "hi"})
    request, response = stored(lite)[0]
    assert (request["body"], response["body"]) == ({"content": "hi"}, answer.json["content"])


def test_nothing_is_stored_where_nothing_is_kept(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, BODIES_RETENTION_DAYS="0"), upstream)
    assert post(app, issue(app, **BOTH)).status_code == 200
    assert stored(app) == []


def test_a_large_body_is_cut_and_marked(lite, upstream):
    key = issue(with_upstream(lite, upstream), **BOTH)
    post(lite, key, body=chat("word " * 100_000))
    request, _response = stored(lite)[0]
    assert request["is_shortened"]
    assert request["body"]["messages"][0]["content"].endswith("[cut]")


def test_without_the_database_texts_are_dropped_and_counted_and_calls_go_on(app, keys, caplog):
    def refuse(_connection, _cursor, statement, *_rest):
        if "INSERT INTO stored_bodies" in statement:
            raise OperationalError(statement, {}, Exception("away"))

    event.listen(here(app).engine, "before_cursor_execute", refuse)
    assert post(app, keys["both"]).status_code == 200
    assert stored(app) == []
    assert here(app).bodies.dropped == 1
    assert "texts of 1 calls have been dropped" in caplog.text
    event.remove(here(app).engine, "before_cursor_execute", refuse)
    post(app, keys["both"])
    assert len(stored(app)) == 1
    assert_books_agree(here(app).engine)


def test_what_comes_faster_than_it_is_stored_is_dropped(lite, upstream, monkeypatch):
    key = issue(with_upstream(lite, upstream), **BOTH)
    monkeypatch.setattr(bodies, "MOST_WAITING", 2)
    for _number in range(4):
        assert post(lite, key).status_code == 200
    assert len(stored(lite)) == 2
    monkeypatch.setattr(bodies, "MOST_WAITING_BYTES", 10)
    post(lite, key)
    assert (len(stored(lite)), here(lite).bodies.dropped) == (2, 3)


def test_many_at_once_are_all_stored(lite, upstream):
    key = issue(with_upstream(lite, upstream), **BOTH)
    threads = [threading.Thread(target=lambda: [post(lite, key) for _ in range(8)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(lite)) == len(rows(here(lite).engine)) == 48


def test_a_switch_counts_from_the_next_call_on(app, keys):
    change(app, ApiKey, keys["none"].id, **BOTH)
    post(app, keys["none"])
    change(app, ApiKey, keys["none"].id, should_log_request=False, should_log_response=False)
    post(app, keys["none"])
    assert len(stored(app)) == 1


def test_who_reads_what(app, keys):
    with Session(here(app).engine) as session, session.begin():
        kept = session.scalar(select(User.password_hash).where(User.username == "admin"))
        session.execute(update(User).where(User.username == "ana").values(password_hash=kept))
    for role in ("auditor", "team_admin", "user"):
        add_user(app, role, role=role, password_hash=kept)
    post(app, keys["both"], body=chat("a question"))
    stored(app)
    call = last(here(app).engine).request_id
    own, missing = bearer(keys["both"].secret), None
    seen = content(app, own, call)
    assert seen.status_code == 200
    assert seen.json["request"]["body"] == chat("a question")
    assert set(seen.json) == {"request_id", "user_id", "key_id", "created_at", "expires_at", "request", "response"}
    assert content(app, token(app, "ana"), call).json == seen.json
    strangers = [bearer(keys["none"].secret), bearer(issue(app, add_user(app, "eva"), **BOTH).secret)]
    strangers += [token(app, role) for role in ("auditor", "team_admin", "user")]
    strangers.append(bearer(issue(app, 1, **BOTH).secret))  # a key of an admin is no admin
    for headers in strangers:
        for name in (call, "req_none", "a%00b", "x" * 300):
            for method in ("GET", "DELETE"):
                refused = content(app, headers, name, method)
                told = {member: value for member, value in refused.json.items() if "id" not in member}
                missing = missing or (refused.status_code, told)
                assert (refused.status_code, told) == missing
                assert missing[0] == 404
    assert MISSING in str(missing)
    assert content(app, token(app), call).json == seen.json
    with Session(here(app).engine) as session:
        looked = session.scalars(select(AuditEntry).where(AuditEntry.action == "content_read")).all()
        assert [(entry.actor, entry.resource_id) for entry in looked] == [("admin", call)]


def test_what_is_stored_can_be_deleted_by_its_owner_and_ends_by_itself(app, keys):
    own = bearer(keys["both"].secret)
    post(app, keys["both"])
    post(app, keys["both"])
    stored(app)
    first, second = [row.request_id for row in rows(here(app).engine)]
    assert content(app, own, first, "DELETE").status_code == 204
    assert content(app, own, first).status_code == content(app, own, first, "DELETE").status_code == 404
    with Session(here(app).engine) as session, session.begin():
        session.execute(update(StoredBody).values(expires_at=clock.now()))
    assert content(app, own, second).status_code == 404
    assert content(app, own, second, "DELETE").status_code == 404


def test_a_deleted_user_leaves_no_texts_even_by_a_call_that_ends_later(app, keys):
    post(app, keys["both"])
    stored(app)
    post(app, keys["both"])
    with Session(here(app).engine) as session:
        name = session.get(User, session.get(ApiKey, keys["both"].id).user_id).username
    here(app).people.delete(Actor("t"), name)
    assert stored(app) == []


def test_calls_of_other_keys_pay_nothing(app, keys, monkeypatch):
    seen = []
    opened = Pipeline.open

    def look(self, call, dialect, *, socket):
        seen.append(call.record)
        return opened(self, call, dialect, socket=socket)

    monkeypatch.setattr(Pipeline, "open", look)
    post(app, keys["none"])
    assert seen == [None]


def test_what_was_sealed_with_a_lost_key_says_so(app, keys):
    post(app, keys["both"])
    stored(app)
    with here(app).engine.begin() as connection:
        connection.execute(text("UPDATE stored_bodies SET request = response, response = :broken"), {"broken": b"gone"})
    call = last(here(app).engine).request_id
    assert content(app, bearer(keys["both"].secret), call).json["response"] == {"is_unreadable": True}
