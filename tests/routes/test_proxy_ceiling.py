"""A key's total cost limit on the proxy surface: 401, and the key is revoked once it is of no further use."""

import threading

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, BudgetWindow
from services import budgets, periods
from services.audit import Actor
from services.keys import USED_UP
from tests.callers import bearer, find, issue
from tests.helpers import assert_books_agree, chat, open_holds, rows, with_upstream
from utils import clock

CHAT = "/api/providers/openai/v1/chat/completions"
EXPIRED, REVOKED = "[BricksLLM] key has expired", "[BricksLLM] api key has been revoked"


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


@pytest.fixture
def key(fast):
    return issue(fast)


def engine(app):
    return app.extensions["gateway"].engine


def limit(app, usd, scope, owner, period="total", unit="usd"):
    budgets.put(engine(app), Actor("t"), scope=scope, owner=str(owner), unit=unit, limit=usd, period=period)
    app.extensions["gateway"].catalog.refresh()


def post(app, key, path=CHAT, text="one two three", **more):
    return app.test_client().post(path, json=chat(text, **more), headers=bearer(key.secret), buffered=True)


def said(response):
    return response.status_code, response.json["error"]["message"]


def revocations(app):
    with Session(engine(app)) as session:
        return session.query(AuditEntry).filter_by(action="key_revoke").all()


def test_a_key_that_spent_its_limit_has_expired_and_is_revoked(fast, key):
    limit(fast, "0.00002", "key", key.id)
    assert post(fast, key).status_code == 200
    while (answer := post(fast, key)).status_code == 200:
        assert len(rows(engine(fast))) < 20
    assert said(answer) == (401, EXPIRED)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (
        f"key `{key.hint}` (#{key.id}) cannot take this call: limit $0.00002, spent $0.0000"
        in answer.json["error"]["detail"]
    )
    row = find(fast, ApiKey, key.id)
    assert (row.revoked_at is not None, row.revoked_reason) == (True, "The total cost limit has been reached")
    assert said(post(fast, key)) == (401, REVOKED), "this worker knows at once"
    assert post(fast, key, "/v1/chat/completions").json["error"]["code"] == "key_revoked"
    (entry,) = revocations(fast)
    assert (entry.actor, entry.resource_type, entry.resource_id) == ("system", "key", str(key.id))
    assert entry.details["after"] == {"revoked_reason": USED_UP}
    assert_books_agree(engine(fast))


def test_a_call_that_is_too_large_does_not_cost_the_key(fast, key):
    """A hundred calls still fit; this one does not, by its output limit or by its prompt."""
    limit(fast, "0.001", "key", key.id)
    for more in ({"max_tokens": 1_000_000}, {"text": "x" * 10_000}):
        assert said(post(fast, key, **more)) == (401, EXPIRED)
    assert find(fast, ApiKey, key.id).revoked_at is None
    assert revocations(fast) == []
    assert post(fast, key).status_code == 200


def test_the_smallest_call_decides_whether_a_key_is_used_up(fast, key):
    """A thousand tokens of prompt and one of output at the price of `fast` cost 150,600 nano-USD."""
    prompt, least = "x" * 2000, 1000 * 150 + 600
    limit(fast, f"0.{least:09d}", "key", key.id)
    assert said(post(fast, key, text=prompt)) == (401, EXPIRED)
    assert find(fast, ApiKey, key.id).revoked_at is None
    limit(fast, f"0.{least - 1:09d}", "key", key.id)
    assert said(post(fast, key, text=prompt)) == (401, EXPIRED)
    assert find(fast, ApiKey, key.id).revoked_reason == USED_UP


def test_an_embedding_has_no_output_that_could_not_fit(fast, key):
    limit(fast, "0.000001", "key", key.id)
    body = {"model": "fast", "input": "x" * 500}
    answer = fast.test_client().post(
        "/api/providers/openai/v1/embeddings", json=body, headers=bearer(key.secret), buffered=True
    )
    assert said(answer) == (401, EXPIRED)
    assert find(fast, ApiKey, key.id).revoked_reason == USED_UP


def test_on_v1_the_same_is_402_and_revokes_nothing(fast, key):
    limit(fast, "0", "key", key.id)
    answer = post(fast, key, "/v1/chat/completions")
    assert (answer.status_code, answer.json["error"]["code"]) == (402, "budget_exceeded")
    assert find(fast, ApiKey, key.id).revoked_at is None
    assert said(post(fast, key, "/api/providers/openai/chat/completions")) == (401, EXPIRED)


def test_money_held_by_another_call_expires_nothing(fast, key, upstream):
    """What is held may come back, so the answer stays 402 and asks the caller to come again."""
    limit(fast, "0.0001", "key", key.id)
    upstream.will(first_s=1.5)
    other = threading.Thread(target=lambda: post(fast, key, max_tokens=100))
    other.start()
    upstream.wait_for(1)
    answer = post(fast, key, max_tokens=100)
    other.join()
    assert (answer.status_code, answer.headers["x-should-retry"]) == (402, "true")
    assert answer.json["error"]["detail"] == answer.json["error"]["message"]
    assert find(fast, ApiKey, key.id).revoked_at is None
    assert open_holds(engine(fast)) == 0


@pytest.mark.parametrize(
    ("scope", "period", "unit", "status"),
    [
        ("user", "total", "usd", 402),
        ("key", "total", "tokens", 402),
        ("model", "total", "usd", 402),
        ("key", "day", "usd", 429),
        ("user", "month", "usd", 429),
    ],
)
def test_other_budgets_leave_the_key_alone(fast, key, scope, period, unit, status):
    limit(fast, "1000", scope, {"user": "ana", "key": key.id, "model": "fast"}[scope], period, unit)
    with Session(engine(fast)) as session, session.begin():
        budget = session.query(Budget).one()
        start = periods.start_s(period, "UTC", clock.now_s())
        session.add(BudgetWindow(budget_id=budget.id, period_start=start, spent_amount=budget.limit_amount))
    answer = post(fast, key)
    error = answer.json["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert error["message"] == ("[BricksLLM] too many requests" if status == 429 else error["detail"])
    assert "limit" in error["detail"]
    assert find(fast, ApiKey, key.id).revoked_at is None


def test_prepaid_credit_of_another_owner_does_not_expire_the_key(make_app, sqlite_database, upstream):
    app = with_upstream(make_app(sqlite_database, INITIAL_TOKEN_BALANCE="1"), upstream)
    secret = app.test_client().post("/register", json={"username": "maria", "password": "senha-da-maria"}).json
    answer = app.test_client().post(CHAT, json=chat(), headers=bearer(secret["api_key"]))
    assert answer.status_code == 402
    assert "token balance of user `maria`" in answer.json["error"]["detail"]


def test_many_calls_find_out_at_once_and_revoke_once(fast, key):
    limit(fast, "0", "key", key.id)
    start, answers = threading.Barrier(8), []

    def call():
        start.wait()
        answers.append(said(post(fast, key)))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {(401, EXPIRED), (401, REVOKED)}
    assert (401, EXPIRED) in answers
    assert len(revocations(fast)) == 1


def test_a_database_that_is_away_does_not_change_the_answer(fast, key, caplog):
    limit(fast, "0", "key", key.id)

    def fail(_connection, _cursor, statement, *_more):
        if statement.startswith("UPDATE api_keys"):
            raise OperationalError(statement, {}, Exception("gone"))

    event.listen(engine(fast), "before_cursor_execute", fail)
    assert said(post(fast, key)) == (401, EXPIRED)
    event.remove(engine(fast), "before_cursor_execute", fail)
    assert "could not be revoked" in caplog.text
    assert find(fast, ApiKey, key.id).revoked_at is None
    assert said(post(fast, key)) == (401, EXPIRED)
    assert find(fast, ApiKey, key.id).revoked_reason == USED_UP


def test_a_key_that_was_revoked_by_a_person_keeps_their_reason(fast, key):
    keys = fast.extensions["gateway"].keys
    with Session(engine(fast)) as session, session.begin():
        assert keys.revoke(session, key.id, "lost")
        assert not keys.revoke(session, key.id, "found")
        assert not keys.revoke(session, 10**9, "nobody's")
    keys.revoke_used_up(key.id)
    assert find(fast, ApiKey, key.id).revoked_reason == "lost"
    assert revocations(fast) == []


def test_a_token_has_no_key_to_revoke(fast):
    person = {"username": "maria", "password": "senha-da-maria"}
    client = fast.test_client()
    assert client.post("/register", json=person).status_code == 201
    limit(fast, "0", "user", "maria")
    token = client.post("/login", json=person).json["access_token"]
    answer = client.post(CHAT, json=chat(), headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, "user `maria`" in answer.json["error"]["detail"]) == (402, True)
