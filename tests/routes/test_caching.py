"""The exact cache at the socket: who gets whose answer, what is kept, what is booked."""

import threading

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import ApiKey, Model, Route
from models_kept import KeptAnswer
from services import budgets, limits
from services import kept as kept_answers
from services.audit import Actor
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows
from utils import clock

ME = Actor("tests")
CHAT = "/v1/chat/completions"


@pytest.fixture
def cached(app, upstream):
    """The app with a model `fast` whose answers are kept for a minute."""
    add_model(app, add_provider(app, upstream), routing={"cache_s": 60})
    return app


def gateway(app):
    return app.extensions["gateway"]


def post(app, body=None, path=CHAT, headers=AUTH, **more):
    return app.test_client().post(path, json=body or chat(), headers={**headers, **more}, buffered=True)


def key_of(app, name="other", user_id=1):
    with Session(gateway(app).engine) as session, session.begin():
        secret = gateway(app).keys.issue(session, user_id=user_id, name=name).secret
    return {"Authorization": f"Bearer {secret}"}


def told(answer):
    return answer.headers.get("x-gateway-cache")


def kept(app):
    with Session(gateway(app).engine) as session:
        return session.query(KeptAnswer).all()


def set_model(app, **columns):
    with Session(gateway(app).engine) as session, session.begin():
        session.execute(update(Model).where(Model.name == "fast").values(**columns))
    gateway(app).catalog.refresh()


def test_a_hit_is_the_same_answer_and_costs_nothing(cached, upstream):
    first, second = post(cached), post(cached)
    assert (first.status_code, told(first), told(second)) == (200, "miss", "hit")
    assert first.data == second.data
    assert "age" not in first.headers
    assert int(second.headers["age"]) >= 0
    assert second.headers["x-gateway-attempts"] == "0"
    assert len(upstream.served) == 1
    paid, free = rows(gateway(cached).engine)
    assert (paid.cost_nanousd > 0, paid.saved_nanousd) == (True, None)
    assert (free.cost_nanousd, free.saved_nanousd, free.state) == (0, paid.cost_nanousd, "void")
    assert (free.outcome, free.status, free.model, free.provider, free.input_tokens) == ("ok", 200, "fast", None, None)
    assert free.request_id == second.headers["x-request-id"]
    assert_books_agree(gateway(cached).engine)


def test_streams_are_given_again_as_streams(cached, upstream):
    first, second = (post(cached, chat(stream=True)) for _ in range(2))
    assert (told(first), told(second), len(upstream.served)) == ("miss", "hit", 1)
    assert first.data == second.data
    assert second.headers["content-type"].startswith("text/event-stream")
    assert last(gateway(cached).engine).is_stream
    assert told(post(cached)) == "miss", "a whole answer is another one"


def test_other_surfaces(cached, upstream):
    embedding = {"model": "fast", "input": "a text"}
    assert [told(post(cached, embedding, "/v1/embeddings")) for _ in range(2)] == ["miss", "hit"]
    message = {"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": "one"}]}
    first, second = (post(cached, message, "/v1/messages") for _ in range(2))
    assert (told(first), told(second), first.data == second.data) == ("miss", "hit", True)
    assert second.headers["request-id"] != first.headers["request-id"]
    for _ in range(2):  # it has an id and a past of its own
        assert told(post(cached, {"model": "fast", "input": "one"}, "/v1/responses")) is None
    assert len(upstream.served) == 4


def test_a_model_that_is_not_cached_says_nothing(app, upstream):
    add_model(app, add_provider(app, upstream))
    assert [told(post(app)) for _ in range(2)] == [None, None]
    assert (len(upstream.served), kept(app)) == (2, [])


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"seed": 1},
        {"user": "somebody"},
        {"max_tokens": 7},
        {"messages": [{"role": "user", "content": "Hello there "}]},
        {"a_member_of_tomorrow": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_member_counts(cached, change):
    assert [told(post(cached, chat() | more)) for more in ({}, change, change)] == ["miss", "miss", "hit"]


def test_the_order_of_members_and_blanks_do_not_count(cached):
    plain = b'{"model":"fast","messages":[{"role":"user","content":"one"}],"seed":1}'
    other = b'{ "seed": 1,\n "messages": [ {"content": "one", "role": "user"} ], "model": "fast" }'
    client = cached.test_client()
    answers = [client.post(CHAT, data=raw, headers=AUTH, content_type="application/json") for raw in (plain, other)]
    assert list(map(told, answers)) == ["miss", "hit"]


def test_cache_control(cached, upstream):
    first = post(cached)
    bypassed = post(cached, **{"Cache-Control": "no-store"})
    assert (told(bypassed), len(upstream.served)) == ("bypass", 2)
    assert post(cached).data == first.data, "it was not stored"
    fresh = post(cached, **{"Cache-Control": "no-cache"})
    assert (told(fresh), len(upstream.served)) == ("bypass", 3)
    again = post(cached, **{"Cache-Control": "only-if-cached"})
    assert (told(again), again.data) == ("hit", fresh.data)
    assert told(post(cached, **{"Cache-Control": "nonsense=1, max-age=x, max-stale"})) == "hit"
    none = post(cached, chat("never asked"), **{"Cache-Control": "only-if-cached"})
    assert (none.status_code, none.json["error"]["code"]) == (504, "not_cached")
    assert none.headers["x-should-retry"] == "false"
    assert len(rows(gateway(cached).engine)) == 6


def test_an_answer_that_is_too_old_for_a_caller_is_made_anew(cached, upstream, monkeypatch):
    post(cached)
    now_ms = clock.now_ms() + 20_000
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    assert [told(post(cached, **{"Cache-Control": f"max-age={age}"})) for age in (30, 10)] == ["hit", "miss"]
    assert told(post(cached, **{"Cache-Control": "max-age=10"})) == "hit", "the new one took its place"
    assert len(upstream.served) == 2


def test_an_answer_is_given_again_for_as_long_as_the_model_says(cached, upstream, monkeypatch):
    post(cached)
    now_ms = clock.now_ms() + 61_000
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    assert [told(post(cached)) for _ in range(2)] == ["miss", "hit"]
    assert len(upstream.served) == 2


def test_keys_do_not_share_unless_the_model_says_so(cached, upstream):
    other = key_of(cached)
    assert [told(post(cached, headers=who)) for who in (AUTH, other, AUTH, other)] == ["miss", "miss", "hit", "hit"]
    set_model(cached, routing={"cache_s": 60, "cache_shared": True})
    assert [told(post(cached, headers=who)) for who in (AUTH, other)] == ["miss", "hit"]
    assert len(upstream.served) == 3


@pytest.mark.parametrize("plan", [{"status": 500}, {"cut_after": 2}, {"status": 429}], ids=["500", "cut", "429"])
def test_failures_are_not_kept(cached, upstream, plan):
    upstream.will(**plan)
    is_stream = "cut_after" in plan
    post(cached, chat(stream=is_stream))
    assert kept(cached) == []
    assert [told(post(cached, chat(stream=is_stream))) for _ in range(2)] == ["miss", "hit"]


def test_what_was_more_than_was_held_or_came_from_a_fallback_is_not_kept(cached, upstream):
    budgets.put(
        gateway(cached).engine, ME, scope="user", owner="api-tokens", unit="tokens", limit="100000", period="day"
    )
    gateway(cached).catalog.refresh()
    upstream.will(usage={"prompt_tokens": 3, "completion_tokens": 90_000, "total_tokens": 90_003})
    post(cached, chat(max_tokens=10))
    assert (last(gateway(cached).engine).is_overrun, kept(cached)) == (True, [])
    add_model(cached, add_provider(cached, upstream, "second"), "spare", upstream_model="gpt-4o")
    set_model(cached, fallbacks=["spare"])
    upstream.will(status=500)
    assert post(cached, chat("two", max_tokens=5)).headers["x-gateway-deployment"] == "second/gpt-4o"
    assert kept(cached) == []


def test_an_answer_that_a_budget_cut_short_is_not_kept(cached, upstream):
    budgets.put(gateway(cached).engine, ME, scope="user", owner="api-tokens", unit="tokens", limit="400", period="day")
    gateway(cached).catalog.refresh()
    assert "x-gateway-max-output-tokens" in post(cached).headers
    assert kept(cached) == []


def test_an_answer_that_is_too_large_is_not_kept(sqlite_database, make_app, upstream):
    app = make_app(sqlite_database, KEPT_ANSWER_BYTES="1024")
    add_model(app, add_provider(app, upstream), routing={"cache_s": 60})
    for is_stream in (False, True):
        upstream.default.words = 400
        assert [told(post(app, chat(stream=is_stream))) for _ in range(2)] == ["miss", "miss"]
    assert kept(app) == []


def test_a_spent_budget_does_not_refuse_what_costs_nothing(cached, upstream):
    post(cached, chat(max_tokens=5))
    budgets.put(
        gateway(cached).engine, ME, scope="user", owner="api-tokens", unit="usd", limit="0.00000001", period="day"
    )
    gateway(cached).catalog.refresh()
    assert post(cached, chat("two", max_tokens=5)).status_code == 402
    assert told(post(cached, chat(max_tokens=5))) == "hit"


def test_hits_count_against_limits_of_requests(cached, upstream):
    limits.put(gateway(cached).engine, ME, scope="user", owner="api-tokens", unit="requests", limit=3, period="hour")
    gateway(cached).catalog.refresh()
    answers = [post(cached) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:3]] == ["2", "1", "0"]
    assert len(upstream.served) == 1
    assert_books_agree(gateway(cached).engine)


@pytest.mark.parametrize("poison", ["moved", "garbage", "foreign"])
def test_a_poisoned_row_is_ignored_and_replaced(cached, upstream, poison):
    post(cached)
    post(cached, chat("another"))
    mine = gateway(cached)
    with Session(mine.engine) as session, session.begin():
        first, second = session.query(KeptAnswer).order_by(KeptAnswer.created_at).all()
        first.body = {
            "moved": second.body,
            "garbage": b"garbage",
            "foreign": mine.sealer.seal('["x", "utf-8", ["{}"]]'),
        }[poison]
    assert [told(post(cached)) for _ in range(2)] == ["miss", "hit"]
    assert len(upstream.served) == 3


def test_equal_calls_at_the_same_time_are_one(cached, upstream):
    found = []

    def ask():
        found.append(post(cached, chat('one {{"first_s": 0.4}}', max_tokens=9)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(told, found)) == ["hit"] * 7 + ["miss"]
    assert len({answer.data for answer in found}) == len(upstream.served) == 1
    assert len(rows(gateway(cached).engine)) == 8
    assert_books_agree(gateway(cached).engine)


def test_an_answer_in_memory_can_be_read_while_others_read_it_from_the_database(cached):
    mine = gateway(cached)
    shelf = kept_answers.Shelf(mine.books, mine.sealer, kept_answers.Bounds(10_000, 10_000, 4))
    post(cached)
    digest = kept(cached)[0].digest
    first, second = shelf.look(digest), shelf.look(digest)
    wanted = shelf.opened(first)
    known = shelf.look(digest)
    assert shelf.opened(second) == wanted
    assert shelf.opened(known) == wanted


def test_who_waited_for_a_call_that_failed_goes_on_alone(cached, upstream):
    upstream.will(status=500, first_s=0.4)
    leader = threading.Thread(target=post, args=(cached,))
    leader.start()
    upstream.wait_for(1)
    answer = post(cached)
    leader.join()
    assert (answer.status_code, told(answer), len(upstream.served)) == (200, "miss", 2)
    assert told(post(cached)) == "hit"


def test_a_dead_leader_is_replaced(cached, upstream):
    mine = gateway(cached)
    post(cached)
    past = clock.now_ms() - 1
    with mine.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE kept_answers SET state = 'open', body = NULL, lease_until = {past}")
    assert [told(post(cached)) for _ in range(2)] == ["miss", "hit"]


def test_a_route_says_for_how_long(app, upstream):
    add_model(app, add_provider(app, upstream, "first"))
    with Session(gateway(app).engine) as session, session.begin():
        issued = gateway(app).keys.issue(session, user_id=1, name="of the route")
        session.flush()
        number = session.query(ApiKey.id).filter_by(name="of the route").scalar()
        step = {"provider": "first", "model": "gpt-4o-mini"}
        cache = {"enabled": True, "ttl": "5s"}
        session.add(Route(name="r", path="/cached", key_ids=[number], steps=[step], cache=cache))
    gateway(app).catalog.refresh()
    headers = {"Authorization": f"Bearer {issued.secret}"}
    answers = [post(app, path="/api/routes/cached", headers=headers) for _ in range(2)]
    assert (list(map(told, answers)), len(upstream.served)) == (["miss", "hit"], 1)
    assert last(gateway(app).engine).route_id is not None


def test_the_oldest_go_when_there_is_no_room(sqlite_database, make_app, upstream):
    app = make_app(sqlite_database, KEPT_STORE_BYTES="1048576")
    add_model(app, add_provider(app, upstream), routing={"cache_s": 600})
    upstream.default.words = 40_000
    for number in range(6):
        post(app, chat(f"{number}"))
    before = len(kept(app))
    shelf = gateway(app).control.cache._shelf
    assert before == 6
    assert shelf.shrink() > 0
    left = kept(app)
    assert 0 < sum(row.size for row in left) <= 1_048_576
    assert told(post(app, chat("5"))) == "hit", "the newest stayed"
    assert shelf.shrink() == 0


def test_an_erased_users_answers_go(cached):
    post(cached)
    removed = gateway(cached).erasure._scrub(kept(cached)[0].user_id, after=0)
    assert (removed["kept"], kept(cached)) == (1, [])
