"""What the ledger proves and shows: every account, every day, and that nobody changes what is written."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Model, Team, User
from services import balances, ledger
from services.audit import Actor
from services.bookings import Booking
from services.errors import NotFound
from services.types import BudgetRef, Take, Usage
from tests.books.test_books import hold, settlement
from tests.helpers import add_model, add_provider, squeezed

EVE = Actor("eve", 7)


@pytest.fixture
def ana(session):
    row = User(username="ana")
    session.add(row)
    session.commit()
    return row.id


@pytest.fixture
def balance(gateway, session, ana):
    """Ana has 1,000 tokens of which a call used 30."""
    balances.add(gateway.engine, ana, 1_200, EVE, "gift")
    balances.add(gateway.engine, ana, -200, EVE)
    row = session.query(Budget).one()
    ref = BudgetRef(row.id, "user", "tokens", "total", "UTC", is_prepaid=True)
    take = Take(ref, 0, 500)
    gateway.books.reserve(hold("r1", [take]), [take])
    gateway.books.settle(settlement("r1", ana, [Booking(ref.id, 0, "tokens", 500, 30)]))
    assert ledger.verify(gateway.engine).differences == ()
    return ref


def differences(gateway, session, *statements):
    for statement in statements:
        session.execute(text(statement))
    session.commit()
    return ledger.verify(gateway.engine).differences


def test_accounts_and_days_are_counted(gateway, ana, balance):
    report = ledger.verify(gateway.engine)
    assert (report.accounts, report.days) == (4, 2), "three users and a balance; two of them on one day"
    gateway.books.settle(settlement("r2", ana, created_ms=1_790_000_000_000 + 86_400_000))
    report = ledger.verify(gateway.engine)
    assert (report.accounts, report.days, report.usage_rows, report.ledger_entries) == (4, 3, 2, 5)


def test_top_ups_and_deductions_are_not_spent(gateway, session, balance):
    standing = gateway.books.standing(Take(balance, 0, 0))
    assert (standing.limit, standing.spent, standing.held) == (1_000, 30, 0)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE budgets SET limit_amount = 1001",
            "balance of user ana: tokens given is 1001, by the ledger it is 1000",
        ),
        ("UPDATE budgets SET limit_amount = 0", "balance of user ana: tokens given is 0"),
        ("UPDATE budgets SET is_prepaid = false", "1000 tokens given, but it is no balance"),
        (
            "INSERT INTO budgets (scope, scope_id, unit, period, timezone, limit_amount, is_prepaid, created_at,"
            " updated_at) VALUES ('user', 99, 'tokens', 'total', 'UTC', 5, true, 0, 0)",
            "balance of user #99: tokens given is 5, by the ledger it is 0",
        ),
        ("UPDATE budget_windows SET spent_amount = 1030", "spent is 1030, by the ledger it is 30"),
        ("INSERT INTO leases VALUES ('w', 1, 0, 40, 0)", "held is 0, by open holds and leases it is 40"),
        ("INSERT INTO leases VALUES ('w', 99, 0, 40, 0)", "budget 99, period 0: 40 held, but no window"),
        # Both sides of the day are wrong alike; the budget's charge shows it.
        (
            "UPDATE usage SET output_tokens = output_tokens + 5;"
            "INSERT INTO ledger_entries (created_at, kind, account, account_id, period_start, amount_nanousd,"
            " amount_tokens, request_id) SELECT created_at, 'correction', account, account_id, 0, 0, 5, request_id"
            " FROM ledger_entries WHERE account = 'user';"
            "UPDATE users SET tokens_used = tokens_used + 5 WHERE username = 'ana'",
            "day 2026-09-21: tokens in the ledger is 30, by the usage rows it is 35",
        ),
    ],
    ids=range(8),
)
def test_verify_sees_every_kind_of_difference(gateway, session, balance, statement, said):
    assert balance.id == 1
    found = differences(gateway, session, *statement.split(";"))
    assert any(said in difference for difference in found), found


def test_a_lease_is_part_of_what_is_held(gateway, session, balance):
    taken = "UPDATE budget_windows SET held_amount = 70"
    lease = "INSERT INTO leases (owner, budget_id, period_start, amount, expires_at) VALUES ('{}', 1, 0, {}, 0)"
    assert differences(gateway, session, taken, lease.format("v", 30), lease.format("w", 40)) == ()


def test_a_balance_that_was_deleted_leaves_its_entries_and_no_difference(gateway, session, balance):
    assert differences(gateway, session, "DELETE FROM budgets") == ()


def test_a_charge_in_usd_is_compared_too(gateway, session, ana):
    row = Budget(scope="user", scope_id=ana, unit="usd", period="total", limit_amount=10**9)
    session.add(row)
    session.commit()
    gateway.books.settle(settlement("r1", ana, [Booking(row.id, 0, "usd", 0, 13_500)]))
    gateway.books.settle(settlement("r2", ana, [Booking(row.id, 0, "usd", 0, 0)], usage=Usage(), cost_nanousd=0))
    assert ledger.verify(gateway.engine).differences == ()
    gateway.books.settle(settlement("r3", ana, [Booking(row.id, 0, "usd", 0, 13_499)]))
    assert ledger.verify(gateway.engine).differences == (
        f"budget {row.id}, day 2026-09-21: nano-USD in the ledger is 26999, by the usage rows it is 27000",
    )


@pytest.mark.parametrize("table", ["ledger_entries", "audit_log"])
def test_nobody_empties_a_log(gateway, session, balance, table):
    is_postgres = gateway.engine.dialect.name == "postgresql"
    for statement in (f"TRUNCATE {table}", f"TRUNCATE {table} CASCADE") if is_postgres else (f"DELETE FROM {table}",):
        with pytest.raises(DatabaseError, match="append-only"), Session(gateway.engine) as other:
            other.execute(text(statement))
    assert session.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one() > 0


# What `flask ledger show` prints


@pytest.fixture
def show(app):
    def run(*options):
        done = app.test_cli_runner().invoke(args=["ledger", "show", *options])
        lines = squeezed(done.output)
        return done.exit_code, lines if done.exit_code else lines[1:]  # without the heads

    return run


def shown(lines):
    """Without numbers and times."""
    return [tuple(line.split("  ")[2:]) for line in lines]


def test_movements_are_shown_with_whose_they_are(show, balance):
    status, lines = show()
    expected = [
        ("charge", "balance of user ana", "-30 tokens", "r1", "gateway", "-"),
        ("charge", "user ana", "-$0.0000135, -30 tokens", "r1", "gateway", "-"),
        ("deduct", "balance of user ana", "-200 tokens", "-", "eve", "-"),
        ("top_up", "balance of user ana", "1,200 tokens", "-", "eve", "gift"),
    ]
    assert (status, shown(lines)) == (0, expected)
    assert lines[1].startswith("3  2026-09-21 14:13:20  charge")
    assert shown(show("--user", "ana")[1]) == expected
    assert shown(show("--user", "ana", "--limit", "2")[1]) == expected[:2]
    assert show("--user", "admin") == (0, [])


def test_movements_of_one_key_team_or_model(app, show, gateway, session, ana, upstream):
    model = add_model(app, add_provider(app, upstream))
    key, team = ApiKey(user_id=ana, name="k", digest="d", hint="sk-th-AbCd…9xYz"), Team(name="red")
    session.add_all([key, team])
    session.flush()
    owned = [("key", key.id), ("team", team.id), ("model", model)]
    rows = [Budget(scope=scope, scope_id=number, unit="usd", period="day", limit_amount=9) for scope, number in owned]
    session.add_all(rows)
    session.commit()
    bookings = [Booking(row.id, 0, "usd", 0, 13_500) for row in rows]
    gateway.books.settle(settlement("r1", ana, bookings))
    for (scope, _number), row, name in zip(owned, rows, ("sk-th-AbCd…9xYz", "red", "fast"), strict=True):
        status, lines = show(f"--{scope}", name)
        whose = f"budget {row.id} (day) of {scope} {name}"
        assert (status, shown(lines)) == (0, [("charge", whose, "-$0.0000135", "r1", "gateway", "-")])
    session.query(Budget).delete()
    session.query(Model).delete()
    session.commit()
    assert shown(show("--limit", "1")[1])[0][1] == f"budget {rows[-1].id}"


def test_a_correction_that_gives_back_is_shown_as_a_gain(gateway, ana, show):
    guess = settlement("r1", ana, outcome="recovered", usage=Usage(50, 0), cost_nanousd=20_000)
    gateway.books.settle(guess)
    gateway.books.settle(settlement("r1", ana))
    assert shown(show("--limit", "1")[1]) == [("correction", "user ana", "$0.0000065, 20 tokens", "r1", "gateway", "-")]


def test_movements_of_nobody(gateway, show):
    with pytest.raises(NotFound):
        ledger.newest(gateway.engine, ("user", "nobody"), 5)
    assert show("--user", "nobody") == (78, ["There is no user `nobody`."])
    assert show("--user", "admin", "--team", "red")[0] == 78
    assert show("--limit", "0")[0] == 2
