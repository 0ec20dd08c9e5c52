"""More callers than a worker has places: who is refused first, in which words, and who always gets in."""

import json
import threading
import time
from contextlib import nullcontext

import pytest
import requests

from services import shedding
from services.errors import Overloaded
from services.shedding import BATCH, BULK, CALL, SHARES, TRIAL, Shedding
from tests.conftest import PASSWORD, TOKEN
from tests.degraded.conftest import SOAK, Crowd, figure, part_of
from tests.helpers import chat, rows
from utils import places

AUTH = {"authorization": f"Bearer {TOKEN}"}
STREAM = 'one two {{"words": 400, "every_s": 0.05}}'


def refused(gate, kind):
    with pytest.raises(Overloaded) as caught:
        gate.enter(kind)
    assert (caught.value.status, caught.value.retry_after_s, caught.value.rule) == (503, 1, kind)
    return True


def test_what_can_wait_gives_way_first(monkeypatch):
    monkeypatch.setattr(shedding, "WAIT_S", 0.01)
    gate, order = Shedding(10), []
    for taken in range(10):
        order += [kind for kind in SHARES if kind not in order and taken >= gate.most[kind] and refused(gate, kind)]
        gate.enter(CALL)
    assert refused(gate, CALL)
    assert [*order, CALL] == list(SHARES) == [BATCH, TRIAL, BULK, CALL]
    gate.leave()
    gate.enter(CALL)
    for _ in range(5):
        gate.leave()
    gate.enter(TRIAL)
    assert gate.taken == 6


def test_a_short_crowd_is_served_in_turn_and_a_long_one_is_not(monkeypatch):
    monkeypatch.setattr(shedding, "WAIT_S", 30.0)
    gate, got = Shedding(2), []
    gate.enter(CALL)
    gate.enter(CALL)
    waiting = [threading.Thread(target=lambda: got.append(gate.enter(CALL))) for _ in range(gate.most_waiting)]
    for thread in waiting:
        thread.start()
    end = time.monotonic() + 30
    while gate._waiting < gate.most_waiting and time.monotonic() < end:
        time.sleep(0.005)
    assert refused(gate, CALL), "as many wait as may"
    for _ in waiting:
        gate.leave()
    for thread in waiting:
        thread.join()
    assert (len(got), gate.taken) == (gate.most_waiting, 2)


def test_a_limit_of_open_files_makes_fewer_places(monkeypatch):
    for limit in (200, 256, 1024, 65536):
        monkeypatch.setattr("resource.getrlimit", lambda _what, limit=limit: (limit, limit))
        for calls in (1, 64, 2000):
            fits = places.fitting(calls)
            assert 1 <= fits <= calls
            assert fits == calls or places.files(fits) <= limit < places.files(fits + 2)
    monkeypatch.setattr("resource.getrlimit", lambda _what: (64, 64))
    assert places.fitting(2000) < 1


def opened(served):
    """A stream of twenty seconds."""
    body = chat(STREAM, stream=True)
    return requests.post(f"{served.url}/v1/chat/completions", json=body, headers=AUTH, stream=True, timeout=60)


SPOKEN = {  # path, body, and where its dialect has the words
    "/v1/chat/completions": (chat(), lambda body: body["error"]["message"]),
    "/v1/responses": ({"model": "fast", "input": "x"}, lambda body: body["error"]["message"]),
    "/v1/messages": (chat(max_tokens=9), lambda body: body["error"]["message"]),
    "/api/providers/openai/v1/chat/completions": (chat(), lambda body: body["error"]["message"]),
    "/api/call": ({"model_name": "fast", "prompt": "x"}, lambda body: body["error"]),
}


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gthread"])
def test_when_streams_have_all_places_sign_in_and_health_get_in(
    serve, books_of, sqlite_database, upstream, worker_class
):
    engine = books_of(sqlite_database)
    served = serve(WORKER_CLASS=worker_class, THREADS="8", WORKER_CONNECTIONS="8")
    lines = [opened(served) for _ in range(6)]
    bulk = requests.post(f"{served.url}/v1/moderations", json={"model": "fast", "input": "x"}, headers=AUTH, timeout=30)
    assert (bulk.status_code, bulk.json()["error"]["code"]) == (503, "overloaded"), "six of eight are taken"
    lines += [opened(served) for _ in range(2)]
    assert [line.status_code for line in lines] == [200] * 8
    for path, (body, message_of) in SPOKEN.items():
        answer = requests.post(served.url + path, json=body, headers=AUTH, timeout=30)
        assert (answer.status_code, answer.headers["retry-after"], answer.headers["x-should-retry"]) == (
            503,
            "1",
            "true",
        )
        assert message_of(answer.json()) == "The gateway is busy; try again in a second.", path
    crowd, took = Crowd(served, 12, {}), []
    for _ in range(10):
        for method, path, body in (
            ("GET", "/health", None),
            ("GET", "/health/ready", None),
            ("GET", "/admin/login", None),
            ("POST", "/login", {"username": "admin", "password": PASSWORD}),
            ("GET", "/v1/models", None),
        ):
            began = time.monotonic()
            assert (
                requests.request(method, served.url + path, json=body, headers=AUTH, timeout=30).status_code == 200
            ), path
            took.append(time.monotonic() - began)
    crowd.stop()
    assert set(crowd.statuses()) == {503}
    for line in lines:
        line.close()
    end = time.monotonic() + 30
    while requests.post(f"{served.url}/v1/chat/completions", json=chat(), headers=AUTH, timeout=30).status_code != 200:
        assert time.monotonic() < end, "places come free"
    while len(rows(engine)) < 9 and time.monotonic() < end:
        time.sleep(0.05)
    assert len(rows(engine)) == len(upstream.served) == 9
    figure(f"shedding {worker_class}", refused=len(crowd.answers), sign_in_and_health_worst_s=f"{max(took):.2f}",
           p50_s=f"{part_of(took, 0.5):.3f}")  # fmt: skip


def test_lists_and_trials_are_let_in_by_their_kind(lite):
    from routes.shedding import kind_of

    def kind(path, method="POST"):
        with lite.test_request_context(path, method=method):
            return kind_of()

    assert {kind(path) for path in SPOKEN} == {CALL}
    assert {kind(path) for path in ("/v1/embeddings", "/v1/images/generations", "/v1/rerank")} == {BULK}
    assert kind("/admin/users/export.csv", "GET") == kind("/api/v1/export", "GET") == TRIAL
    assert {kind(path) for path in ("/playground/chat", "/portal/dialogs/stream/")} == {TRIAL}
    assert {kind(path, "GET") for path in ("/health", "/admin/login", "/v1/models", "/admin/users/", "/nowhere")} == {
        None
    }
    assert {kind("/admin/login"), kind("/login")} == {None}
    assert json.dumps(sorted(SHARES.values())) == json.dumps(list(SHARES.values()))


@pytest.mark.parametrize("is_propagated", [True, False])
def test_a_place_comes_back_when_the_response_is_lost(app, is_propagated):
    """Whatever fails after the answer was made, and whether the server sees the error or a response made of it."""

    def fail(response):
        app.after_request_funcs[None].remove(fail)
        raise RuntimeError("lost")

    app.after_request_funcs[None].insert(0, fail)  # the first is the last to be called
    app.config["PROPAGATE_EXCEPTIONS"] = is_propagated
    client = app.test_client()
    with pytest.raises(RuntimeError, match="lost") if is_propagated else nullcontext():
        assert client.post("/v1/chat/completions", json=chat(), headers=AUTH).status_code == 500
    assert app.extensions["gateway"].shedding.taken == 0
