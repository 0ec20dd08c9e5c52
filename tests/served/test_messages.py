"""The official anthropic SDK, unmodified, through gunicorn, on providers that speak other dialects than its own."""

import anthropic
import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import add_model, add_provider, assert_books_agree, last, rows, with_upstream

MESSAGES = [{"role": "user", "content": "one two three"}]
TOOLS = [
    {
        "name": "weather",
        "description": "The weather of a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    """A gateway with models on the fake upstream: `fast` in OpenAI's dialect, `local` in Ollama's."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    add_model(app, add_provider(app, upstream, "local", kind="ollama"), "local", upstream_model="tiny")
    running = serve(WORKER_CLASS=request.param)
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


@pytest.fixture
def client(served):
    with anthropic.Anthropic(base_url=served.url, api_key=TOKEN, max_retries=0) as made:
        yield made


def ask(client, model="fast", **more):
    return client.messages.create(**{"model": model, "max_tokens": 100, "messages": MESSAGES, **more})


def booked(served, input_tokens, output_tokens):
    row = last(served.engine)
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", input_tokens, output_tokens)
    assert_books_agree(served.engine)
    return row


@pytest.mark.parametrize("model", ["fast", "local", "echo"])
def test_messages_whole_and_streamed(served, client, model):
    text, counts = {
        "fast": ("word0 word1 word2 word3 word4 ", (3, 5)),
        "local": ("word0 word1 word2 word3 word4 ", (7, 5)),
        "echo": ("one two three", (3, 3)),
    }[model]
    message = ask(client, model)
    assert [(block.type, block.text) for block in message.content] == [("text", text)]
    assert (message.stop_reason, message.model, message.role) == ("end_turn", model, "assistant")
    assert (message.usage.input_tokens, message.usage.output_tokens) == counts
    assert message._request_id == booked(served, *counts).request_id
    assert message.id == message._request_id.replace("req_", "msg_")

    kinds = [event.type for event in ask(client, model, stream=True)]
    assert (kinds[:2], kinds[-3:]) == (
        ["message_start", "content_block_start"],
        ["content_block_stop", "message_delta", "message_stop"],
    )
    with client.messages.stream(model=model, max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens, final.stop_reason) == (*counts, "end_turn")
    booked(served, *counts)
    assert ask(client, "echo", max_tokens=1).stop_reason == "max_tokens"


def test_a_tool_is_called_and_answered(served, client, upstream):
    given = {"model": "echo-tool-call", "max_tokens": 100, "messages": MESSAGES, "tools": TOOLS}
    call = client.messages.create(**given).content[0]
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "one two three"})
    with client.messages.stream(**given) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.content[0].input) == ("tool_use", {"city": "one two three"})
    history = [
        *MESSAGES,
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": final.content[0].id, "content": "sunny"}]},
    ]
    assert ask(client, messages=history, tools=TOOLS).content[0].text.startswith("word0")
    sent = upstream.served[-1].body
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][2] == {"role": "tool", "tool_call_id": "call_echo_0", "content": "sunny"}
    assert sent["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city":"one two three"}'


def test_tools_are_run_by_the_sdk(served, client):
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather of a city.

        Args:
            city: Its name.
        """
        return f"sunny in {city}"

    runner = client.beta.messages.tool_runner(
        model="echo-tool-call", max_tokens=100, messages=MESSAGES, tools=[weather], max_iterations=2
    )
    first, second = list(runner)
    assert (first.content[0].type, first.content[0].input) == ("tool_use", {"city": "one two three"})
    # It calls a tool whenever there is one, with the last words that it was told: here the tool's.
    assert second.content[0].input == {"city": "sunny in one two three"}
    assert_books_agree(served.engine)


def test_counting_and_models(served, client, upstream):
    assert client.messages.count_tokens(model="fast", messages=MESSAGES, system="Be brief.").input_tokens in range(
        5, 30
    )
    assert client.beta.messages.count_tokens(model="fast", messages=MESSAGES, tools=TOOLS).input_tokens in range(20, 80)
    assert upstream.served == []
    assert rows(served.engine) == []
    names = [model.id for model in client.models.list(limit=3)]
    assert {"fast", "local", "echo"} <= set(names)
    assert len(names) == len(set(names)) > 10, "page after page"
    model = client.models.retrieve("fast")
    assert (model.type, model.display_name, model.created_at.tzinfo is not None) == ("model", "fast", True)


def test_every_error_class_of_the_sdk(served, client):
    with pytest.raises(anthropic.BadRequestError) as bad:
        ask(client, messages=[{"role": "king", "content": "x"}])
    assert (bad.value.type, bad.value.error_code) == ("invalid_request_error", "validation_error")
    assert "`messages.0.role`" in bad.value.api_message
    assert bad.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError, match="only be sent to a provider that speaks Anthropic"):
        ask(client, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        ask(client.with_options(api_key="sk-wrong"))
    assert (unknown.value.type, unknown.value.request_id[:4]) == ("authentication_error", "req_")
    with pytest.raises(anthropic.NotFoundError) as missing:
        ask(client, "no-such")
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("no-such")
    with pytest.raises(anthropic.RateLimitError) as busy:
        ask(client, "echo-429")
    assert (busy.value.type, busy.value.response.headers["retry-after"]) == ("rate_limit_error", "7")
    with pytest.raises(anthropic.InternalServerError) as broken:
        ask(client, "echo-500")
    assert broken.value.type == "api_error"
    with pytest.raises(anthropic.APIStatusError, match="early"):
        list(ask(client, "echo-cut", messages=[{"role": "user", "content": "a b c d e"}], stream=True))
    assert_books_agree(served.engine)


def test_older_clients_send_the_key_in_a_header_of_its_own(served):
    with anthropic.Anthropic(base_url=served.url, api_key="x", auth_token=None, max_retries=0) as older:
        headers = {"authorization": anthropic.Omit(), "x-api-key": TOKEN, "anthropic-version": "2023-06-01"}
        assert (
            ask(older, "echo", extra_headers=headers, extra_query={"beta": "true"}).content[0].text == "one two three"
        )
