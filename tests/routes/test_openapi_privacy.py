"""Real answers about what is kept of people against the OpenAPI document."""

import json

import pytest

from tests.callers import add_user, bearer, issue
from tests.helpers import chat, last
from tests.openapi import check
from tests.people import engine, number_of, token

CONTENT = "/api/v1/usage/{request_id}/content"
KNOWN = ("admin", "api-tokens")
BOTH = {"should_log_request": True, "should_log_response": True}


@pytest.fixture
def send(lite):
    """Sends a request, checks its answer against the document, and gives it."""

    def ask(method, path, headers, status=200, body=None, **more):
        answer = lite.test_client().open(path.format(**more), method=method, headers=headers, json=body, buffered=True)
        assert answer.status_code == status, answer.text
        check(lite, path, answer)
        return answer

    return ask


@pytest.mark.parametrize("switches", [BOTH, {"should_log_request": True}, {"should_log_response": True}])
@pytest.mark.parametrize("is_stream", [False, True])
def test_answers_about_texts_of_calls(lite, send, switches, is_stream):
    key = bearer(issue(lite, add_user(lite), **switches).secret)
    sent = chat("a question", model="echo", stream=is_stream)
    assert lite.test_client().post("/v1/chat/completions", json=sent, headers=key, buffered=True).status_code == 200
    lite.extensions["gateway"].bodies.flush()
    call = last(engine(lite)).request_id
    found = send("GET", CONTENT, key, request_id=call).json
    assert [found["request"] is not None, found["response"] is not None] == [
        "should_log_request" in switches,
        "should_log_response" in switches,
    ]
    send("DELETE", CONTENT, key, 204, request_id=call)
    send("GET", CONTENT, key, 404, request_id=call)
    send("GET", CONTENT, {}, 401, request_id=call)


def test_answers_about_everything_of_oneself_and_nothing_any_more(lite, send):
    user = add_user(lite)
    key = bearer(issue(lite, user).secret)
    send("GET", "/api/v1/users/me/export", key, 403)
    admin = token(lite)
    lines = send("GET", "/api/v1/users/me/export", admin).text.splitlines()
    assert json.loads(lines[-1])["section"] == "end"
    path = "/api/v1/admin/users/{user_id}/erase"
    name = next(one["username"] for one in send("GET", "/users/all", admin).json if one["username"] not in KNOWN)
    send("POST", path, admin, 400, {"username": "somebody else"}, user_id=user)
    send("POST", path, admin, 404, {"username": name}, user_id=9_999)
    assert send("POST", path, admin, 200, {"username": name}, user_id=user).json["username"] == f"erased-{user}"
    send("POST", path, admin, 409, {"username": "admin"}, user_id=number_of(lite, "admin"))
    send("POST", path, key, 401, {"username": name}, user_id=user)
