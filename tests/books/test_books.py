"""Reserve and settle, statement by statement, on both databases."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from models import Budget, BudgetWindow, Hold, LedgerEntry, UsageRecord, User
from services import ledger
from services.bookings import Booking, Settlement
from services.books.base import BooksRefused, HoldRefused, HoldRow
from services.types import BudgetRef, Price, Take, Usage
from utils import jsonx

PRICE = Price(150_000_000, 600_000_000, source="test")


@pytest.fixture
def user(session):
    row = User(username="ana")
    session.add(row)
    session.commit()
    return row.id


@pytest.fixture
def make_budget(session, user):
    def make(limit, unit="usd", period="total"):
        row = Budget(scope="user", scope_id=user, unit=unit, period=period, limit_amount=limit)
        session.add(row)
        session.commit()
        return BudgetRef(row.id, "user", unit, period, "UTC", is_prepaid=False)

    return make


def hold(request_id, takes=(), owner="place.1.x", deadline=10**13):
    record = [(t.budget.id, t.period_start, t.amount, t.budget.unit, False) for t in takes]
    note = {"user": 1, "key": None, "model": "fast", "op": "chat", "stream": False, "in": 10}
    return HoldRow(
        request_id, owner, 1_790_000_000_000, deadline, jsonx.dumps(record).decode(), "[]", jsonx.dumps(note).decode()
    )


def settlement(request_id, user, bookings=(), **fields):
    defaults = {
        "request_id": request_id,
        "created_ms": 1_790_000_000_000,
        "user_id": user,
        "key_id": None,
        "model": "fast",
        "provider": "fake",
        "upstream_model": "gpt-4o-mini",
        "operation": "chat",
        "is_stream": False,
        "status": 200,
        "outcome": "ok",
        "state": "measured",
        "is_overrun": False,
        "usage": Usage(10, 20),
        "cost_nanousd": 13_500,
        "price": PRICE,
        "bookings": tuple(bookings),
        "first_byte_ms": 5,
        "duration_ms": 9,
        "attempts": (("fake", "ok"),),
        "error": None,
    }
    return Settlement(**(defaults | fields))


def window(session, budget, start=0):
    session.rollback()
    row = session.get(BudgetWindow, (budget.id, start))
    return (row.spent_amount, row.held_amount) if row else None


def count(session, table):
    session.rollback()
    return session.query(table).count()


def test_a_call_moves_from_held_to_spent(gateway, session, user, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    assert window(session, budget) == (0, 20_000)
    assert gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)]))
    assert window(session, budget) == (13_500, 0)
    session.rollback()
    row = session.query(UsageRecord).one()
    assert (row.request_id, row.input_tokens, row.output_tokens, row.cost_nanousd) == ("r1", 10, 20, 13_500)
    assert row.created_at.isoformat() == "2026-09-21T14:13:20+00:00"
    owner = session.get(User, user)
    assert (owner.tokens_used, owner.spent_nanousd) == (30, 13_500)
    assert ledger.verify(gateway.engine).differences == ()


def test_a_budget_takes_no_more_than_its_limit(gateway, session, make_budget):
    budget = make_budget(50_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.reserve(hold("r2", [take]), [take])
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r3", [take]), [take])
    assert window(session, budget) == (0, 40_000)
    assert count(session, Hold) == 2


def test_the_exact_rest_fits_and_one_more_does_not(gateway, session, make_budget):
    budget = make_budget(50_000)
    for request_id, amount in (("r1", 49_999), ("r2", 1)):
        gateway.books.reserve(hold(request_id), [Take(budget, 0, amount)])
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r3"), [Take(budget, 0, 1)])
    assert window(session, budget) == (0, 50_000)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_several_budgets_are_taken_all_or_nothing(gateway, session, make_budget, short):
    limits = [100, 100, 100]
    limits[short] = 10
    budgets = [make_budget(limits[0]), make_budget(limits[1], "tokens"), make_budget(limits[2], "tokens", "day")]
    takes = [Take(budget, 0, 50) for budget in budgets]
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r1", takes), takes)
    assert [window(session, budget) in (None, (0, 0)) for budget in budgets] == [True] * 3
    assert count(session, Hold) == 0


def test_a_deleted_budget_refuses(gateway, session, make_budget):
    budget = make_budget(100)
    session.query(Budget).delete()
    session.commit()
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r1"), [Take(budget, 0, 1)])


def test_a_settlement_is_booked_once(gateway, session, user, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    booked = settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)])
    assert [gateway.books.settle(booked) for _ in range(3)] == [True, False, False]
    assert window(session, budget) == (13_500, 0)
    assert count(session, UsageRecord) == 1


def test_more_than_held_is_booked_in_full_and_the_budget_then_refuses(gateway, session, user, make_budget):
    budget = make_budget(30_000)
    take = Take(budget, 0, 10_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    booking = Booking(budget.id, 0, "usd", 10_000, 90_000)
    gateway.books.settle(settlement("r1", user, [booking], cost_nanousd=90_000, is_overrun=True))
    assert window(session, budget) == (90_000, 0)
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r2"), [Take(budget, 0, 1)])
    assert ledger.verify(gateway.engine).differences == ()


def test_a_limit_below_what_is_spent_refuses_and_stays_consistent(gateway, session, user, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    session.query(Budget).update({"limit_amount": 5})
    session.commit()
    gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)]))
    with pytest.raises(HoldRefused):
        gateway.books.reserve(hold("r2"), [Take(budget, 0, 1)])
    assert ledger.verify(gateway.engine).differences == ()


def test_a_void_call_leaves_a_row_and_no_charge(gateway, session, user, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.settle(
        settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 0)], state="void", usage=Usage(), cost_nanousd=0)
    )
    assert window(session, budget) == (0, 0)
    assert (count(session, UsageRecord), count(session, LedgerEntry)) == (1, 0)
    assert ledger.verify(gateway.engine).differences == ()


def test_a_released_hold_gives_everything_back(gateway, session, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.release("r1")
    gateway.books.release("r1")
    assert window(session, budget) == (0, 0)
    assert (count(session, Hold), count(session, UsageRecord)) == (0, 0)


def test_a_report_after_a_recovery_corrects_it(gateway, session, user, make_budget):
    budget = make_budget(1_000_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    guess = settlement(
        "r1",
        user,
        [Booking(budget.id, 0, "usd", 20_000, 5_000)],
        outcome="recovered",
        state="estimated",
        usage=Usage(10, 0),
        cost_nanousd=5_000,
    )
    assert gateway.books.settle(guess)
    assert gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)]))
    assert window(session, budget) == (13_500, 0)
    assert not gateway.books.settle(guess), "a guess never replaces a report"
    session.rollback()
    row = session.query(UsageRecord).one()
    assert (row.outcome, row.state, row.cost_nanousd, row.output_tokens) == ("ok", "measured", 13_500, 20)
    assert {entry.kind for entry in session.query(LedgerEntry)} == {"charge", "correction"}
    assert ledger.verify(gateway.engine).differences == ()


def test_a_correction_may_also_give_back(gateway, session, user, make_budget):
    budget = make_budget(1_000_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.settle(
        settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 15_000)], outcome="recovered", cost_nanousd=15_000)
    )
    gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)]))
    assert window(session, budget) == (13_500, 0)
    assert ledger.verify(gateway.engine).differences == ()


def test_a_settlement_whose_hold_was_lost_is_still_booked(gateway, session, user, make_budget):
    budget = make_budget(1_000_000, "tokens")
    assert gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "tokens", 500, 30)]))
    assert window(session, budget) == (30, 0)
    assert ledger.verify(gateway.engine).differences == ()


def test_tokens_may_be_counted_outside_a_call(gateway, session, user):
    gateway.books.add_tokens(user, 42, actor="ana", reason="test")
    session.rollback()
    assert session.get(User, user).tokens_used == 42
    assert ledger.verify(gateway.engine).differences == ()


def test_a_value_the_database_refuses_spoils_nothing(gateway, session, user, make_budget):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    with pytest.raises(BooksRefused):
        gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 1)], cost_nanousd=2**70))
    with pytest.raises(BooksRefused):
        gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 1)], state="nonsense"))
    assert window(session, budget) == (0, 20_000)
    assert (count(session, Hold), count(session, UsageRecord)) == (1, 0)


def test_standing_of_a_budget(gateway, session, make_budget):
    budget = make_budget(100)
    take = Take(budget, 0, 30)
    standing = gateway.books.standing(take)
    assert (standing.limit, standing.spent, standing.held, standing.left) == (100, 0, 0, 100)
    gateway.books.reserve(hold("r1", [take]), [take])
    assert gateway.books.standing(take).left == 70
    session.query(Budget).delete()
    session.commit()
    assert gateway.books.standing(take) is None


def test_open_holds_are_found_by_owner_and_by_deadline(gateway):
    gateway.books.reserve(hold("r1", owner="here.1.a", deadline=1000), [])
    gateway.books.reserve(hold("r2", owner="here.2.b", deadline=3000), [])
    assert [row.request_id for row in gateway.books.overdue(2000)] == ["r1"]
    assert [row.request_id for row in gateway.books.owned_by("here.2.b")] == ["r2"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount_tokens = 1",
        "DELETE FROM ledger_entries",
        "UPDATE audit_log SET actor = 'x'",
        "DELETE FROM audit_log",
    ],
)
def test_ledger_and_audit_take_no_change(gateway, session, user, statement):
    gateway.books.add_tokens(user, 1, actor="ana", reason="test")
    session.rollback()
    with pytest.raises(DatabaseError, match="append-only"), Session(gateway.engine) as other:
        other.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE budget_windows SET spent_amount = spent_amount + 1", "spent is"),
        ("UPDATE budget_windows SET held_amount = 5", "held is"),
        ("UPDATE users SET tokens_used = tokens_used + 1 WHERE username = 'ana'", "user ana: tokens"),
        ("UPDATE users SET spent_nanousd = 0 WHERE username = 'ana'", "user ana: nano-USD"),
        ("UPDATE usage SET cost_nanousd = cost_nanousd + 1", "nano-USD of usage"),
        ("UPDATE usage SET output_tokens = 0", "tokens of usage"),
        ("DELETE FROM usage", "without a usage row"),
        ("DELETE FROM budget_windows", "no window"),
        ("UPDATE usage SET request_id = 'other'", "never charged"),
    ],
)
def test_verify_sees_every_kind_of_difference(gateway, session, user, make_budget, statement, said):
    budget = make_budget(100_000)
    take = Take(budget, 0, 20_000)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.settle(settlement("r1", user, [Booking(budget.id, 0, "usd", 20_000, 13_500)]))
    assert ledger.verify(gateway.engine).differences == ()
    session.execute(text(statement))
    session.commit()
    assert any(said in difference for difference in ledger.verify(gateway.engine).differences)


def test_verify_sees_a_hold_without_a_window(gateway, session, make_budget):
    take = Take(make_budget(100), 0, 20)
    gateway.books.reserve(hold("r1", [take]), [take])
    session.execute(text("DELETE FROM budget_windows"))
    session.commit()
    assert "held, but no window" in ledger.verify(gateway.engine).differences[0]
