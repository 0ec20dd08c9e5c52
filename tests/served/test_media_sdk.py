"""The official openai SDK at the other endpoints, unmodified, through gunicorn."""

import openai
import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.fakes.media import PICTURE, SOUND
from tests.helpers import assert_books_agree, last, rows, with_upstream


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


def booked(served, operation, state, given, output):
    row = last(served.engine)
    assert (row.operation, row.state, row.input_tokens, row.output_tokens) == (operation, state, given, output)
    assert_books_agree(served.engine)


def test_every_call_of_the_sdk(served, client, upstream, tmp_path):
    assert client.moderations.create(model="fast", input="one two").results[0].flagged is False
    booked(served, "moderation", "estimated", 2, 0)

    made = client.images.generate(model="fast", prompt="a cat", n=2)
    assert [image.b64_json for image in made.data] == [PICTURE, PICTURE]
    assert made.usage.output_tokens == 544
    booked(served, "image", "measured", 9, 544)
    events = list(client.images.generate(model="fast", prompt="a cat", stream=True, partial_images=2))
    assert (len(events), events[-1].type) == (6, "image_generation.completed")
    booked(served, "image", "measured", 9, 272)
    edited = client.images.edit(model="fast", prompt="a dog", image=[("a.png", b"one"), ("b.png", b"two")])
    assert edited.data[0].b64_json == PICTURE
    assert [one[2] for one in upstream.served[-1].body["image[]"]] == [b"one", b"two"]
    booked(served, "image_edit", "measured", 9, 272)
    with pytest.warns(DeprecationWarning, match="deprecated"):  # by the SDK; some providers have it
        client.images.create_variation(model="fast", image=b"one")
    booked(served, "image_variation", "measured", 9, 272)

    spoken = client.audio.speech.create(model="fast", voice="alloy", input="one two three")
    assert (spoken.content, spoken.response.headers["content-type"]) == (SOUND * 5, "audio/mpeg")
    booked(served, "speech", "estimated", 3, 7)
    with client.audio.speech.with_streaming_response.create(model="fast", voice="alloy", input="one") as stream:
        stream.stream_to_file(tmp_path / "one.mp3")
    assert (tmp_path / "one.mp3").read_bytes() == SOUND * 5
    booked(served, "speech", "estimated", 1, 7)

    sound = tmp_path / "one.wav"
    sound.write_bytes(b"RIFF" + bytes(3_000_000))
    heard = client.audio.transcriptions.create(model="fast", file=sound)
    assert (heard.text, heard.usage.input_tokens) == ("word0 word1 word2 word3 word4 ", 32)
    assert upstream.served[-1].body["file"][::2] == ("one.wav", sound.read_bytes())
    booked(served, "transcription", "measured", 32, 5)
    events = list(client.audio.transcriptions.create(model="fast", file=sound, stream=True))
    assert events[-1].type == "transcript.text.done"
    booked(served, "transcription", "measured", 32, 5)
    text = client.audio.transcriptions.create(model="fast", file=sound, response_format="text")
    assert text.startswith("word0 word1")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert client.audio.translations.create(model="fast", file=sound).text.startswith("word0")
    booked(served, "translation", "measured", 32, 5)
    assert len(rows(served.engine)) == len(upstream.served)


def test_errors_of_the_sdk(served, client, upstream):
    with pytest.raises(openai.BadRequestError, match="has no speech endpoint"):
        client.audio.speech.create(model="echo", voice="alloy", input="one")
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(model="fast", prompt="a cat", n=11)
    assert bad.value.param == "n"
    upstream.will(status=500)
    with pytest.raises(openai.InternalServerError):
        client.audio.transcriptions.create(model="fast", file=b"RIFF")
    upstream.will(cut_after=2)
    with pytest.raises(openai.APIConnectionError):
        client.audio.speech.create(model="fast", voice="alloy", input="one two three")
    assert last(served.engine).outcome == "upstream_cut"
    assert_books_agree(served.engine)
