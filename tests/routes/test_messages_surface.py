"""`/v1/messages` and what else Anthropic's clients ask for: calls, books, errors, counts, lists of models."""

import json

import pytest

from services import limits
from services.audit import Actor
from tests.callers import bearer, issue
from tests.conftest import TOKEN
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, last, rows, with_upstream
from tests.published import problems

VERSION = {"anthropic-version": "2023-06-01"}
CLIENT = {"x-api-key": TOKEN} | VERSION
COUNT = "/v1/messages/count_tokens"
WRONG = "invalid_request_error"
WEB = {"type": "web_search_20250305", "name": "web_search"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def message(text="one two three", model="fast", **more):
    return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": text}], **more}


def post(app, body, path="/v1/messages", headers=CLIENT, **more):
    return app.test_client().post(path, json=body, headers=headers, buffered=True, **more)


def get(app, path, headers=CLIENT):
    return app.test_client().get(path, headers=headers)


def engine(app):
    return app.extensions["gateway"].engine


def limit(app, amount, unit="requests"):
    here = app.extensions["gateway"]
    limits.put(here.engine, Actor("t"), scope="user", owner="api-tokens", unit=unit, limit=amount, period="minute")
    here.catalog.refresh()


@pytest.fixture
def fast(lite, upstream):
    return with_upstream(lite, upstream)


def test_a_message_is_translated_answered_and_booked_once(app, upstream):
    with_upstream(app, upstream)
    response = post(app, message(system="Be brief.", top_k=3), path="/v1/messages?beta=true")
    assert response.status_code == 200
    assert response.json["content"] == [{"type": "text", "text": "word0 word1 word2 word3 word4 ", "citations": None}]
    assert response.headers["request-id"] == response.headers["x-request-id"]
    (served,) = upstream.served
    assert served.path == "/v1/chat/completions"
    assert served.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three"}],
        "max_tokens": 50,
        "top_k": 3,
    }
    assert "anthropic-version" not in served.headers
    row = last(engine(app))
    assert (row.state, row.input_tokens, row.output_tokens, row.operation) == ("measured", 5, 5, "chat")
    assert_books_agree(engine(app))


def test_a_stream_ends_with_its_counts_and_its_last_event(fast):
    response = post(fast, message(stream=True))
    assert response.content_type == "text/event-stream; charset=utf-8"
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events[:2]] == ["message_start", "content_block_start"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert (events[-2]["usage"]["input_tokens"], events[-2]["usage"]["output_tokens"]) == (3, 5)
    assert last(engine(fast)).state == "measured"
    assert [problem for event in events for problem in problems("anthropic", "MessageStreamEvent", event)] == []


def test_a_stream_without_counts_says_them_roughly(fast, upstream):
    upstream.will(usage=None)
    response = post(fast, message(stream=True))
    usage = json.loads(response.text.split("event: message_delta\ndata: ")[1].split("\n")[0])["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] == len("word0 word1 word2 word3 word4 ") // 4
    assert last(engine(fast)).state == "estimated"


def test_a_stream_that_breaks_ends_with_an_error_event(fast, upstream):
    upstream.will(cut_after=2)
    response = post(fast, message(stream=True))
    event = json.loads(response.text.split("event: error\ndata: ")[1])
    assert (event["type"], event["error"]["type"]) == ("error", "api_error")
    assert event["request_id"] == response.headers["request-id"]
    assert "message_stop" not in response.text
    assert last(engine(fast)).outcome == "upstream_cut"
    assert_books_agree(engine(fast))


def test_what_is_left_out_is_named(fast):
    response = post(fast, message(context_management={"edits": []}, service_tier="standard_only"))
    assert response.headers["x-gateway-dropped-params"] == "context_management,service_tier"


def test_what_only_anthropics_api_can_do_is_refused_before_anything_is_sent(fast, upstream):
    response = post(fast, message(tools=[WEB]))
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert response.json["error"]["details"] == {"error_code": "unsupported_content", "param": "tools.0"}
    assert upstream.served == []
    assert [row.state for row in rows(engine(fast))] == ["void"]
    assert_books_agree(engine(fast))


@pytest.mark.parametrize("thread", [{"type": "create"}, {"type": "continue", "previous_message_id": "msg_x1"}])
def test_a_thread_is_refused_in_the_words_on_which_clients_send_the_whole_conversation(fast, upstream, thread):
    """Otherwise the second turn of the official SDK's tool runner comes without the first."""
    response = post(fast, message(thread=thread))
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert response.json["error"]["details"] == {"error_code": "thread_unsupported_request", "param": "thread"}
    assert upstream.served == []
    assert post(fast, message(thread=None)).status_code == 200


@pytest.mark.parametrize(
    ("ask", "status", "kind", "code"),
    [
        (lambda app: post(app, {}), 400, WRONG, "validation_error"),
        (lambda app: post(app, message(), headers={}), 401, "authentication_error", "missing_api_key"),
        (lambda app: post(app, message(), headers=bearer("sk-wrong")), 401, "authentication_error", "invalid_key"),
        (lambda app: get(app, "/v1/models", VERSION | bearer("sk-x")), 401, "authentication_error", "invalid_key"),
        (lambda app: post(app, message(model="no-such")), 404, "not_found_error", "model_not_found"),
        (lambda app: get(app, "/v1/models/no-such"), 404, "not_found_error", "model_not_found"),
        (lambda app: get(app, "/v1/models?limit=0"), 400, WRONG, "validation_error"),
        (lambda app: get(app, "/v1/messages"), 405, WRONG, "method_not_allowed"),
        (lambda app: get(app, "/v1/messages/batches", {}), 404, "not_found_error", "not_found"),
        (lambda app: get(app, "/v1/skills"), 404, "not_found_error", "not_found"),
        (lambda app: post(app, message(), COUNT, {}), 401, "authentication_error", "missing_api_key"),
        (lambda app: post(app, message(model="x"), COUNT), 404, "not_found_error", "model_not_found"),
        (lambda app: post(app, {"model": "fast"}, COUNT), 400, WRONG, "validation_error"),
    ],
)  # fmt: skip
def test_every_error_has_anthropics_form(fast, ask, status, kind, code):
    response = ask(fast)
    assert response.status_code == status, response.text
    assert (response.json["error"]["type"], response.json["error"]["details"]["error_code"]) == (kind, code)
    assert response.json["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    assert problems("anthropic", "ErrorResponse", response.json) == []


def test_other_clients_of_the_same_paths_are_answered_in_their_form(fast):
    assert set(get(fast, "/v1/models/no-such", AUTH).json["error"]) == {"message", "type", "param", "code"}
    assert "request-id" not in get(fast, "/v1/models", AUTH).headers
    assert get(fast, "/v1/models", AUTH).json["object"] == "list"


def test_a_refusal_by_a_limit_says_what_is_left(fast):
    limit(fast, 2)
    limit(fast, 5000, "tokens")
    good = post(fast, message())
    assert good.headers["anthropic-ratelimit-requests-limit"] == "2"
    assert good.headers["anthropic-ratelimit-requests-remaining"] == "1"
    assert good.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert good.headers["anthropic-ratelimit-tokens-limit"] == "5000"
    assert post(fast, message(), COUNT).status_code == 200
    refused = post(fast, message())
    assert (refused.status_code, refused.json["error"]["type"]) == (429, "rate_limit_error")
    assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert int(refused.headers["retry-after"]) > 0
    assert "anthropic-ratelimit-requests-limit" not in get(fast, "/v1/models", AUTH).headers


# Counting


def test_tokens_are_counted_without_a_call(fast, upstream):
    plain = post(fast, {"model": "fast", "messages": message()["messages"]}, "/v1/messages/count_tokens?beta=true")
    assert (plain.status_code, set(plain.json)) == (200, {"input_tokens"})
    assert plain.headers["request-id"] == plain.headers["x-request-id"]
    long = post(fast, message(system="Be brief.", tools=[TOOL, WEB]), COUNT).json
    assert long["input_tokens"] > plain.json["input_tokens"] + 10
    assert (upstream.served, rows(engine(fast))) == ([], [])
    assert problems("anthropic", "CountMessageTokensResponse", plain.json) == []


def test_claude_counts_more_tokens_than_others(fast, upstream):
    add_model(fast, add_provider(fast, upstream, "other"), "sonnet", upstream_model="claude-sonnet-4-5")
    text = "The quick brown fox jumps over the lazy dog. " * 100
    counted = [post(fast, message(text, model), COUNT).json["input_tokens"] for model in ("fast", "sonnet")]
    assert 1.1 < counted[1] / counted[0] < 1.2


def test_a_model_without_a_provider_cannot_be_counted_for(fast):
    key = issue(fast, allowed_models=["echo"])
    assert post(fast, message(), COUNT, bearer(key.secret)).status_code == 404


# Models


def names(app, query=""):
    answer = get(app, f"/v1/models{query}").json
    assert problems("anthropic", "ListResponse_ModelInfo_", answer) == []
    return [model["id"] for model in answer["data"]], answer


def test_models_come_in_pages(fast):
    everything, answer = names(fast, "?limit=1000")
    assert "fast" in everything
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, everything[0], everything[-1])
    first, answer = names(fast, "?limit=4")
    assert (first, answer["has_more"]) == (everything[:4], True)
    assert names(fast, f"?limit=4&after_id={everything[3]}")[0] == everything[4:8]
    rest, answer = names(fast, f"?limit=1000&after_id={everything[3]}")
    assert (rest, answer["has_more"]) == (everything[4:], False)
    before, answer = names(fast, f"?limit=2&before_id={everything[4]}")
    assert (before, answer["has_more"]) == (everything[2:4], True)
    assert names(fast, f"?before_id={everything[2]}")[1]["has_more"] is False
    nothing, answer = names(fast, f"?after_id={everything[-1]}")
    assert (nothing, answer["first_id"], answer["last_id"], answer["has_more"]) == ([], None, None, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("after_id=no-such", "after_id"),
        ("before_id=no-such", "before_id"),
        ("after_id=echo&before_id=fast", "before_id"),
    ],
)
def test_a_page_that_is_none(fast, query, param):
    response = get(fast, f"/v1/models?{query}")
    assert (response.status_code, response.json["error"]["details"]["param"]) == (400, param)


def test_one_model_says_how_much_it_takes(lite, upstream):
    add_model(lite, add_provider(lite, upstream), "anthropic/sonnet", context_window=200_000, max_output_tokens=64_000)
    model = get(lite, "/v1/models/anthropic/sonnet").json
    assert (model["id"], model["max_input_tokens"], model["max_tokens"]) == ("anthropic/sonnet", 200_000, 64_000)
    assert problems("anthropic", "ModelInfo", model) == []


def test_a_key_sees_its_models_only(fast):
    key = issue(fast, allowed_models=["echo"])
    assert [model["id"] for model in get(fast, "/v1/models", CLIENT | {"x-api-key": key.secret}).json["data"]] == [
        "echo"
    ]


# Around it


def test_a_message_is_explained(fast, upstream):
    told = post(fast, message(), "/v1/explain").json
    assert (told["operation"], told["model"], told["decision"]) == ("chat", "fast", {"is_admitted": True})
    assert told["hold"]["output_tokens"] == 50
    refused = post(fast, {"model": "fast"}, "/v1/explain")
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_request_error")
    assert upstream.served == []


def test_browsers_may_send_its_headers(make_app, sqlite_database):
    app = make_app(sqlite_database, CORS_ORIGINS="https://app.test")
    response = app.test_client().options("/v1/messages", headers={"Origin": "https://app.test"})
    assert response.headers["access-control-allow-origin"] == "https://app.test"
    assert "anthropic-version" in response.headers["access-control-allow-headers"]
