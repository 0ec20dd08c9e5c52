"""The official SDKs through gunicorn: a refusal is the error they know, a stream that is stopped ends with one."""

import anthropic
import openai
import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.guard.test_streams import hub
from tests.guard.world import CARD, kinds, policy
from tests.helpers import assert_books_agree, last, with_upstream

SAID = [{"role": "user", "content": f"my card is {CARD}"}]
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def served(serve, sqlite_database, tmp_path, upstream):
    """A gateway whose policy stops card numbers both ways."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    policy(app, appliesTo=["requests", "answers"], **kinds(credit_debit_number="block"))
    running = serve()
    running.engine = app.extensions["gateway"].engine
    yield running
    assert_books_agree(running.engine)
    app.extensions["gateway"].close()
    running.engine.dispose()


def test_openai(served, upstream):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=2) as client:
        with pytest.raises(openai.PermissionDeniedError, match="`cards`") as refused:
            client.chat.completions.create(model="fast", messages=SAID)
        assert refused.value.code == "policy_violation"
        assert upstream.served == []
        upstream.will(script=hub(["Pay with ", CARD[:9], CARD[9:], " please."]))
        heard: list[str] = []
        chunks = client.chat.completions.create(model="fast", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="let this through"):
            heard.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert "Pay with ".startswith("".join(heard))
    assert last(served.engine).outcome == "blocked"


def test_anthropic(served, upstream):
    address = served.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=address, api_key=TOKEN, max_retries=2) as client:
        with pytest.raises(anthropic.PermissionDeniedError, match="`cards`"):
            client.messages.create(model="fast", max_tokens=50, messages=SAID)
        assert upstream.served == []
        upstream.will(script=hub(["Pay with ", CARD[:9], CARD[9:], " please."]))
        heard = []
        with (
            pytest.raises(anthropic.APIStatusError, match="let this through"),
            client.messages.stream(model="fast", max_tokens=50, messages=MESSAGES) as stream,
        ):
            heard.extend(stream.text_stream)
        assert "Pay with ".startswith("".join(heard))
    assert last(served.engine).outcome == "blocked"
