"""Prepaid tokens over `/api/v1`: what users see, what admins do, what is refused and in which form."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import AuditEntry, Budget, BudgetWindow, LedgerEntry, User
from services import balances, budgets
from services.audit import Actor
from tests.conftest import PASSWORD
from tests.helpers import AUTH, assert_books_agree, chat, with_upstream

GOOD = {"username": "maria", "password": "senha-da-maria"}
ME = "/api/v1/users/me/tokens"
ADMIN = 2  # the number of the user `admin`


def engine(app):
    return app.extensions["gateway"].engine


@pytest.fixture
def admin(app):
    """The headers of an admin who has signed in."""
    return token(app, "admin", PASSWORD)


@pytest.fixture
def maria(app):
    """A self-registered user: its number."""
    return register(app)[0]


def token(app, name, password):
    answer = app.test_client().post("/login", json={"username": name, "password": password})
    return {"Authorization": f"Bearer {answer.json['access_token']}"}


def register(app, name="maria"):
    """A user who registers itself: number and headers with its key."""
    answer = app.test_client().post("/register", json=GOOD | {"username": name})
    assert answer.status_code == 201
    with Session(engine(app)) as session:
        number = session.query(User.id).filter_by(username=name).scalar()
    return number, {"Authorization": f"Bearer {answer.json['api_key']}"}


def add(app, admin, user, amount, **more):
    return app.test_client().post(f"/api/v1/admin/users/{user}/tokens", json={"amount": amount, **more}, headers=admin)


def limit(app, admin, user, amount):
    return app.test_client().patch(f"/api/v1/admin/users/{user}/limits", json={"limit": amount}, headers=admin)


def history(app, admin, user, query=""):
    return app.test_client().get(f"/api/v1/admin/users/{user}/tokens/history{query}", headers=admin)


def call(app, headers, words="one two three", **more):
    return app.test_client().post("/v1/chat/completions", json=chat(words, **more), headers=headers, buffered=True)


def entries(app):
    """The movements of balances in the ledger."""
    with Session(engine(app)) as session:
        found = session.query(LedgerEntry).filter(LedgerEntry.kind.in_(["top_up", "deduct"])).order_by(LedgerEntry.id)
        return [(row.kind, row.amount_tokens, row.actor, row.actor_id, row.reason) for row in found]


def test_a_new_user_begins_with_a_balance_that_the_ledger_knows(make_app, database):
    app = make_app(database, INITIAL_TOKEN_BALANCE="300", DEFAULT_TOKEN_LIMIT="5000")
    _number, key = register(app)
    expected = {"balance": 300, "held": 0, "total_used": 0, "limit": 5000}
    assert app.test_client().get(ME, headers=key).json == expected
    assert app.test_client().get(ME, headers=token(app, **_signed(GOOD))).json == expected, "by token too"
    assert entries(app) == [("top_up", 300, "system", None, "initial balance")]
    assert_books_agree(engine(app))


def _signed(person):
    return {"name": person["username"], "password": person["password"]}


def test_without_balance_and_limit_both_are_unlimited(make_app, database):
    app = make_app(database, INITIAL_TOKEN_BALANCE="", DEFAULT_TOKEN_LIMIT="")
    _number, key = register(app)
    assert app.test_client().get(ME, headers=key).json == {"balance": None, "held": 0, "total_used": 0, "limit": None}


def test_a_balance_may_begin_empty(make_app, database):
    app = make_app(database, INITIAL_TOKEN_BALANCE="0")
    _number, key = register(app)
    assert app.test_client().get(ME, headers=key).json["balance"] == 0
    assert entries(app) == []
    assert_books_agree(engine(app))


def test_the_limit_of_a_new_user_holds(make_app, database, upstream):
    app = with_upstream(make_app(database, INITIAL_TOKEN_BALANCE="", DEFAULT_TOKEN_LIMIT="120"), upstream)
    _number, key = register(app)
    assert call(app, key, max_tokens=20).status_code == 200
    assert app.test_client().get(ME, headers=key).json["total_used"] == 8
    assert call(app, key, "x" * 200, max_tokens=20).status_code == 402


def test_calls_use_the_balance_up_and_a_top_up_helps(make_app, database, upstream):
    app = with_upstream(make_app(database, INITIAL_TOKEN_BALANCE="150"), upstream)
    number, key = register(app)
    admin = token(app, "admin", PASSWORD)
    assert call(app, key, max_tokens=20).status_code == 200
    assert app.test_client().get(ME, headers=key).json == {"balance": 142, "held": 0, "total_used": 8, "limit": None}
    assert call(app, key, "x" * 400, max_tokens=20).status_code == 402
    answer = add(app, admin, number, 1000, reason="paid invoice 7")
    assert answer.status_code == 200
    assert answer.json.keys() == {"user_id", "balance", "held", "limit", "updated_at"}
    assert (answer.json["user_id"], answer.json["balance"], answer.json["limit"]) == (number, 1142, None)
    assert call(app, key, "x" * 400, max_tokens=20).status_code == 200
    assert_books_agree(engine(app))


def test_a_deduction_takes_what_calls_have_left_and_no_more(app, admin, upstream):
    with_upstream(app, upstream)
    number, key = register(app)
    assert call(app, key, max_tokens=20).status_code == 200
    with Session(engine(app)) as session, session.begin():
        session.query(BudgetWindow).update({"held_amount": 100})
    answer = add(app, admin, number, -9_893)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json["details"] == {
        "amount": -9_893,
        "balance": 9_992,
        "held": 100,
        "deductible": 9_892,
        "param": "amount",
    }
    assert add(app, admin, number, -9_892).json["balance"] == 100
    assert add(app, admin, number, -1).status_code == 400
    with Session(engine(app)) as session, session.begin():
        session.query(BudgetWindow).update({"held_amount": 0})
    assert [entry[:2] for entry in entries(app)] == [("top_up", 10_000), ("deduct", 9_892)]
    assert_books_agree(engine(app))


def test_a_call_must_pass_balance_and_budget(app, admin, upstream):
    with_upstream(app, upstream)
    number, key = register(app)
    budgets.put(engine(app), Actor("t"), scope="user", owner="maria", unit="usd", limit="0.00005", period="total")
    app.extensions["gateway"].catalog.refresh()
    assert "budget of user `maria`" in call(app, key, max_tokens=200).json["error"]["message"]
    assert call(app, key, max_tokens=10).status_code == 200, "10 tokens of output fit"
    add(app, admin, number, 8 - 10_000)
    assert "token balance of user `maria`" in call(app, key, max_tokens=10).json["error"]["message"]
    assert_books_agree(engine(app))


def test_a_first_top_up_makes_a_limited_user(app, admin, upstream):
    with_upstream(app, upstream)
    with Session(engine(app)) as session:
        number = session.query(User.id).filter_by(username="api-tokens").scalar()
    assert call(app, AUTH, "x" * 400, max_tokens=50).status_code == 200
    refused = add(app, admin, number, -5)
    assert (refused.status_code, "no balance" in refused.json["message"]) == (400, True)
    assert add(app, admin, number, 300).json["balance"] == 300
    assert call(app, AUTH, "x" * 400, max_tokens=50).status_code == 402
    assert_books_agree(engine(app))


@pytest.mark.parametrize(
    "amount", [0, 1.5, 1.0, True, "100", None, [5], {}, 10**12 + 1, -(10**12) - 1, 2**63, 10**30], ids=repr
)
def test_amounts_that_cannot_be(lite, amount):
    admin = token(lite, "admin", PASSWORD)
    number, _key = register(lite)
    answer = lite.test_client().post(f"/api/v1/admin/users/{number}/tokens", json={"amount": amount}, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert answer.json["details"] == {"param": "amount"}
    assert len(entries(lite)) == 1


@pytest.mark.parametrize("reason", [5, ["x"], "x" * 256], ids=["number", "list", "long"])
def test_reasons_that_cannot_be(lite, reason):
    admin = token(lite, "admin", PASSWORD)
    answer = add(lite, admin, register(lite)[0], 5, reason=reason)
    assert (answer.status_code, answer.json["details"]) == (400, {"param": "reason"})


def test_a_reason_is_stored_without_what_no_terminal_should_print(app, admin, maria):
    assert add(app, admin, maria, 5, reason="a\u0000b\u001b[31m\u202ec").status_code == 200
    assert entries(app)[-1] == ("top_up", 5, "admin", ADMIN, "a b [31m c")


def test_a_balance_has_an_end(app, admin, maria, monkeypatch):
    monkeypatch.setattr(balances, "MAX_GIVEN", 10_500)
    assert add(app, admin, maria, 501).status_code == 400
    assert add(app, admin, maria, 500).status_code == 200
    assert_books_agree(engine(app))


def test_a_limit_is_set_changed_and_taken_away(app, admin, upstream):
    with_upstream(app, upstream)
    number, key = register(app)
    assert call(app, key, max_tokens=20).status_code == 200
    assert limit(app, admin, number, 100).json["limit"] == 100
    assert limit(app, admin, number, 200).json["limit"] == 200
    assert call(app, key, max_tokens=20).status_code == 200
    assert limit(app, admin, number, 0).json["limit"] == 0, "less than is used"
    assert call(app, key, max_tokens=20).status_code == 402
    answer = limit(app, admin, number, None)
    assert (answer.json["limit"], answer.json["balance"]) == (None, 10_000 - 16)
    assert call(app, key, max_tokens=20).status_code == 200
    with Session(engine(app)) as session:
        told = [entry.details for entry in session.query(AuditEntry).filter_by(action="limit_set")]
        assert [(one["before"], one["after"]) for one in told] == [(None, 100), (100, 200), (200, 0), (0, None)]
    assert_books_agree(engine(app))


@pytest.mark.parametrize(
    "body",
    [{}, {"limit": -1}, {"limit": 1.5}, {"limit": True}, {"limit": "9"}, {"limit": 10**13}, [], "5", None],
    ids=repr,
)
def test_limits_that_cannot_be(lite, body):
    admin = token(lite, "admin", PASSWORD)
    answer = lite.test_client().patch(f"/api/v1/admin/users/{register(lite)[0]}/limits", json=body, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")


def test_the_history_tells_every_movement(app, admin, upstream):
    with_upstream(app, upstream)
    number, key = register(app)
    called = call(app, key, max_tokens=20)
    add(app, admin, number, 500, reason="gift")
    add(app, admin, number, -200)
    found = history(app, admin, number).json
    assert [(one["amount"], one["reason"], one["note"], one["admin_user_id"]) for one in found] == [
        (-200, "admin_deduct", None, ADMIN),
        (500, "admin_top_up", "gift", ADMIN),
        (-8, "llm_usage", None, None),
        (10_000, "admin_top_up", "initial balance", None),
    ]
    assert [one["message_id"] for one in found] == [None, None, called.headers["x-request-id"], None]
    assert {(one["user_id"], one["dialog_id"]) for one in found} == {(number, None)}
    assert sum(one["amount"] for one in found) == app.test_client().get(ME, headers=key).json["balance"]
    assert [one["id"] for one in history(app, admin, number, "?skip=1&limit=2").json] == [
        one["id"] for one in found[1:3]
    ]
    with Session(engine(app)) as session:
        done = session.query(AuditEntry).filter(AuditEntry.resource_type == "token").order_by(AuditEntry.id)
        assert [(one.action, one.actor, one.user_id, one.resource_id, one.details) for one in done] == [
            ("token_topup", "admin", ADMIN, str(number), {"tokens": 500, "reason": "gift"}),
            ("token_deduct", "admin", ADMIN, str(number), {"tokens": 200, "reason": None}),
        ]


def test_a_user_without_balance_has_no_history(app, admin):
    assert history(app, admin, 1).json == []


@pytest.mark.parametrize(
    "query", ["?limit=1001", "?limit=-1", "?skip=x", "?skip=1000001", "?limit=1e2", "?skip=٣", f"?skip={'9' * 5000}"]
)
def test_pages_that_cannot_be(lite, query):
    answer = history(lite, token(lite, "admin", PASSWORD), 1, query)
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")


def test_a_page_of_ten_million_entries_is_found_by_an_index(app, session):
    query = "SELECT id FROM ledger_entries WHERE account = 'budget' AND account_id = 7 ORDER BY id DESC LIMIT 100"
    if engine(app).dialect.name == "sqlite":
        plan = " ".join(row[3] for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
        assert "TEMP B-TREE" not in plan
    else:
        session.execute(text("SET enable_seqscan = off"))  # the table is empty
        plan = " ".join(row[0] for row in session.execute(text(f"EXPLAIN {query}")))
        assert "Sort" not in plan
    assert "ix_ledger_entries_account_account_id_id" in plan


@pytest.mark.parametrize("number", ["99", str(2**63), "9" * 40])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "tokens", {"amount": 5}),
        ("GET", "tokens/history", None),
        ("PATCH", "limits", {"limit": 5}),
        ("PATCH", "limits", {"limit": None}),
    ],
)
def test_users_that_are_not_there(app, admin, number, method, path, body):
    answer = app.test_client().open(f"/api/v1/admin/users/{number}/{path}", method=method, json=body, headers=admin)
    assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND")
    with Session(engine(app)) as session:
        assert session.query(Budget).count() == 0


def test_the_panel_changes_a_balance_through_the_ledger_too(app, admin, maria):
    with Session(engine(app)) as session, session.begin():
        row = session.query(Budget).filter_by(is_prepaid=True).one()
        budgets.change(session, Actor("eve", 1), row, 10_700, "UTC")
        budgets.change(session, Actor("eve", 1), row, 10_200, "UTC")
    assert entries(app)[1:] == [("top_up", 700, "eve", 1, "limit changed"), ("deduct", 500, "eve", 1, "limit changed")]
    assert app.test_client().get(ME, headers=token(app, **_signed(GOOD))).json["balance"] == 10_200
    assert_books_agree(engine(app))
