"""An upstream that fails in every way: a clear error in OpenAI's form, one usage row, no open hold."""

import json

import pytest

from services.exchange import MAX_HEAD_BYTES
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream


def post(app, body, **headers):
    return app.test_client().post("/v1/chat/completions", json=body, headers=AUTH | headers, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def error(response):
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"].startswith("req_")
    return response.json["error"]


BEFORE_THE_FIRST_BYTE = {
    "HTML with status 200": (
        {"body": "<html>nginx</html>", "headers": {"content-type": "text/html"}},
        502,
        "upstream_error",
    ),
    "JSON that is no object": ({"body": "[]"}, 502, "upstream_error"),
    "JSON that is no completion": ({"body": "{}"}, 502, "upstream_error"),
    "cut JSON": ({"body": '{"choices": ['}, 502, "upstream_error"),
    "an error object with status 200": ({"body": '{"error": {"message": "no", "code": 7}}'}, 502, "7"),
    "a redirect": ({"status": 302, "headers": {"location": "http://127.0.0.1:1/"}}, 502, "upstream_error"),
    "a redirect of a POST": (
        {"status": 307, "headers": {"location": "http://169.254.169.254/"}},
        502,
        "upstream_error",
    ),
    "compressed": ({"headers": {"content-encoding": "gzip"}, "body": "x"}, 502, "upstream_error"),
    "500": ({"status": 500}, 502, "upstream_error"),
    "503": ({"status": 503}, 503, "upstream_error"),
    "529": ({"status": 529}, 503, "upstream_error"),
    "504": ({"status": 504}, 504, "upstream_timeout"),
    "408": ({"status": 408}, 504, "upstream_timeout"),
    "401": ({"status": 401}, 502, "upstream_credential"),
    "402": ({"status": 402}, 502, "upstream_credential"),
    "400": ({"status": 400}, 400, "fake"),
    "404": ({"status": 404}, 404, "fake"),
    "422 with another body": ({"status": 422, "body": "what?"}, 422, None),
    "an error that is a text": ({"status": 400, "body": '{"error": "bad"}'}, 400, None),
    "an error of another form": (
        {"status": 400, "body": '{"object": "error", "message": "bad", "code": 40}'},
        400,
        "40",
    ),
    "an error that is a list": ({"status": 400, "body": '["bad"]'}, 400, None),
}


@pytest.mark.parametrize(("plan", "status", "code"), BEFORE_THE_FIRST_BYTE.values(), ids=BEFORE_THE_FIRST_BYTE)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_before_the_first_byte(lite, upstream, plan, status, code, is_stream):
    with_upstream(lite, upstream)
    if is_stream and plan.get("body") in ("[]", "{}", '{"choices": ['):
        plan = plan | {"headers": {"content-type": "application/json"}}
    upstream.will(**plan)
    response = post(lite, chat(stream=is_stream))
    if is_stream and plan.get("status", 200) == 200:
        status, code = 502, "upstream_error"
    assert (response.status_code, error(response)["code"]) == (status, code)
    (row,) = rows(engine(lite))
    assert (row.state, row.cost_nanousd, row.status) == ("void", 0, status)
    assert_books_agree(engine(lite))


@pytest.mark.parametrize(
    ("status", "detail", "message", "param"),
    [
        pytest.param(404, "Not Found", "Not Found", None, id="a text"),
        pytest.param(
            422,
            [
                {"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required", "input": "x"},
                {"type": "int_type", "loc": ["body", "n"], "msg": "Input should be a valid integer"},
            ],
            "messages.0.content: Field required; n: Input should be a valid integer",
            "messages.0.content",
            id="what is wrong where",
        ),
        pytest.param(422, [{"loc": ["body"], "msg": "Not JSON"}, 7, {"loc": 7}], "Not JSON", None, id="of the whole"),
        pytest.param(422, [], "the upstream answered 422", None, id="nothing"),
        pytest.param(400, {"message": "bad", "param": "n"}, "bad", "n", id="an object"),
        pytest.param(400, ["bad", "worse"], "bad; worse", None, id="texts"),
    ],
)
def test_the_caller_reads_why_a_fastapi_server_refused(lite, upstream, status, detail, message, param):
    with_upstream(lite, upstream)
    upstream.will(status=status, body=json.dumps({"detail": detail}))
    response = post(lite, chat())
    told = error(response)
    assert (response.status_code, told["message"], told["param"]) == (status, message, param)


@pytest.mark.parametrize(
    ("header", "value", "told"),
    [
        ("retry-after", "17", "17"),
        ("retry-after-ms", "16100", "17"),
        ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("retry-after", "Mon, 21 Oct 2999 07:28:00 GMT", "86400"),
        ("retry-after", "soon", None),
    ],
)
def test_the_caller_is_told_when_to_come_back(lite, upstream, header, value, told):
    with_upstream(lite, upstream)
    upstream.will(status=429, headers={header: value})
    response = post(lite, chat())
    assert (response.status_code, response.headers.get("retry-after")) == (429, told)


def test_an_upstream_never_shows_our_credential(lite, upstream):
    with_upstream(lite, upstream, credential="sk-upstream-very-secret")
    for status in (400, 401, 500):
        upstream.will(
            status=status,
            body=json.dumps({"error": {"message": "Incorrect API key provided: sk-upstream-very-secret"}}),
        )
        assert "very-secret" not in post(lite, chat()).get_data(as_text=True)
    assert all("very-secret" not in (row.error or "") for row in rows(engine(lite)))


def test_nobody_answers(lite):
    add_model(lite, add_provider(lite, "http://127.0.0.1:1/v1"))
    response = post(lite, chat())
    assert (response.status_code, error(response)["code"]) == (502, "upstream_unreachable")
    assert last(engine(lite)).state == "void"


@pytest.mark.parametrize(
    "base_url",
    [
        "http://no-such-host.invalid/v1",
        "http://169.254.169.254/v1",
        "http://[fe80::1]/v1",
        "ftp://127.0.0.1/v1",
        "http://user:pw@127.0.0.1/v1",
        "http://127.0.0.1/v1?x=1",
        "nonsense",
        "http://",
        "http://127.0.0.1:99999/v1",
        "http://2852039166/latest",
        "http://0xa9fea9fe/v1",
    ],
)
def test_addresses_that_are_not_called(lite, base_url):
    add_model(lite, add_provider(lite, base_url))
    response = post(lite, chat())
    assert (response.status_code, error(response)["code"]) == (502, "upstream_unreachable")


def test_a_mute_upstream_is_given_up(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, LLM_TIMEOUT="300ms"), upstream)
    for is_stream in (False, True):
        upstream.will(first_s=5)
        response = post(app, chat(stream=is_stream))
        assert (response.status_code, error(response)["code"]) == (504, "upstream_timeout")
    assert_books_agree(engine(app))


def test_an_upstream_that_trickles_is_given_up(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, PROXY_TIMEOUT="500ms"), upstream)
    upstream.will(words=100, every_s=0.05)
    text = post(app, chat(stream=True)).get_data(as_text=True)
    assert "upstream_timeout" in text
    assert "[DONE]" not in text
    assert last(engine(app)).outcome == "upstream_timeout"


IN_THE_STREAM = {
    "cut": ({"cut_after": 3}, "upstream_cut"),
    "reset": ({"cut_after": 3, "reset": True}, "upstream_cut"),
    "silent": ({"mute_after": 3}, "upstream_timeout"),
    "ended without a finish": ({"words": 3, "finish": False, "done": False, "usage": None}, "upstream_cut"),
    "an error event": (
        {"raw_event": 'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'},
        "upstream_cut",
    ),
    "an event that is no JSON": ({"raw_event": "data: {oops\n\n"}, "upstream_cut"),
    "an event that is a number": ({"raw_event": "data: 7\n\n"}, "upstream_cut"),
    "choices that are numbers": ({"raw_event": 'data: {"choices": [7]}\n\n'}, "upstream_cut"),
}


@pytest.mark.parametrize(("plan", "outcome"), IN_THE_STREAM.values(), ids=IN_THE_STREAM)
def test_in_the_stream(make_app, sqlite_database, upstream, plan, outcome):
    app = with_upstream(make_app(sqlite_database, LLM_TIMEOUT="400ms"), upstream)
    upstream.will(**plan)
    text = post(app, chat("one two three", stream=True)).get_data(as_text=True)
    assert "word0" in text, "what came before the failure was handed on"
    assert "[DONE]" not in text, "a broken stream must not look whole"
    assert json.loads(text.rstrip().rpartition("data: ")[2])["error"]["message"]
    (row,) = rows(engine(app))
    assert (row.outcome, row.state, row.status) == (outcome, "estimated", 200)
    assert row.input_tokens == 3 + 1 + 3 + 3, "three words, the role, and the overhead of a chat"
    assert row.output_tokens >= 2
    assert row.cost_nanousd == row.input_tokens * 150 + row.output_tokens * 600
    assert_books_agree(engine(app))


@pytest.mark.parametrize(
    ("plan", "state", "tokens"),
    [
        pytest.param({"usage": None}, "estimated", None, id="no usage"),
        pytest.param({"usage": {}}, "estimated", None, id="an empty usage"),
        pytest.param({"usage": {"prompt_tokens": -1, "completion_tokens": 5}}, "estimated", None, id="negative"),
        pytest.param({"usage": {"prompt_tokens": 1.5, "completion_tokens": 5}}, "estimated", None, id="a fraction"),
        pytest.param({"usage": {"prompt_tokens": "7", "completion_tokens": 5}}, "estimated", None, id="a text"),
        pytest.param({"usage": {"prompt_tokens": True, "completion_tokens": 5}}, "estimated", None, id="a boolean"),
        pytest.param(
            {"usage": {"prompt_tokens": 10**12, "completion_tokens": 5}}, "estimated", None, id="beyond belief"
        ),
        pytest.param({"usage": "lots"}, "estimated", None, id="no object"),
        pytest.param(
            {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, "measured", 0, id="an explicit zero is believed"
        ),
        pytest.param(
            {"usage": {"prompt_tokens": 9, "completion_tokens": 8, "prompt_tokens_details": 5}},
            "measured",
            17,
            id="odd details",
        ),
        pytest.param(
            {"usage": {"prompt_tokens": 10**9, "completion_tokens": 10**9}},
            "measured",
            2 * 10**9,
            id="a lot is booked as reported",
        ),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_usage_that_cannot_be_is_estimated(lite, upstream, plan, state, tokens, is_stream):
    with_upstream(lite, upstream)
    upstream.will(**plan)
    assert post(lite, chat("one two three", stream=is_stream)).status_code == 200
    row = last(engine(lite))
    assert (row.outcome, row.state) == ("ok", state)
    if tokens is not None:
        assert row.input_tokens + row.output_tokens == tokens
    else:
        assert row.input_tokens in (10, 9)
        assert row.output_tokens in range(5, 15)
    assert_books_agree(engine(lite))


def test_two_usage_events_the_last_one_counts(lite, upstream):
    with_upstream(lite, upstream)
    early = 'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n'
    upstream.will(raw_event=early)
    text = post(lite, chat("one two three", stream=True)).get_data(as_text=True)
    assert "prompt_tokens" not in text
    assert last(engine(lite)).output_tokens == 5


def test_a_server_that_answers_without_a_stream(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(body='{"choices": []}')
    response = post(lite, chat(stream=True))
    assert (response.status_code, error(response)["code"]) == (502, "upstream_error")


@pytest.mark.parametrize("piece", [1, 7])
def test_an_answer_in_small_pieces(lite, upstream, piece):
    with_upstream(lite, upstream)
    upstream.will(piece=piece)
    text = post(lite, chat(stream=True)).get_data(as_text=True)
    assert text.endswith("data: [DONE]\n\n")
    upstream.will(piece=piece)
    assert post(lite, chat()).json["choices"][0]["message"]["content"].startswith("word0")


def test_a_connection_is_used_again(lite, upstream):
    with_upstream(lite, upstream)
    for is_stream in (False, True, False, True):
        assert post(lite, chat(stream=is_stream)).status_code == 200
    assert upstream.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(close=True)
    for _ in range(3):
        assert post(lite, chat()).status_code == 200
    assert upstream.connections == 2


def test_too_many_headers(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(headers={"x-big": "y" * MAX_HEAD_BYTES})
    assert "bytes of headers" in error(post(lite, chat()))["message"]


def test_an_answer_too_large(lite, upstream, monkeypatch):
    monkeypatch.setattr("services.pipeline.MAX_ANSWER_BYTES", 100)
    with_upstream(lite, upstream)
    response = post(lite, chat())
    assert "larger than 100 bytes" in error(response)["message"]


def test_headers_of_the_upstream_stay_behind(lite, upstream):
    with_upstream(lite, upstream)
    upstream.will(
        headers={
            "set-cookie": "a=b",
            "x-accel-redirect": "/etc/passwd",
            "server": "evil",
            "location": "http://x/",
            "x-request-id": "theirs",
        }
    )
    response = post(lite, chat())
    assert not {"set-cookie", "x-accel-redirect", "location"} & {name.lower() for name, _value in response.headers}
    assert response.headers["x-request-id"] != "theirs"


def test_what_is_sent_upstream(lite, upstream):
    with_upstream(lite, upstream)
    body = chat(stream=True, temperature=0.3, some_new_member={"a": [1]}, stream_options={"include_obfuscation": False})
    post(lite, body, **{"x-forwarded-for": "6.6.6.6", "cookie": "a=b", "openai-organization": "org-caller"})
    (served,) = upstream.served
    assert served.body == body | {
        "model": "gpt-4o-mini",
        "stream_options": {"include_obfuscation": False, "include_usage": True},
    }
    assert served.headers["authorization"] == "Bearer sk-upstream-secret"
    assert served.headers["accept-encoding"] == "identity"
    assert not {"x-forwarded-for", "cookie", "openai-organization", "connection"} & served.headers.keys()


def test_netrc_and_proxy_variables_are_not_read(lite, upstream, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with_upstream(lite, upstream)
    assert post(lite, chat()).status_code == 200
    assert upstream.served[0].headers["authorization"] == "Bearer sk-upstream-secret"


def test_another_deployment_takes_over_before_the_first_byte(lite, upstream):
    first, second = add_provider(lite, "http://127.0.0.1:1/v1", "down"), add_provider(lite, upstream, "up")
    add_model(lite, second, "spare")
    add_model(lite, first, "fast", fallbacks=["spare", "missing"])
    for is_stream in (False, True):
        response = post(lite, chat(stream=is_stream))
        assert response.status_code == 200
    row = last(engine(lite))
    assert (row.provider, json.loads(row.attempts)) == ("up", [["down", "upstream_unreachable"], ["up", "ok"]])
    upstream.will(status=400)
    assert post(lite, chat("x", "spare")).status_code == 400


def test_a_request_the_upstream_refuses_is_not_tried_elsewhere(lite, upstream):
    provider = add_provider(lite, upstream)
    add_model(lite, provider, "spare")
    add_model(lite, provider, "fast", fallbacks=["spare"], upstream_model="other")
    upstream.will(status=400)
    assert post(lite, chat()).status_code == 400
    assert len(upstream.served) == 1
    upstream.will(status=401)
    assert post(lite, chat()).status_code == 200, "another account may be good"
    upstream.will(status=503)
    upstream.will(status=503)
    assert post(lite, chat()).status_code == 503
    assert_books_agree(engine(lite))
