"""Ollama for code inside the app."""

import json

import pytest

from services import Gateway
from services.errors import ModelNotAvailable
from services.ollama_service import OllamaService
from tests.conftest import TOKEN
from tests.helpers import add_model, add_provider, last


@pytest.fixture
def service(make_app, sqlite_database, upstream):
    upstream.models = ["llama3.2:latest", "nomic"]
    app = make_app(sqlite_database, OLLAMA_BASE_URL=f"http://127.0.0.1:{upstream.port}")
    add_model(app, add_provider(app, upstream))
    here: Gateway = app.extensions["gateway"]
    service = OllamaService(here.catalog, here.pipeline, here.callers.of(TOKEN))
    service.booked = lambda: last(here.engine)
    return service


def test_it_names_what_ollama_has(service):
    assert service.get_models() == ["llama3.2:latest", "nomic"]


@pytest.mark.parametrize("prompt", ["hi", [{"role": "user", "content": "hi"}]])
def test_a_whole_answer_is_booked(service, prompt):
    answer = service.generate_chat_completion("llama3.2:latest", prompt, {"temperature": 0.1})
    assert answer["choices"][0]["message"]["content"].startswith("word0")
    assert (service.booked().state, service.booked().output_tokens) == ("measured", 5)


def test_a_stream_is_booked(service):
    stream = service.generate_chat_completion("llama3.2:latest", "hi", {}, stream=True)
    events = b"".join(stream).split(b"\n\n")
    stream.close()
    assert json.loads(events[0].removeprefix(b"data: "))["object"] == "chat.completion.chunk"
    assert events[-2] == b"data: [DONE]"
    assert (service.booked().is_stream, service.booked().state) == (True, "measured")


def test_a_completion(service):
    answer = service.generate_completion("llama3.2:latest", "Once", {"max_tokens": 5})
    assert answer["object"] == "text_completion"
    assert service.booked().operation == "completion"


def test_a_model_that_is_not_there(service):
    with pytest.raises(ModelNotAvailable):
        service.generate_completion("gone", "Once", {})
