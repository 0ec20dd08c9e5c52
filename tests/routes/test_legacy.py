"""`POST /api/call`: a prompt in, a text out, with a key in a header or in the body."""

import io
import json

import pytest

from services import keys
from services.dialects.prompts import ToText, error_event
from services.errors import InvalidRequest, Unsupported, UpstreamError
from services.providers.ollama import Ollama
from tests.callers import bearer, issue
from tests.calls import make_call
from tests.helpers import AUTH, assert_books_agree, last, rows, with_upstream

BODY = {"model_name": "fast", "prompt": "Say hi"}


def ask(app, body, headers=AUTH, **more):
    return app.test_client().post("/api/call", json=body, headers=headers, **more)


def engine(app):
    return app.extensions["gateway"].engine


def test_a_prompt_is_answered_with_a_text_and_booked(app, upstream):
    with_upstream(app, upstream)
    answer = ask(app, BODY)
    assert (answer.status_code, answer.json) == (200, {"response": "word0 word1 word2 word3 word4 "})
    sent = upstream.served[-1].body
    assert sent["messages"] == [{"role": "user", "content": "Say hi"}]
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("gpt-4o-mini", 100, 0.7)
    assert (last(engine(app)).operation, last(engine(app)).state) == ("chat", "measured")
    ask(app, BODY | {"max_tokens": 3, "temperature": 1})
    assert (upstream.served[-1].body["max_tokens"], upstream.served[-1].body["temperature"]) == (3, 1)
    assert_books_agree(engine(app))


def test_a_key_may_stand_in_the_body(lite, upstream):
    with_upstream(lite, upstream)
    key = issue(lite)
    answer = ask(lite, BODY | {"user_api_key": key.secret}, {})
    assert answer.status_code == 200, answer.text
    assert last(engine(lite)).key_id == key.id
    assert key.secret not in json.dumps(upstream.served[-1].body)
    other = issue(lite, user_id=1)
    ask(lite, BODY | {"user_api_key": key.secret}, bearer(other.secret))
    assert last(engine(lite)).key_id == other.id, "a header goes first"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {}),
        (BODY | {"user_api_key": keys.new_secret()}, {}),
        (BODY | {"user_api_key": "a b\r\nx: y"}, {}),
        (BODY | {"user_api_key": ["x"]}, {}),
        (BODY | {"user_api_key": ""}, {}),
        (BODY, bearer("sk-th-cut")),
        (["no object"], {}),
    ],
)
def test_without_a_good_key_nothing_is_answered(lite, body, headers):
    answer = ask(lite, body, headers)
    assert (answer.status_code, answer.json["error"]) == (401, "Invalid or missing API key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert rows(engine(lite)) == []


def test_a_body_with_a_key_is_read_only_so_far(lite):
    answer = ask(lite, BODY | {"prompt": "x" * 1024 * 1024}, {})
    assert (answer.status_code, answer.json["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (BODY | {"model_name": "no-such"}, 404, "model_not_found"),
        (BODY | {"model_name": " "}, 400, "validation_error"),
        ({"prompt": "x"}, 400, "validation_error"),
        ({"model_name": "fast"}, 400, "validation_error"),
        (BODY | {"prompt": ["x"]}, 400, "validation_error"),
        (BODY | {"max_tokens": 0}, 400, "validation_error"),
        (BODY | {"max_tokens": "5"}, 400, "validation_error"),
        (BODY | {"temperature": "hot"}, 400, "validation_error"),
        ([], 400, "validation_error"),
    ],
)
def test_bad_requests(lite, upstream, body, status, code):
    with_upstream(lite, upstream)
    answer = ask(lite, body)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.json["detail"] == answer.json["error"]
    assert upstream.served == []


def test_a_model_that_cannot_chat(lite, upstream, monkeypatch):
    with_upstream(lite, upstream, kind="ollama")
    monkeypatch.setattr(Ollama, "operations", frozenset({"embedding"}))
    answer = ask(lite, BODY)
    assert (answer.status_code, answer.json["code"]) == (400, "unsupported_content")


def test_failures_of_the_provider_keep_their_status(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(body='{"choices": [7]}')
    assert ask(lite, BODY).status_code == 502
    upstream.will(status=429)
    assert ask(lite, BODY).status_code == 429
    upstream.will(body='{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}')
    assert ask(lite, BODY).status_code == 502
    assert_books_agree(engine(lite))


def test_other_methods(lite):
    assert lite.test_client().get("/api/call").status_code == 405


def test_as_curl_sends_it(lite, upstream):
    """Bytes as they come from a socket, without the helpers of a client."""
    with_upstream(lite, upstream)
    raw = b'{"model_name": "fast", "prompt": "Say hi", "user_api_key": "%s"}' % issue(lite).secret.encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/call",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(raw)),
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
    }
    seen = {}

    def start_response(status, headers, _error=None):
        seen.update({"status": status, **{name.lower(): value for name, value in headers}})

    body = b"".join(lite.wsgi_app(environ, start_response))
    assert (seen["status"], seen["content-type"]) == ("200 OK", "application/json")
    assert json.loads(body) == {"response": "word0 word1 word2 word3 word4 "}


@pytest.mark.parametrize(
    "body",
    [
        b"7",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": 7}]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": [7]}}]}',
        b'{"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]}',
        b"<html>",
    ],
)
def test_answers_of_any_shape(body):
    with pytest.raises(UpstreamError):
        ToText().answer(make_call(), body)


def test_answers_in_parts_and_without_a_text():
    parts = b'{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}]}}]}'
    assert ToText().answer(make_call(), parts) == b'{"response":"a"}'
    assert ToText().answer(make_call(), b'{"choices": [{"message": {"content": null}}]}') == b'{"response":""}'


def test_nothing_is_streamed():
    with pytest.raises(Unsupported):
        ToText().stream(make_call())
    assert error_event(InvalidRequest("no")) == b'data: {"detail":"no"}\n\n'
