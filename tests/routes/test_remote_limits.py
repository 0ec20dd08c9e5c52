"""Limits counted in Valkey as a caller and an operator meet them: refusals, headers, what is used."""

import pytest

from services import limits
from services.audit import Actor
from tests.fakes.ports import free_port
from tests.helpers import AUTH, assert_books_agree, chat, rows, squeezed, with_upstream

ME = Actor("tests")
AWAY = "limits are counted in the database: Valkey or Redis does not answer"


@pytest.fixture
def fast(make_app, database, valkey, upstream):
    return with_upstream(make_app(database, REDIS_URL=valkey.url), upstream)


def here(app):
    return app.extensions["gateway"]


def limit(app, amount, unit="requests", period="day"):
    limits.put(here(app).engine, ME, scope="user", owner="api-tokens", unit=unit, limit=amount, period=period)
    here(app).catalog.refresh()


def post(app, **more):
    body = chat("one two three", **more)
    return app.test_client().post("/v1/chat/completions", json=body, headers=AUTH, buffered=True)


def test_a_limit_of_requests_refuses_the_next_one_with_its_numbers(fast, valkey):
    limit(fast, 2)
    good = [post(fast) for _ in range(2)]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in good] == ["1", "0"]
    refused = post(fast)
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "the limit is 2 per day, 2 are used" in refused.json["error"]["message"]
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(valkey.client.keys("*:window:*")) == 1
    assert_books_agree(here(fast).engine)


@pytest.mark.parametrize("is_stream", [False, True])
def test_tokens_that_were_not_used_are_there_again_and_no_call_stays_under_way(fast, valkey, is_stream):
    limit(fast, 10_000, "tokens")
    limit(fast, 1, "concurrent", "none")
    for number in range(1, 4):
        answer = post(fast, stream=is_stream, max_tokens=50)
        assert answer.status_code == 200, answer.text
        used = valkey.client.get(valkey.client.keys("*:window:*")[0]).split()[2]
        assert int(used) == 8 * number
    assert valkey.client.keys("*:calls:*") == valkey.client.keys("*:call:*") == []


def test_the_settings_limits_are_counted_there_too(make_app, database, valkey, upstream):
    app = with_upstream(
        make_app(database, REDIS_HOSTS="127.0.0.1", REDIS_PORT=str(valkey.port), RATE_LIMIT_REQUESTS="2"), upstream
    )
    assert [post(app).status_code for _ in range(3)] == [200, 200, 429]
    assert [key.split(":")[-1][:7] for key in valkey.client.keys("*:window:*")] == ["window/"]


def test_while_nobody_answers_the_database_counts_and_money_is_booked(make_app, database, upstream, caplog):
    app = with_upstream(make_app(database, REDIS_URL=f"redis://:a-secret-word@127.0.0.1:{free_port()}/0"), upstream)
    limit(app, 3)
    assert [post(app).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert caplog.text.count(AWAY) == 1
    assert "a-secret-word" not in caplog.text
    assert len(rows(here(app).engine)) == 3
    assert_books_agree(here(app).engine)


def test_the_housekeeper_brings_what_ended_meanwhile(fast):
    assert "limits elsewhere" in {job.name for job in here(fast).housekeeper._jobs}


def test_without_a_setting_nothing_is_loaded_and_the_database_counts(lite):
    assert here(lite).remote is None


def test_an_operator_sees_what_is_used(fast):
    limit(fast, 5)
    for _ in range(2):
        post(fast)
    done = fast.test_cli_runner().invoke(args=["limits", "show"])
    assert squeezed(done.output)[1:] == ["user api-tokens  requests  day  5  2"]
    assert limits.used(here(fast).engine, []) == {}
