"""Calls with an Idempotency-Key at the socket: made once, charged once, answered as often as they are sent."""

import threading
from io import BytesIO

import pytest
from sqlalchemy.orm import Session

from models_kept import KeptAnswer
from services import limits
from services.audit import Actor
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream
from utils import clock

CHAT = "/v1/chat/completions"
KEY = {"Idempotency-Key": "order 17"}


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


def gateway(app):
    return app.extensions["gateway"]


def post(app, body=None, path=CHAT, **headers):
    return app.test_client().post(path, json=body or chat(), headers=AUTH | KEY | headers, buffered=True)


def kept(app):
    with Session(gateway(app).engine) as session:
        return session.query(KeptAnswer).all()


def change(app, columns):
    with gateway(app).engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE kept_answers SET {columns}")


def die(app):
    """As if the worker had been killed before it kept the answer."""
    change(app, f"state = 'open', body = NULL, lease_until = {clock.now_ms() - 60_000}")


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_repeat_gets_the_same_answer(fast, upstream, is_stream):
    first, second = (post(fast, chat(stream=is_stream)) for _ in range(2))
    assert (first.status_code, second.status_code, first.data == second.data) == (200, 200, True)
    assert "x-gateway-replayed" not in first.headers
    assert second.headers["x-gateway-replayed"] == "true"
    assert second.headers["x-gateway-replay-of"] == first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (len(upstream.served), len(rows(gateway(fast).engine))) == (1, 1)
    assert_books_agree(gateway(fast).engine)


CALLS = {
    "completions": ("/v1/completions", {"model": "fast", "prompt": "one"}),
    "embeddings": ("/v1/embeddings", {"model": "fast", "input": "one"}),
    "messages": ("/v1/messages", {"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": "one"}]}),
    "responses": ("/v1/responses", {"model": "fast", "input": "one"}),
    "proxy": ("/api/providers/openai/v1/chat/completions", chat()),
    "moderations": ("/v1/moderations", {"model": "fast", "input": "one"}),
    "speech": ("/v1/audio/speech", {"model": "fast", "input": "one", "voice": "alloy"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_surface(lite, upstream, name):
    with_upstream(lite, upstream)
    path, body = CALLS[name]
    first, second = (post(lite, body, path) for _ in range(2))
    assert (first.status_code, first.data == second.data) == (200, True), first.text
    assert second.headers["x-gateway-replayed"] == "true"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert (len(upstream.served), len(rows(gateway(lite).engine))) == (1, 1)
    if name == "messages":
        assert second.headers["request-id"] == second.headers["x-request-id"]


def test_a_form(lite, upstream):
    with_upstream(lite, upstream)

    def send(sound):
        form = {"model": "fast", "file": (BytesIO(sound), "a.mp3")}
        return lite.test_client().post("/v1/audio/transcriptions", data=form, headers=AUTH | KEY)

    first, second, other = send(b"one"), send(b"one"), send(b"two")
    assert (first.status_code, first.data == second.data, other.status_code) == (200, True, 422)
    assert len(upstream.served) == 1


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_another_request_with_the_key_is_refused(fast, upstream, path):
    body = chat(max_tokens=5)
    assert post(fast, body, path).status_code == 200
    refused = post(fast, body | {"max_tokens": 6}, path)
    assert (refused.status_code, len(upstream.served)) == (422, 1)
    if path == CHAT:
        assert refused.json["error"]["code"] == "idempotency_mismatch"
    else:
        assert (refused.json["type"], refused.json["error"]["type"]) == ("error", "invalid_request_error")


def test_keys_of_others_are_others(fast, upstream):
    with Session(gateway(fast).engine) as session, session.begin():
        secret = gateway(fast).keys.issue(session, user_id=1, name="other").secret
    post(fast)
    assert "x-gateway-replayed" not in post(fast, Authorization=f"Bearer {secret}").headers
    assert len(upstream.served) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"], ids=["empty", "long", "not ASCII"])
def test_keys_that_cannot_be(lite, upstream, key):
    with_upstream(lite, upstream)
    refused = post(lite, **{"Idempotency-Key": key})
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "Idempotency-Key")
    assert upstream.served == []


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_failure_gives_the_key_back(fast, upstream, status):
    upstream.will(status=status)
    assert post(fast).status_code >= 400
    assert kept(fast) == []
    assert post(fast).status_code == 200
    assert post(fast).headers["x-gateway-replayed"] == "true"


def test_a_refusal_gives_the_key_back(fast, upstream):
    assert post(fast, chat(model="no-such")).status_code == 400
    assert post(fast).status_code == 200


def test_a_stream_that_broke_off_gives_the_key_back(fast, upstream):
    upstream.will(cut_after=2)
    assert b"error" in post(fast, chat(stream=True)).data
    assert kept(fast) == []
    assert b"[DONE]" in post(fast, chat(stream=True)).data


def test_a_stream_that_its_caller_left_is_read_to_its_end_and_kept(fast, upstream):
    answer = fast.test_client().post(CHAT, json=chat(stream=True), headers=AUTH | KEY)
    next(answer.iter_encoded())
    answer.close()
    row = last(gateway(fast).engine)
    assert (row.outcome, row.state) == ("ok", "measured")
    again = post(fast, chat(stream=True))
    assert again.headers["x-gateway-replayed"] == "true"
    assert again.data.endswith(b"data: [DONE]\n\n")
    assert len(upstream.served) == 1


def test_fifty_at_once_are_one_call(fast, upstream):
    found = []

    def ask():
        found.append(post(fast, chat('one {{"first_s": 0.5}}')))

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in found} == {200}
    assert len({answer.data for answer in found}) == len(upstream.served) == 1
    assert sum("x-gateway-replayed" in answer.headers for answer in found) == 49
    assert len(rows(gateway(fast).engine)) == 1
    assert_books_agree(gateway(fast).engine)


def test_who_waits_too_long_is_told_to_come_again(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, KEPT_WAIT="0.2", KEPT_WAITING="1"), upstream)
    body = chat('one {{"first_s": 1.0}}')
    first = threading.Thread(target=post, args=(app, body))
    first.start()
    upstream.wait_for(1)
    refused = post(app, body)
    first.join()
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "idempotency_running")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("2", "true")
    assert post(app, body).headers["x-gateway-replayed"] == "true"


def test_no_more_wait_than_may(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, KEPT_WAITING="2"), upstream)
    found = []

    def ask():
        found.append(post(app, chat('one {{"first_s": 1.0}}')).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, 200, 200, 409, 409, 409]


def test_a_dead_call_that_was_booked_in_full_is_not_made_again(fast, upstream):
    first = post(fast)
    die(fast)
    refused = post(fast)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "idempotency_lost")
    assert first.headers["x-request-id"] in refused.json["error"]["message"]
    assert (refused.headers["x-should-retry"], len(upstream.served)) == ("false", 1)


def test_a_dead_call_that_was_recovered_is_made_again(fast, upstream):
    post(fast)
    die(fast)
    with gateway(fast).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE usage SET outcome = 'recovered'")
    assert post(fast).status_code == 200
    assert post(fast).headers["x-gateway-replayed"] == "true"
    assert len(upstream.served) == 2


def test_a_dead_call_that_is_not_settled_yet_is_waited_for(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, KEPT_WAIT="0.3"), upstream)
    first = post(app)
    die(app)
    with gateway(app).engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM usage")
        connection.exec_driver_sql(
            "INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes, call)"
            f" VALUES ('{first.headers['x-request-id']}', 'x', 0, 9999999999999, 0, 0, '[]', '{{}}')"
        )
    refused = post(app)
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "idempotency_running")
    with gateway(app).engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM holds")
    assert post(app).status_code == 200
    assert len(upstream.served) == 2


def test_an_answer_that_is_too_large_is_lost_and_not_made_again(sqlite_database, make_app, upstream):
    app = with_upstream(make_app(sqlite_database, KEPT_ANSWER_BYTES="1024"), upstream)
    upstream.default.words = 400
    for is_stream in (False, True):
        headers = {"Idempotency-Key": f"large {is_stream}"}
        assert post(app, chat(stream=is_stream), **headers).status_code == 200
        refused = post(app, chat(stream=is_stream), **headers)
        assert (refused.status_code, refused.json["error"]["code"]) == (409, "idempotency_lost")
    assert len(upstream.served) == 2


def test_a_repeat_counts_as_a_request(fast, upstream):
    limits.put(
        gateway(fast).engine, Actor("tests"), scope="user", owner="api-tokens", unit="requests", limit=2, period="hour"
    )
    gateway(fast).catalog.refresh()
    assert [post(fast).status_code for _ in range(3)] == [200, 200, 429]


def test_after_a_day_the_key_is_new(fast, upstream, monkeypatch):
    post(fast)
    later_ms = clock.now_ms() + 86_400_001
    monkeypatch.setattr(clock, "now_ms", lambda: later_ms)
    assert "x-gateway-replayed" not in post(fast).headers
    assert len(upstream.served) == 2


def test_a_hit_of_the_cache_is_kept_for_repeats_too(app, upstream):
    add_model(app, add_provider(app, upstream), routing={"cache_s": 60})
    for is_stream in (False, True):
        body = chat(stream=is_stream)
        first = app.test_client().post(CHAT, json=body, headers=AUTH, buffered=True)
        headers = {"Idempotency-Key": f"of a hit {is_stream}"}
        hit, again = (post(app, body, **headers) for _ in range(2))
        assert (hit.headers["x-gateway-cache"], again.headers["x-gateway-replayed"]) == ("hit", "true")
        assert hit.data == again.data == first.data
    assert (len(upstream.served), len(rows(gateway(app).engine))) == (2, 4)
