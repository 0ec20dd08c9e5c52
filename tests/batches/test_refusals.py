"""What the gateway refuses while a batch is made: for a while, for good, and in the middle."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import ApiKey
from models_batches import Batch, BatchLine
from services import budgets, limits, refusals
from services.audit import Actor
from tests.batches.helpers import CHAT, begin, change, jsonl, line, lines, results, run, show
from tests.callers import add_user, bearer, find, issue
from tests.callers import change as change_row
from tests.guard.world import CARD, kinds, policy
from tests.helpers import AUTH, assert_books_agree, rows, with_upstream
from utils import clock


def start(app, client, headers, count=20, **more):
    """A batch whose file is checked."""
    name = begin(client, jsonl(*(line(number, **more) for number in range(count))), headers)
    here = app.extensions["gateway"]
    here.batch_runner.look()
    here.batch_runner.wait(60)
    return name


def one_more(app):
    """Make the next line."""
    runner = app.extensions["gateway"].batch_runner
    (batch,) = runner._ends.open()
    claimed = runner._lines.claim(batch.id, "tests")
    runner._make(batch, claimed)


def failed(client, name, headers):
    done = show(client, name, headers)
    return done, results(client, done["error_file_id"], headers)


def test_a_refused_line_can_be_asked_about(app, client, upstream):
    with_upstream(app, upstream)
    policy(app, **kinds(credit_debit_number="block"))
    name = begin(client, jsonl(line(0), line(1, f"card {CARD}")))
    run(app)
    here = app.extensions["gateway"]
    here.refusals.flush()
    _done, told = failed(client, name, AUTH)
    (response,) = [one["response"] for one in told]
    assert response["status_code"] == 403
    found = refusals.find(here.engine, response["request_id"])
    assert (found.kind, found.model, found.custom_id, found.path) == ("policy", "fast", "line 1", CHAT)


def test_a_spent_budget_fails_the_rest_at_once(app, client, upstream):
    with_upstream(app, upstream)
    owner = add_user(app, "eve")
    headers = bearer(issue(app, owner).secret)
    engine = app.extensions["gateway"].engine
    budgets.put(engine, Actor("tests"), scope="user", owner="eve", unit="tokens", limit="200", period="month")
    app.extensions["gateway"].catalog.refresh()
    name = begin(client, jsonl(*(line(number) for number in range(60))), headers)
    run(app)
    done, told = failed(client, name, headers)
    counts = done["request_counts"]
    assert done["status"] == "completed"
    assert counts["completed"] + counts["failed"] == counts["total"] == 60
    assert 0 < counts["completed"] < 60
    assert len(rows(engine)) == counts["completed"] == len(upstream.served)
    assert {one["response"]["status_code"] for one in told} <= {402, 429}
    assert {one["response"]["body"]["error"]["code"] for one in told} == {"budget_exceeded"}
    assert "limit 200" in told[0]["response"]["body"]["error"]["message"]
    assert_books_agree(engine)


def test_a_key_that_is_revoked_ends_the_rest(app, client, upstream):
    with_upstream(app, upstream)
    owner = add_user(app, "eve")
    key, other = issue(app, owner), bearer(issue(app, owner).secret)
    name = start(app, client, bearer(key.secret))
    one_more(app)
    change_row(app, ApiKey, key.id, revoked_at=clock.now(), revoked_reason="left")
    run(app)
    done, told = failed(client, name, other)
    assert done["request_counts"] == {"total": 20, "completed": 1, "failed": 19}
    assert {(one["response"]["status_code"], one["response"]["body"]["error"]["code"]) for one in told} == {
        (401, "key_revoked")
    }
    assert len(upstream.served) == 1


def test_a_key_that_is_deleted_or_may_not_call_that_path(app, client, upstream):
    with_upstream(app, upstream)
    owner = add_user(app, "eve")
    key, other = issue(app, owner), bearer(issue(app, owner).secret)
    name = start(app, client, bearer(key.secret))
    change_row(app, ApiKey, key.id, allowed_paths=[{"path": "/v1/embeddings"}])
    run(app)
    assert {one["response"]["body"]["error"]["code"] for one in failed(client, name, other)[1]} == {"path_not_allowed"}
    asked = {"input_file_id": show(client, name, other)["input_file_id"], "completion_window": "24h"}
    narrow = bearer(issue(app, owner, allowed_paths=[{"path": "/v1/batches"}]).secret)
    answer = client.post("/v1/batches", json={**asked, "endpoint": "/v1/chat/completions"}, headers=narrow)
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "path_not_allowed")
    gone = start(app, client, other)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.query(ApiKey).filter_by(user_id=owner).delete()
    app.extensions["gateway"].catalog.refresh()
    run(app)
    assert {one["response"]["status_code"] for one in failed(client, gone, bearer(issue(app, owner).secret))[1]} == {
        401
    }
    assert upstream.served == []


def test_a_model_that_is_taken_away_fails_its_lines_alone(app, client, upstream):
    with_upstream(app, upstream)
    owner = add_user(app, "eve")
    key = issue(app, owner)
    headers = bearer(key.secret)
    mixed = [line(0), line(1, model="echo"), line(2)]
    name = begin(client, jsonl(*mixed), headers)
    here = app.extensions["gateway"]
    here.batch_runner.look()
    here.batch_runner.wait(60)
    change_row(app, ApiKey, key.id, allowed_models=["echo"])
    run(app)
    done, told = failed(client, name, headers)
    assert done["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert {one["response"]["status_code"] for one in told} == {403}


def test_a_limit_of_requests_only_slows_it_down(app, client, upstream):
    with_upstream(app, upstream)
    owner = add_user(app, "eve")
    headers = bearer(issue(app, owner).secret)
    engine = app.extensions["gateway"].engine
    name = start(app, client, headers, 6)
    limits.put(engine, Actor("tests"), scope="user", owner="eve", unit="requests", limit=5, period="hour")
    here = app.extensions["gateway"]
    here.catalog.refresh()
    here.batch_runner.look()
    here.batch_runner.wait(60)
    (batch,) = here.batch_runner._ends.open()
    assert sorted(one.state for one in lines(app)) == ["completed"] * 5 + ["waiting"]
    assert timedelta(0) < batch.not_before - clock.now() <= timedelta(seconds=60)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM limits"))
    here.catalog.refresh()
    change(app, Batch, not_before=None)
    run(app)
    assert show(client, name, headers)["request_counts"] == {"total": 6, "completed": 6, "failed": 0}
    assert len(rows(engine)) == len(upstream.served) == 6
    assert_books_agree(engine)


def claim(app, client, headers):
    """A line that a worker has claimed, which then dies."""
    start(app, client, headers, 2)
    runner = app.extensions["gateway"].batch_runner
    (batch,) = runner._ends.open()
    claimed = runner._lines.claim(batch.id, "dead")
    change(app, BatchLine, lease_at=clock.now() - timedelta(seconds=1))
    return runner, batch, claimed


def test_a_line_that_was_never_admitted_waits_again(app, client, upstream):
    with_upstream(app, upstream)
    runner, batch, claimed = claim(app, client, bearer(issue(app).secret))
    assert runner._lines.lost(batch.id) == 1
    assert [(one.state, one.request_id) for one in lines(app)] == [("waiting", None)] * 2
    again = runner._lines.claim(batch.id, "alive")
    assert (again.id, again.request_id != claimed.request_id) == (claimed.id, True)


def test_a_line_whose_call_is_held_is_left_alone_and_one_that_is_booked_fails(app, client, upstream):
    with_upstream(app, upstream)
    headers = bearer(issue(app).secret)
    runner, batch, claimed = claim(app, client, headers)
    runner._lines.answered = lambda *_given: True  # its answer never reaches the database
    runner._make(batch, claimed)
    del runner._lines.answered
    (row,) = rows(app.extensions["gateway"].engine)
    assert row.request_id == claimed.request_id
    with app.extensions["gateway"].engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO holds (request_id, owner, created_at, deadline_at, budgets_wanted, budgets_taken, takes,"
                " counts, call) VALUES (:id, 'x', 1, 2, 0, 0, '[]', '[]', '{}')"
            ),
            {"id": claimed.request_id},
        )
    assert runner._lines.lost(batch.id) == 0
    with app.extensions["gateway"].engine.begin() as connection:
        connection.execute(text("DELETE FROM holds"))
    run(app)
    name = client.get("/v1/batches", headers=headers).json["data"][0]["id"]
    done, told = failed(client, name, headers)
    assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert (told[0]["error"]["code"], claimed.request_id in told[0]["error"]["message"]) == ("worker_lost", True)
    assert len(rows(app.extensions["gateway"].engine)) == 2


def test_an_answer_is_stored_before_its_call_is_booked(app, client, upstream):
    with_upstream(app, upstream)
    start(app, client, bearer(issue(app).secret), 1)
    here = app.extensions["gateway"]
    seen = []
    settle = here.accounting.settle
    here.accounting.settle = lambda settlement: (seen.append([one.state for one in lines(app)]), settle(settlement))
    one_more(app)
    assert seen == [["completed"]]


def test_a_worker_that_lost_its_claim_stores_nothing(app, client, upstream):
    with_upstream(app, upstream)
    headers = bearer(issue(app).secret)
    runner, batch, slow = claim(app, client, headers)
    runner._lines.lost(batch.id)
    quick = runner._lines.claim(batch.id, "alive")
    runner._make(batch, quick)
    runner._make(batch, slow)
    run(app)
    name = client.get("/v1/batches", headers=headers).json["data"][0]["id"]
    assert show(client, name, headers)["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def test_a_busy_worker_makes_no_lines(lite, upstream):
    with_upstream(lite, upstream)
    client = lite.test_client()
    name = start(lite, client, bearer(issue(lite).secret), 2)
    here = lite.extensions["gateway"]
    most = here.shedding.most["batch"]
    for _ in range(most):
        here.shedding.enter("call")
    here.batch_runner.look()
    here.batch_runner.wait(60)
    assert upstream.served == []
    for _ in range(most):
        here.shedding.leave()
    run(lite)
    assert len(upstream.served) == 2
    assert find(lite, BatchLine, 1).state == "completed"
    assert name.startswith("batch_")


def test_a_worker_that_ends_begins_no_more_lines(lite, upstream):
    with_upstream(lite, upstream)
    start(lite, lite.test_client(), bearer(issue(lite).secret), 5)
    here = lite.extensions["gateway"]
    here.drain()
    here.batch_runner.look()
    here.batch_runner.wait(60)
    assert [one.state for one in lines(lite)] == ["waiting"] * 5
