"""Kept answers over several workers: one call whoever races, none lost to a kill, nothing across tenants."""

import itertools
import os
import random
import signal
import time

import anthropic
import openai
import pytest
import requests
from sqlalchemy.orm import Session

from tests.conftest import TOKEN
from tests.fakes.upstream import Plan
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, rows
from tests.races.conftest import SOAK, crowd

KEY = {"Idempotency-Key": "order 17"}
MIXED = 10_000 if SOAK else 240
CALLERS = 16


@pytest.fixture
def fast(app, serve, upstream):  # the database is there once `serve` has made its own
    """A model `fast` whose answers are not kept, and `kept` and `shared` whose are."""
    provider = add_provider(app, upstream)
    add_model(app, provider)
    add_model(app, provider, "kept", routing={"cache_s": 600})
    add_model(app, provider, "shared", routing={"cache_s": 600, "cache_shared": True})
    return app


def engine(app):
    return app.extensions["gateway"].engine


def post(served, body, headers=AUTH, timeout=60):
    return requests.post(f"{served.base_url}/chat/completions", json=body, headers=headers, timeout=timeout)


def settled(app, count, within_s=30):
    """The usage rows, once there are that many."""
    end = time.monotonic() + within_s
    while len(found := rows(engine(app))) < count and time.monotonic() < end:
        time.sleep(0.1)
    assert len(found) == count
    return found


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_fifty_repeats_at_once_are_one_call(fast, database, serve, upstream, worker_class, is_stream):
    served = serve(DATABASE_URL=database, WEB_CONCURRENCY="2", WORKER_CLASS=worker_class, THREADS="120")
    body = chat('one {{"first_s": 1.0}}', stream=is_stream)

    def ask(_number):
        """Where the machine is busy, one that waited long is told to come again."""
        while (answer := post(served, body, AUTH | KEY)).status_code == 409:
            assert answer.json()["error"]["code"] == "idempotency_running"
            time.sleep(int(answer.headers["retry-after"]))
        return answer

    found = crowd(50, range(50), ask)
    assert {answer.status_code for answer in found} == {200}
    assert len({answer.content for answer in found}) == 1
    assert sum("x-gateway-replayed" in answer.headers for answer in found) == 49
    assert (len(upstream.served), len(rows(engine(fast)))) == (1, 1)
    assert_books_agree(engine(fast))
    if worker_class == "gevent" and not is_stream:
        served.stop()
        again = post(serve(DATABASE_URL=database), body, AUTH | KEY)
        assert (again.content, again.headers["x-gateway-replayed"]) == (found[0].content, "true"), "after a restart"
        assert len(upstream.served) == 1


def test_equal_calls_of_a_cached_model_at_once_are_one(fast, database, serve, upstream):
    served = serve(DATABASE_URL=database, WEB_CONCURRENCY="2")
    body = chat('one {{"first_s": 1.0}}', "kept")
    found = crowd(30, range(30), lambda _number: post(served, body))
    assert sorted(answer.headers["x-gateway-cache"] for answer in found) == ["hit"] * 29 + ["miss"]
    assert len({answer.content for answer in found}) == len(upstream.served) == 1
    booked = settled(fast, 30)
    assert sum(row.cost_nanousd > 0 for row in booked) == 1
    assert sum(row.saved_nanousd is not None for row in booked) == 29
    assert_books_agree(engine(fast))


def test_a_killed_call_is_made_again_once_it_is_settled(fast, database, serve, upstream):
    served = serve(DATABASE_URL=database, WEB_CONCURRENCY="2")
    upstream.will(first_s=5.0)

    def first():
        with pytest.raises(requests.RequestException):
            post(served, chat(), AUTH | KEY)

    def kill():
        upstream.wait_for(1)
        for pid in served.workers():
            os.kill(pid, signal.SIGKILL)

    crowd(2, [first, kill], lambda work: work())
    answer = None
    for _ in range(4):  # as SDKs do it
        answer = _or_none(served)
        if answer is not None and answer.status_code == 200:
            break
        assert answer is None or answer.json()["error"]["code"] == "idempotency_running"
        time.sleep(1)
    assert answer is not None
    assert answer.status_code == 200, answer.text
    assert "x-gateway-replayed" not in answer.headers
    assert post(served, chat(), AUTH | KEY).headers["x-gateway-replayed"] == "true"
    booked = settled(fast, 2)
    assert sorted(row.outcome for row in booked) == ["ok", "recovered"]
    assert len(upstream.served) == 2
    assert_books_agree(engine(fast))


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_a_call_with_a_key_goes_on_without_its_caller(fast, database, serve, upstream, is_stream):
    served = serve(DATABASE_URL=database)
    upstream.will(words=4, **({"every_s": 0.4} if is_stream else {"first_s": 1.5}))
    with pytest.raises(requests.RequestException):
        post(served, chat(stream=is_stream), AUTH | KEY, timeout=0.3).raise_for_status()
    again = post(served, chat(stream=is_stream), AUTH | KEY)
    assert (again.status_code, again.headers["x-gateway-replayed"]) == (200, "true")
    assert len(upstream.served) == 1
    assert [(row.outcome, row.state) for row in settled(fast, 1)] == [("ok", "measured")]


def _or_none(served):
    try:
        return post(served, chat(), AUTH | KEY)
    except requests.RequestException:
        return None  # the worker that took the connection was just being killed


class Numbered(Plan):
    """Each answer says in a header which one it is."""

    def __init__(self):
        self._numbers = itertools.count(1)
        super().__init__()

    @property
    def headers(self):
        return {"openai-processing-ms": str(next(self._numbers))}

    @headers.setter
    def headers(self, _given):
        """A plan begins without any."""


def test_nothing_goes_from_one_tenant_to_another(fast, serve, database, upstream):
    """Every request says whose it is where the digest must tell them apart, and the answers are compared."""
    keys = fast.extensions["gateway"].keys
    with Session(engine(fast)) as session, session.begin():
        tenants = [keys.issue(session, user_id=1, name=name).secret for name in ("one", "two")]
    upstream.default = Numbered()
    served = serve(DATABASE_URL=database, WEB_CONCURRENCY="2")
    dice = random.Random(7)
    wishes = [{}, {}, {}, {"Cache-Control": "no-cache"}, {"Cache-Control": "no-store"}, {"Cache-Control": "max-age=1"}]
    plans = [
        (tenant, f"question {dice.randrange(MIXED // 20)}", dice.random() < 0.5, dice.choice(wishes))
        for tenant in (dice.randrange(2) for _ in range(MIXED))
    ]

    def ask(plan):
        tenant, text, is_stream, wish = plan
        headers = {"Authorization": f"Bearer {tenants[tenant]}", **wish}
        answer = post(served, chat(text, "kept", stream=is_stream), headers)
        assert answer.status_code == 200, answer.text
        made_by = answer.headers["openai-processing-ms"]  # the upstream counts its answers there
        return (tenant, text, is_stream), answer.headers["x-gateway-cache"], made_by

    found = crowd(CALLERS, plans, ask)
    owners = {made_by: asked for asked, told, made_by in found if told != "hit"}
    strangers = [asked for asked, told, made_by in found if told == "hit" and owners[made_by] != asked]
    assert strangers == []
    hits = sum(told == "hit" for _asked, told, _made_by in found)
    assert hits > MIXED / 5
    assert len(owners) == MIXED - hits
    assert len(upstream.served) == MIXED - hits
    booked = settled(fast, MIXED)
    assert sum(row.saved_nanousd is not None for row in booked) == hits
    assert_books_agree(engine(fast))


def test_who_may_share_does(fast, serve, database, upstream):
    keys = fast.extensions["gateway"].keys
    with Session(engine(fast)) as session, session.begin():
        other = keys.issue(session, user_id=1, name="one").secret
    served = serve(DATABASE_URL=database)
    told = [
        post(served, chat(model=model), headers).headers["x-gateway-cache"]
        for model in ("kept", "shared")
        for headers in (AUTH, {"Authorization": f"Bearer {other}"})
    ]
    assert told == ["miss", "miss", "miss", "hit"]


def test_the_official_sdks(fast, serve, database, upstream):
    served = serve(DATABASE_URL=database)
    message = [{"role": "user", "content": "one"}]
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as client:
        create = client.chat.completions.create
        for headers, model in ((KEY, "fast"), ({}, "kept")):
            whole = [create(model=model, messages=message, extra_headers=headers) for _ in range(2)]
            assert whole[0].model_dump() == whole[1].model_dump()
            more = {name: f"{value} streamed" for name, value in headers.items()}
            events = [list(create(model=model, messages=message, stream=True, extra_headers=more)) for _ in range(2)]
            assert events[0] == events[1]
            assert len(events[0]) > 3
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            create(model="fast", messages=message, max_tokens=3, extra_headers=KEY)
        assert refused.value.code == "idempotency_mismatch"
    with anthropic.Anthropic(base_url=served.url, api_key=TOKEN, max_retries=0) as client:
        for headers, model in (({"Idempotency-Key": "a"}, "fast"), ({}, "kept")):
            made = [
                client.messages.create(model=model, max_tokens=9, messages=message, extra_headers=headers)
                for _ in range(2)
            ]
            assert made[0].model_dump() == made[1].model_dump()
            more = {name: f"{value} streamed" for name, value in headers.items()}
            texts = []
            for _ in range(2):
                with client.messages.stream(model=model, max_tokens=9, messages=message, extra_headers=more) as stream:
                    texts.append(stream.get_final_message().model_dump())
            assert texts[0] == texts[1]
        with pytest.raises(anthropic.UnprocessableEntityError):
            client.messages.create(model="fast", max_tokens=8, messages=message, extra_headers={"Idempotency-Key": "a"})
    assert len(upstream.served) == 8
    assert_books_agree(engine(fast))
