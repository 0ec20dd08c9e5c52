"""Chat calls through the app, against a real upstream on loopback; only its answers are made up."""

import json

import pytest
from flask import Flask

from tests.helpers import AUTH, assert_books_agree, chat, last, rows, with_upstream


def post(app: Flask, body, path="/v1/chat/completions", headers=AUTH):
    return app.test_client().post(path, json=body, headers=headers, buffered=True)


def events(response):
    return [line[6:] for line in response.get_data(as_text=True).splitlines() if line.startswith("data: ")]


def test_a_call_is_answered_and_booked_once(app, upstream):
    with_upstream(app, upstream)
    answer = post(app, chat("one two three"))
    assert answer.status_code == 200
    assert answer.json["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    engine = app.extensions["gateway"].engine
    (row,) = rows(engine)
    assert (row.state, row.outcome, row.input_tokens, row.output_tokens) == ("measured", "ok", 3, 5)
    assert row.cost_nanousd == 3 * 150 + 5 * 600
    assert row.request_id == answer.headers["x-request-id"]
    assert_books_agree(engine)


def test_a_stream_is_answered_and_booked_before_its_end_mark(app, upstream):
    with_upstream(app, upstream)
    answer = app.test_client().post(
        "/v1/chat/completions", json=chat("one two three", stream=True), headers=AUTH, buffered=False
    )
    received = b""
    for data in answer.iter_encoded():
        received += data
        if b"[DONE]" in data:
            assert last(app.extensions["gateway"].engine).state == "measured"
    answer.close()
    assert received.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in received, "usage that nobody asked for is not handed on"
    assert upstream.served[0].body["stream_options"] == {"include_usage": True}
    row = last(app.extensions["gateway"].engine)
    assert (row.is_stream, row.input_tokens, row.output_tokens, row.cost_nanousd) == (True, 3, 5, 3 * 150 + 5 * 600)
    assert_books_agree(app.extensions["gateway"].engine)


@pytest.mark.parametrize("later", ["{}", "null", "[]", '{"prompt_tokens": null, "completion_tokens": "many"}'])
def test_a_report_of_nothing_does_not_replace_a_good_one(lite, upstream, later):
    with_upstream(lite, upstream)
    good = '{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}'
    upstream.will(raw_event=f'data: {good}\n\ndata: {{"choices":[],"usage":{later}}}\n\n', usage=None, words=1)
    post(lite, chat(stream=True))
    row = last(lite.extensions["gateway"].engine)
    assert (row.state, row.input_tokens, row.output_tokens) == ("measured", 5, 7)


@pytest.mark.parametrize("part", ["cached_tokens", "cache_write_tokens"])
def test_a_part_larger_than_the_whole_is_not_believed(lite, upstream, part):
    with_upstream(lite, upstream)
    upstream.will(usage={"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {part: 999_999}})
    post(lite, chat())
    row = last(lite.extensions["gateway"].engine)
    assert (row.state, row.input_tokens, row.cost_nanousd) == ("measured", 10, 10 * 150 + 2 * 600)


def test_usage_is_handed_on_when_asked_for(app, upstream):
    with_upstream(app, upstream)
    answer = post(app, chat(stream=True, stream_options={"include_usage": True}))
    chunks = [json.loads(event) for event in events(answer)[:-1]]
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert chunks[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
