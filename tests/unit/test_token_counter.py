"""Counting here: whatever the text, without the network, pictures and sounds by a rule."""

import pytest
import tiktoken.load

from services import token_counter as under_test
from services.token_counter import PER_PICTURE, count_request, count_tokens, estimate, get_tokenizer
from services.types import CHAT, COMPLETION, EMBEDDING
from tests.calls import attempted, make_call

MILLION = 1_200_000


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
@pytest.mark.parametrize(
    "text", [" " * MILLION, "\n" * MILLION, "a" * MILLION, "-" * MILLION], ids=["blanks", "lines", "one word", "a rule"]
)
def test_a_million_of_the_same_is_counted(model, text):
    assert MILLION // 200 < count_tokens(text, model) < MILLION


def test_a_text_in_pieces_counts_as_much_as_the_whole():
    text = "The quick brown fox jumps over the lazy dog. " * 5000
    pieces = len(text) // under_test.PIECE_CHARS
    assert pieces >= 2
    whole = len(get_tokenizer("gpt-4o").encode(text))
    assert abs(count_tokens(text, "gpt-4o") - whole) <= 2 * pieces


@pytest.mark.parametrize(
    "model", ["gpt2", "gpt-2", "davinci", "text-davinci-003", "code-davinci-002", "gpt-oss-120b", "no-such", ""]
)
def test_no_model_name_makes_counting_go_to_the_network(model, monkeypatch):
    def read(address, *_rest):
        raise AssertionError(f"tried to load {address}")

    monkeypatch.setattr(tiktoken.load, "read_file_cached", read)
    get_tokenizer.cache_clear()
    assert get_tokenizer(model).name in under_test.SHIPPED
    assert count_tokens("hello there", model) == 2


def test_a_call_is_counted_roughly_when_the_tokenizer_fails(monkeypatch, caplog):
    def count(*_args):
        raise ValueError("stack overflow")

    monkeypatch.setattr(under_test, "count_tokens", count)
    call = attempted(make_call(body_bytes=400, pieces=["x" * 30, "y" * 10]))
    usage = estimate(call)
    assert (usage.input_tokens, usage.output_tokens) == (100, 10)
    assert call.id in caplog.text


def chat(*parts):
    return {"messages": [{"role": "user", "content": list(parts)}]}


TEXT = {"type": "text", "text": "one two three"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "UklGRiQA" * 20_000, "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "JVBERi0x" * 20_000}}


@pytest.mark.parametrize(
    ("parts", "low", "high"),
    [
        pytest.param([TEXT], 3, 4, id="text"),
        pytest.param([TEXT, PICTURE], 3 + PER_PICTURE, 4 + PER_PICTURE, id="a picture"),
        pytest.param([PICTURE, PICTURE], 2 * PER_PICTURE, 2 * PER_PICTURE, id="two pictures"),
        pytest.param([SOUND], 10_000, 10_010, id="a sound"),
        pytest.param([FILE], 10_000, 10_010, id="a file"),
        pytest.param(
            [{"type": "text", "text": "data: " + "word " * 1000}], 1000, 1010, id="a text that begins as data"
        ),
        pytest.param([{"type": "new_kind", "content": "one two three"}], 3, 10, id="a part nobody knows"),
    ],
)
def test_pictures_and_sounds_count_by_rule(parts, low, high):
    counted = count_request(CHAT, chat(*parts), "gpt-4o") - count_request(CHAT, chat(), "gpt-4o")
    assert low <= counted <= high


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        pytest.param(COMPLETION, {"prompt": "one two three", "messages": [], "input": "x"}, id="completion"),
        pytest.param(EMBEDDING, {"input": "one two three", "messages": [], "prompt": "x"}, id="embedding"),
        pytest.param(COMPLETION, {"prompt": ["one two", "three"], "messages": None}, id="several prompts"),
        pytest.param(COMPLETION, {"prompt": [[1, 2], [3]], "messages": [{"role": "user", "content": "x"}]}, id="ids"),
        pytest.param(EMBEDDING, {"input": [1, 2, 3]}, id="one prompt of ids"),
    ],
)
def test_members_of_another_operation_are_not_counted(operation, body):
    assert count_request(operation, body, "gpt-4o") == 3
