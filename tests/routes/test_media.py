"""The other endpoints of `/v1`: what goes up, what comes back, and the row that each call leaves."""

import io
import json

import pytest
from sqlalchemy.orm import Session

from models import Budget
from tests.callers import bearer, issue
from tests.fakes.media import SOUND
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, last, rows, with_upstream

WAV = b"RIFF" + bytes(32_000)  # a second, as estimates go
JSON = {
    "moderations": {"model": "fast", "input": ["one two", "three"]},
    "images/generations": {"model": "fast", "prompt": "a cat", "n": 2},
    "images/edits": {"model": "fast", "prompt": "a dog", "images": [{"file_id": "f"}]},
    "audio/speech": {"model": "fast", "input": "one two three", "voice": "alloy"},
    "rerank": {"model": "fast", "query": "one", "documents": ["one two", {"text": "three"}], "top_n": 1},
}
FORMS = {
    "images/edits": {"model": "fast", "prompt": "a dog", "image": (b"png", "a.png")},
    "images/variations": {"model": "fast", "n": "2", "image": (b"png", "a.png")},
    "audio/transcriptions": {"model": "fast", "file": (WAV, "a.wav")},
    "audio/translations": {"model": "fast", "file": (WAV, "a.wav")},
}
CALLS = [*((path, body, False) for path, body in JSON.items()), *((path, body, True) for path, body in FORMS.items())]
IDS = [f"{path}{' as a form' if is_form else ''}" for path, _, is_form in CALLS]


def post(app, path, body, *, is_form=False, root="/v1/", buffered=True):
    client = app.test_client()
    if not is_form:
        return client.post(root + path, json=body, headers=AUTH, buffered=buffered)
    data = {
        name: [(io.BytesIO(one[0]), *one[1:]) if isinstance(one, tuple) else one for one in _listed(value)]
        for name, value in body.items()
    }
    return client.post(root + path, data=data, headers=AUTH, content_type="multipart/form-data", buffered=buffered)


def _listed(value):
    return value if isinstance(value, list) else [value]


def engine(app):
    return app.extensions["gateway"].engine


def booked(app, operation, state, given, output, **more):
    row = last(engine(app))
    found = {name: getattr(row, name) for name in more}
    assert (row.operation, row.state, row.input_tokens, row.output_tokens, found) == (
        operation,
        state,
        given,
        output,
        more,
    )
    assert len(rows(engine(app))) == 1
    assert_books_agree(engine(app))


# What each endpoint does


@pytest.mark.parametrize(
    ("path", "body", "is_form", "expected"),
    [
        (*CALLS[0], ("moderation", "estimated", 3, 0, {"cost_nanousd": 450})),
        (*CALLS[1], ("image", "measured", 9, 544, {"images": 2, "cost_nanousd": 9 * 150 + 544 * 600})),
        (*CALLS[2], ("image_edit", "measured", 9, 272, {"images": 1})),
        (*CALLS[3], ("speech", "estimated", 3, 7, {"output_audio_tokens": 7, "is_stream": True})),
        (*CALLS[4], ("rerank", "measured", 12, 0, {"cost_nanousd": 1800})),
        (*CALLS[5], ("image_edit", "measured", 9, 272, {"images": 1})),
        (*CALLS[6], ("image_variation", "measured", 9, 544, {"images": 2})),
        (*CALLS[7], ("transcription", "measured", 32, 5, {"input_audio_tokens": 30, "is_stream": False})),
        (*CALLS[8], ("translation", "measured", 32, 5, {"input_audio_tokens": 30})),
    ],
    ids=IDS,
)
def test_a_call_is_passed_on_answered_and_booked_once(lite, upstream, path, body, is_form, expected):
    with_upstream(lite, upstream)
    response = post(lite, path, body, is_form=is_form)
    assert response.status_code == 200, response.text
    assert response.get_data()
    sent = upstream.served[0]
    assert (sent.path, sent.body["model"]) == (f"/v1/{path}", "gpt-4o-mini")
    assert sent.headers["authorization"] == "Bearer sk-upstream-secret"
    operation, state, given, output, more = expected
    booked(lite, operation, state, given, output, **more)
    assert response.headers["x-request-id"] == last(engine(lite)).request_id


@pytest.mark.parametrize("path", JSON)
def test_what_nobody_knows_here_goes_upstream(lite, upstream, path):
    with_upstream(lite, upstream)
    assert post(lite, path, JSON[path] | {"new": {"a": [1]}, "response_format": "x"}).status_code == 200
    assert upstream.served[0].body == JSON[path] | {"model": "gpt-4o-mini", "new": {"a": [1]}, "response_format": "x"}


def test_a_form_goes_upstream_field_by_field(lite, upstream):
    with_upstream(lite, upstream)
    body = {
        "model": "fast",
        "file": (WAV, 'quo"te\r\n.wav', "audio/x-wav"),
        "timestamp_granularities[]": ["word", "segment"],
        "prompt": "çé 😀",
        "new": "field",
        "temperature": "0.2",
    }
    assert post(lite, "audio/transcriptions", body, is_form=True).status_code == 200
    sent = upstream.served[0].body
    name, kind, content = sent.pop("file")
    assert (kind, content) == ("audio/x-wav", WAV)
    assert "quo" in name
    assert "\n" not in name
    assert sent == {
        "model": "gpt-4o-mini",
        "timestamp_granularities[]": ["word", "segment"],
        "prompt": "çé 😀",
        "new": "field",
        "temperature": "0.2",
    }


def test_several_pictures_and_a_mask(lite, upstream):
    with_upstream(lite, upstream)
    body = {
        "model": "fast",
        "prompt": "x",
        "image[]": [(b"one", "1.png", "image/png"), (b"two", "2.png", "no type")],
        "mask": (b"three", "m.png", "image/png"),
    }
    assert post(lite, "images/edits", body, is_form=True).status_code == 200
    sent = upstream.served[0].body
    assert sent["image[]"] == [("1.png", "image/png", b"one"), ("2.png", "application/octet-stream", b"two")]
    assert sent["mask"] == ("m.png", "image/png", b"three")


def test_moderation_has_openais_default_model(lite, upstream):
    add_model(lite, add_provider(lite, upstream), "omni-moderation-latest")
    assert post(lite, "moderations", {"input": "one"}).json["results"][0]["flagged"] is False


@pytest.mark.parametrize(
    ("form", "kind"),
    [("text", "text/plain; charset=utf-8"), ("srt", "text/plain; charset=utf-8"), ("vtt", "text/vtt; charset=utf-8")],
)
def test_a_transcription_that_is_no_json(lite, upstream, form, kind):
    with_upstream(lite, upstream)
    body = FORMS["audio/transcriptions"] | {"response_format": form, "prompt": "one two"}
    response = post(lite, "audio/transcriptions", body, is_form=True)
    assert (response.content_type, response.text) == (kind, "word0 word1 word2 word3 word4 \n")
    # 32,004 bytes of a wave come to 11 tokens of sound
    row = last(engine(lite))
    booked(lite, "transcription", "estimated", 2 + 11, row.output_tokens, input_audio_tokens=11)
    assert row.output_tokens > 5


@pytest.mark.parametrize(
    ("form", "kind"), [(None, "audio/mpeg"), ("wav", "audio/wav"), ("pcm", "audio/pcm; rate=24000")]
)
def test_a_sound_keeps_its_type(lite, upstream, form, kind):
    with_upstream(lite, upstream)
    response = post(lite, "audio/speech", JSON["audio/speech"] | ({"response_format": form} if form else {}))
    assert (response.content_type, response.get_data()) == (kind, SOUND * 5)


def test_a_type_that_is_no_sound_is_not_believed(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(headers={"content-type": "image/svg+xml"})
    assert post(lite, "audio/speech", JSON["audio/speech"]).content_type == "application/octet-stream"


# Streams


def stream_of(response):
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize(
    ("path", "more", "expected"),
    [
        ("audio/speech", {"stream_format": "sse"}, ("speech", "measured", 4, 40, {"output_audio_tokens": 40})),
        ("audio/transcriptions", {"stream": "true"}, ("transcription", "measured", 32, 5, {"input_audio_tokens": 30})),
        ("images/generations", {"stream": True, "n": 1}, ("image", "measured", 9, 272, {"images": 1})),
    ],
)
def test_a_stream_of_events(lite, upstream, path, more, expected):
    with_upstream(lite, upstream)
    response = post(lite, path, (JSON | FORMS)[path] | more, is_form=path in FORMS)
    assert response.content_type == "text/event-stream; charset=utf-8"
    events = stream_of(response)
    assert len(events) == 6
    assert events[-1]["type"].endswith((".done", ".completed"))
    operation, state, given, output, more = expected
    booked(lite, operation, state, given, output, is_stream=True, **more)


@pytest.mark.parametrize(
    ("form", "kind", "body", "expected"),
    [
        pytest.param("json", "application/json", '{"text": "word0 "}', ("estimated", 11, 3), id="json"),
        pytest.param(
            "json",
            "application/json",
            '{"text": "word0 ", "usage": {"type": "tokens", "input_tokens": 32, "output_tokens": 5}}',
            ("measured", 32, 5),
            id="with usage",
        ),
        pytest.param("text", "text/plain", "word0 ", ("estimated", 11, 3), id="text"),
    ],
)
def test_a_model_that_ignores_stream_is_answered_whole(lite, upstream, form, kind, body, expected):
    """As whisper-1 does."""
    with_upstream(lite, upstream)
    upstream.will(body=body, headers={"content-type": kind})
    asked = FORMS["audio/transcriptions"] | {"stream": "true", "response_format": form}
    response = post(lite, "audio/transcriptions", asked, is_form=True)
    assert (response.status_code, response.text, response.mimetype) == (200, body, kind)
    assert upstream.served[0].body["stream"] == "true"
    row = last(engine(lite))
    assert (row.state, row.input_tokens, row.output_tokens) == expected
    assert (row.outcome, row.is_stream) == ("ok", False)


def test_what_is_neither_a_stream_nor_a_transcription_is_no_answer(lite, upstream):
    """The next attempt may be a stream again."""
    with_upstream(lite, upstream)
    upstream.will(body="<p>hello", headers={"content-type": "text/html"})
    body = FORMS["audio/transcriptions"] | {"stream": "true"}
    assert post(lite, "audio/transcriptions", body, is_form=True).status_code == 502
    assert last(engine(lite)).is_stream
    assert post(lite, "audio/transcriptions", body, is_form=True).mimetype == "text/event-stream"


def test_the_last_event_and_the_last_byte_wait_for_the_books(lite, upstream):
    with_upstream(lite, upstream)
    for more in ({}, {"stream_format": "sse"}):
        response = post(lite, "audio/speech", JSON["audio/speech"] | more, buffered=False)
        before = len(rows(engine(lite)))
        got = [piece for piece in response.response if len(rows(engine(lite))) > before]
        assert len(got) == 1
        assert got[0] == SOUND[-1:] or b"speech.audio.done" in got[0]
        response.close()


@pytest.mark.parametrize(
    ("path", "more", "given", "output"),
    [
        ("audio/speech", {"stream_format": "sse"}, 3, 4),
        ("audio/transcriptions", {"stream": "true"}, 11, 5),
        ("images/generations", {"stream": True, "n": 1, "quality": "low"}, 2, 272 + 200),
    ],
)
def test_a_stream_of_events_that_breaks(lite, upstream, path, more, given, output):
    with_upstream(lite, upstream)
    upstream.will(cut_after=2)
    response = post(lite, path, (JSON | FORMS)[path] | more, is_form=path in FORMS)
    assert "early" in stream_of(response)[-1]["error"]["message"]
    row = last(engine(lite))
    assert (row.state, row.outcome, row.input_tokens, row.output_tokens) == ("estimated", "upstream_cut", given, output)
    assert_books_agree(engine(lite))


def read(pieces, got):
    for piece in pieces:
        got += piece


def test_a_sound_that_breaks_breaks_the_connection(lite, upstream):
    """An error in words would be a part of the sound."""
    with_upstream(lite, upstream)
    upstream.will(cut_after=2)
    response, got = post(lite, "audio/speech", JSON["audio/speech"], buffered=False), bytearray()
    with pytest.raises(ConnectionResetError, match="early"):
        read(response.response, got)
    response.close()
    assert bytes(got) == (SOUND * 2)[:-1]
    row = last(engine(lite))
    assert (row.state, row.outcome, row.output_tokens) == ("estimated", "upstream_cut", 3)
    assert_books_agree(engine(lite))


def test_a_sound_is_not_filled_with_comments(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, SSE_KEEPALIVE="50ms"), upstream)
    upstream.will(every_s=0.2, words=3)
    assert post(app, "audio/speech", JSON["audio/speech"]).get_data() == SOUND * 3


def test_a_caller_who_leaves_a_sound(lite, upstream):
    with_upstream(lite, upstream)
    response = post(lite, "audio/speech", JSON["audio/speech"], buffered=False)
    next(iter(response.response))
    response.close()
    row = last(engine(lite))
    assert (row.state, row.outcome) == ("estimated", "client_gone")
    assert row.output_tokens >= 1
    assert_books_agree(engine(lite))


# Money

PICTURE = {"input_rate": 1, "output_rate": 0, "image_nanousd": 40_000_000}  # beside which tokens are nothing


def test_pictures_have_a_price_each(lite, upstream):
    add_model(lite, add_provider(lite, upstream), price=PICTURE | {"request_nanousd": 5})
    upstream.will(usage=None)
    assert post(lite, "images/generations", JSON["images/generations"]).status_code == 200
    booked(lite, "image", "estimated", 2, 0, images=2, cost_nanousd=80_000_005)


@pytest.mark.parametrize(("limit", "status"), [(80_000_001, 200), (80_000_000, 402)])
def test_a_budget_holds_for_every_picture(lite, upstream, limit, status):
    add_model(lite, add_provider(lite, upstream), price=PICTURE)
    key = issue(lite)
    with Session(engine(lite)) as session, session.begin():
        session.add(Budget(scope="key", scope_id=key.id, unit="usd", period="total", limit_amount=limit))
    lite.extensions["gateway"].catalog.refresh()
    response = lite.test_client().post(
        "/v1/images/generations", json=JSON["images/generations"], headers=bearer(key.secret)
    )
    assert response.status_code == status, response.text
    assert_books_agree(engine(lite))
