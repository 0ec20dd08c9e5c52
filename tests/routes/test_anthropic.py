"""Chats that Anthropic answers, from the caller to the books: one test for each row of docs/accounting.md."""

import json

import pytest

from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows

MODEL = "claude-sonnet-4-5"
OVERLOADED = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'


def post(app, body):
    return app.test_client().post("/v1/chat/completions", json=body, headers=AUTH, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def events(response):
    return [line[6:] for line in response.get_data(as_text=True).splitlines() if line.startswith("data: ")]


def booked(app):
    row = last(engine(app))
    return row.state, row.outcome, row.input_tokens, row.output_tokens


@pytest.fixture
def app(lite, upstream):
    provider = add_provider(lite, upstream, "anthropic", kind="anthropic", credential="sk-ant-1")
    add_model(lite, provider, upstream_model=MODEL, max_output_tokens=64)
    yield lite
    assert_books_agree(engine(lite))


def test_a_chat_is_answered_and_booked(app, upstream):
    response = post(app, chat("one two", temperature=0.5, seed=7))
    assert response.json["choices"][0]["message"]["content"] == "word0 word1 word2 word3 word4 "
    assert response.headers["x-gateway-dropped-params"] == "seed"
    (served,) = upstream.served
    assert served.path == "/v1/messages"
    assert served.headers["x-api-key"] == "sk-ant-1"
    assert served.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in served.headers
    assert served.body == {
        "model": MODEL,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "one two"}],
        "temperature": 0.5,
    }
    assert booked(app) == ("measured", "ok", 2, 5)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_stream_is_answered_and_booked(app, is_asked):
    options = {"stream_options": {"include_usage": True}} if is_asked else {}
    said = events(post(app, chat("one two", stream=True, **options)))
    chunks = [json.loads(event) for event in said[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert (text, said[-1]) == ("word0 word1 word2 word3 word4 ", "[DONE]")
    assert [bool(chunk.get("usage")) for chunk in chunks].count(True) == is_asked
    assert booked(app) == ("measured", "ok", 2, 5)


def test_cached_tokens_are_charged_at_their_rates(lite, upstream):
    price = {"input_rate": 3_000_000_000, "output_rate": 15_000_000_000, "cache_read_rate": 300_000_000}
    price |= {"cache_creation_rate": 3_750_000_000, "cache_creation_1h_rate": 6_000_000_000}
    add_model(lite, add_provider(lite, upstream, kind="anthropic"), upstream_model=MODEL, price=price)
    usage = {"input_tokens": 10, "output_tokens": 2, "cache_read_input_tokens": 1000}
    usage |= {"cache_creation_input_tokens": 300, "cache_creation": {"ephemeral_1h_input_tokens": 100}}
    for is_stream in (False, True):
        upstream.will(usage=usage)
        assert post(lite, chat(stream=is_stream)).status_code == 200
        row = last(engine(lite))
        assert (row.state, row.input_tokens) == ("measured", 1310)
        assert row.cost_nanousd == 10 * 3000 + 1000 * 300 + 200 * 3750 + 100 * 6000 + 2 * 15000


@pytest.mark.parametrize("is_stream", [False, True])
def test_without_usage_text_is_counted(app, upstream, is_stream):
    upstream.will(usage=None)
    assert post(app, chat("one two", stream=is_stream)).status_code == 200
    state, outcome, given, output = booked(app)
    assert (state, outcome) == ("estimated", "ok")
    assert given > 0
    assert output >= 5


@pytest.mark.parametrize(
    "plan", [{"cut_after": 2}, {"done": False, "words": 2}, {"raw_event": f"event: error\ndata: {OVERLOADED}\n\n"}]
)
def test_a_stream_that_breaks_is_no_answer_and_what_came_is_charged(app, upstream, plan):
    upstream.will(**plan)
    said = events(post(app, chat("one two", stream=True)))
    assert "error" in json.loads(said[-1])
    assert "[DONE]" not in said
    state, outcome, given, output = booked(app)
    assert (state, outcome, given) == ("estimated", "upstream_cut", 2)
    assert output > 1, "more than its first event says"


def test_an_overloaded_provider_lets_another_one_answer(lite, upstream):
    first = add_provider(lite, upstream, "anthropic", kind="anthropic")
    add_model(lite, first, upstream_model=MODEL, fallbacks=["spare"])
    add_model(lite, add_provider(lite, upstream, "spare"), "spare")
    upstream.will(status=529, body=OVERLOADED)
    assert post(lite, chat()).status_code == 200
    (row,) = rows(engine(lite))
    assert (row.provider, row.upstream_model) == ("spare", "gpt-4o-mini")


def test_an_error_is_handed_on_and_costs_nothing(app, upstream):
    message = "prompt is too long: 210345 tokens > 200000 maximum"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    upstream.will(status=400, body=json.dumps(error))
    response = post(app, chat())
    assert (response.status_code, response.json["error"]["code"]) == (400, "context_length_exceeded")
    assert response.json["error"]["message"] == message
    assert booked(app)[0] == "void"


def test_content_that_anthropic_cannot_take_is_refused_before_anybody_is_asked(app, upstream):
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    response = post(app, {"model": "fast", "messages": [{"role": "user", "content": [audio]}]})
    assert (response.status_code, response.json["error"]["param"]) == (400, "messages.0.content.0")
    assert upstream.served == []


def test_other_operations_are_refused(app):
    response = app.test_client().post("/v1/embeddings", json={"model": "fast", "input": "x"}, headers=AUTH)
    assert (response.status_code, response.json["error"]["code"]) == (400, "unsupported_content")


def test_its_models_are_found(lite, upstream):
    upstream.models = [MODEL]
    provider = add_provider(lite, upstream, kind="anthropic", discover=True)
    assert lite.extensions["gateway"].discovery.ask(provider) is None
    assert upstream.served[-1].path == "/v1/models?limit=1000"
    lite.extensions["gateway"].catalog.refresh()
    response = post(lite, chat(model=MODEL))
    assert (response.status_code, last(engine(lite)).upstream_model) == (200, MODEL)
