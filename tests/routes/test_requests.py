"""What callers may send: everything real is accepted and passed on, everything hostile gets a clear 400 and no row."""

import gzip
import json

import pytest
from sqlalchemy.orm import Session

from models import ApiKey
from services import keys as key_forms
from tests.helpers import AUTH, add_model, add_provider, chat, rows, with_upstream


def post(app, body, path="/v1/chat/completions", headers=AUTH):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return app.test_client().post(path, data=data, headers=headers, content_type="application/json", buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


EVERYTHING = {
    "messages": [
        {"role": "developer", "content": "be kind"},
        {"role": "system", "content": [{"type": "text", "text": "and short"}], "name": "sys"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "function", "name": "f", "content": "old"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None, "audio": None},
    ],
    "model": "fast",
    "temperature": 0.0,
    "top_p": 1,
    "n": 1,
    "stop": ["a", "b"],
    "max_completion_tokens": 5,
    "presence_penalty": -2,
    "frequency_penalty": 2.0,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 5,
    "seed": 2**63,
    "user": "u\u0000x",
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}},
        {"type": "custom", "custom": {"name": "c"}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}},
    "reasoning_effort": "max",
    "verbosity": "low",
    "modalities": ["text"],
    "audio": {"voice": "x", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "service_tier": "fast",
    "store": True,
    "metadata": {"a": "b"},
    "web_search_options": {},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "moderation": {},
    "min_p": 0.1,
    "chat_template_kwargs": {"x": 1},
    "guided_json": {},
    "num_ctx": 4096,
}


def test_every_member_is_accepted_and_passed_on(lite, upstream):
    with_upstream(lite, upstream)
    assert post(lite, EVERYTHING).status_code == 200
    assert upstream.served[0].body == EVERYTHING | {"model": "gpt-4o-mini"}


def test_nulls_stand_for_defaults(lite, upstream):
    with_upstream(lite, upstream)
    body = chat() | dict.fromkeys(
        ("temperature", "top_p", "n", "stop", "max_tokens", "tools", "stream", "stream_options", "user")
    )
    assert post(lite, body).status_code == 200


BAD = {
    "no JSON": (b"{", "body"),
    "nothing": (b"", "body"),
    "a list": (b"[]", "body"),
    "a text": (b'"hi"', "body"),
    "NaN": (b'{"model":"fast","messages":[],"temperature":NaN}', "body"),
    "an infinite number": (b'{"model":"fast","messages":[],"max_tokens":1e999}', "body"),
    "a lone surrogate": (b'{"model":"fast","messages":[{"role":"user","content":"\\ud800"}]}', "body"),
    "no UTF-8": (b'{"model":"fast\xff"}', "body"),
    "a depth bomb": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "body"),
    "depth beyond ours": (
        b'{"model":"fast","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 120 + b"]" * 120 + b"}",
        "body",
    ),
    "no model": ({"messages": [{"role": "user", "content": "x"}]}, "model"),
    "an empty model": (chat(model=" "), "model"),
    "a model that is a list": (chat(model=["fast"]), "model"),
    "no messages": ({"model": "fast"}, "messages"),
    "empty messages": ({"model": "fast", "messages": []}, "messages"),
    "messages that are a text": ({"model": "fast", "messages": "x"}, "messages"),
    "a message that is a text": ({"model": "fast", "messages": ["x"]}, "messages"),
    "an unknown role": ({"model": "fast", "messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    "a role that is a list": (
        {"model": "fast", "messages": [{"role": "user", "content": "x"}, {"role": "x"}]},
        "messages.1.role",
    ),
    "no content": ({"model": "fast", "messages": [{"role": "user"}]}, "messages.0.content"),
    "content that is a number": ({"model": "fast", "messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    "a part without a type": (
        {"model": "fast", "messages": [{"role": "user", "content": [{"text": "x"}]}]},
        "messages.0.content.0",
    ),
    "a part that is a text": (
        {"model": "fast", "messages": [{"role": "user", "content": ["x"]}]},
        "messages.0.content.0",
    ),
    "text that is a number": (
        {"model": "fast", "messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
        "messages.0.content.0.text",
    ),
    "an image that is a number": (
        {"model": "fast", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 1}]}]},
        "messages.0.content.0.image_url",
    ),
    "tool calls that are a text": (
        {"model": "fast", "messages": [{"role": "assistant", "tool_calls": "x"}]},
        "messages.0.tool_calls",
    ),
    "arguments that are an object": (
        {"model": "fast", "messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]},
        "messages.0.tool_calls",
    ),
    "stream as a text": (chat(stream="true"), "stream"),
    "stream options as a list": (chat(stream_options=[]), "stream_options"),
    "a temperature that is a text": (chat(temperature="hot"), "temperature"),
    "a temperature that is true": (chat(temperature=True), "temperature"),
    "n zero": (chat(n=0), "n"),
    "n negative": (chat(n=-1), "n"),
    "n huge": (chat(n=1000), "n"),
    "n a fraction": (chat(n=1.5), "n"),
    "n true": (chat(n=True), "n"),
    "max_tokens zero": (chat(max_tokens=0), "max_tokens"),
    "max_tokens negative": (chat(max_tokens=-5), "max_tokens"),
    "max_tokens a text": (chat(max_tokens="5"), "max_tokens"),
    "max_tokens huge": (chat(max_tokens=2**63), "max_tokens"),
    "max_completion_tokens a float": (chat(max_completion_tokens=1.0), "max_completion_tokens"),
    "stop as a number": (chat(stop=1), "stop"),
    "stop with a number": (chat(stop=["a", 1]), "stop"),
    "a bias as a list": (chat(logit_bias=[]), "logit_bias"),
    "tools as an object": (chat(tools={}), "tools"),
    "a tool without a name": (chat(tools=[{"type": "function", "function": {}}]), "tools"),
    "a tool with odd parameters": (
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": 5}}]),
        "tools",
    ),
    "a tool choice as a number": (chat(tool_choice=5), "tool_choice"),
    "a tool choice without a name": (chat(tool_choice={"function": 5}), "tool_choice"),
    "a format without its schema": (chat(response_format={"type": "json_schema"}), "response_format"),
    "a format as a text": (chat(response_format="json"), "response_format"),
    "metadata as a text": (chat(metadata="x"), "metadata"),
    "user as a number": (chat(user=5), "user"),
    "logprobs as a number": (chat(logprobs=5), "logprobs"),
    "too many top logprobs": (chat(top_logprobs=21), "top_logprobs"),
}


@pytest.mark.parametrize(("body", "param"), BAD.values(), ids=BAD)
def test_a_bad_chat_is_refused_before_anything_happens(lite, upstream, body, param):
    with_upstream(lite, upstream)
    response = post(lite, body)
    assert response.status_code == 400
    assert response.json["error"]["param"] == param
    assert (response.json["error"]["type"], response.json["error"]["code"]) == (
        "invalid_request_error",
        "validation_error",
    )
    assert response.headers["x-request-id"].startswith("req_")
    assert rows(engine(lite)) == []
    assert upstream.served == []


def test_duplicate_members_collapse_before_anything_is_decided(lite, upstream):
    with_upstream(lite, upstream)
    raw = b'{"model":"no-such","model":"fast","messages":[{"role":"user","content":"a"}],"max_tokens":5,"max_tokens":7}'
    assert post(lite, raw).status_code == 200
    assert (upstream.served[0].body["model"], upstream.served[0].body["max_tokens"]) == ("gpt-4o-mini", 7)


@pytest.mark.parametrize(
    "member", ["api_base", "base_url", "api_key", "extra_headers", "custom_llm_provider", "headers"]
)
def test_a_body_cannot_choose_where_it_goes(lite, upstream, member):
    with_upstream(lite, upstream)
    assert post(lite, chat(**{member: "http://169.254.169.254/"})).status_code == 200
    assert upstream.served[0].headers["authorization"] == "Bearer sk-upstream-secret"


def test_templates_in_texts_are_texts(lite, upstream):
    with_upstream(lite, upstream)
    post(lite, chat("{{7*7}} ${HOME} %s\n\ndata: [DONE]\n\n".replace("{{7*7}}", "{7*7}")))
    assert upstream.served[0].body["messages"][0]["content"] == "{7*7} ${HOME} %s\n\ndata: [DONE]\n\n"


def test_an_unknown_model(lite):
    response = post(lite, chat(model="no-such\n\u202e"))
    error = response.json["error"]
    assert response.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert post(lite, chat(model="x")).json["error"]["message"] == "Model 'x' is not available."


def test_a_body_that_is_too_large(make_app, sqlite_database):
    app = make_app(sqlite_database, MAX_BODY_BYTES="1000")
    response = post(app, chat("x" * 2000))
    assert (response.status_code, response.json["error"]["code"]) == (413, "request_too_large")
    assert post(app, chat("x" * 2000), headers={}).status_code == 401, "who may call is asked first"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Basic YTpi"}, "invalid_auth_format"),
        ({"Authorization": "Bearer"}, "invalid_auth_format"),
        ({"Authorization": "sk-th-x"}, "invalid_auth_format"),
        ({"Authorization": "Bearer a b"}, "invalid_key_format"),
        ({"Authorization": "Bearer ' OR 1=1 --"}, "invalid_key_format"),
        ({"Authorization": "Bearer schl\u00fcssel"}, "invalid_key_format"),
        ({"Authorization": "Bearer " + "a" * 5000}, "invalid_key_format"),
        ({"Authorization": "Bearer unknown-token"}, "invalid_key"),
        ({"Authorization": "Bearer sk-th-" + "a" * 49}, "invalid_key"),
        ({"x-api-key": "unknown-token"}, "invalid_key"),
        ({"api-key": "unknown-token"}, "invalid_key"),
        ({"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."}, "invalid_key"),
    ],
)
def test_bad_credentials(lite, headers, code):
    response = post(lite, chat(model="echo"), headers=headers)
    assert (response.status_code, response.json["error"]["type"], response.json["error"]["code"]) == (
        401,
        "authentication_error",
        code,
    )
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Authorization", "authorization", "x-api-key", "api-key"])
def test_a_key_may_come_in_any_header(lite, header):
    value = (
        AUTH["Authorization"] if header.lower() == "authorization" else AUTH["Authorization"].removeprefix("Bearer ")
    )
    assert post(lite, chat(model="echo"), headers={header: value}).status_code == 200
    assert (
        post(
            lite, chat(model="echo"), headers={"Authorization": AUTH["Authorization"].replace("Bearer", "bEaReR")}
        ).status_code
        == 200
    )
    assert (
        post(
            lite, chat(model="echo"), headers={"Authorization": "Basic YTpi", "x-api-key": AUTH["Authorization"][7:]}
        ).status_code
        == 200
    )


def test_short_tokens_are_refused_by_their_length_in_production(make_app, sqlite_database):
    strict = {
        "ENVIRONMENT": "production",
        "HOST": "127.0.0.1",
        "PORT": "1",
        "LOG_LEVEL": "INFO",
        "RATE_LIMIT_PER_MINUTE": "60",
    }
    app = make_app(sqlite_database, **strict)
    response = post(app, chat(), headers={"Authorization": "Bearer short"})
    assert response.json["error"]["code"] == "invalid_key_length"


def issue(app, **fields):
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        owner = session.query(ApiKey).first().user_id
        return here.keys.issue(session, owner, "test", **fields)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_opens_until_it_is_revoked(app):
    key = issue(app)
    assert post(app, chat(model="echo"), headers=bearer(key.secret)).status_code == 200
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        here.keys.revoke(session, key.id, "lost")
    here.catalog.refresh()
    response = post(app, chat(model="echo"), headers=bearer(key.secret))
    assert (response.status_code, response.json["error"]["message"]) == (
        401,
        f"The API key is not valid: the key `{key.hint}` was revoked: lost.",
    )
    with Session(here.engine) as session:
        row = session.get(ApiKey, key.id)
        assert key.secret not in (row.digest, row.hint)
        assert row.sealed is None
    assert post(app, chat(model="echo"), headers=bearer(row.digest)).status_code == 401, "a stolen digest opens nothing"


def test_an_expired_key(app, monkeypatch):
    from datetime import UTC, datetime, timedelta

    key = issue(app, expires_at=datetime.now(UTC) + timedelta(seconds=1000))
    assert post(app, chat(model="echo"), headers=bearer(key.secret)).status_code == 200
    now = __import__("time").time()
    monkeypatch.setattr("utils.clock.now_s", lambda: now + 1001)
    response = post(app, chat(model="echo"), headers=bearer(key.secret))
    assert response.status_code == 401
    assert "expired on" in response.json["error"]["message"]


def test_a_key_for_some_models_only(app):
    key = issue(app, allowed_models=["echo"])
    assert post(app, chat(model="echo"), headers=bearer(key.secret)).status_code == 200
    response = post(app, chat(model="echo-slow"), headers=bearer(key.secret))
    assert (response.status_code, response.json["error"]["code"]) == (403, "permission_denied")
    assert "`echo`" in response.json["error"]["message"]
    listed = app.test_client().get("/v1/models", headers=bearer(key.secret)).json["data"]
    assert [entry["id"] for entry in listed] == ["echo"]
    assert app.test_client().get("/v1/models/echo-slow", headers=bearer(key.secret)).status_code == 404


def test_a_disabled_user(app):
    from models import User

    key = issue(app)
    assert post(app, chat(model="echo"), headers=bearer(key.secret)).status_code == 200
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(User).update({"is_active": False})
    here.catalog.refresh()
    assert "disabled" in post(app, chat(model="echo"), headers=bearer(key.secret)).json["error"]["message"]


def test_a_wrong_key_is_looked_up_once_a_second(lite, monkeypatch):
    here = lite.extensions["gateway"]
    asked = []
    find = here.keys.find
    monkeypatch.setattr(type(here.keys), "find", lambda _self, digest: asked.append(digest) or find(digest))
    secret = key_forms.new_secret()
    for _ in range(20):
        assert post(lite, chat(), headers=bearer(secret)).status_code == 401
    assert len(asked) == 1


def test_last_use_is_written_in_batches(app):
    key = issue(app)
    here = app.extensions["gateway"]
    post(app, chat(model="echo"), headers=bearer(key.secret))
    with Session(here.engine) as session:
        changed = session.get(ApiKey, key.id).updated_at
        assert session.get(ApiKey, key.id).last_used_at is None
    here.keys.flush_used()
    here.keys.flush_used()
    with Session(here.engine) as session:
        assert session.get(ApiKey, key.id).last_used_at is not None
        assert session.get(ApiKey, key.id).updated_at == changed


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/nothing", "get", 404, "not_found"),
        ("/v1/chat/completions", "get", 405, "method_not_allowed"),
        ("/v1", "post", 404, "not_found"),
    ],
)
def test_paths_that_are_not_there(lite, path, method, status, code):
    response = lite.test_client().open(path, method=method.upper(), headers=AUTH)
    assert (response.status_code, response.json["error"]["code"]) in ((status, code), (405, "method_not_allowed"))


def test_a_failure_of_ours_says_nothing_of_the_inside(lite, monkeypatch):
    lite.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("services.pipeline.candidates", lambda *_: 1 / 0)
    response = post(lite, chat(model="echo"))
    assert response.status_code == 500
    assert response.json["error"] == {
        "message": response.json["error"]["message"],
        "type": "server_error",
        "param": None,
        "code": "internal_server_error",
    }
    assert "ZeroDivision" not in response.get_data(as_text=True)


def test_an_unpriced_model(make_app, sqlite_database, upstream):
    app = make_app(sqlite_database, UNPRICED_POLICY="refuse")
    add_model(app, add_provider(app, upstream), price=None)
    response = post(app, chat())
    assert (response.status_code, response.json["error"]["code"], response.headers["x-should-retry"]) == (
        402,
        "model_not_priced",
        "false",
    )
    assert upstream.served == []


def test_an_unpriced_model_may_be_free_and_marked(lite, upstream):
    add_model(lite, add_provider(lite, upstream), price=None)
    assert post(lite, chat()).status_code == 200
    assert (rows(engine(lite))[0].cost_nanousd, rows(engine(lite))[0].price_source) == (0, "unpriced")


def test_a_model_whose_provider_is_off(lite, upstream):
    add_model(lite, add_provider(lite, upstream, is_enabled=False))
    assert post(lite, chat()).json["error"]["code"] == "model_not_found"


def test_a_provider_whose_credential_cannot_be_opened(lite, upstream):
    from models import Provider

    with_upstream(lite, upstream)
    here = lite.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(Provider).filter_by(name="fake").update({"credential": b"junk"})
    here.catalog.refresh()
    assert post(lite, chat()).status_code == 400
    assert post(lite, chat(model="echo")).status_code == 200


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/openai/deployments/fast/chat/completions?api-version=2024-10-21", "/v1/chat/completions"),
        ("/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
    ],
)
def test_a_call_at_the_wrong_path_is_told_the_right_one_in_its_clients_form(app, path, meant):
    response = app.test_client().post(path, json={}, headers=AUTH)
    assert response.status_code == 404
    error = response.get_json()["error"]
    assert f"answered at `{meant}`" in error["message"]
    assert ("param" in error, "details" in error) == (("messages" not in meant), ("messages" in meant))


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/more", "/v1/my-models"])
def test_what_is_no_call_gets_no_such_advice(app, path):
    error = app.test_client().post(path, json={}, headers=AUTH).get_json()["error"]
    assert error["message"] == "There is nothing at this path."


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_compressed_body_is_called_so(lite, path):
    response = post(lite, gzip.compress(b"{}"), path)
    assert (response.status_code, "without `Content-Encoding`" in response.json["error"]["message"]) == (400, True)
