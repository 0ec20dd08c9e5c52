"""What may not be stored of a text: credentials, media, what the operator's patterns match; and its bounds."""

import base64
import json
import time

import pytest

from services.redaction import CUT, MOST_CHARS, REDACTED, TIMED_OUT, Redaction
from utils import settings

PICTURE = base64.b64encode(bytes(range(256)) * 8).decode()  # 2048 bytes
WRAPPED = base64.encodebytes(bytes(range(256)) * 8).decode()
KNOWN = "a-secret-of-the-gateway"


def clean(value, *patterns):
    return Redaction((KNOWN,), patterns).clean(json.dumps(value).encode()).body


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("my key is sk-th-AbCdEfGhIjKlMnOpQrStUvWx", id="a key of ours"),
        pytest.param(f"it is {KNOWN}, keep it", id="a secret of the settings"),
        pytest.param("curl -H 'Authorization: Bearer abcdefgh12345678'", id="a bearer"),
        pytest.param("Authorization: Basic dXNlcjpwYXNzd29yZA==", id="a basic login"),
        pytest.param("x-api-key: 0123456789abcdef", id="a header"),
        pytest.param('{"password": "hunter2hunter2"}', id="JSON within a text"),
        pytest.param('{\\"api_key\\": \\"0123456789abcdef\\"}', id="JSON within JSON"),
        pytest.param("OPENAI_API_KEY=0123456789abcdef", id="an environment"),
        pytest.param("AIza" + "x" * 35, id="a key of Google"),
        pytest.param("ghp_" + "x" * 36, id="a token of GitHub"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", id="a key of AWS"),
        pytest.param("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", id="a private key"),
        pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", id="a token"),
    ],
)
def test_credentials_in_texts_are_taken_out(said):
    secrets = ("AbCdEfGhIjKlMnOp", KNOWN, "abcdefgh12345678", "dXNlcjpw", "0123456789abcdef", "hunter2", "x" * 20)
    shown = clean({"messages": [{"role": "user", "content": said}]})["messages"][0]["content"]
    assert not any(secret in shown for secret in (*secrets, "IOSFODNN7", "MIIEow", "c2lnbmF0dXJl"))
    assert shown != said


@pytest.mark.parametrize("name", ["password", "api_key", "X-API-Key", "user_api_key", "client_secret", "Authorization"])
def test_members_that_are_credentials_have_no_value(name):
    assert clean({"tool": [{name: "anything at all"}]}) == {"tool": [{name: REDACTED}]}


def test_ordinary_words_stay():
    said = {
        "model": "fast",
        "max_tokens": 5,
        "logprobs": {"tokens": ["a"], "token": "Hello"},
        "messages": [{"role": "user", "content": "Basic understanding of tokens, keys and passwords. How?"}],
        "stream": True,
        "temperature": 0.5,
        "stop": None,
    }
    assert clean(said) == said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(f"data:image/png;base64,{PICTURE}", "[image/png, 2048 bytes]", id="a data URL"),
        pytest.param(f"see (data:image/png;base64,{PICTURE})", "see ([image/png, 2048 bytes])", id="within"),
        pytest.param(
            {"media_type": "image/gif", "data": PICTURE},
            {"media_type": "image/gif", "data": "[image/gif, 2048 bytes]"},
            id="with its type",
        ),
        pytest.param(
            {"mimeType": "audio/wav", "data": PICTURE},
            {"mimeType": "audio/wav", "data": "[audio/wav, 2048 bytes]"},
            id="as Gemini has it",
        ),
        pytest.param({"b64_json": PICTURE}, {"b64_json": "[base64, 2048 bytes]"}, id="without"),
        pytest.param("data:;base64,aGVsbG8=", "[text/plain, 5 bytes]", id="a small one without a type"),
        pytest.param(base64.b64encode(bytes(20_000_000)).decode(), "[base64, 20000000 bytes]", id="large"),
        pytest.param(WRAPPED, "[base64, 2048 bytes]", id="in lines"),
        pytest.param([0.25] * 100, "[100 numbers]", id="a vector"),
        pytest.param("word " * 200, "word " * 200, id="a long text is none"),
    ],
)
def test_media_are_replaced_by_their_type_and_length(given, kept):
    assert clean({"x": given}) == {"x": kept}


def test_patterns_are_replaced_in_texts_names_and_numbers():
    shown = clean(
        {"cpf 123": "mine is 123.456.789-00", "n": 4111111111111111, "ok": 5},
        r"\d{3}\.\d{3}\.\d{3}-\d\d",
        r"\d{16}",
        r"cpf \d+",
    )
    assert shown == {REDACTED: f"mine is {REDACTED}", "n": REDACTED, "ok": 5}


def test_a_pattern_that_takes_for_ever_keeps_nothing():
    assert clean({"x": "a" * 5000 + "!"}, r"(a|a)+$") == TIMED_OUT


def test_what_is_too_long_is_cut_and_says_so():
    kept = Redaction(()).clean(json.dumps({"a": "x " * MOST_CHARS, "b": "later"}).encode())
    assert kept.is_shortened
    assert kept.body["a"].endswith(CUT)
    assert "b" not in kept.body
    assert len(json.dumps(kept.body)) < MOST_CHARS + 1000
    many = Redaction(()).clean(json.dumps([["x"] * 60] * 10_000).encode())
    assert many.is_shortened
    assert len(json.dumps(many.body)) < 10 * MOST_CHARS
    assert not Redaction(()).clean(b'{"a": 1}').is_shortened


def test_what_is_no_json_is_kept_as_text():
    assert Redaction((KNOWN,)).clean(b"WEBVTT \xff " + KNOWN.encode()).body == "WEBVTT \ufffd ***"


def test_patterns_are_read_from_lines_and_checked():
    assert settings.patterns("[0-9]{3,4}\n a;b ;; x+ \n") == ("[0-9]{3,4}", "a;b", "x+")
    for wrong in ("(", "x*", "a" * 501, "\n".join(["x"] * 51)):
        with pytest.raises(ValueError, match=r"pattern|expression|empty"):
            settings.patterns(wrong)


@pytest.mark.parametrize("piece", ["eyJ", "a-", "x-api-", "Bearer ", "-----BEGIN ", "data:a/a;", '"api_key": ', "\\"])
def test_no_text_takes_long(piece):
    """Each of these once was, or could be, a text that a pattern of ours reads again from every one of its places."""
    said = "! " + piece * (MOST_CHARS // len(piece))
    began = time.process_time()
    Redaction((KNOWN,)).clean(json.dumps({"a": said + "base64,"}).encode())
    assert time.process_time() - began < 20  # linear: under 0.1 on any machine; again from every place: minutes
