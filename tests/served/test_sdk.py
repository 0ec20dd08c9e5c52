"""The official openai SDK, unmodified, through gunicorn: every kind of call, every error class, every row."""

import openai
import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import assert_books_agree, last, rows, with_upstream

MESSAGES = [{"role": "user", "content": "one two three"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    """A gateway with a model `fast` on the fake upstream, for both kinds of worker; `engine` looks at its books."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    running = serve(WORKER_CLASS=request.param)
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as made:
        yield made


def booked(served, input_tokens, output_tokens, cost=None):
    row = last(served.engine)
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", input_tokens, output_tokens)
    assert row.cost_nanousd == (input_tokens * 150 + output_tokens * 600 if cost is None else cost)
    assert_books_agree(served.engine)


def test_every_call_of_the_sdk(served, client, upstream):
    chat = client.chat.completions.create(model="fast", messages=MESSAGES)
    assert chat.choices[0].message.content.startswith("word0")
    assert chat.usage.total_tokens == 8
    assert chat._request_id == last(served.engine).request_id
    booked(served, 3, 5)

    text = ""
    for chunk in client.chat.completions.create(model="fast", messages=MESSAGES, stream=True):
        assert chunk.usage is None
        text += chunk.choices[0].delta.content or ""
    assert text == "word0 word1 word2 word3 word4 "
    booked(served, 3, 5)

    chunks = list(
        client.chat.completions.create(
            model="fast", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 5)
    booked(served, 3, 5)

    with client.chat.completions.stream(model="echo", messages=MESSAGES) as stream:
        assert list(stream)[-1].type == "content.done"
        assert stream.get_final_completion().choices[0].message.content == "one two three"
    booked(served, 3, 3, 0)

    call = (
        client.chat.completions.create(model="echo-tool-call", messages=MESSAGES, tools=TOOLS)
        .choices[0]
        .message.tool_calls[0]
    )
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"one two three"}')
    with client.chat.completions.stream(model="echo-tool-call", messages=MESSAGES, tools=TOOLS) as stream:
        assert (
            stream.get_final_completion().choices[0].message.tool_calls[0].function.arguments
            == '{"city":"one two three"}'
        )

    assert client.completions.create(model="fast", prompt="one two").choices[0].text.startswith("word0")
    booked(served, 2, 5)
    assert "".join(
        c.choices[0].text for c in client.completions.create(model="fast", prompt="one", stream=True)
    ).startswith("word0")
    booked(served, 1, 5)

    assert client.embeddings.create(model="fast", input=["a", "b"]).data[1].embedding == [0.5, -0.25]
    assert upstream.served[-1].body["encoding_format"] == "base64", "what the SDK asks for unless told otherwise"
    booked(served, 2, 0)
    vector = client.embeddings.create(model="echo-embedding", input="hello").data[0].embedding
    assert len(vector) == 16
    assert all(isinstance(number, float) for number in vector)

    names = {model.id for model in client.models.list()}
    assert {"fast", "echo", "blueprint-standard"} <= names
    assert client.models.retrieve("fast").owned_by == "tollhouse"
    assert len(rows(served.engine)) == 10


def test_every_error_class_of_the_sdk(served, client):
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="fast", messages=[{"role": "king", "content": "x"}])
    assert (bad.value.param, bad.value.code, bad.value.type) == (
        "messages.0.role",
        "validation_error",
        "invalid_request_error",
    )
    assert bad.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError, match="not available"):
        client.chat.completions.create(model="no-such", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="sk-wrong").chat.completions.create(model="fast", messages=MESSAGES)
    assert unknown.value.code == "invalid_key"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no-such")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.RateLimitError) as busy:
        client.chat.completions.create(model="echo-429", messages=MESSAGES)
    assert busy.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="echo-500", messages=MESSAGES)
    with pytest.raises(openai.APIError, match="early"):
        list(
            client.chat.completions.create(
                model="echo-cut", messages=[{"role": "user", "content": "a b c d e"}], stream=True
            )
        )
    assert_books_agree(served.engine)


def test_retries_of_the_sdk_obey_the_gateway(served, upstream):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=2) as patient:
        upstream.will(status=503)
        assert patient.chat.completions.create(model="fast", messages=MESSAGES).usage.total_tokens == 8
        assert len(upstream.served) == 2
    assert [row.state for row in rows(served.engine)] == ["void", "measured"]
    assert_books_agree(served.engine)


def test_nobody_speaks_of_cookies_on_the_api(served):
    import requests

    answer = requests.get(
        f"{served.base_url}/models", headers={"Authorization": f"Bearer {TOKEN}", "Cookie": "tollhouse=x"}, timeout=30
    )
    assert "set-cookie" not in answer.headers
