"""The other endpoints of `/v1`, the built-in provider, Ollama, and what needs no key."""

import base64
import json
import struct

import pytest

from services.providers.echo import SCENARIOS
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream


def post(app, path, body):
    return app.test_client().post(f"/v1/{path}", json=body, headers=AUTH, buffered=True)


def get(app, path, headers=AUTH):
    return app.test_client().get(path, headers=headers)


def engine(app):
    return app.extensions["gateway"].engine


def events(response):
    return [line[6:] for line in response.get_data(as_text=True).splitlines() if line.startswith("data: ")]


# Completions and embeddings


def test_a_completion(lite, upstream):
    with_upstream(lite, upstream)
    response = post(lite, "completions", {"model": "fast", "prompt": "one two", "echo": True, "suffix": "x"})
    assert response.json["object"] == "text_completion"
    assert upstream.served[0].path == "/v1/completions"
    assert upstream.served[0].body == {"model": "gpt-4o-mini", "prompt": "one two", "echo": True, "suffix": "x"}
    assert (last(engine(lite)).operation, last(engine(lite)).output_tokens) == ("completion", 5)


def test_a_streamed_completion(lite, upstream):
    with_upstream(lite, upstream)
    response = post(lite, "completions", {"model": "fast", "prompt": ["one", "two"], "stream": True})
    chunks = [json.loads(event) for event in events(response)[:-1]]
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]).startswith("word0 word1")
    assert last(engine(lite)).state == "measured"


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_embeddings(lite, upstream, given):
    with_upstream(lite, upstream)
    response = post(lite, "embeddings", {"model": "fast", "input": given})
    assert response.json["data"][0]["embedding"] == [0.5, -0.25]
    row = last(engine(lite))
    assert (row.operation, row.state, row.output_tokens) == ("embedding", "measured", 0)
    assert row.cost_nanousd == row.input_tokens * 150


def test_embeddings_without_usage(lite, upstream):
    with_upstream(lite, upstream)
    for given, tokens in (("hello world", 2), ([1, 2, 3], 3), ([[1], [2, 3]], 3), (["a", "b"], 2)):
        upstream.will(usage=None)
        post(lite, "embeddings", {"model": "fast", "input": given})
        row = last(engine(lite))
        assert (row.state, row.input_tokens, row.output_tokens) == ("estimated", tokens, 0)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", {"model": "fast"}, "prompt"),
        ("completions", {"model": "fast", "prompt": []}, "prompt"),
        ("completions", {"model": "fast", "prompt": [1, "a"]}, "prompt"),
        ("completions", {"model": "fast", "prompt": [[]]}, "prompt"),
        ("completions", {"model": "fast", "prompt": "x", "best_of": 500}, "best_of"),
        ("embeddings", {"model": "fast"}, "input"),
        ("embeddings", {"model": "fast", "input": ""}, None),
        ("embeddings", {"model": "fast", "input": [""] * 2049}, "input"),
        ("embeddings", {"model": "fast", "input": "x", "encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"model": "fast", "input": "x", "dimensions": 0}, "dimensions"),
        ("embeddings", {"model": "fast", "input": {"a": 1}}, "input"),
    ],
)
def test_bad_completions_and_embeddings(lite, upstream, path, body, param):
    with_upstream(lite, upstream)
    response = post(lite, path, body)
    if param is None:
        assert response.status_code == 200
    else:
        assert (response.status_code, response.json["error"]["param"]) == (400, param)


# The built-in provider


def test_echo_says_what_was_said(lite):
    response = post(lite, "chat/completions", chat("one two three", "echo"))
    assert response.json["choices"][0]["message"]["content"] == "one two three"
    row = last(engine(lite))
    assert (row.input_tokens, row.output_tokens, row.cost_nanousd, row.price_source, row.state) == (
        3,
        3,
        0,
        "free",
        "measured",
    )


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - {"echo-hang", "echo-mute", "echo-slow"}))
@pytest.mark.parametrize("is_stream", [False, True])
def test_every_scenario_leaves_one_row(make_app, sqlite_database, name, is_stream):
    lite = make_app(sqlite_database)
    response = post(lite, "chat/completions", chat("a b c d e f", name, stream=is_stream))
    assert response.status_code in (200, 400, 429, 502)
    assert len(rows(engine(lite))) == 1
    assert_books_agree(engine(lite))


def test_scenarios_that_take_their_time(make_app, sqlite_database):
    app = make_app(sqlite_database, LLM_TIMEOUT="300ms")
    assert post(app, "chat/completions", chat("a", "echo-mute")).status_code == 504
    assert "upstream_timeout" in post(app, "chat/completions", chat("a b c", "echo-hang", stream=True)).get_data(
        as_text=True
    )
    assert "upstream_timeout" in post(app, "chat/completions", chat("a", "echo-mute", stream=True)).get_data(
        as_text=True
    )
    assert (
        post(app, "chat/completions", chat("a b", "echo-slow", stream=True))
        .get_data(as_text=True)
        .endswith("[DONE]\n\n")
    )
    assert post(app, "chat/completions", chat("a", "echo-slow")).status_code == 200
    assert_books_agree(engine(app))


def test_silence_in_a_stream_is_filled_with_comments(make_app, sqlite_database):
    app = make_app(sqlite_database, LLM_TIMEOUT="900ms", SSE_KEEPALIVE="300ms")
    text = post(app, "chat/completions", chat("a b c", "echo-hang", stream=True)).get_data(as_text=True)
    assert text.count(": ping\n\n") >= 2


def test_echo_429_says_when_to_come_back(lite):
    response = post(lite, "chat/completions", chat("a", "echo-429"))
    assert (response.status_code, response.headers["retry-after"], response.json["error"]["code"]) == (
        429,
        "7",
        "rate_limit_exceeded",
    )


def test_echo_calls_the_tool_it_is_given(lite):
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "odd": True},
                },
            },
        }
        for name in ("weather", "time")
    ]
    body = chat("Lisbon", "echo-tool-call", tools=tools, tool_choice={"type": "function", "function": {"name": "time"}})
    choice = post(lite, "chat/completions", body).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "time"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {
        "city": "Lisbon",
        "days": 1,
        "odd": "Lisbon",
    }
    whole_tokens = last(engine(lite)).output_tokens
    deltas = [
        json.loads(event)["choices"][0]["delta"]
        for event in events(post(lite, "chat/completions", body | {"stream": True}))[:-1]
    ]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {
        "city": "Lisbon",
        "days": 1,
        "odd": "Lisbon",
    }
    assert last(engine(lite)).output_tokens == whole_tokens


def test_echo_keeps_to_n_and_the_limit(lite):
    response = post(lite, "chat/completions", chat("a b c d", "echo", n=2, max_tokens=2))
    assert [choice["message"]["content"] for choice in response.json["choices"]] == ["a b ", "a b "]
    assert {choice["finish_reason"] for choice in response.json["choices"]} == {"length"}
    assert response.json["usage"]["completion_tokens"] == 4
    body = {"model": "echo", "prompt": "a b", "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    chunks = [json.loads(event) for event in events(post(lite, "completions", body))[:-1]]
    assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_echo_embeds_the_same_way_each_time(lite):
    whole = post(lite, "embeddings", {"model": "echo-embedding", "input": ["a", "b"], "dimensions": 4}).json["data"]
    packed = post(
        lite,
        "embeddings",
        {"model": "echo-embedding", "input": ["a", "b"], "dimensions": 4, "encoding_format": "base64"},
    ).json["data"]
    unpacked = struct.unpack("<4f", base64.b64decode(packed[1]["embedding"]))
    assert unpacked == pytest.approx(whole[1]["embedding"])
    assert whole[0]["embedding"] != whole[1]["embedding"]


def test_echo_json_shows_what_the_provider_got(lite):
    response = post(lite, "chat/completions", chat("a", "echo-json", temperature=0.5))
    assert json.loads(response.json["choices"][0]["message"]["content"])["temperature"] == 0.5


# Models


def test_models_are_listed_with_all_four_members(lite, upstream):
    with_upstream(lite, upstream)
    listed = get(lite, "/v1/models").json
    assert listed["object"] == "list"
    assert {"blueprint-standard", "blueprint-advanced", "blueprint-experimental", "echo", "fast"} <= {
        entry["id"] for entry in listed["data"]
    }
    assert all(
        set(entry) == {"id", "object", "created", "owned_by"} and entry["object"] == "model" for entry in listed["data"]
    )


def test_one_model_also_with_slashes(lite, upstream):
    add_model(lite, add_provider(lite, upstream), "openai/gpt-4o")
    assert get(lite, "/v1/models/openai/gpt-4o").json["id"] == "openai/gpt-4o"
    assert get(lite, "/v1/models/openai%2Fgpt-4o").json["id"] == "openai/gpt-4o"
    response = get(lite, "/v1/models/x")
    assert response.status_code == 404
    assert response.json["error"] == {
        "message": "Model 'x' not found",
        "type": "invalid_request_error",
        "param": "model_id",
        "code": "model_not_found",
    }


def test_models_need_a_key(lite):
    assert get(lite, "/v1/models", {}).status_code == 401


# Ollama


@pytest.fixture
def ollama(make_app, sqlite_database, upstream):
    upstream.models = ["llama3.2:latest", "nomic"]
    return make_app(sqlite_database, OLLAMA_BASE_URL=f"http://127.0.0.1:{upstream.port}")


def test_what_ollama_has_pulled_is_usable_without_configuring(ollama, upstream):
    assert {"llama3.2:latest", "nomic"} <= {entry["id"] for entry in get(ollama, "/v1/models").json["data"]}
    response = post(ollama, "chat/completions", chat("hi", "llama3.2:latest", max_tokens=9, stop="x", temperature=0.5))
    assert response.json["choices"][0]["message"]["content"].startswith("word0")
    assert response.json["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    sent = upstream.served[-1]
    assert sent.path == "/api/chat"
    assert sent.body == {
        "model": "llama3.2:latest",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "options": {"temperature": 0.5, "stop": ["x"], "num_predict": 9},
    }
    row = last(engine(ollama))
    assert (row.provider, row.state, row.cost_nanousd, row.price_source) == ("ollama", "measured", 0, "free")


def test_a_stream_of_ollama(ollama):
    response = post(
        ollama, "chat/completions", chat("hi", "llama3.2:latest", stream=True, stream_options={"include_usage": True})
    )
    chunks = [json.loads(event) for event in events(response)[:-1]]
    assert (
        "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        == "word0 word1 word2 word3 word4 "
    )
    assert chunks[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert response.get_data().endswith(b"data: [DONE]\n\n")


def test_ollama_completes_and_embeds(ollama, upstream):
    assert (
        post(ollama, "completions", {"model": "nomic", "prompt": ["once"]})
        .json["choices"][0]["text"]
        .startswith("word0")
    )
    assert upstream.served[-1].path == "/api/generate"
    assert events(post(ollama, "completions", {"model": "nomic", "prompt": "once", "stream": True}))[-1] == "[DONE]"
    response = post(ollama, "embeddings", {"model": "nomic", "input": ["a", "b"], "encoding_format": "base64"})
    assert struct.unpack("<2f", base64.b64decode(response.json["data"][1]["embedding"])) == (0.5, -0.25)
    assert upstream.served[-1].body == {"model": "nomic", "input": ["a", "b"]}
    assert last(engine(ollama)).input_tokens == 2


def test_a_model_pulled_a_moment_ago_is_found(ollama, upstream):
    upstream.models.append("new-one")
    assert post(ollama, "chat/completions", chat("hi", "new-one")).status_code == 200
    upstream.models.append("newer-one")
    assert post(ollama, "chat/completions", chat("hi", "newer-one")).status_code == 400, (
        "asked again a moment later at the earliest"
    )


def test_a_model_that_was_removed_is_withdrawn(ollama, upstream):
    upstream.models = ["nomic"]
    ollama.extensions["gateway"].discovery.ask_now()
    ollama.extensions["gateway"].catalog.refresh()
    assert "llama3.2:latest" not in {entry["id"] for entry in get(ollama, "/v1/models").json["data"]}


def test_an_ollama_that_is_down_breaks_nothing(make_app, sqlite_database):
    app = make_app(sqlite_database, OLLAMA_BASE_URL="http://127.0.0.1:1")
    assert get(app, "/v1/models").status_code == 200
    assert post(app, "chat/completions", chat("hi", "llama3.2")).status_code == 400


@pytest.mark.parametrize(("plan", "outcome"), [({"cut_after": 2}, "upstream_cut"), ({"done": False}, "upstream_cut")])
def test_an_ollama_stream_that_ends_early(ollama, upstream, plan, outcome):
    upstream.will(**plan)
    text = post(ollama, "chat/completions", chat("hi", "nomic", stream=True)).get_data(as_text=True)
    assert "[DONE]" not in text
    assert '"error"' in text
    assert last(engine(ollama)).outcome == outcome


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [('{"error": "model not found"}', 404, "model not found"), ("oops", 500, "failed (500)")],
)
def test_errors_of_ollama(ollama, upstream, body, status, message):
    upstream.will(status=status, body=body)
    response = post(ollama, "chat/completions", chat("hi", "nomic"))
    assert message in response.json["error"]["message"]


def test_tuning_that_ollama_lacks_is_dropped_and_named(ollama):
    response = post(
        ollama, "chat/completions", chat("hi", "nomic", logit_bias={}, user="x", tool_choice="required", tools=[])
    )
    assert response.headers["x-gateway-dropped-params"] == "logit_bias,tool_choice,user"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", chat("x", "nomic", n=2), "n"),
        (
            "chat/completions",
            {
                "model": "nomic",
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}
                ],
            },
            "messages",
        ),
        (
            "chat/completions",
            {"model": "nomic", "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages",
        ),
        (
            "chat/completions",
            {
                "model": "nomic",
                "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]}],
            },
            "messages",
        ),
        ("completions", {"model": "nomic", "prompt": ["a", "b"]}, "prompt"),
        ("completions", {"model": "nomic", "prompt": [1, 2]}, "prompt"),
        ("completions", {"model": "nomic", "prompt": "a", "echo": True}, "echo"),
        ("embeddings", {"model": "nomic", "input": [1, 2]}, "input"),
    ],
)
def test_content_that_ollama_cannot_take_is_refused(ollama, path, body, param):
    response = post(ollama, path, body)
    assert (response.status_code, response.json["error"]["code"], response.json["error"]["param"]) == (
        400,
        "unsupported_content",
        param,
    )
    assert_books_agree(engine(ollama))


# Without a key


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"status": "healthy", "message": "Tollhouse is running"}),
        ("/health/live", {"status": "ok"}),
        ("/health/ready", {"status": "ready"}),
        ("/v1/", {"message": "Welcome to Tollhouse - Version 1"}),
        ("/v1/health", {"status": "ok"}),
    ],
)
def test_signs_of_life(lite, path, body):
    assert get(lite, path, {}).json == body


def test_people_are_led_to_the_panel(lite):
    response = get(lite, "/", {"Accept": "text/html,application/xhtml+xml"})
    assert (response.status_code, response.headers["location"]) == (302, "/admin/")


def test_errors_elsewhere_have_the_other_form(lite):
    response = get(lite, "/nothing", {})
    assert response.status_code == 404
    assert set(response.json) == {"detail", "error", "code", "request_id"}
    assert get(lite, "/login", {}).headers["allow"]


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("", "https://a.test", None),
        ("*", "https://a.test", "*"),
        ("https://a.test,https://b.test", "https://b.test", "https://b.test"),
        ("https://a.test", "https://evil.test", None),
    ],
)
def test_browsers_on_other_origins(make_app, sqlite_database, origins, origin, allowed):
    app = make_app(sqlite_database, CORS_ORIGINS=origins)
    for response in (
        app.test_client().options("/v1/chat/completions", headers={"Origin": origin}),
        get(app, "/v1/models", AUTH | {"Origin": origin}),
        get(app, "/v1/models", {"Origin": origin}),
    ):
        assert response.headers.get("access-control-allow-origin") == allowed
        assert "access-control-allow-credentials" not in response.headers


def test_hosts_that_are_not_ours(make_app, sqlite_database):
    app = make_app(sqlite_database, TRUSTED_HOSTS="gateway.test")
    assert app.test_client().get("/health", headers={"Host": "gateway.test"}).status_code == 200
    assert app.test_client().get("/health", headers={"Host": "evil.test"}).status_code == 400


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"Authorization": "Bearer sk-th-wrong"}, id="mistyped"),
        pytest.param({"Authorization": "Bearer nobody-knows-this-one"}, id="unknown"),
        pytest.param({"Authorization": "Basic eDp5"}, id="another scheme"),
        pytest.param({"x-api-key": "ключ"}, id="not ASCII"),
    ],
)
def test_a_refusal_before_flask_reads_like_one_by_flask(lite, path, headers):
    early, late = (
        lite.test_client().post(path, json=chat(), headers={**headers, **more})
        for more in ({}, {"Origin": "https://elsewhere.example"})
    )
    assert (early.status_code, early.json) == (late.status_code, late.json)
    ids = [answer.headers.pop("x-request-id") for answer in (early, late)]
    assert ids[0] != ids[1]
    assert {name.lower(): value for name, value in early.headers} == {
        name.lower(): value for name, value in late.headers
    }
