"""Limits in Valkey under a crowd: exact over all processes, and what happens to them while it dies and comes back."""

import threading
import time
from collections import Counter

import pytest

from services import budgets, limits
from services.audit import Actor
from tests.conftest import TOKEN
from tests.helpers import chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, crowd, wait_until_clean

ME = Actor("tests")
PROCESSES, CALLERS, CALLS, LIMIT = (8, 50, 5000, 100) if SOAK else (3, 12, 300, 40)
COST = 3 * 150 + 5 * 600  # nano-USD of a call: 3 words in, 5 out
BODY = chat("one two three", max_tokens=20)


@pytest.fixture
def gated(serve, make_app, database, upstream, valkey):  # after `serve`, which lays a fresh file where SQLite is
    """An app on the database of the served ones."""
    return with_upstream(make_app(database, REDIS_URL=valkey.url), upstream)


def limit(app, amount, unit="requests", period="day"):
    limits.put(here(app).engine, ME, scope="user", owner="api-tokens", unit=unit, limit=amount, period=period)


def here(app):
    return app.extensions["gateway"]


def remember(app, valkey):
    """The server has known everything for long, so that it counts alone."""
    valkey.client.set(f"{here(app).remote._space}:since", 1)


def early_in_the_minute(needed_s):
    """Wait for a minute that has so many seconds left."""
    while time.time() % 60 > 60 - needed_s:
        time.sleep(0.2)


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gthread"])
def test_all_processes_together_take_exactly_the_limit(gated, database, serve, valkey, worker_class):
    limit(gated, LIMIT, period="minute" if SOAK else "day")
    remember(gated, valkey)
    served = serve(
        DATABASE_URL=database,
        REDIS_URL=valkey.url,
        WEB_CONCURRENCY=str(PROCESSES),
        WORKER_CLASS=worker_class,
        DB_POOL_SIZE="8",
    )
    early_in_the_minute(50 if SOAK else 0)
    begun = time.time()
    statuses = Counter(
        status for status, _text in crowd(CALLERS, range(CALLS), lambda _number: ask(served, BODY, TOKEN))
    )
    assert int(begun // 60) == int(time.time() // 60) or not SOAK, "this machine is too slow for the test"
    print(f"{PROCESSES} processes, {CALLS} calls in {time.time() - begun:.1f} s: {dict(statuses)}")
    print([line for line in served.output().splitlines() if "limits are counted" in line])
    assert statuses == {200: LIMIT, 429: CALLS - LIMIT}
    wait_until_clean(here(gated).engine, 10)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_concurrent_calls_never_pass_their_limit_and_all_come_free(gated, database, serve, valkey, upstream):
    limit(gated, 4, "concurrent", "none")
    remember(gated, valkey)
    served = serve(DATABASE_URL=database, REDIS_URL=valkey.url, WEB_CONCURRENCY="3")
    most, stopped = [0], threading.Event()

    def watch():
        while not stopped.is_set():
            now = sum(not one.finished for one in list(upstream.served))
            most[0] = max(most[0], now)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    body = chat('one {{"words": 3, "every_s": 0.02}}', stream=True)
    statuses = Counter(
        status for status, _text in crowd(16, range(min(CALLS // 3, 500)), lambda _number: ask(served, body, TOKEN))
    )
    stopped.set()
    watcher.join()
    assert set(statuses) == {200, 429}
    assert most[0] <= 4
    wait_until_clean(here(gated).engine, 10)
    while valkey.client.keys("*:calls:*"):
        time.sleep(0.05)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_mute_server_is_asked_once_in_five_seconds_by_each_worker(gated, database, serve, mute):
    """Each time it is asked somebody waits 100 ms, and nobody does in between."""
    limit(gated, LIMIT)
    workers = 2
    served = serve(DATABASE_URL=database, REDIS_URL=mute.url, WEB_CONCURRENCY=str(workers))
    asked_before, begun, took, statuses = len(mute.asked_at), time.monotonic(), [], []
    while time.monotonic() - begun < (30 if SOAK else 5.5) or len(statuses) < LIMIT + 20:
        start = time.monotonic()
        statuses.append(ask(served, BODY, TOKEN)[0])
        took.append(time.monotonic() - start)
    elapsed = time.monotonic() - begun
    asked = len(mute.asked_at) - asked_before
    took.sort()
    print(f"{len(took)} calls in {elapsed:.1f} s, asked {asked} times; median {took[len(took) // 2] * 1000:.1f} ms")
    print("slowest, ms:", [round(seconds * 1000) for seconds in took[-10:]])
    assert 0 < asked <= workers * (1 + elapsed // 5)
    assert Counter(statuses) == {200: LIMIT, 429: len(statuses) - LIMIT}, "the database counts exactly"
    assert served.output().count("limits are counted in the database") <= workers + 1, "once each, and at the start"
    wait_until_clean(here(gated).engine, 10)


def test_whatever_becomes_of_it_calls_go_on_and_no_money_is_lost(gated, database, serve, mortal_valkey, upstream):
    """At most one window more is admitted than the limit says, and of the budget nothing is overspent."""
    most = 100
    limit(gated, most)
    limit(gated, 6, "concurrent", "none")
    afforded = f"{(most + most // 2) * COST / 10**9:.9f}"
    budgets.put(here(gated).engine, ME, scope="user", owner="api-tokens", unit="usd", limit=afforded, period="total")
    mortal_valkey.client.set(f"{here(gated).remote._space}:since", 1)
    served = serve(DATABASE_URL=database, REDIS_URL=mortal_valkey.url, WEB_CONCURRENCY="3")
    server = mortal_valkey
    faults = [server.client.flushall, server.kill, server.start, server.freeze, server.thaw]
    statuses, stopped = [], threading.Event()

    def call(_number):
        while not stopped.is_set():
            statuses.append(ask(served, BODY, TOKEN)[0])
            time.sleep(0.01)

    def break_things():
        for fault in faults * (2 if SOAK else 1):
            time.sleep(6 if SOAK else 1)  # with more than five seconds it is found again
            fault()
        time.sleep(6 if SOAK else 1)
        stopped.set()

    breaker = threading.Thread(target=break_things)
    breaker.start()
    crowd(10, range(10), call)
    breaker.join()
    counted = Counter(statuses)
    print(counted, served.output().count("limits are counted"))
    assert counted.keys() <= {200, 402, 429}
    wait_until_clean(here(gated).engine, 10)
    booked = rows(here(gated).engine)
    assert len(booked) == counted[200] == len(upstream.served)
    assert most <= counted[200] <= 2 * most
    assert sum(row.cost_nanousd for row in booked) <= (most + most // 2) * COST
    assert "Traceback" not in served.output()
