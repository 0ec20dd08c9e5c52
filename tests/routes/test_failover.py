"""Calls that find their way: repeated, passed on, kept from providers that are down, within their time."""

import json
import os
import threading

import pytest
from sqlalchemy.orm import Session

from models import Deployment, Model
from services import attempts
from services.health import LAST_IN_A_ROW
from tests.callers import bearer, issue
from tests.fakes.upstream import Upstream
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream
from utils import clock


def post(app, body, path="/v1/chat/completions"):
    return app.test_client().post(path, json=body, headers=AUTH, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def tried(app):
    return [tuple(pair) for pair in json.loads(last(engine(app)).attempts)]


@pytest.fixture
def patient(sqlite_database, make_app):
    """An app that tries again, without the pauses."""
    return make_app(sqlite_database, LLM_MAX_RETRIES="3")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSE_S", 0.01)


@pytest.fixture
def second():
    server = Upstream()
    server.start()
    yield server
    server.stop()


def two_deployments(app, first, other, *, provider=None, **columns):
    """Model `fast` at `fake`, or else at `other`."""
    model_id = add_model(app, add_provider(app, first, **(provider or {})), **columns)
    other_id = add_provider(app, other, "other")
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.add(Deployment(model_id=model_id, provider_id=other_id, upstream_model="gpt-4o", priority=2))
    here.catalog.refresh()
    return app


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failure_is_tried_again_and_charged_once(patient, upstream, is_stream):
    with_upstream(patient, upstream)
    upstream.will(status=500)
    response = post(patient, chat(stream=is_stream))
    assert response.status_code == 200
    assert tried(patient) == [("fake", "upstream_error"), ("fake", "ok")]
    assert (len(rows(engine(patient))), last(engine(patient)).state) == (1, "measured")
    assert response.headers["x-gateway-attempts"] == "2"
    assert response.headers["x-gateway-deployment"] == "fake/gpt-4o-mini"
    assert float(response.headers["x-gateway-overhead-ms"]) >= 0
    assert_books_agree(engine(patient))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(
            {"raw_event": 'data: {"error": {"message": "Overloaded", "code": 529}}\n\n', "words": 1}, id="error"
        ),
        pytest.param({"body": "", "headers": {"content-type": "text/event-stream"}}, id="nothing"),
        pytest.param({"body": "data: {nonsense\n\n", "headers": {"content-type": "text/event-stream"}}, id="garbage"),
    ],
)
def test_a_stream_that_fails_before_its_first_word_goes_elsewhere(lite, upstream, second, plan):
    two_deployments(lite, upstream, second)
    if "raw_event" in plan:
        plan = {"body": plan["raw_event"], "headers": {"content-type": "text/event-stream"}}
    upstream.will(**plan)
    response = post(lite, chat(stream=True))
    text = response.get_data(as_text=True)
    assert "word" in text
    assert text.endswith("data: [DONE]\n\n")
    assert [name for name, _how in tried(lite)] == ["fake", "other"]
    assert_books_agree(engine(lite))


def test_a_stream_that_fails_after_its_first_word_says_so(patient, upstream, second):
    two_deployments(patient, upstream, second)
    upstream.will(cut_after=2)
    text = post(patient, chat(stream=True)).get_data(as_text=True)
    assert "upstream_error" in text
    assert "[DONE]" not in text
    assert second.served == []


def test_nonsense_is_not_asked_for_twice(patient, upstream):
    """It may have been billed."""
    with_upstream(patient, upstream)
    upstream.will(body="<html>", headers={"content-type": "text/html"})
    assert post(patient, chat()).status_code == 502
    assert len(upstream.served) == 1


def test_who_says_when_is_not_asked_before(patient, upstream):
    with_upstream(patient, upstream)
    upstream.will(status=429, headers={"retry-after": "30"})
    first, then = post(patient, chat()), post(patient, chat())
    assert (first.status_code, first.headers["retry-after"]) == (429, "30")
    assert then.status_code == 429
    assert 28 <= int(then.headers["retry-after"]) <= 30
    assert len(upstream.served) == 1
    assert last(engine(patient)).state == "void"


def test_all_down(patient, upstream):
    """The budget for repeats and the circuit keep the load off, and callers do not wait."""
    with_upstream(patient, upstream)
    upstream.default.status = 500
    answers = [post(patient, chat()) for _ in range(100)]
    assert {answer.status_code for answer in answers} == {502, 503}
    assert len(upstream.served) <= 120
    assert answers[-1].status_code == 503
    assert answers[-1].headers["retry-after"]
    assert_books_agree(engine(patient))


def test_back_again(lite, upstream, monkeypatch):
    with_upstream(lite, upstream)
    upstream.default.status = 500
    for _ in range(LAST_IN_A_ROW):
        post(lite, chat())
    assert post(lite, chat()).status_code == 503
    upstream.default.status = 200
    now_s = clock.monotonic_s()
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s + 2)
    assert post(lite, chat()).status_code == 200


def test_flapping_with_a_healthy_peer(lite, upstream, second):
    two_deployments(lite, upstream, second)
    statuses = []
    for number in range(100):
        upstream.default.status = 500 if number % 2 else 200
        statuses.append(post(lite, chat()).status_code)
    assert statuses.count(200) >= 99


def test_health_is_shown(lite, upstream):
    with_upstream(lite, upstream)
    client = lite.test_client()
    assert client.get("/health/providers").status_code == 401
    found = client.get("/health/providers", headers=AUTH).json
    assert found["status"] == "healthy"
    assert (found["worker"], found["workers"]) == (os.getpid(), 1), "each worker answers for itself alone"
    assert found["scope"] == f"what worker {os.getpid()} has seen; each of the 1 keeps circuits of its own"
    assert {"model": "fast", "deployments": [UNTRIED]} in found["models"]
    upstream.will(status=429, headers={"retry-after": "30"})
    post(lite, chat())
    found = client.get("/health/providers", headers=AUTH).json
    (shown,) = next(entry["deployments"] for entry in found["models"] if entry["model"] == "fast")
    assert (found["status"], shown["state"], shown["failures_in_a_row"]) == ("degraded", "open", 1)


UNTRIED = {
    "provider": "fake",
    "model": "gpt-4o-mini",
    "state": "untried",
    "failures_in_a_row": 0,
    "retry_in_s": 0.0,
    "first_byte_ms": None,
    "error": "",
}


@pytest.mark.parametrize(
    ("code", "kind"), [("context_length_exceeded", "context_fallbacks"), ("content_filter", "content_fallbacks")]
)
def test_a_detour_for_a_reason(lite, upstream, second, code, kind):
    add_model(lite, add_provider(lite, second, "large"), "large", upstream_model="gpt-4o")
    add_model(lite, add_provider(lite, upstream), routing={kind: ["large"]})
    upstream.will(status=400, body=json.dumps({"error": {"message": "no", "code": code}}))
    assert post(lite, chat()).status_code == 200
    assert tried(lite) == [("fake", code), ("large", "ok")]
    upstream.will(status=400, body=json.dumps({"error": {"message": "no", "code": "invalid_value"}}))
    assert post(lite, chat()).status_code == 400, "another reason"
    upstream.will(status=500)
    assert post(lite, chat()).status_code == 502, "and none"
    assert len(second.served) == 1


def test_an_alias(lite, upstream):
    with_upstream(lite, upstream)
    here = lite.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(Model).filter_by(name="fast").one().aliases = ["gpt-5", "quick"]
    here.catalog.refresh()
    assert post(lite, chat(model="quick")).status_code == 200
    assert last(engine(lite)).model == "fast"


def test_a_model_has_its_own_patience(lite, upstream):
    add_model(lite, add_provider(lite, upstream), routing={"first_byte_s": 0.2, "silence_s": 0.3, "total_s": 5})
    upstream.will(first_s=3.0)
    response = post(lite, chat())
    assert (response.status_code, response.json["error"]["code"]) == (504, "upstream_timeout")
    assert "0.2 s" in response.json["error"]["message"]
    upstream.will(mute_after=2)
    assert "silent for 0.3 s" in post(lite, chat(stream=True)).get_data(as_text=True)


def test_a_call_that_has_had_all_its_time(lite, upstream):
    add_model(lite, add_provider(lite, upstream), routing={"total_s": 1e-9})
    assert post(lite, chat()).status_code == 504
    assert upstream.served == []


def test_the_quickest_goes_first(lite, upstream, second):
    two_deployments(lite, upstream, second, routing={"strategy": "latency"})
    here = lite.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(Deployment).update({"priority": 1})
    here.catalog.refresh()
    upstream.default.first_s = 0.1
    for _ in range(6):
        post(lite, chat())
    assert len(upstream.served) == 1, "once, to know it"
    assert len(second.served) == 5


@pytest.mark.parametrize(
    ("of_key", "of_model", "plan", "said"),
    [
        pytest.param({"first_byte_s": 0.3}, {"first_byte_s": 9}, {"first_s": 5}, "within 0.3 s", id="first byte"),
        pytest.param({"first_byte_s": 9}, {"first_byte_s": 0.3}, {"first_s": 5}, "within 0.3 s", id="the model's"),
        pytest.param({"first_byte_s": 9}, {"silence_s": 0.3}, {"first_s": 5}, "within 0.3 s", id="it only shortens"),
        pytest.param({"silence_s": 0.3}, None, {"mute_after": 2}, "silent for 0.3 s", id="silence"),
        pytest.param({"total_s": 0.5}, {"total_s": 60}, {"every_s": 0.2, "words": 50}, "than allowed", id="total"),
    ],
)
def test_the_less_patient_of_key_and_model_counts(lite, upstream, of_key, of_model, plan, said):
    add_model(lite, add_provider(lite, upstream), routing=of_model)
    auth = bearer(issue(lite, timeouts=of_key).secret)
    upstream.will(**plan)
    answer = lite.test_client().post("/v1/chat/completions", json=chat(stream=True), headers=auth, buffered=True)
    row = last(engine(lite))
    assert said in row.error
    assert (row.outcome, "upstream_timeout" in answer.text) == ("upstream_timeout", True)


@pytest.mark.parametrize("is_stream", [False, True])
def test_nobody_else_is_asked_for_a_caller_who_left(patient, upstream, second, is_stream):
    """His provider was to read on, and failed."""
    two_deployments(patient, upstream, second, provider={"settings": {"on_disconnect": "drain"}})
    upstream.will(status=500, first_s=0.5)
    here = patient.extensions["gateway"]
    asking = threading.Thread(target=post, args=(patient, chat(stream=is_stream)))
    asking.start()
    upstream.wait_for(1)
    (call, _socket) = next(iter(here.watch._calls.values()))
    assert here.watch.leave(call)
    asking.join()
    row = last(engine(patient))
    assert (row.outcome, row.state, row.cost_nanousd) == ("upstream_error", "void", 0)
    assert (len(upstream.served), len(second.served)) == (1, 0)


def test_callers_who_leave_are_not_held_against_their_provider(lite, upstream):
    """They left before the first byte, so the gateway itself closed the connection."""
    with_upstream(lite, upstream)
    here, upstream.default.first_s = lite.extensions["gateway"], 30.0
    for number in range(LAST_IN_A_ROW):
        asking = threading.Thread(target=post, args=(lite, chat(stream=number % 2 == 0)))
        asking.start()
        upstream.wait_for(number + 1)
        for call, _socket in list(here.watch._calls.values()):
            call.abort_gone()
        asking.join()
    upstream.default.first_s = 0.0
    assert post(lite, chat()).status_code == 200
    assert [row.outcome for row in rows(here.engine)] == ["client_gone"] * LAST_IN_A_ROW + ["ok"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/providers/openai/v1/chat/completions", "/v1/messages"])
def test_an_error_says_which_provider_was_asked_last_and_how_many_were(lite, upstream, second, path):
    upstream.will(status=503)
    second.will(status=404)
    two_deployments(lite, upstream, second)
    response = post(lite, chat(max_tokens=5), path)
    assert response.status_code == 404
    assert response.headers["x-gateway-deployment"] == "other/gpt-4o"
    assert response.headers["x-gateway-attempts"] == "2"
    assert float(response.headers["x-gateway-overhead-ms"]) >= 0


def test_an_error_before_anybody_was_asked_names_no_provider(lite, upstream):
    with_upstream(lite, upstream)
    response = post(lite, chat(model="nobody"))
    assert response.status_code == 400
    assert not [name for name, _value in response.headers if name.lower().startswith("x-gateway-")]
