"""The proxy surface: the calls of `/v1` under another gateway's paths, with its error messages."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from models import ApiKey
from services import keys, limits
from services.audit import Actor
from tests.callers import bearer, change, find, issue
from tests.helpers import AUTH, assert_books_agree, chat, last, rows, with_upstream

PLACES = ["/api/providers/openai/v1", "/api/providers/openai"]
CHAT = "/api/providers/openai/v1/chat/completions"


def engine(app):
    return app.extensions["gateway"].engine


def post(app, body=None, path=CHAT, headers=AUTH, **more):
    return app.test_client().post(path, json=body or chat(), headers=headers, buffered=True, **more)


def get(app, path, headers=AUTH):
    return app.test_client().get(path, headers=headers)


def error(response, status, message=None):
    """The error of an answer, after a look at its form."""
    assert (response.status_code, response.mimetype) == (status, "application/json")
    assert set(response.json) == {"error"}
    found = response.json["error"]
    assert set(found) == {"message", "type", "param", "code", "detail"}
    assert found["code"] == status
    assert response.headers["x-request-id"].startswith("req_")
    if message is not None:
        assert found["message"] == f"[BricksLLM] {message}"
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_call_is_answered_and_booked_as_on_v1(app, upstream, place):
    with_upstream(app, upstream)
    answers = [post(app, chat("one two three"), f"{start}/chat/completions") for start in (place, "/v1")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json["choices"] == answers[1].json["choices"]
    assert answers[0].json["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert answers[0].headers["x-request-id"] == rows(engine(app))[0].request_id
    figures = {(row.operation, row.state, row.input_tokens, row.cost_nanousd) for row in rows(engine(app))}
    assert figures == {("chat", "measured", 3, 3 * 150 + 5 * 600)}
    assert [request.path for request in upstream.served] == ["/v1/chat/completions"] * 2
    assert_books_agree(engine(app))


@pytest.mark.parametrize("place", PLACES)
def test_every_path_of_the_surface(lite, upstream, place):
    with_upstream(lite, upstream)
    text = post(lite, {"model": "fast", "prompt": "one two"}, f"{place}/completions").json
    assert (text["object"], last(engine(lite)).operation) == ("text_completion", "completion")
    vectors = post(lite, {"model": "fast", "input": "one"}, f"{place}/embeddings").json
    assert (vectors["data"][0]["embedding"], last(engine(lite)).operation) == ([0.5, -0.25], "embedding")
    stream = post(lite, chat(stream=True), f"{place}/chat/completions")
    assert stream.content_type == "text/event-stream; charset=utf-8"
    assert stream.get_data().endswith(b"data: [DONE]\n\n")
    assert last(engine(lite)).is_stream
    assert get(lite, f"{place}/models").json == get(lite, "/v1/models").json
    assert get(lite, f"{place}/models/fast").json["id"] == "fast"
    assert_books_agree(engine(lite))


# Who may call


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        pytest.param({}, "bearer token is not present", id="none"),
        pytest.param({"Authorization": "Basic eDp5"}, "bearer token is not present", id="another scheme"),
        pytest.param({"Authorization": "Bearer "}, "bearer token is not present", id="an empty one"),
        pytest.param({"Authorization": "Bearer ' OR 1=1 --"}, "api key is not registered", id="characters"),
        pytest.param({"Authorization": "Bearer " + "a" * 5000}, "api key is not registered", id="long"),
        pytest.param({"Authorization": "Bearer sk-th-cut"}, "api key is not registered", id="cut"),
        pytest.param({"x-api-key": "nobody-knows-this-one"}, "api key is not registered", id="another header"),
    ],
)
def test_a_credential_that_opens_nothing(app, headers, message):
    for path in (CHAT, "/api/providers/openai/chat/completions"):
        response = post(app, chat(), path, headers)
        assert error(response, 401, message)["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"
    error(get(app, "/api/providers/openai/v1/models", headers), 401, message)


def test_an_unknown_key(app):
    found = error(post(app, headers=bearer(keys.new_secret())), 401, "api key is not registered")
    assert found["detail"] == "The API key is not valid."


def test_a_revoked_key(app):
    key = issue(app)
    change(app, ApiKey, key.id, revoked_at=datetime.now(UTC), revoked_reason="lost")
    found = error(post(app, headers=bearer(key.secret)), 401, "api key has been revoked")
    assert found["detail"] == f"The API key is not valid: the key `{key.hint}` was revoked: lost."


def test_a_key_whose_time_is_over(app):
    key = issue(app, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    found = error(post(app, headers=bearer(key.secret)), 401, "key has expired")
    assert "it expired on" in found["detail"]
    assert find(app, ApiKey, key.id).revoked_at is None, "an admin may give it more time"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sk-th-cut"}, {"x-api-key": "no-such-key-at-all"}])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["chat/completions", "completions", "embeddings"])
def test_a_refusal_before_flask_reads_like_one_by_flask(lite, place, name, headers):
    early, late = (
        post(lite, chat(), f"{place}/{name}", {**headers, **more})
        for more in ({}, {"Origin": "https://elsewhere.example"})
    )
    assert (early.status_code, early.json) == (late.status_code, late.json)
    for answer in (early, late):
        answer.headers.pop("x-request-id")
    assert {name.lower(): value for name, value in early.headers} == {
        name.lower(): value for name, value in late.headers
    }


# What is refused, and in which words


def test_too_many_requests_say_what_the_limit_is(app):
    limits.put(engine(app), Actor("t"), scope="user", owner="api-tokens", unit="requests", limit="1", period="minute")
    app.extensions["gateway"].catalog.refresh()
    assert post(app, chat(model="echo")).headers["x-ratelimit-remaining-requests"] == "0"
    response = post(app, chat(model="echo"))
    found = error(response, 429, "too many requests")
    assert "the limit is 1 per minute, 1 is used" in found["detail"]
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["x-ratelimit-limit-requests"] == "1"


def test_a_model_that_is_not_allowed(app):
    key = issue(app, allowed_models=["echo"])
    found = error(post(app, chat(model="echo-slow"), headers=bearer(key.secret)), 403, "model is not allowed")
    assert found["detail"] == f"The key `{key.hint}` may not use model `echo-slow`; allowed: `echo`."
    assert found["param"] == "model"


def test_a_path_that_is_not_allowed(app):
    key = issue(app, allowed_paths=[{"path": "/api/providers/openai/v1/embeddings", "method": "POST"}])
    found = error(post(app, chat(model="echo"), headers=bearer(key.secret)), 403, "path is not allowed")
    assert f"key `{key.hint}` may not use `POST {CHAT}`" in found["detail"]
    body = {"model": "echo-embedding", "input": "x"}
    path = "/api/providers/openai/v1/embeddings"
    assert post(app, body, path, bearer(key.secret)).status_code == 200


def test_a_body_that_cannot_be_read(make_app, sqlite_database):
    app = make_app(sqlite_database, MAX_BODY_BYTES="1000")
    client = app.test_client()
    for data, status, message in (
        (b"", 400, "request is empty"),
        (b"{", 400, "error when parsing the request body"),
        (b"[]", 400, "error when parsing the request body"),
        (json.dumps(chat("x" * 2000)).encode(), 413, "error when reading the request body"),
    ):
        error(client.post(CHAT, data=data, headers=AUTH), status, message)
    found = error(post(app, {"model": "echo", "messages": []}), 400)
    assert found["param"] == "messages"
    assert found["message"] == found["detail"]


def test_a_provider_that_cannot_be_reached(lite):
    with_upstream(lite, "http://127.0.0.1:1/v1")
    found = error(post(lite), 502, "failed to send http request to openai")
    assert found["detail"] == "the provider `fake` cannot be reached", "its address is nobody's business"
    assert last(engine(lite)).state == "void"


def test_an_error_of_the_provider_is_handed_on(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(status=400)
    on_v1 = post(lite, path="/v1/chat/completions").json["error"]
    upstream.will(status=400)
    found = error(post(lite), 400)
    assert (found["message"], found["type"], found["param"]) == (on_v1["message"], on_v1["type"], on_v1["param"])


def test_a_stream_that_breaks_ends_with_an_error_of_this_form(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(cut_after=2)
    events = post(lite, chat(stream=True)).text.strip().split("\n\n")
    assert "[DONE]" not in events[-1]
    found = json.loads(events[-1].removeprefix("data: "))["error"]
    assert set(found) == {"message", "type", "param", "code", "detail"}
    assert found["code"] == 502
    assert last(engine(lite)).outcome == "upstream_cut"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/providers", 404),
        ("GET", "/api/providers/nobody/v1/models", 404),
        ("POST", "/api/providers/openai/v1/nothing", 404),
        ("POST", "/api/providers/openai/v2/chat/completions", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/api/providers/openai/models", 405),
        ("GET", "/api/providers/openai/v1/models/no-such", 404),
    ],
)
def test_what_is_not_there(lite, method, path, status):
    response = lite.test_client().open(path, method=method, headers=AUTH)
    error(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_names_that_only_begin_like_the_surface_have_the_other_form(lite):
    assert {"detail", "error", "code", "request_id"} == set(get(lite, "/api/providersx").json)


def test_a_failure_of_ours_says_nothing_of_the_inside(lite, monkeypatch):
    def fail(*_given, **_more):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(lite.extensions["gateway"].accounting, "reserve", fail)
    found = error(post(lite, chat(model="echo")), 500)
    assert "secret detail" not in json.dumps(found)


def test_browsers_on_other_origins(make_app, sqlite_database):
    app = make_app(sqlite_database, CORS_ORIGINS="https://a.test")
    response = app.test_client().options(CHAT, headers={"Origin": "https://a.test"})
    assert response.headers["access-control-allow-origin"] == "https://a.test"
    assert "x-custom-event-id" in response.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in get(app, "/user/usage", AUTH | {"Origin": "https://a.test"}).headers
