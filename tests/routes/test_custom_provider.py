"""A custom provider from the outside: called, streamed and booked like any other."""

import json

import pytest
from sqlalchemy.orm import Session

from models import Provider
from services import budgets
from services.audit import Actor
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last

SETTINGS = {
    "path": "/ask",
    "auth_header": "x-key",
    "request": {"q": "{last}", "limit": "{max_tokens}"},
    "answer_text": "said",
    "answer_input_tokens": "in",
    "answer_output_tokens": "out",
    "stream_text": "piece",
    "stream_input_tokens": "in",
    "stream_output_tokens": "out",
}
EVENTS = 'data: {"piece": "Hel"}\n\ndata: {"piece": "lo", "in": 3, "out": 2}\n\ndata: [DONE]\n\n'


@pytest.fixture
def house(lite, upstream):
    """The app with model `fast` at a custom provider."""
    return with_settings(lite, upstream, SETTINGS)


def with_settings(app, upstream, settings):
    number = add_provider(app, upstream, kind="custom")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(Provider, number).settings = settings
    add_model(app, number)
    return app


def post(app, **more):
    return app.test_client().post("/v1/chat/completions", json=chat("hi", **more), headers=AUTH, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def test_a_call_is_answered_and_booked(house, upstream):
    upstream.will(body=json.dumps({"said": "Hello", "in": 3, "out": 2}))
    answer = post(house, max_tokens=9, top_p=0.5)
    assert answer.json["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert answer.headers["x-gateway-dropped-params"] == "top_p"
    sent = upstream.served[-1]
    assert (sent.path, sent.body, sent.headers["x-key"]) == ("/ask", {"q": "hi", "limit": 9}, "sk-upstream-secret")
    row = last(engine(house))
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", 3, 2)
    assert_books_agree(engine(house))


def test_a_stream_is_answered_and_booked(house, upstream):
    upstream.will(body=EVENTS, headers={"content-type": "text/event-stream"})
    text = post(house, stream=True).text
    assert ('"content":"Hel"' in text, '"content":"lo"' in text) == (True, True)
    assert text.endswith("data: [DONE]\n\n")
    row = last(engine(house))
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", 3, 2)
    upstream.will(body=EVENTS.partition("data: [DONE]")[0], headers={"content-type": "text/event-stream"})
    text = post(house, stream=True).text
    assert "[DONE]" not in text
    assert (last(engine(house)).outcome, last(engine(house)).state) == ("upstream_cut", "measured"), (
        "it told its counts before"
    )
    assert_books_agree(engine(house))


@pytest.mark.parametrize("body", ["[]", "<html>", '{"said": 7}', '{"error": {"message": "closed"}}'])
@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_no_answer_is_the_providers_fault(house, upstream, body, is_stream):
    upstream.will(body=f"data: {body}\n\n" if is_stream else body)
    assert post(house, stream=is_stream).status_code == 502
    assert_books_agree(engine(house))


def test_without_an_output_limit_no_budget_is_risked(lite, upstream):
    with_settings(lite, upstream, SETTINGS | {"request": {"q": "{last}"}})
    budgets.put(engine(lite), Actor("t"), scope="user", owner="api-tokens", unit="usd", limit="1", period="total")
    lite.extensions["gateway"].catalog.refresh()
    answer = post(lite)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "unsupported_content")
    assert upstream.served == []
    assert_books_agree(engine(lite))


def test_settings_that_nobody_checked_are_told(lite, upstream):
    with_settings(lite, upstream, SETTINGS | {"path": "ask"})
    answer = post(lite)
    assert answer.status_code == 400
    assert "`path` must begin with a slash" in answer.json["error"]["message"]
