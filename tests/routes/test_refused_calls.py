"""Refused calls are kept with their rule and numbers; a flood of them stays a few rows, and nobody waits for it."""

import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import ApiKey, Refusal, User
from services import refusals
from services.refusals import KEPT, MOST_WAITING, Refusals
from tests.admin.conftest import add_budget, add_limit
from tests.callers import add_user, bearer, change, issue
from tests.helpers import add_model, add_provider, chat, rows
from utils import jsonx

CALLS = "/v1/chat/completions"
PAST = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def here(app):
    return app.extensions["gateway"]


def stored(here):
    """What waits is stored; the rows, oldest first."""
    here.refusals.flush()
    with Session(here.engine) as session:
        return list(session.scalars(select(Refusal).order_by(Refusal.id)))


def ask(app, secret, model="echo", **members):
    return app.test_client().post(CALLS, json=chat(model=model, **members), headers=bearer(secret))


def over_budget(app, issued):
    return "echo", f"budget {add_budget(app, 'key', issued.id, 0, unit='tokens')}", 402


def over_limit(app, issued):
    return "echo", f"limit {add_limit(app, 'key', issued.id, 0)}", 429


def off_the_list(app, issued):
    change(app, ApiKey, issued.id, allowed_models=["other"])
    return "echo", None, 403


def no_model(app, issued):
    return "nonesuch", None, 400


def no_price(app, issued):
    add_model(app, add_provider(app, "http://127.0.0.1:9/v1"), "dear", price=None)
    pipeline = app.extensions["gateway"].pipeline
    pipeline._policy = replace(pipeline._policy, refuses_unpriced=True)
    return "dear", None, 402


def other_address(app, issued):
    change(app, ApiKey, issued.id, allowed_ips=["10.9.9.0/24"])
    return "echo", None, 403


def other_path(app, issued):
    change(app, ApiKey, issued.id, allowed_paths=[{"path": "/v1/embeddings", "method": ""}])
    return "echo", None, 403


def revoked(app, issued):
    change(app, ApiKey, issued.id, revoked_at=PAST, revoked_reason="lost")
    return "echo", f"key {issued.id}", 401


def expired(app, issued):
    change(app, ApiKey, issued.id, expires_at=PAST)
    return "echo", None, 401


def disabled(app, issued):
    owner = ask_owner(app, issued)
    change(app, User, owner, is_active=False)
    return "echo", f"user {owner}", 401


def ask_owner(app, issued):
    with Session(app.extensions["gateway"].engine) as session:
        return session.get_one(ApiKey, issued.id).user_id


KINDS = {
    "budget": over_budget,
    "limit": over_limit,
    "models": off_the_list,
    "model": no_model,
    "price": no_price,
    "addresses": other_address,
    "paths": other_path,
    "revoked": revoked,
    "expired": expired,
    "disabled": disabled,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_rule_leaves_a_row_with_what_the_caller_read(app, here, kind):
    issued = issue(app)
    model, rule, status = KINDS[kind](app, issued)
    here.catalog.refresh()
    answer = ask(app, issued.secret, model)
    assert answer.status_code == status, answer.text
    (row,) = stored(here)
    assert (row.kind, row.rule, row.status, row.times) == (kind, rule, status, 1)
    assert row.request_id == answer.headers["x-request-id"]
    assert (row.key_id, row.user_id) == (issued.id, ask_owner(app, issued))
    assert row.message == answer.json["error"]["message"]
    assert row.code == answer.json["error"]["code"]
    assert abs(datetime.now(UTC) - row.created_at) < timedelta(seconds=30)
    assert rows(here.engine) == [], "a refused call is no call"
    if kind in ("budget", "limit"):
        assert jsonx.loads(row.details)["limit"] == 0


def test_requests_that_are_no_calls_have_one_too(app, here):
    issued = issue(app)
    add_limit(app, "key", issued.id, 0)
    here.catalog.refresh()
    assert app.test_client().get("/v1/models", headers=bearer(issued.secret)).status_code == 429
    (row,) = stored(here)
    assert (row.kind, row.model, row.key_id) == ("limit", None, issued.id)


@pytest.mark.parametrize("secret", ["sk-th-nonsense", "x" * 30, "eyJx.y.z", ""])
def test_whoever_is_not_known_leaves_nothing(app, here, secret):
    assert ask(app, secret).status_code == 401
    assert stored(here) == []


@pytest.mark.parametrize("body", ["{", "{}", '{"model": 5}', '{"model": "echo", "messages": 7}'])
def test_a_malformed_request_leaves_nothing(app, here, body):
    issued = issue(app)
    answer = app.test_client().post(CALLS, data=body, headers=bearer(issued.secret), content_type="application/json")
    assert answer.status_code == 400
    assert stored(here) == []


def test_what_was_admitted_is_no_refusal_whatever_became_of_it(app, here):
    issued = issue(app)
    add_model(app, add_provider(app, "http://127.0.0.1:9/v1"), "away")
    assert ask(app, issued.secret, "away").status_code == 502
    assert stored(here) == []
    assert [row.outcome for row in rows(here.engine)] == ["upstream_error"]


def test_ten_thousand_refused_calls_are_a_few_rows_and_none_is_forgotten(app, here):
    """As they come from a pipeline; 10,000 requests of HTTP would only measure Flask."""
    issued, other = issue(app), issue(app, add_user(app, "bob"))
    for one in (issued, other):
        add_limit(app, "key", one.id, 0)
    here.catalog.refresh()
    known = [here.callers.of(one.secret) for one in (issued, other)]
    flushed = 0
    for number in range(10_000):
        here.refusals.note(f"req_{number:032x}", marked(known[number % 2]))
        if number in (3_000, 7_000):
            here.refusals.flush()
            flushed += 1
    found = stored(here)
    assert len(found) <= (flushed + 1) * 2 * KEPT
    assert sum(row.times for row in found) == 10_000
    assert here.refusals.dropped == 0
    assert {row.key_id: 0 for row in found} == {issued.id: 0, other.id: 0}


def marked(caller, code="rate_limit_exceeded"):
    from services import counting
    from services.types import Count, LimitRef, WindowState

    limit = Count(LimitRef("5", "key", "requests", 3, "minute"), 1, 60, 120, 0)
    exc = counting.refusal(caller, limit, WindowState(60, 120, 3, 0), 100.0)
    exc.code = code
    exc.refuse(caller, "echo")
    return exc


def test_a_flood_of_many_kinds_is_bounded_too_and_counted(app, here):
    caller = here.callers.of(issue(app).secret)
    for number in range(3 * MOST_WAITING):
        here.refusals.note(f"req_{number:032x}", marked(caller, f"code-{number}"))
    found = stored(here)
    assert len(found) == MOST_WAITING + 1
    assert (found[-1].kind, found[-1].times, found[-1].key_id) == ("more", 2 * MOST_WAITING, None)
    assert here.refusals.dropped == 2 * MOST_WAITING
    assert sum(row.times for row in found) == 3 * MOST_WAITING


def test_noting_never_waits_for_a_database_that_hangs(app, here, monkeypatch):
    caller, inside, go_on = here.callers.of(issue(app).secret), threading.Event(), threading.Event()

    def hang(_batch):
        inside.set()
        assert go_on.wait(60)

    monkeypatch.setattr(here.refusals, "_store", hang)
    here.refusals.note("req_1", marked(caller))
    writer = threading.Thread(target=here.refusals.flush)
    writer.start()
    assert inside.wait(60)
    for number in range(1000):  # would stand still if a lock were held meanwhile
        here.refusals.note(f"req_{number:032x}", marked(caller))
    go_on.set()
    writer.join(60)
    monkeypatch.undo()
    assert sum(row.times for row in stored(here)) == 1000


def test_a_worker_that_ends_waits_for_what_is_being_stored_and_stores_the_rest(app, here, monkeypatch):
    caller, store, inside = here.callers.of(issue(app).secret), here.refusals._store, threading.Event()
    go_on = threading.Event()

    def slow(batch):
        inside.set()
        assert go_on.wait(60)
        store(batch)

    monkeypatch.setattr(here.refusals, "_store", slow)
    here.refusals.note("req_first", marked(caller))
    writer = threading.Thread(target=here.refusals.flush)
    writer.start()
    assert inside.wait(60)
    here.refusals.note("req_second", marked(caller))
    last = threading.Thread(target=here.refusals.flush)  # what Gateway.close does
    last.start()
    last.join(0.2)
    assert last.is_alive(), "it must not end before the rows are stored"
    go_on.set()
    for one in (writer, last):
        one.join(60)
    assert [row.request_id for row in stored(here)] == ["req_first", "req_second"]


def test_what_the_database_does_not_take_is_counted_and_told_later(app, here, monkeypatch):
    caller = here.callers.of(issue(app).secret)

    def away(_batch):
        raise OperationalError("INSERT", {}, Exception("gone"))

    monkeypatch.setattr(here.refusals, "_store", away)
    for number in range(9):
        here.refusals.note(f"req_{number}", marked(caller))
    here.refusals.flush()
    assert here.refusals.dropped == 9
    monkeypatch.undo()
    assert [(row.kind, row.times) for row in stored(here)] == [("more", 9)]


def test_nothing_is_kept_for_erased_users(app, here):
    issued = issue(app)
    caller = here.callers.of(issued.secret)
    change(app, User, caller.user_id, username=f"erased-{caller.user_id}")
    here.refusals.note("req_late", marked(caller))
    assert stored(here) == []


def test_refusals_are_kept_for_thirty_days(app, here):
    caller = here.callers.of(issue(app).secret)
    for days in (31, 29):
        began = datetime.now(UTC) - timedelta(days=days)
        here.refusals.note(f"req_{round(began.timestamp() * 1000):012x}{days:020x}", marked(caller))
    assert len(stored(here)) == 2
    assert here.retention.run()["refused calls"] == 1
    assert [int(row.request_id[-4:], 16) for row in stored(here)] == [29]


def test_a_text_that_no_database_takes_is_stored_without_it(app, here):
    issued = issue(app)
    answer = ask(app, issued.secret, "no\x00such\ud800model")
    assert answer.status_code == 400
    found = stored(here)
    assert [row.status for row in found] in ([], [400])
    assert here.refusals.dropped == 0


def test_hostile_ids_find_nothing(app, here):
    for text in ("", "req_\x00", "x" * 10_000, "' OR 1=1 --", "\ud800", "%", "req_%"):
        assert refusals.find(here.engine, text) is None


def test_a_budget_of_a_call_and_its_attempts_are_in_its_row(app, here, upstream):
    issued = issue(app)
    add_model(app, add_provider(app, upstream))
    budget = add_budget(app, "key", issued.id, 5_000_000_000)
    limit = add_limit(app, "key", issued.id, 10)
    here.catalog.refresh()
    assert ask(app, issued.secret, "fast").status_code == 200
    (row,) = rows(here.engine)
    trace = jsonx.loads(row.trace)
    assert len(trace["began"]) == 1
    assert 0 <= trace["began"][0] <= row.duration_ms
    assert trace["budgets"][0][:7] == [budget, "key", "usd", "month", False, 5_000_000_000, 0]
    assert trace["budgets"][0][7] >= row.cost_nanousd
    assert trace["limits"] == [[str(limit), "key", "requests", "minute", 10, 9]]


def test_nothing_has_a_thread_before_there_is_something_to_do():
    before = threading.active_count()
    Refusals(create_engine("sqlite://"))
    assert threading.active_count() == before


def test_what_waits_is_stored_when_the_worker_ends(serve, sqlite_database, lite):
    issued = issue(lite)
    add_limit(lite, "key", issued.id, 0)
    running = serve()
    import requests

    for _ in range(4):
        sent = {"json": chat(model="echo"), "headers": bearer(issued.secret), "timeout": 10}
        assert requests.post(f"{running.url}{CALLS}", **sent).status_code == 429
    assert running.stop(signal.SIGTERM) == 0
    with Session(lite.extensions["gateway"].engine) as session:
        assert sum(session.scalars(select(Refusal.times))) == 4
