"""The official openai SDK on `/v1/responses`, through gunicorn: a provider that has the API, and ones that have not."""

import openai
import pytest
from pydantic import BaseModel

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import add_model, add_provider, assert_books_agree, last, rows

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class Place(BaseModel):
    name: str
    size: int


@pytest.fixture
def served(serve, sqlite_database, tmp_path, upstream):
    """A gateway with a model for each way to the fake provider: `own` has the Responses API, the others have not."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    add_model(app, add_provider(app, upstream, "own", settings={"responses": True}), "own")
    add_model(app, add_provider(app, upstream, "chats"), "chats")
    add_model(app, add_provider(app, upstream, "ollama", kind="ollama"), "ollama")
    running = serve()
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["own", "chats", "ollama"])
def test_an_answer_whole_and_streamed_and_kept(served, client, upstream, model):
    whole = client.responses.create(model=model, input="one two", instructions="Be brief.", metadata={"a": "b"})
    assert whole.output_text == "word0 word1 word2 word3 word4 "
    assert (whole.status, whole.store, whole.usage.output_tokens) == ("completed", True, 5)
    row = last(served.engine)
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", whole.usage.input_tokens, 5)
    assert whole.id == f"resp_{row.request_id.removeprefix('req_')}"
    assert upstream.served[-1].path == {"own": "/v1/responses", "chats": "/v1/chat/completions"}.get(model, "/api/chat")
    assert client.responses.retrieve(whole.id).to_dict() == whole.to_dict()
    items = client.responses.input_items.list(whole.id).data
    assert [(item.role, item.content[0].text) for item in items] == [("user", "one two")]

    with client.responses.stream(model=model, input="three", previous_response_id=whole.id) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 5,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert (final.output_text, final.previous_response_id) == (whole.output_text, whole.id)
    assert last(served.engine).output_tokens == final.usage.output_tokens == 5
    sent = upstream.served[-1].body
    assert "previous_response_id" not in sent
    said = sent["input"] if model == "own" else sent["messages"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    texts = [item.content[0].text for item in client.responses.input_items.list(final.id, order="asc")]
    assert texts == ["one two", whole.output_text, "three"]

    client.responses.delete(whole.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(whole.id)
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.create(model=model, input="four", previous_response_id=final.id)
    assert (gone.value.code, gone.value.param) == ("previous_response_not_found", "previous_response_id")
    assert_books_agree(served.engine)


@pytest.mark.parametrize(("calls", "answers"), [("own", "own"), ("echo-tool-call", "echo"), ("echo-tool-call", "own")])
def test_a_tool_is_called_and_its_result_sent_back(served, client, calls, answers):
    first = client.responses.create(model=calls, input="Rome", tools=[WEATHER])
    (call,) = first.output
    assert (call.type, call.name, call.arguments) == ("function_call", "weather", '{"city":"Rome"}')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(model=answers, input=[result], previous_response_id=first.id, tools=[WEATHER])
    assert second.output_text == ("sunny" if answers == "echo" else "word0 word1 word2 word3 word4 ")
    with client.responses.stream(model=calls, input="Rome", tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        (streamed,) = stream.get_final_response().output
    assert kinds[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    assert streamed.arguments == call.arguments
    # What an answer consisted of may be named instead of repeated.
    named = [{"role": "user", "content": "Rome"}, {"type": "item_reference", "id": call.id}, result]
    assert client.responses.create(model=answers, input=named, tools=[WEATHER]).output_text == second.output_text
    assert_books_agree(served.engine)


def test_structured_output_is_parsed(served, client):
    text = '{"name":"Rome","size":3}'
    parsed = client.responses.parse(model="echo", input=text, text_format=Place).output_parsed
    assert parsed == Place(name="Rome", size=3)
    with client.responses.stream(model="echo", input=text, text_format=Place) as stream:
        assert stream.get_final_response().output_parsed == parsed
    asked = client.responses.create(model="echo-json", input="x", text={"verbosity": "low"}, max_output_tokens=9)
    assert '"verbosity":"low"' in asked.output_text
    assert '"max_tokens":9' in asked.output_text, "by the name that compatible servers know"


def test_an_answer_that_is_cut_short_says_why(served, client):
    cut = client.responses.create(model="echo", input="a b c d", max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason, cut.output_text) == ("incomplete", "max_output_tokens", "a b ")
    assert client.responses.retrieve(cut.id).status == "incomplete"
    with client.responses.stream(model="echo", input="a b c d", max_output_tokens=2) as stream:
        assert [event.type for event in stream][-1] == "response.incomplete"


def test_what_is_not_kept_is_not_found(served, client):
    silent = client.responses.create(model="echo", input="a", store=False)
    assert silent.store is False
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.retrieve(silent.id)
    assert unknown.value.param == "response_id"
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list("resp_no_such")
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(silent.id)


def test_errors_of_the_sdk(served, client, upstream):
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model="chats", input=[{"role": "king", "content": "x"}])
    assert (bad.value.param, bad.value.code) == ("input.0.role", "validation_error")
    with pytest.raises(openai.BadRequestError, match="only OpenAI's own") as hosted:
        client.responses.create(model="chats", input="x", tools=[{"type": "web_search"}])
    assert (hosted.value.param, hosted.value.code) == ("tools.0", "unsupported_content")
    assert client.responses.create(model="own", input="x", tools=[{"type": "function", "name": "f"}]).output
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="echo-429", input="x")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.create(model="own", input="x", background=True)
    kept = client.responses.create(model="echo", input="x")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(kept.id)
    assert_books_agree(served.engine)


@pytest.mark.parametrize("model", ["own", "chats"])
def test_a_stream_that_breaks_is_an_error(served, client, upstream, model):
    upstream.will(cut_after=2)
    seen = []
    with pytest.raises(openai.APIError, match=r"ended|early"):
        seen.extend(client.responses.create(model=model, input="x", stream=True))
    assert seen[-1].type == "response.failed"
    assert (seen[-1].response.status, seen[-1].response.error.code) == ("failed", "server_error")
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert {event.response.id for event in seen if hasattr(event, "response")} == {seen[0].response.id}
    assert last(served.engine).outcome == "upstream_cut"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(seen[0].response.id)
    assert_books_agree(served.engine)


def test_tokens_are_counted_without_a_call(served, client):
    counted = client.responses.input_tokens.count(model="own", input="one two three", instructions="Be brief.")
    assert 8 < counted.input_tokens < 30
    assert rows(served.engine) == []
