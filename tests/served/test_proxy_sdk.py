"""The official openai SDK, unmodified, on the proxy surface: only its base_url differs."""

import openai
import pytest

from app import create_app
from services import budgets
from services.audit import Actor
from tests.callers import issue
from tests.conftest import TOKEN, make_config
from tests.helpers import assert_books_agree, last, rows, with_upstream

MESSAGES = [{"role": "user", "content": "one two three"}]


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    """A gateway with a model `fast` on the fake upstream; `app` is another one on the same database."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    running = serve(WORKER_CLASS=request.param)
    running.app, running.engine = app, app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=f"{served.url}/api/providers/openai/v1", api_key=TOKEN, max_retries=0) as made:
        yield made


def test_every_call_of_the_sdk(served, client):
    answer = client.chat.completions.create(
        model="fast", messages=MESSAGES, extra_headers={"X-CUSTOM-EVENT-ID": "event-1", "X-METADATA": "m"}
    )
    assert answer.choices[0].message.content.startswith("word0")
    row = last(served.engine)
    assert (answer._request_id, row.custom_id, row.client_metadata) == (row.request_id, "event-1", "m")
    assert (row.state, row.cost_nanousd) == ("measured", 3 * 150 + 5 * 600)

    stream = client.chat.completions.create(model="fast", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "word0 word1 word2 word3 word4 "
    with client.chat.completions.stream(model="echo", messages=MESSAGES) as whole:
        assert whole.get_final_completion().choices[0].message.content == "one two three"
    assert client.completions.create(model="fast", prompt="one two").choices[0].text.startswith("word0")
    assert client.embeddings.create(model="fast", input=["a", "b"]).data[1].embedding == [0.5, -0.25]
    assert {"fast", "echo"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("fast").owned_by == "tollhouse"
    shorter = client.with_options(base_url=f"{served.url}/api/providers/openai")
    assert shorter.chat.completions.create(model="fast", messages=MESSAGES).usage.total_tokens == 8
    assert shorter.models.list().data == client.models.list().data
    assert len(rows(served.engine)) == 6
    assert_books_agree(served.engine)


def test_error_classes_of_the_sdk(served, client):
    with pytest.raises(openai.AuthenticationError, match="api key is not registered") as unknown:
        client.with_options(api_key="sk-wrong").chat.completions.create(model="fast", messages=MESSAGES)
    assert (unknown.value.code, unknown.value.type) == ("401", "authentication_error")
    assert unknown.value.body["detail"] == "The API key is not valid."
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="fast", messages=[{"role": "king", "content": "x"}])
    assert (bad.value.param, bad.value.code) == ("messages.0.role", "400")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such")
    with pytest.raises(openai.RateLimitError) as busy:
        client.chat.completions.create(model="echo-429", messages=MESSAGES)
    assert busy.value.response.headers["retry-after"] == "7"
    text = [{"role": "user", "content": "a b c d e"}]
    with pytest.raises(openai.APIError, match="early"):
        list(client.chat.completions.create(model="echo-cut", messages=text, stream=True))
    key = issue(served.app, 1)
    ceiling = {"scope": "key", "owner": str(key.id), "unit": "usd", "limit": "0.00001", "period": "total"}
    budgets.put(served.engine, Actor("t"), **ceiling)
    limited = client.with_options(api_key=key.secret)
    with pytest.raises(openai.AuthenticationError, match="key has expired") as spent:
        limited.chat.completions.create(model="fast", messages=MESSAGES)
    assert "limit $0.00001" in spent.value.body["detail"]
    with pytest.raises(openai.AuthenticationError, match="has been revoked"):
        limited.models.list()
    assert_books_agree(served.engine)
