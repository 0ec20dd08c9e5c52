"""What callers see and the books say when Gemini or Bedrock fail."""

import json

import pytest

from tests.fakes.recorded import MODELS, STREAMS, Recorded, recorded, with_vendors
from tests.helpers import AUTH, assert_books_agree, chat, last

CUTS = {"gemini": b'data: {"candidates": [{"content": {"parts": [{"text": " va?', "bedrock": b"messageStop"}


@pytest.fixture
def vendor():
    server = Recorded()
    yield server
    server.stop()


@pytest.fixture
def client(lite, vendor):
    return with_vendors(lite, vendor).test_client()


def ask(client, model, **more):
    return client.post("/v1/chat/completions", json=chat(model=model, **more), headers=AUTH)


@pytest.mark.parametrize("kind", MODELS)
def test_a_stream_that_breaks_ends_with_an_error_and_is_booked(lite, client, vendor, kind):
    raw = recorded(kind, "text-stream", "stream.in")
    vendor.will(raw[: raw.index(CUTS[kind])], kind=STREAMS[kind], is_stream=True, is_cut=True)
    with ask(client, kind, stream=True) as answer:
        *events, last_event, end = answer.text.split("\n\n")
    assert "Hi " in "".join(events)
    assert "early" in json.loads(last_event.removeprefix("data: "))["error"]["message"]
    assert end == ""
    row = last(lite.extensions["gateway"].engine)
    assert row.outcome == "upstream_cut"
    assert row.output_tokens > 0
    assert_books_agree(lite.extensions["gateway"].engine)


def test_a_damaged_stream_ends_with_an_error(client, vendor):
    raw = bytearray(recorded("bedrock", "text-stream", "stream.in"))
    raw[-3] ^= 1
    vendor.will(bytes(raw), kind=STREAMS["bedrock"], is_stream=True)
    with ask(client, "bedrock", stream=True) as answer:
        said = answer.text
    assert "malformed event" in said
    assert "[DONE]" not in said


@pytest.mark.parametrize(
    ("kind", "case", "status", "code"),
    [
        ("gemini", "error-too-long", 400, "context_length_exceeded"),
        ("gemini", "error-quota", 429, "RESOURCE_EXHAUSTED"),
        ("gemini", "error-key", 502, "upstream_credential"),
        ("bedrock", "error-too-long", 400, "context_length_exceeded"),
        ("bedrock", "error-throttled", 429, "ThrottlingException"),
        ("bedrock", "error-access", 502, "upstream_credential"),
    ],
)
def test_errors_say_whose_fault_it_is(client, vendor, kind, case, status, code):
    told = json.loads(recorded(kind, case, "case.json"))
    headers = tuple(told.get("headers", {}).items())
    vendor.will(recorded(kind, case, "error.in"), status=told["status"], headers=headers)
    answer = ask(client, kind)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_that_is_no_stream_is_refused(client, vendor, kind):
    vendor.will(recorded(kind, "text", "answer.in"))
    answer = ask(client, kind, stream=True)
    assert answer.status_code == 502
    assert "asked for a stream" in answer.json["error"]["message"]


def test_what_bedrock_does_not_embed_is_refused(client):
    answer = client.post("/v1/embeddings", json={"model": "bedrock", "input": "one"}, headers=AUTH)
    assert answer.status_code == 400
    assert "no embedding endpoint" in answer.json["error"]["message"]


def test_a_region_that_nobody_named_is_said_to_be_missing(lite, client, vendor):
    with lite.extensions["gateway"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE providers SET settings = '{}'")
    lite.extensions["gateway"].catalog.refresh()
    answer = ask(client, "bedrock")
    assert answer.status_code == 500
    assert "set `region` for the provider `bedrock`" in answer.json["error"]["message"]
    assert vendor.asked == []
    assert_books_agree(lite.extensions["gateway"].engine)


def test_the_models_of_gemini_are_found_and_those_of_bedrock_are_not(lite, client, vendor):
    methods = {"supportedGenerationMethods": ["generateContent"]}
    vendor.will(json.dumps({"models": [{"name": "models/gemini-2.5-flash", **methods}]}).encode())
    discovery = lite.extensions["gateway"].discovery
    ids = {row["name"]: row["id"] for row in _providers(lite)}
    assert discovery.ask(ids["gemini"]) is None
    assert vendor.asked[-1].path == "/v1beta/models?pageSize=1000"
    assert vendor.asked[-1].headers["x-goog-api-key"] == "google-key"
    assert "another host" in discovery.ask(ids["bedrock"])
    lite.extensions["gateway"].catalog.refresh()
    listed = client.get("/v1/models", headers=AUTH).json["data"]
    assert "gemini-2.5-flash" in {model["id"] for model in listed}


def _providers(app):
    with app.extensions["gateway"].engine.connect() as connection:
        return connection.exec_driver_sql("SELECT id, name FROM providers").mappings().all()
