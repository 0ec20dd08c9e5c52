"""The other endpoints of `/v1`: what is refused, and what a provider may do wrong."""

import itertools

import pytest
from sqlalchemy.orm import Session

from models import Provider
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, last, rows, with_upstream
from tests.routes.test_media import CALLS, FORMS, IDS, JSON, WAV, engine, post


@pytest.mark.parametrize(("path", "body", "is_form"), CALLS, ids=IDS)
def test_a_provider_without_the_endpoint(lite, upstream, path, body, is_form):
    add_model(lite, add_provider(lite, upstream, kind="ollama"))
    for model in ("fast", "echo"):
        response = post(lite, path, body | {"model": model}, is_form=is_form)
        assert (response.status_code, response.json["error"]["code"]) == (400, "unsupported_content")
        assert "its provider has no " in response.json["error"]["message"]
    assert rows(engine(lite)) == []
    assert upstream.served == []


def test_settings_may_narrow_what_a_provider_offers(lite, upstream):
    provider = add_provider(lite, upstream)
    with Session(engine(lite)) as session, session.begin():
        session.get(Provider, provider).settings = {"operations": ["image", "no such"]}
    add_model(lite, provider)
    response = post(lite, "audio/transcriptions", FORMS["audio/transcriptions"], is_form=True)
    assert "has no transcription endpoint" in response.json["error"]["message"]
    response = post(lite, "images/edits", FORMS["images/edits"], is_form=True)
    assert "has no image edit endpoint" in response.json["error"]["message"]
    assert post(lite, "images/generations", JSON["images/generations"]).status_code == 200


@pytest.mark.parametrize(("path", "body", "is_form"), CALLS, ids=IDS)
def test_faults_of_the_provider(lite, upstream, path, body, is_form):
    with_upstream(lite, upstream)
    faults = [
        ({"status": 400}, 400),
        ({"status": 404}, 404),
        ({"status": 500}, 502),
        ({"status": 401}, 502),
        ({"body": "<html>", "headers": {"content-type": "text/html"}}, 502),
        ({"body": "{}"}, 502),
        ({"body": "[]"}, 502),
        ({"body": '{"error": {"message": "no"}}'}, 502),
        ({"body": "", "headers": {"content-type": "audio/mpeg"}}, 502),
    ]
    for plan, status in faults:
        upstream.will(**plan)
        response = post(lite, path, body, is_form=is_form)
        assert (response.status_code, set(response.json["error"])) == (status, {"message", "type", "param", "code"})
        assert last(engine(lite)).state == "void"
    assert len(rows(engine(lite))) == len(faults)
    assert_books_agree(engine(lite))


def test_another_deployment_takes_over(lite, upstream):
    with_upstream(lite, upstream)
    add_model(lite, add_provider(lite, upstream, "other"), "second")
    add_model(lite, add_provider(lite, "http://127.0.0.1:9/v1", "away"), "first", fallbacks=["second"])
    body = FORMS["audio/transcriptions"] | {"model": "first"}
    assert post(lite, "audio/transcriptions", body, is_form=True).json["text"].startswith("word0")
    assert upstream.served[0].body["file"][2] == WAV
    assert len(rows(engine(lite))) == 1


BAD_MEMBERS = {
    "moderations": [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"model": 7}, "model"),
    ],
    "images/generations": [
        ({"model": None}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"size": 1024}, "size"),
        ({"stream": "true"}, "stream"),
        ({"partial_images": -1}, "partial_images"),
        ({"frame_count": 17}, "frame_count"),
        ({"output_compression": 101}, "output_compression"),
    ],
    "images/edits": [({"images": "a"}, "images"), ({"images": ["a"]}, "images"), ({"mask": "a"}, "mask")],
    "audio/speech": [
        ({"input": None}, "input"),
        ({"input": ["a"]}, "input"),
        ({"voice": 1}, "voice"),
        ({"speed": "fast"}, "speed"),
        ({"response_format": ["mp3"]}, "response_format"),
        ({"stream_format": 1}, "stream_format"),
    ],
    "rerank": [
        ({"query": None}, "query"),
        ({"query": {"a": 1}}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": [1]}, "documents"),
        ({"documents": ["a"] * 10_001}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
    ],
}


@pytest.mark.parametrize("path", BAD_MEMBERS)
def test_a_malformed_member(lite, upstream, path):
    with_upstream(lite, upstream)
    for more, param in BAD_MEMBERS[path]:
        response = post(lite, path, JSON[path] | more)
        assert (response.status_code, response.json["error"]["param"]) == (400, param), more
    assert rows(engine(lite)) == []
    assert upstream.served == []


BAD_FIELDS = {
    "audio/transcriptions": [
        ({"model": []}, "model"),
        ({"model": ["fast", "fast"]}, "model"),
        ({"model": (b"fast", "model.txt")}, "model"),
        ({"file": []}, "file"),
        ({"file": "text"}, "file"),
        ({"file": (b"", "a.wav")}, "file"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"temperature": ["0", "1"]}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": ["json", "text"]}, "response_format"),
    ],
    "audio/translations": [({"language": ["en", "de"]}, "language")],
    "images/edits": [
        ({"prompt": []}, "prompt"),
        ({"image": []}, "image"),
        ({"mask": (b"", "m.png")}, "mask"),
        ({"n": "eleven"}, "n"),
        ({"partial_images": "000000000999"}, "partial_images"),
        ({"stream": "1"}, "stream"),
    ],
    "images/variations": [({"n": "11"}, "n"), ({"image": []}, "image")],
}


@pytest.mark.parametrize("path", BAD_FIELDS)
def test_a_malformed_field(lite, upstream, path):
    with_upstream(lite, upstream)
    for more, param in BAD_FIELDS[path]:
        response = post(lite, path, FORMS[path] | more, is_form=True)
        assert (response.status_code, response.json["error"]["param"]) == (400, param), more
    assert rows(engine(lite)) == []
    assert upstream.served == []


BROKEN = [
    ("application/json", b"{"),
    ("application/json", b"[]"),
    ("application/json", b""),
    ("multipart/form-data", b"x"),
    ("multipart/form-data; boundary=a", b"--a\r\nbroken"),
    ("multipart/form-data; boundary=\xff", b"--a--"),
    ("text/plain", b"\xff"),
]


def test_a_body_that_is_none(lite, upstream):
    with_upstream(lite, upstream)
    for path, (kind, data) in itertools.product([*JSON, *FORMS], BROKEN):
        response = lite.test_client().post(f"/v1/{path}", data=data, headers=AUTH, content_type=kind)
        assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error"), (path, kind)
    assert rows(engine(lite)) == []


ROOTS = {"/v1/": "request_too_large", "/api/providers/openai/v1/": 413, "/api/providers/openai/": 413}


@pytest.mark.parametrize("root", ROOTS)
def test_early_refusals_are_in_the_dialect_of_the_surface(make_app, sqlite_database, root):
    """A wrong key, a wrong type, too large a body: an envelope of OpenAI's, on the proxy surface with its own texts."""
    client = make_app(sqlite_database, MAX_BODY_BYTES="10000").test_client()
    is_proxy = root != "/v1/"
    members = {"message", "type", "param", "code"} | ({"detail"} if is_proxy else set())

    def refused(path, status, **request):
        answer = client.post(root + path, **request)
        assert (answer.status_code, answer.mimetype, set(answer.json["error"])) == (status, "application/json", members)
        return answer.json["error"]

    for path in dict.fromkeys(path for path, *_rest in CALLS):
        error = refused(path, 401, data=b"x", headers={"Authorization": "Bearer sk-th-wrong"})
        assert error["type"] == "authentication_error"
        for kind in ("multipart/form-data; boundary=a", "application/json"):
            error = refused(path, 413, data=b"x" * 10_001, headers=AUTH, content_type=kind)
            assert error["code"] == ROOTS[root]
            if is_proxy:
                assert error["message"] == "[BricksLLM] error when reading the request body"
        error = refused(path, 400, data=b"x=1", headers=AUTH, content_type="application/x-www-form-urlencoded")
        assert error["type"] == "invalid_request_error"
        if path in FORMS and path != "images/edits":
            assert "multipart/form-data" in (error.get("detail") or error["message"])


def test_a_body_that_is_too_large(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, MAX_BODY_BYTES="10000"), upstream)
    response = post(app, "audio/transcriptions", FORMS["audio/transcriptions"], is_form=True)
    assert (response.status_code, response.json["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("root", ["/api/providers/openai/v1/", "/api/providers/openai/"])
def test_the_proxy_surface_has_them_too(lite, upstream, root):
    with_upstream(lite, upstream)
    for path, body, is_form in CALLS:
        assert post(lite, path, body, is_form=is_form, root=root).status_code == 200
        refused = post(lite, path, body | {"model": "none"}, is_form=is_form, root=root)
        assert refused.json["error"]["code"] == 400
        assert "not available" in refused.json["error"]["detail"]
    assert len(rows(engine(lite))) == len(CALLS)
