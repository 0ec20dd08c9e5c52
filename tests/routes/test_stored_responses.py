"""Answers of the Responses API that are kept: whose they are, how long, and what goes on from them."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import StoredItem, StoredResponse, User
from services import removal, responses
from services.errors import BodyTooLarge, InvalidRequest, NotFound
from tests.callers import add_user, bearer, issue
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, last, rows
from tests.vendor_schemas import faults
from utils import clock

PATH = "/v1/responses"
DAY_S = 86_400


def ask(app, said="one two", auth=AUTH, **more):
    response = app.test_client().post(PATH, json={"model": "echo", "input": said, **more}, headers=auth, buffered=True)
    assert response.status_code == 200, response.text
    return response.json


def get(app, name, auth=AUTH, **query):
    return app.test_client().get(f"{PATH}/{name}", headers=auth, query_string=query)


def kept(app):
    return app.extensions["gateway"].responses


def engine(app):
    return app.extensions["gateway"].engine


def count(app, table):
    with Session(engine(app)) as session:
        return session.query(table).count()


def items(app, name, **query):
    return [item["id"] for item in get(app, f"{name}/input_items", **query).json["data"]]


def error(response):
    found = response.json["error"]
    return response.status_code, found["code"], found["param"]


def test_only_keys_of_the_same_user_find_and_continue_an_answer(app):
    user = add_user(app)
    one, other, strange = issue(app, user), issue(app, user), issue(app, add_user(app, "eva"))
    first = ask(app, auth=bearer(one.secret))
    assert get(app, first["id"], bearer(other.secret)).json == first
    second = ask(app, "three", bearer(other.secret), previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    stranger = bearer(strange.secret)
    missing = error(get(app, "resp_no_such", stranger))
    assert missing == (404, "not_found", "response_id")
    client = app.test_client()
    for name in (first["id"], "resp_no_such", "a\x00b", "x" * 300, "é"):
        assert error(get(app, name, stranger)) == missing
        assert error(get(app, f"{name}/input_items", stranger)) == missing
        assert error(client.delete(f"{PATH}/{name}", headers=stranger)) == missing
        assert error(client.post(f"{PATH}/{name}/cancel", headers=stranger)) == missing
        body = {"model": "echo", "input": "x", "previous_response_id": name}
        refused = client.post(PATH, json=body, headers=stranger)
        assert error(refused) == (404, "previous_response_not_found", "previous_response_id")
        body = {"model": "echo", "input": [{"type": "item_reference", "id": name}]}
        assert error(client.post(PATH, json=body, headers=stranger)) == (404, "not_found", "input.0.id")
    theirs = {"model": "echo", "input": [{"id": first["output"][0]["id"]}]}
    assert error(client.post(PATH, json=theirs, headers=stranger)) == (404, "not_found", "input.0.id")
    assert client.post(PATH, json=theirs, headers=bearer(other.secret)).json["output"][0]["content"][0]["text"]
    assert_books_agree(engine(app))


def test_what_is_kept_can_be_read_by_nobody_else(app):
    ask(app, "a secret word", instructions="another secret")
    with engine(app).connect() as connection:
        (stored,) = connection.execute(text("SELECT * FROM stored_responses")).mappings().all()
    assert stored["model"] == "echo"
    assert b"secret" not in bytes(stored["sealed"])
    assert all("secret" not in str(value) for name, value in stored.items() if name != "sealed")


def test_a_conversation_is_told_in_full(app):
    first = ask(app, "one")
    said = [{"role": "user", "content": [{"type": "input_text", "text": "two"}]}, {"role": "assistant", "content": "2"}]
    second = ask(app, [*said, {"role": "user", "content": "three"}], previous_response_id=first["id"])
    third = ask(app, "four", previous_response_id=second["id"], stream=False)
    everything = get(app, f"{third['id']}/input_items", order="asc", limit=100).json
    assert faults("openai", "ResponseItemList", everything) == []
    assert [item["content"][0]["text"] for item in everything["data"]] == [
        "one", "one", "two", "2", "three", "three", "four"
    ]  # fmt: skip
    names = [item["id"] for item in everything["data"]]
    assert len(set(names)) == 7
    assert (everything["first_id"], everything["last_id"]) == (names[0], names[-1])
    assert items(app, third["id"]) == names[::-1], "the newest first, unless asked otherwise"
    page = get(app, f"{third['id']}/input_items", limit=2, after=names[5]).json
    assert ([item["id"] for item in page["data"]], page["has_more"]) == ([names[4], names[3]], True)
    assert items(app, third["id"], after=names[0]) == []
    for query, param in (
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "msg_no_such"}, "after"),
    ):
        response = get(app, f"{third['id']}/input_items", **query)
        assert error(response) == (400, "validation_error", param)


def test_items_of_every_kind_are_listed_in_full_form(app):
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "a", "output": "r"}
    thought = {"type": "reasoning", "encrypted_content": "gAAAA"}
    answer = ask(app, [{"role": "user", "content": "x"}, thought, call, result, {"role": "user", "content": "y"}])
    listed = get(app, f"{answer['id']}/input_items", order="asc").json
    assert faults("openai", "ResponseItemList", listed) == []
    assert [item["type"] for item in listed["data"]] == [
        "message", "reasoning", "function_call", "function_call_output", "message"
    ]  # fmt: skip


def test_an_answer_ends_and_a_conversation_that_goes_on_lasts(app, monkeypatch):
    start_ms = clock.now_ms()
    days = 0
    monkeypatch.setattr(clock, "now_ms", lambda: start_ms + days * DAY_S * 1000)
    lonely, first = ask(app, "lonely"), ask(app, "first")
    days = 29
    second = ask(app, "second", previous_response_id=first["id"])
    days = 31
    assert error(get(app, lonely["id"]))[0] == 404
    assert get(app, first["id"]).json == first
    assert count(app, StoredResponse) == 3
    monkeypatch.setattr(responses, "BATCH", 1)
    kept(app).forget_ended()
    assert (count(app, StoredResponse), count(app, StoredItem)) == (2, 2)
    assert ask(app, "third", previous_response_id=second["id"])["status"] == "completed"
    days = 100
    kept(app).forget_ended()
    assert (count(app, StoredResponse), count(app, StoredItem)) == (0, 0)


def test_a_setting_says_how_long(make_app, sqlite_database):
    app = make_app(sqlite_database, RESPONSES_RETENTION_DAYS="0")
    answer = ask(app)
    assert answer["store"] is False
    assert error(get(app, answer["id"]))[0] == 404
    assert count(app, StoredResponse) == 0


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_cannot_be_stored_is_given_all_the_same(lite, monkeypatch, caplog, is_stream):
    def away(call):
        raise OperationalError("INSERT", {}, Exception("the database is away"))

    monkeypatch.setattr(kept(lite), "_keep", away)
    body = {"model": "echo", "input": "one two", "stream": is_stream}
    response = lite.test_client().post(PATH, json=body, headers=AUTH, buffered=True)
    assert (response.status_code, "one two" in response.text or "two" in response.text) == (200, True)
    assert "completed" in response.text
    assert "an answer was not stored" in caplog.text
    assert last(engine(lite)).outcome == "ok"
    assert_books_agree(engine(lite))


def test_a_conversation_has_an_end(lite, monkeypatch):
    first = ask(lite, "one")
    second = ask(lite, "two", previous_response_id=first["id"])
    third = ask(lite, "three", previous_response_id=second["id"])
    user = last(engine(lite)).user_id
    for name, most in (("LONGEST", 2), ("MOST_BYTES", 10)):
        with monkeypatch.context() as patched:
            patched.setattr(responses, name, most)
            with pytest.raises(BodyTooLarge, match="too long"):
                kept(lite).input_items(user, third["id"])
    assert len(kept(lite).input_items(user, third["id"])) == 5
    body = {"model": "echo", "input": [{"type": "item_reference", "id": "a"}] * 1001}
    assert error(lite.test_client().post(PATH, json=body, headers=AUTH)) == (400, "validation_error", "input")
    with pytest.raises(InvalidRequest):
        responses.page([], limit=1, after="x", is_rising=True)


def test_a_long_answer_is_sealed_beside_the_calls(lite, monkeypatch):
    monkeypatch.setattr(responses, "LARGE_BYTES", 10)
    answer = ask(lite)
    assert get(lite, answer["id"]).json == answer


def test_an_answer_that_is_deleted_is_gone_with_its_items(app):
    first = ask(app)
    second = ask(app, previous_response_id=first["id"])
    deleted = app.test_client().delete(f"{PATH}/{first['id']}", headers=AUTH)
    assert (deleted.status_code, deleted.json) == (200, {"id": first["id"], "object": "response", "deleted": True})
    assert (count(app, StoredResponse), count(app, StoredItem)) == (1, 1)
    assert get(app, second["id"]).json == second
    body = {"model": "echo", "input": "x", "previous_response_id": second["id"]}
    broken = app.test_client().post(PATH, json=body, headers=AUTH)
    assert error(broken) == (404, "previous_response_not_found", "previous_response_id")
    assert first["id"] in broken.json["error"]["message"]
    assert len(items(app, second["id"])) == 1, "what is left of it"


def test_a_user_takes_its_answers_along(app):
    user = add_user(app)
    ask(app, auth=bearer(issue(app, user).secret))
    ask(app)
    with Session(engine(app)) as session, session.begin():
        removal.user(session, user)
    assert count(app, StoredResponse) == count(app, StoredItem) == 1
    with Session(engine(app)) as session:
        assert session.get(User, user) is None


def test_what_is_stored_of_a_call_that_failed_or_left(lite):
    body = {"model": "echo-cut", "input": "a b c d", "stream": True}
    broken = lite.test_client().post(PATH, json=body, headers=AUTH, buffered=True)
    assert "response.failed" in broken.text
    response = lite.test_client().post(PATH, json={**body, "model": "echo"}, headers=AUTH)
    next(iter(response.response))
    response.close()
    assert [row.outcome for row in rows(engine(lite))] == ["upstream_cut", "client_gone"]
    assert count(lite, StoredResponse) == 0


def test_what_only_openai_has_is_refused_before_anybody_is_asked(lite, upstream):
    add_model(lite, add_provider(lite, upstream, "chats"), "chats")
    body = {"model": "chats", "input": "x", "tools": [{"type": "web_search"}]}
    refused = lite.test_client().post(PATH, json=body, headers=AUTH)
    assert error(refused) == (400, "unsupported_content", "tools.0")
    assert (upstream.served, [row.state for row in rows(engine(lite))]) == ([], ["void"])
    add_model(lite, add_provider(lite, upstream, "own", settings={"responses": True}), "own")
    response = lite.test_client().post(PATH, json={**body, "model": "own"}, headers=AUTH | {"OpenAI-Beta": "x=1"})
    assert response.status_code == 200
    sent = upstream.served[-1]
    assert (sent.body["tools"], sent.body["store"]) == ([{"type": "web_search"}], False)
    assert sent.headers["openai-beta"] == "x=1"
    assert (response.json["store"], response.json["an_unknown_member"]) == (True, {"kept": True})
    assert_books_agree(engine(lite))


def test_what_is_lost_on_the_way_to_a_chat_is_named(lite):
    more = {"truncation": "auto", "context_management": [{"type": "compaction"}]}
    response = lite.test_client().post(PATH, json={"model": "echo", "input": "x", **more}, headers=AUTH)
    assert response.headers["x-gateway-dropped-params"] == "context_management,truncation"


def test_what_would_become_of_such_a_call(lite):
    def explain(**body):
        response = lite.test_client().post("/v1/explain", json={"model": "echo", **body}, headers=AUTH)
        return response.json

    first = ask(lite, "one two three " * 200)
    told = explain(input="x", instructions="y")
    assert (told["operation"], told["decision"]) == ("chat", {"is_admitted": True})
    longer = explain(input="x", instructions="y", previous_response_id=first["id"])
    assert longer["hold"]["input_tokens"] > told["hold"]["input_tokens"] + 2800, "the past is part of what is sent"
    assert explain(input=[{"role": "user", "content": "x"}])["operation"] == "chat"
    assert explain(input="x")["operation"] == "embedding"


def test_tokens_are_counted_with_the_past(lite):
    first = ask(lite, "one two three " * 20)

    def counted(**body):
        response = lite.test_client().post(f"{PATH}/input_tokens", json={"input": "x", **body}, headers=AUTH)
        return response.json

    short = counted(model="echo")
    assert short["object"] == "response.input_tokens"
    assert counted(model="echo", previous_response_id=first["id"])["input_tokens"] > short["input_tokens"] + 100
    assert counted(model="no-such")["error"]["code"] == "model_not_found"


def test_what_needs_an_answer_in_the_background_is_refused(lite):
    answer = ask(lite)
    cancelled = lite.test_client().post(f"{PATH}/{answer['id']}/cancel", headers=AUTH)
    assert error(cancelled) == (400, "unsupported_content", "response_id")
    assert error(get(lite, answer["id"], stream="true")) == (400, "unsupported_content", "stream")
    assert get(lite, answer["id"], stream="false").status_code == 200


def test_browsers_may_delete(make_app, sqlite_database):
    app = make_app(sqlite_database, CORS_ORIGINS="*")
    asked = app.test_client().options(f"{PATH}/resp_1", headers={"Origin": "https://a.test"})
    assert "DELETE" in asked.headers["access-control-allow-methods"]


def test_an_answer_nobody_may_keep_is_not_looked_for(gateway):
    with pytest.raises(NotFound):
        gateway.responses.find(1, "resp_1")
