"""Limits of requests, tokens and concurrent calls, in every layer, at the socket."""

import threading

import pytest
from sqlalchemy.orm import Session

from models import LimitWindow, Team, User
from services import budgets, limits
from services.audit import Actor
from tests.conftest import TOKEN
from tests.helpers import AUTH, assert_books_agree, chat, last, open_holds, rows, with_upstream
from utils import clock

ME = Actor("tests")
MINUTE = 1_798_761_600  # 2027 begins: prices that were set today are in force


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def now(monkeypatch):
    """A wall clock that stands still until it is moved."""
    moment = [float(MINUTE)]
    monkeypatch.setattr(clock, "now_s", lambda: moment[0])
    monkeypatch.setattr(clock, "now_ms", lambda: int(moment[0] * 1000))
    return moment


def gateway(app):
    return app.extensions["gateway"]


def limit(app, amount, unit="requests", period="minute", scope="user", owner="api-tokens"):
    period = "none" if unit == "concurrent" else period
    limits.put(gateway(app).engine, ME, scope=scope, owner=owner, unit=unit, limit=amount, period=period)
    gateway(app).catalog.refresh()


def post(app, body=None, **headers):
    return app.test_client().post("/v1/chat/completions", json=body or chat(), headers=AUTH | headers)


def team_of(app, name="blue"):
    with Session(gateway(app).engine) as session, session.begin():
        team = Team(name=name)
        session.add(team)
        session.flush()
        session.query(User).filter_by(username="api-tokens").update({"team_id": team.id})
    gateway(app).catalog.refresh()
    return name


LAYERS = {
    "user": "user `api-tokens`",
    "key": "key `",
    "team": "team `blue`",
    "model": "model `fast`",
    "address": "this client address",
}


@pytest.mark.parametrize("scope", LAYERS)
def test_every_layer_counts_and_says_that_it_was_the_one(fast, now, scope):
    owner = {"user": "api-tokens", "key": "1", "team": "blue", "model": "fast", "address": ""}[scope]
    team_of(fast)
    limit(fast, 2, scope=scope, owner=owner)
    limit(fast, 50, scope="user" if scope != "user" else "model", owner="api-tokens" if scope != "user" else "fast")
    assert [post(fast).status_code for _ in range(4)] == [200, 200, 429, 429]
    refused = post(fast)
    error = refused.get_json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert f"Too many requests for {LAYERS[scope]}" in error["message"]
    assert "the limit is 2 per minute, 2 are used" in error["message"]
    assert refused.headers["x-gateway-limit"] == f"{scope} requests per minute"
    assert len(rows(gateway(fast).engine)) == 2
    assert_books_agree(gateway(fast).engine)


def test_headers_of_good_and_refused_answers(fast, now):
    limit(fast, 3)
    limit(fast, 10_000, "tokens", "hour")
    now[0] += 15
    first = post(fast, chat(max_tokens=10)).headers
    assert first["x-ratelimit-limit-requests"] == "3"
    assert first["x-ratelimit-remaining-requests"] == "2"
    assert first["x-ratelimit-reset-requests"] == "1m45s"
    assert first["x-ratelimit-limit-tokens"] == "10000"
    assert (first["X-RateLimit-Limit"], first["X-RateLimit-Remaining"]) == ("3", "2")
    assert int(first["X-RateLimit-Reset"]) == MINUTE + 15 + 105
    assert first["x-gateway-limit"] == "user requests per minute"
    streamed = post(fast, chat(stream=True))
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    streamed.close()
    post(fast)
    refused = post(fast)
    assert refused.status_code == 429
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert refused.headers["Retry-After"] == "65"  # until the minute ends, and until a third of it has faded
    assert refused.headers["x-should-retry"] == "false"


def test_no_headers_where_no_limit_applies(fast):
    assert not [name for name, _value in post(fast).headers if "ratelimit" in name.lower()]


def test_minutes_slide(fast, now):
    """A burst at the end of a minute leaves little for the beginning of the next one."""
    limit(fast, 10)
    now[0] += 59
    assert [post(fast).status_code for _ in range(11)] == [200] * 10 + [429]
    wait = int(post(fast).headers["Retry-After"])
    assert wait == 7  # a second of this minute, then a tenth of the next
    now[0] += 1
    assert post(fast).status_code == 429
    now[0] += 6
    assert [post(fast).status_code for _ in range(2)] == [200, 429]
    now[0] += 120
    assert [post(fast).status_code for _ in range(11)] == [200] * 10 + [429]


@pytest.mark.parametrize(("period", "start", "later"), [("day", MINUTE, 86_400), ("month", MINUTE, 2_678_400)])
def test_days_and_months_begin_anew(fast, now, period, start, later):
    limit(fast, 1, period=period)
    assert [post(fast).status_code for _ in range(2)] == [200, 429]
    now[0] = start - start % 86_400 + later - 1
    assert post(fast).status_code == 429
    now[0] += 1
    assert [post(fast).status_code for _ in range(2)] == [200, 429]


def test_tokens_are_held_at_their_bound_and_corrected_to_what_was_used(fast, now):
    limit(fast, 1000, "tokens")
    body = chat("one two three", max_tokens=100)
    answer = post(fast, body)
    used = last(gateway(fast).engine)
    with Session(gateway(fast).engine) as session:
        window = session.query(LimitWindow).one()
        assert window.used_amount == used.input_tokens + used.output_tokens == 8
    assert answer.headers["x-ratelimit-remaining-tokens"] == "992", "a whole answer is settled before it is sent"
    streamed = post(fast, chat("one two three", max_tokens=100, stream=True))
    assert 700 < int(streamed.headers["x-ratelimit-remaining-tokens"]) < 900, "as long as the call is under way"
    streamed.close()
    refused = post(fast, chat(max_tokens=950))
    assert refused.status_code == 429
    assert "this call needs up to" in refused.get_json()["error"]["message"]
    assert post(fast, body).status_code == 200


def test_a_call_without_an_output_limit_gets_one_that_a_small_limit_of_tokens_can_hold(fast, upstream, now):
    limit(fast, 500, "tokens")
    answer = post(fast, chat("hi"))
    assert answer.status_code == 200
    most = int(answer.headers["x-gateway-max-output-tokens"])
    assert 300 < most < 500
    assert upstream.served[-1].body["max_tokens"] == most
    never = post(fast, chat("word " * 200))
    assert never.status_code == 429
    assert "It will never fit." in never.get_json()["error"]["message"]
    assert "Retry-After" not in never.headers


def test_a_call_without_an_output_limit_gets_what_others_left_of_a_limit_of_tokens(fast, upstream, now):
    limit(fast, 500, "tokens", "hour")
    given = []
    for _ in range(3):
        answer = post(fast, chat("hi"))
        assert answer.status_code == 200, answer.text
        given.append(int(answer.headers["x-gateway-max-output-tokens"]))
        assert upstream.served[-1].body["max_tokens"] == given[-1]
    used = last(gateway(fast).engine)
    assert given[0] - given[1] == given[1] - given[2] == used.input_tokens + used.output_tokens
    upstream.will(usage={"prompt_tokens": 5, "completion_tokens": 450})
    assert post(fast, chat("hi")).status_code == 200
    refused = post(fast, chat("hi"))
    assert refused.status_code == 429
    assert "this call needs at least" in refused.get_json()["error"]["message"]
    assert 0 < int(refused.headers["Retry-After"]) < 7200
    now[0] += int(refused.headers["Retry-After"])
    assert post(fast, chat("hi")).status_code == 200, "as soon as the least it needs is there"


def test_where_several_limits_of_tokens_apply_the_smallest_rest_is_given(fast, now):
    limit(fast, 600, "tokens", "hour")
    limit(fast, 400, "tokens", "day")
    smallest = int(post(fast, chat("hi")).headers["x-gateway-max-output-tokens"])
    assert smallest < 400
    limit(fast, 2)
    answers = [post(fast, chat("hi")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "Too many requests" in answers[-1].get_json()["error"]["message"]


def test_a_call_that_ended_is_under_way_no_longer(fast):
    limit(fast, 2, "concurrent")
    assert post(fast).headers["X-RateLimit-Remaining"] == "2"
    streamed = post(fast, chat(stream=True))
    assert streamed.headers["X-RateLimit-Remaining"] == "1"
    streamed.close()


def test_tokens_of_a_call_that_nobody_answered_come_back(fast, upstream, now):
    limit(fast, 1000, "tokens")
    limit(fast, 10)
    upstream.will(status=500)
    assert post(fast, chat(max_tokens=100)).status_code == 502
    with Session(gateway(fast).engine) as session:
        used = {window.subject: window.used_amount for window in session.query(LimitWindow)}
    assert used == {"1": 0, "2": 1}, "the request stays counted"


def test_concurrent_calls_are_counted_while_they_run(fast, upstream):
    limit(fast, 2, "concurrent")
    client, under_way = fast.test_client(), []
    for _ in range(2):
        upstream.will(mute_after=1)
        under_way.append(client.post("/v1/chat/completions", json=chat(stream=True), headers=AUTH, buffered=False))
    refused = post(fast)
    assert refused.status_code == 429
    assert "Too many calls for user `api-tokens`: the limit is 2 at once" in refused.get_json()["error"]["message"]
    assert (refused.headers["Retry-After"], refused.headers["x-should-retry"]) == ("1", "true")
    under_way.pop().close()
    assert post(fast).status_code == 200
    under_way.pop().close()
    assert [post(fast).status_code for _ in range(3)] == [200] * 3
    with Session(gateway(fast).engine) as session:
        assert session.query(LimitWindow).one().used_amount == 0
    assert open_holds(gateway(fast).engine) == 0


def test_what_a_budget_refuses_is_not_counted(fast, now):
    limit(fast, 5)
    budgets.put(gateway(fast).engine, ME, scope="user", owner="api-tokens", unit="usd", limit="0", period="total")
    gateway(fast).catalog.refresh()
    assert [post(fast).status_code for _ in range(3)] == [402] * 3
    with Session(gateway(fast).engine) as session:
        assert sum(window.used_amount for window in session.query(LimitWindow)) == 0


def test_a_limit_may_be_lowered_below_what_is_used_and_raised_again(fast, now):
    limit(fast, 3)
    assert [post(fast).status_code for _ in range(3)] == [200] * 3
    limit(fast, 1)
    assert post(fast).status_code == 429
    limit(fast, 4)
    assert [post(fast).status_code for _ in range(2)] == [200, 429]
    limit(fast, 0)
    assert "It will never fit." in post(fast).get_json()["error"]["message"]


@pytest.mark.parametrize("jump", [7200, -7200])
def test_a_clock_that_jumps_locks_nobody_out_for_longer_than_a_window(fast, now, jump):
    limit(fast, 2)
    assert [post(fast).status_code for _ in range(3)] == [200, 200, 429]
    now[0] += jump
    statuses = [post(fast).status_code for _ in range(3)]
    assert statuses == ([200, 200, 429] if jump > 0 else [429] * 3), "backwards gives no window for nothing"
    now[0] -= jump
    assert post(fast).status_code in (200, 429)
    now[0] += 120
    assert [post(fast).status_code for _ in range(3)] == [200, 200, 429]


def test_a_clock_that_ran_ahead_and_was_set_right_blocks_one_window_only(fast, now):
    limit(fast, 2)
    now[0] += 7200
    assert [post(fast).status_code for _ in range(2)] == [200] * 2
    now[0] -= 7200
    assert post(fast).status_code == 429
    now[0] += 120
    assert post(fast).status_code == 200


def test_limits_of_the_settings(database, make_app, upstream, now):
    app = with_upstream(make_app(database, RATE_LIMIT_PER_MINUTE="2"), upstream)
    assert [post(app).status_code for _ in range(3)] == [200, 200, 429]
    assert post(app, x="y").headers["x-gateway-limit"] == "address requests per minute"
    other = app.test_client().post(
        "/v1/chat/completions", json=chat(), headers=AUTH, environ_base={"REMOTE_ADDR": "203.0.113.9"}
    )
    assert other.status_code == 200
    for address, status in (("2001:db8::1", 200), ("2001:db8::2", 200), ("2001:db8::3", 429)):
        answer = app.test_client().post(
            "/v1/chat/completions", json=chat(), headers=AUTH, environ_base={"REMOTE_ADDR": address}
        )
        assert answer.status_code == status, "one customer has a whole network of IPv6"


def test_the_window_of_a_user(database, make_app, upstream, now):
    app = with_upstream(make_app(database, RATE_LIMIT_REQUESTS="2", RATE_LIMIT_WINDOW="10"), upstream)
    assert [post(app).status_code for _ in range(3)] == [200, 200, 429]
    assert post(app).headers["x-gateway-limit"] == "user requests per 10 s"
    now[0] += 20
    assert post(app).status_code == 200
    off = make_app(database, RATE_LIMIT_REQUESTS="2", RATE_LIMIT_ENABLED="false")
    assert gateway(off).layers.of(gateway(off).callers.of(TOKEN), "127.0.0.1") == ()


def test_counters_of_the_past_are_forgotten(fast, now):
    limit(fast, 2, scope="address")
    limit(fast, 2, "concurrent")
    post(fast)
    gateway(fast).books.forget_windows(int(now[0]) + 60)
    with Session(gateway(fast).engine) as session:
        assert session.query(LimitWindow).count() == 2
    gateway(fast).books.forget_windows(int(now[0]) + 61)
    with Session(gateway(fast).engine) as session:
        assert session.query(LimitWindow).one().period_end == 0


def test_threads_at_the_same_moment_get_exactly_the_limit(fast, upstream):
    limit(fast, 20, period="day")
    statuses, start = [], threading.Barrier(40)

    def run():
        start.wait()
        statuses.append(post(fast).status_code)

    threads = [threading.Thread(target=run) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 20 + [429] * 20


def test_a_flood_of_refused_requests_costs_one_look_a_second(fast, now, monkeypatch):
    limit(fast, 1)
    assert [post(fast).status_code for _ in range(2)] == [200, 429]
    looks = []
    monkeypatch.setattr(gateway(fast).accounting.admission, "look", lambda *_: looks.append(1))
    monkeypatch.setattr(gateway(fast).books, "reserve", lambda *_: looks.append(1))
    answers = [post(fast) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {429}
    assert answers[0].headers["X-RateLimit-Remaining"] == "0"
    assert looks == []
    monkeypatch.undo()
    limit(fast, 2)
    assert post(fast).status_code == 200, "a higher limit counts at once"
