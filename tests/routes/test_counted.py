"""Requests that are no calls count too: the same limits of requests, the same headers, the same refusal."""

import threading

import pytest
from sqlalchemy import text

from models import ApiKey
from services import limits
from services.audit import Actor
from services.books.base import BooksUnavailable
from tests.callers import bearer, change, issue
from tests.helpers import AUTH, chat, rows
from tests.routes.test_query_budget import kind, statements, warm  # noqa: F401 - fixtures

PATHS = ["/v1/models", "/v1/models/echo", "/user/usage", "/api/providers/openai/v1/models", "/api/v1/dialogs"]
PATHS += ["/users/me", "/usage/api-tokens", "/models/all", "/api/v1/models", "/api/v1/models/echo"]


def engine(app):
    return app.extensions["gateway"].engine


def limit(app, amount, scope="user", owner="api-tokens", **more):
    what = {"unit": "requests", "period": "minute"} | more
    limits.put(engine(app), Actor("t"), scope=scope, owner=str(owner), limit=amount, **what)
    app.extensions["gateway"].catalog.refresh()


def get(app, path, headers=AUTH, **more):
    return app.test_client().get(path, headers=headers, **more)


def call(app, headers=AUTH):
    return app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=headers)


@pytest.mark.parametrize("path", PATHS)
def test_a_request_counts_and_says_what_is_left(app, path):
    limit(app, 2)
    for left in ("1", "0"):
        answer = get(app, path)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == left
        assert answer.headers["X-RateLimit-Remaining"] == left
        assert answer.headers["x-gateway-limit"] == "user requests per minute"
    refused = get(app, path)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) in range(1, 121)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert "Too many requests for user `api-tokens`: the limit is 2 per minute, 2 are used." in refused.text
    assert rows(engine(app)) == []


def test_a_refusal_elsewhere_has_its_numbers_for_programs(app):
    limit(app, 0)
    refused = get(app, "/user/usage").json
    assert refused["code"] == "rate_limit_exceeded"
    assert {name: refused["details"][name] for name in ("scope", "limit", "window_seconds")} == {
        "scope": "user",
        "limit": 0,
        "window_seconds": 60,
    }
    assert "details" not in get(app, "/user/usage", {}).json


def test_calls_and_other_requests_count_together(app):
    limit(app, 3)
    assert [get(app, "/v1/models").status_code, call(app).status_code, get(app, "/user/usage").status_code] == [200] * 3
    assert (call(app).status_code, get(app, "/v1/models").status_code) == (429, 429)


def test_every_layer_counts_and_the_strictest_answers(make_app, database):
    app = make_app(database, RATE_LIMIT_PER_MINUTE="4")
    user_id = app.extensions["gateway"].callers.of(AUTH["Authorization"][7:]).user_id
    key = issue(app, user_id)
    limit(app, 3, "key", key.id)
    limit(app, 9)
    answers = [get(app, "/v1/models", bearer(key.secret)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[2].headers["x-gateway-limit"] == "key requests per minute"
    assert f"key `{key.hint}`" in answers[3].json["error"]["message"]
    assert get(app, "/v1/models").status_code == 200, "what was refused counts nowhere"
    refused = get(app, "/v1/models")
    assert "this client address" in refused.json["error"]["message"]
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert get(app, "/v1/models", **elsewhere).status_code == 200


def test_limits_of_tokens_and_concurrent_calls_are_not_touched(app):
    limit(app, 1, unit="tokens")
    limit(app, 0, unit="concurrent", period="none")
    for path in PATHS:
        answer = get(app, path)
        assert (answer.status_code, "x-gateway-limit" in answer.headers) == (200, False)
    with engine(app).connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM limit_windows")).scalar_one() == 0


def test_whoever_is_refused_otherwise_is_not_counted(app):
    limit(app, 1)
    key = issue(app)
    limit(app, 1, "key", key.id)
    assert get(app, "/v1/models", {}).status_code == 401
    change(app, ApiKey, key.id, allowed_paths=[])
    assert get(app, "/v1/models", bearer(key.secret)).status_code == 403
    change(app, ApiKey, key.id, allowed_paths=None)
    assert get(app, "/v1/models", bearer(key.secret)).status_code == 200
    assert get(app, "/v1/health").status_code == 200
    assert get(app, "/v1/models/no-such").status_code == 404
    assert get(app, "/v1/models").status_code == 429, "that one counted"


def test_a_crowd_gets_exactly_what_the_limit_gives(app):
    limit(app, 10)
    start, codes = threading.Barrier(8), []

    def many():
        start.wait()
        codes.extend(get(app, "/v1/models").status_code for _ in range(5))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes.count(200), codes.count(429)) == (10, 30)


def test_without_limits_of_requests_the_database_is_not_asked(warm):  # noqa: F811 - a fixture
    get(warm, "/v1/models")
    with statements(warm) as seen:
        assert {get(warm, path).status_code for path in ("/v1/models", "/v1/models/echo")} == {200}
    assert seen == []


def test_a_limit_costs_one_transaction(warm, kind):  # noqa: F811 - a fixture
    limit(warm, 5)
    get(warm, "/v1/models")
    with statements(warm) as seen:
        assert get(warm, "/v1/models").status_code == 200
    counted = ["INSERT limit_windows"]
    assert seen == (["BEGIN", *counted, "COMMIT"] if kind == "sqlite" else counted)


def test_books_that_are_away_are_a_503(app, monkeypatch):
    limit(app, 5)

    def gone(_counts):
        raise BooksUnavailable("gone")

    monkeypatch.setattr(app.extensions["gateway"].books, "count", gone)
    answer = get(app, "/v1/models")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "accounting_unavailable")
