"""The official openai SDK through gunicorn to Gemini and Bedrock, as far as recordings can be them."""

import json
from datetime import UTC, datetime

import openai
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import BaseModel

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.fakes.recorded import CREDENTIALS, KEYS, MODELS, REGION, STREAMS, Recorded, recorded, with_vendors
from tests.helpers import assert_books_agree, last

MESSAGES = [{"role": "user", "content": "one two three"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


class City(BaseModel):
    """What the recordings of structured outputs hold."""

    name: str


@pytest.fixture
def vendor():
    server = Recorded()
    yield server
    server.stop()


@pytest.fixture
def served(serve, sqlite_database, tmp_path, vendor):
    app = with_vendors(create_app(make_config(tmp_path, DATABASE_URL=sqlite_database)), vendor)
    running = serve()
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


@pytest.fixture
def client(served):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as made:
        yield made


def booked(served, state, input_tokens, output_tokens):
    row = last(served.engine)
    assert (row.state, row.input_tokens, row.output_tokens) == (state, input_tokens, output_tokens)
    assert_books_agree(served.engine)


def assert_is_let_in(asked, base_url, kind):
    """What came in is what Google or Amazon would let in."""
    assert TOKEN not in json.dumps(asked.headers)
    if kind == "gemini":
        assert asked.headers["x-goog-api-key"] == CREDENTIALS["gemini"]
        return
    stamp = datetime.strptime(asked.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
    request = AWSRequest(asked.method, base_url + asked.path, data=asked.body)
    for name in ("content-type", "host", "x-amz-date", "x-amz-security-token"):
        request.headers[name] = asked.headers[name]
    request.context["timestamp"] = asked.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(*KEYS), "bedrock", REGION)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert asked.headers["authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_chat(served, client, vendor, kind):
    vendor.will(recorded(kind, "text", "answer.in"))
    chat = client.chat.completions.create(model=kind, messages=MESSAGES)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("Hi there — ça va?", "stop")
    assert (chat.model, chat.usage.total_tokens) == (kind, 8)
    assert_is_let_in(vendor.asked[-1], vendor.base_url, kind)
    booked(served, "measured", 5, 3)

    vendor.will(recorded(kind, "text-stream", "stream.in"), kind=STREAMS[kind], is_stream=True)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=kind, messages=MESSAGES, stream=True, stream_options=options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hi there — ça va?"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 8)
    assert_is_let_in(vendor.asked[-1], vendor.base_url, kind)
    booked(served, "measured", 5, 3)

    vendor.will(recorded(kind, "parallel-tools-stream", "stream.in"), kind=STREAMS[kind], is_stream=True)
    with client.chat.completions.stream(model=kind, messages=MESSAGES, tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls][:2] == [{"city": "Lisbon"}, {}]
    assert len({call.id for call in calls}) == len(calls)

    vendor.will(recorded(kind, "structured-output", "answer.in"))
    parsed = client.chat.completions.parse(model=kind, messages=MESSAGES, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Lisbon")

    vendor.will(recorded(kind, "thinking", "answer.in"))
    thought = client.chat.completions.with_raw_response.create(model=kind, messages=MESSAGES, user="ana")
    assert thought.parse().choices[0].message.reasoning_content == "Hm. Well."
    assert thought.headers["x-gateway-dropped-params"] == "user"

    vendor.will(recorded(kind, "tools", "answer.in"))
    said = client.chat.completions.create(model=kind, messages=MESSAGES, tools=TOOLS).choices[0].message
    vendor.will(recorded(kind, "text", "answer.in"))
    results = [{"role": "tool", "tool_call_id": call.id, "content": "blue"} for call in said.tool_calls]
    history = [*MESSAGES, said.model_dump(exclude_none=True), *results]
    client.chat.completions.create(model=kind, messages=history, tools=TOOLS)
    sent = vendor.asked[-1].body
    assert sent.count(b'"blue"') == len(results)
    assert (b'"thoughtSignature":"c2lnLTE="' in sent) == (kind == "gemini")

    if kind == "gemini":
        for case in ("embeddings-base64", "embeddings"):
            vendor.will(recorded("gemini", case, "answer.in"))
        assert client.embeddings.create(model="gemini", input="one").data[0].embedding == [0.5, 1.0]
        assert client.embeddings.create(model="gemini", input=["one", "two"]).data[1].embedding == [0.25, 2.0]
        booked(served, "measured", 2, 0)
