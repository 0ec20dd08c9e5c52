"""The corners of the other endpoints: what bounds a call, what an odd answer is, how a form is written."""

import pytest

from services.dialects import openai_other
from services.errors import UpstreamError
from services.providers import WIRES
from services.settlement import settlement_of
from services.types import IMAGE, IMAGE_EDIT, MODERATION, RERANK, SPEECH, TRANSCRIPTION, Demand, PublicModel, Usage
from tests.calls import CALLER, DEPLOYMENT, MODEL, attempted, make_call
from utils import jsonx
from utils.forms import Form, Upload

WIRE = WIRES["openai"]
SHORT = PublicModel("fast", "tests", 0, (DEPLOYMENT,), context_window=10, max_output_tokens=5)
SOUND = Upload("file", "a.mp3", "audio/mpeg", bytes(120_000))


def asked(operation, body):
    return openai_other.call(operation, jsonx.dumps({"model": "fast", **body}), CALLER, "req_1")


def filled(operation, *uploads, **fields):
    form = Form((("model", "fast"), *fields.items()), uploads)
    return openai_other.form_call(operation, form, CALLER, "req_1")


@pytest.mark.parametrize(
    ("call", "besides", "choices", "output", "images"),
    [
        (asked(MODERATION, {"input": "abc"}), 0, 1, 0, 0),
        (asked(MODERATION, {"input": [{"type": "image_url"}]}), 48_200, 1, 0, 0),
        (asked(RERANK, {"query": "ab", "documents": ["a", "b", "c"]}), 3 * (2 + 4), 1, 0, 0),
        (asked(IMAGE, {"prompt": "a", "n": 3, "partial_images": 2}), 0, 3, 16_384 + 200, 3),
        (asked(IMAGE, {"prompt": "a", "output_format": "gif"}), 0, 1, 16 * 16_384, 1),
        (asked(IMAGE, {"prompt": "a", "output_format": "gif", "frame_count": 4}), 0, 1, 4 * 16_384, 1),
        (asked(IMAGE_EDIT, {"prompt": "a", "images": [{}, {}]}), 2 * 16_384, 1, 16_384, 1),
        (filled(IMAGE_EDIT, Upload("image[]", "", "", b"x"), prompt="a", n="2"), 16_384, 2, 16_384, 2),
        (asked(SPEECH, {"input": "a" * 100}), 0, 1, 401, 0),
        (asked(SPEECH, {"input": "a" * 100, "speed": 0.5}), 0, 1, 801, 0),
        (asked(SPEECH, {"input": "a" * 100, "speed": -3}), 0, 1, 1601, 0),
        (filled(TRANSCRIPTION, SOUND), 10_000 + 1, 1, 2401, 0),
    ],
)
def test_the_bound_of_a_call(call, besides, choices, output, images):
    """What its text has in bytes, and what comes besides."""
    expected = Demand(call.body_bytes + besides, choices, output, output, images=images)
    assert openai_other.demand(call, MODEL, 4096) == expected
    assert call.body_bytes >= len("modelfast")


def test_the_limits_of_the_model_go_before_ours():
    assert openai_other.demand(filled(TRANSCRIPTION, SOUND), SHORT, 4096) == Demand(10, 1, 5, 5)
    many = asked(RERANK, {"query": "ab", "documents": ["a"]})
    assert openai_other.demand(many, SHORT, 4096).input_tokens > 10, "each document has the window for itself"


@pytest.mark.parametrize(
    ("begins", "tokens"), [(b"RIFF", 38), (b"fLaC", 76), (b"ID3\x04", 151)], ids=["wave", "flac", "another"]
)
def test_a_sound_is_estimated_by_its_size(begins, tokens):
    call = filled(TRANSCRIPTION, Upload("file", "a", "", begins + bytes(120_000)))
    assert call.upload_tokens == tokens


@pytest.mark.parametrize("raw", [b"<html>", b"{}", b'{"error": "no"}', b'{"text": 7}', b'{"text": ["a"]}'])
def test_a_transcription_that_is_none(raw):
    with pytest.raises(UpstreamError):
        WIRE.decode(make_call(operation=TRANSCRIPTION), raw)


def test_a_text_that_is_none():
    call = make_call({"model": "fast", "response_format": "text"}, operation=TRANSCRIPTION)
    assert WIRE.decode(call, b"caf\xff").pieces == ("caf\ufffd",)
    call.upstream_type = "text/html; charset=utf-8"
    with pytest.raises(UpstreamError, match="HTML"):
        WIRE.decode(call, b"<html>")
    call.upstream_type = "application/json"
    assert WIRE.decode(call, b'{"text": "a"}').content_type == "application/json"


@pytest.mark.parametrize(
    "event",
    [
        b"data: {",
        b"data: 7",
        b'data: {"type": "transcript.text.delta"}',
        b'data: {"choices": 7}',
        b'data: {"choices": [7]}',
        b'data: {"error": {"message": "no"}}',
    ],
)
def test_a_malformed_event(event):
    decoder = WIRE.stream(make_call(operation=TRANSCRIPTION, is_stream=True))
    with pytest.raises(UpstreamError):
        list(decoder.feed(event + b"\n\n"))


def test_an_event_without_an_end():
    decoder = WIRE.stream(make_call(operation=IMAGE, is_stream=True))
    with pytest.raises(UpstreamError, match="larger than"):
        list(decoder.feed(b"x" * (9 * 1024 * 1024)))


@pytest.mark.parametrize("kind", ["audio/mpeg", "video/mp4", "application/octet-stream"])
def test_bytes_where_events_were_wanted(kind):
    with pytest.raises(UpstreamError, match="answered with bytes"):
        WIRE.stream(make_call(operation=SPEECH, is_stream=True, upstream_type=kind))


@pytest.mark.parametrize(
    "kind", ["", "text/html", "audio/mpeg\x00", "audio/a; x=<script>", "audio/" + "a" * 100, "image/svg+xml"]
)
def test_types_that_are_not_believed(kind):
    call = make_call(operation=SPEECH, is_stream=True, is_binary=True, upstream_type=kind)
    decoder = WIRE.stream(call)
    assert call.content_type == "application/octet-stream"
    assert b"".join([*decoder.feed(b"ab"), *decoder.feed(b"c"), *decoder.end()]) == b"abc"


def test_an_empty_sound():
    decoder = WIRE.stream(make_call(operation=SPEECH, is_stream=True, is_binary=True))
    with pytest.raises(UpstreamError, match="empty"):
        list(decoder.end())


def test_what_is_delivered_of_a_sound_goes_before_an_early_report():
    call = attempted(make_call(operation=SPEECH, is_stream=True, is_answered=True, media_tokens=50))
    call.usage, call.outcome = Usage(4, 40), "client_gone"
    found = settlement_of(call, lambda _call: Usage(4, 50, output_audio_tokens=50))
    assert (found.state, found.usage.output_tokens) == ("estimated", 50)


def test_names_in_a_form_cannot_leave_their_place():
    upload = Upload('a"\r\nx', 'b"\r\n\udcff.wav', "audio/wav\r\nx: y", b"data")
    sent = WIRE.encode(
        make_call({"model": "fast", "p[]": ["1", "2"]}, operation=TRANSCRIPTION, uploads=(upload,)), DEPLOYMENT
    )
    boundary = f"form-{make_call().id}".encode()
    assert dict(sent.headers)["content-type"] == f"multipart/form-data; boundary={boundary.decode()}"
    assert [part.split(b"\r\n\r\n")[0] for part in sent.body.split(b"--" + boundary)][1:-1] == [
        b'\r\ncontent-disposition: form-data; name="model"',
        b'\r\ncontent-disposition: form-data; name="p[]"',
        b'\r\ncontent-disposition: form-data; name="p[]"',
        b'\r\ncontent-disposition: form-data; name="a%22%0D%0Ax"; filename="b%22%0D%0A?.wav"\r\n'
        b"content-type: application/octet-stream",
    ]
    assert sent.body.endswith(b"\r\n\r\ndata\r\n--" + boundary + b"--\r\n")
