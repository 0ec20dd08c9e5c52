"""What a caller notes with a call, `X-CUSTOM-EVENT-ID` and `X-METADATA`, is found again in its usage."""

import os

import pytest

from services.accounting import Accounting
from services.dialects import openai
from services.spool import Spool
from services.types import Demand
from tests.calls import MODEL
from tests.helpers import AUTH, assert_books_agree, chat, last, rows, with_upstream

SURFACES = ["/v1", "/api/providers/openai/v1", "/api/providers/openai"]
METADATA = '{"ticket": 7, "who": "ana"}'


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


def engine(app):
    return app.extensions["gateway"].engine


def post(app, place="/v1", body=None, path="chat/completions", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().post(f"{place}/{path}", json=body or chat(), headers=AUTH | named, buffered=True)


def noted(app):
    row = last(engine(app))
    return row.custom_id, row.client_metadata


def as_sent(text):
    """As WSGI hands on the bytes of a header."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("place", SURFACES)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", chat()),
        ("chat/completions", chat(stream=True)),
        ("completions", {"model": "fast", "prompt": "one"}),
        ("embeddings", {"model": "fast", "input": "one"}),
    ],
    ids=["whole", "streamed", "completion", "embedding"],
)
def test_both_are_stored_with_the_usage(fast, place, path, body):
    assert post(fast, place, body, path, X_CUSTOM_EVENT_ID="event-1", X_METADATA=METADATA).status_code == 200
    assert noted(fast) == ("event-1", METADATA)
    assert_books_agree(engine(fast))


def test_a_call_without_them_has_none(fast):
    assert post(fast).status_code == 200
    assert noted(fast) == (None, None)
    assert post(fast, X_CUSTOM_EVENT_ID="", X_METADATA="x").status_code == 200
    assert noted(fast) == (None, "x")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x" * 255, id="as long as may be"),
        pytest.param("é" * 255, id="as long as may be, in two bytes each"),
        pytest.param("ação 😀 日本", id="not ASCII"),
        pytest.param("'; DROP TABLE usage; --", id="SQL"),
        pytest.param("<script>alert(1)</script>", id="HTML"),
        pytest.param("{{7*7}} ${HOME} %s %(x)s", id="templates"),
        pytest.param("None", id="a word"),
    ],
)
def test_odd_texts_are_stored_as_they_are(fast, text):
    assert post(fast, X_CUSTOM_EVENT_ID=as_sent(text), X_METADATA=as_sent(text)).status_code == 200
    assert noted(fast) == (text, text)


def test_bytes_that_are_no_utf_8_are_kept_as_latin_1(fast):
    assert post(fast, X_CUSTOM_EVENT_ID="caf\xe9").status_code == 200
    assert noted(fast)[0] == "caf\xe9"


@pytest.mark.parametrize("place", ["/v1", "/api/providers/openai/v1"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X-CUSTOM-EVENT-ID", "x" * 256, id="an id that is too long"),
        pytest.param("X-METADATA", "x" * 4001, id="metadata that are too long"),
        pytest.param("X-CUSTOM-EVENT-ID", "a\tb", id="a tab"),
        pytest.param("X-METADATA", "a\x00b", id="NUL"),
        pytest.param("X-METADATA", "a\x1b[31mb", id="a terminal's colours"),
        pytest.param("X-METADATA", as_sent("a\u202eb"), id="right to left"),
        pytest.param("X-METADATA", as_sent("a\u2028b"), id="a line separator"),
        pytest.param("X-METADATA", "\xed\xa0\x80", id="a lone surrogate"),
        pytest.param("X-METADATA", "a\x85b", id="a line break of latin-1"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_happens(fast, upstream, place, name, value):
    response = fast.test_client().post(
        f"{place}/chat/completions",
        json=chat(),
        headers=AUTH,
        environ_overrides={f"HTTP_{name.replace('-', '_')}": value},
    )
    error = response.json["error"]
    assert (response.status_code, error["param"]) == (400, name)
    assert "printable characters" in error["message"]
    assert (rows(engine(fast)), upstream.served) == ([], [])


def test_they_are_kept_for_a_call_whose_worker_died(app):
    """Before its request went out, and after."""
    here = app.extensions["gateway"]
    dead = Spool(here.config.instance_path / "spool")
    theirs = Accounting(here.books, dead, hold_s=3600)
    caller = here.callers.of(AUTH["Authorization"][7:])
    for number in range(2):
        call = openai.call(
            "chat", b'{"model":"fast","messages":[{"role":"user","content":"hi"}]}', caller, f"req_{number}"
        )
        call.model, call.candidates = MODEL, MODEL.deployments
        call.custom_id, call.client_metadata = f"event-{number}", METADATA
        theirs.reserve(call, Demand(10, 1, 20, 4096))
        if number:
            dead.sent(call.id, {"provider": "fake", "model": "x", "model_id": 0, "price": None})
    os.close(dead._life)  # what the operating system does for the dead
    assert here.accounting.sweep() == 2
    found = {row.request_id: (row.state, row.custom_id, row.client_metadata) for row in rows(engine(app))}
    assert found == {"req_0": ("void", "event-0", METADATA), "req_1": ("estimated", "event-1", METADATA)}
    os.close(dead._file)


def test_they_are_kept_while_the_database_is_away(fast, monkeypatch):
    here = fast.extensions["gateway"]
    settle = here.books.settle

    def gone(_settlement):
        raise OSError("gone")

    monkeypatch.setattr(here.books, "settle", gone)
    assert post(fast, X_CUSTOM_EVENT_ID="event-1", X_METADATA=METADATA).status_code == 200
    assert rows(engine(fast)) == []
    monkeypatch.setattr(here.books, "settle", settle)
    assert here.accounting.replay() == 0
    assert noted(fast) == ("event-1", METADATA)
    assert_books_agree(engine(fast))
