"""Files that a batch cannot be made of, as OpenAI reports them: with the line, and with nothing called."""

import json

import pytest

from tests.batches.helpers import begin, jsonl, line, lines, run, show
from tests.helpers import rows, with_upstream

GOOD = line(1)


def bad(**more):
    return {**line(2), **more}


WRONG = [  # what stands in the second line, code, member
    (b"{no json", "invalid_json_line", None),
    (b"[1]", "invalid_json_line", None),
    (b"\xff\xfe", "invalid_json_line", None),
    (bad(custom_id="line 1"), "duplicate_custom_id", "custom_id"),
    (bad(custom_id=None), "missing_required_parameter", "custom_id"),
    (bad(custom_id=7), "invalid_request", "custom_id"),
    (bad(custom_id=""), "invalid_request", "custom_id"),
    (bad(custom_id="x" * 256), "invalid_request", "custom_id"),
    (bad(custom_id="a\u0000b"), "invalid_request", "custom_id"),
    (bad(method="GET"), "invalid_method", "method"),
    (bad(method=["POST"]), "invalid_method", "method"),
    (bad(url="/v1/embeddings"), "url_mismatch", "url"),
    (bad(url="https://example.com/v1/chat/completions"), "url_mismatch", "url"),
    (bad(url={"a": 1}), "url_mismatch", "url"),
    (bad(body=None), "missing_required_parameter", "body"),
    (bad(body=[]), "missing_required_parameter", "body"),
    (bad(body={"model": "fast"}), "invalid_request", "body.messages"),
    (bad(body={**GOOD["body"], "max_tokens": "many"}), "invalid_request", "body.max_tokens"),
    (bad(body={**GOOD["body"], "stream": True}), "invalid_request", "body.stream"),
    (bad(body={**GOOD["body"], "model": "no such"}), "model_not_found", "body.model"),
    (bad(body={**GOOD["body"], "model": 5}), "invalid_request", "body.model"),
    (bad(user_id=1), "invalid_request", "user_id"),
]


def test_what_is_wrong_with_each_line(lite, upstream):
    with_upstream(lite, upstream)
    client = lite.test_client()
    for second, code, param in WRONG:
        raw = second if isinstance(second, bytes) else json.dumps(second).encode()
        name = begin(client, jsonl(GOOD) + raw + b"\n" + jsonl(line(3)))
        run(lite)
        done = show(client, name)
        assert (done["status"], done["failed_at"] is not None) == ("failed", True), second
        (error,) = done["errors"]["data"]
        assert (error["code"], error["param"], error["line"]) == (code, param, 2), second
        assert done["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
        assert (done["output_file_id"], done["error_file_id"]) == (None, None)
    assert lines(lite) == []
    assert upstream.served == []
    assert rows(lite.extensions["gateway"].engine) == []


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"\n\n \n", "empty_batch"), (jsonl(*(line(number) for number in range(4))), "too_many_tasks")],
)
def test_what_is_wrong_with_the_whole_file(sqlite_database, make_app, content, code):
    app = make_app(sqlite_database, BATCH_MAX_LINES="3")
    app.extensions["gateway"].catalog.refresh()
    client = app.test_client()
    name = begin(client, content.replace(b'"fast"', b'"echo"'))
    run(app)
    assert [(one["code"], one["line"]) for one in show(client, name)["errors"]["data"]] == [(code, None)]


def test_every_line_that_is_wrong_is_told_up_to_a_hundred(lite):
    client = lite.test_client()
    name = begin(client, b"x\n" * 150)
    run(lite)
    assert [one["line"] for one in show(client, name)["errors"]["data"]] == [*range(1, 101)]


def test_lines_may_end_as_on_windows_and_the_last_one_not_at_all(lite):
    client = lite.test_client()
    name = begin(client, b"\r\n\r\n".join(jsonl(line(n, model="echo")).strip() for n in (1, 2)))
    run(lite)
    assert show(client, name)["request_counts"]["completed"] == 2


def test_lines_longer_than_a_chunk_and_at_its_border(lite):
    client = lite.test_client()
    texts = ["a" * size for size in (10, 196_000, 250_000, 5, 400_000)]
    name = begin(client, jsonl(*(line(n, text, model="echo") for n, text in enumerate(texts))))
    run(lite)
    assert show(client, name)["request_counts"] == {"total": 5, "completed": 5, "failed": 0}


def test_a_line_larger_than_a_request_may_be(sqlite_database, make_app):
    app = make_app(sqlite_database, MAX_BODY_BYTES="300000")
    client = app.test_client()
    name = begin(client, jsonl(line(1, "a" * 400_000, model="echo"), line(2, model="echo")))
    run(app)
    (error,) = show(client, name)["errors"]["data"]
    assert (error["code"], error["line"]) == ("invalid_request", 1)
