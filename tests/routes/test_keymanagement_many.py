"""Thousands of keys: pages are bounded, and neither pages nor calls ask the database more than for ten."""

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from models import ApiKey, Budget, Limit, User
from services import keys as secrets
from services.keys import _by_digest
from tests.management import KEYS, SEARCH, USERS, ask, call
from tests.routes.test_query_budget import statements
from utils import ids


def adder(app):
    """Adds so many keys with a budget and a limit each; returns a secret of one of them."""
    gateway = app.extensions["gateway"]

    def add(count):
        with Session(gateway.engine) as session, session.begin():
            owner = session.scalars(select(User.id).where(User.username == "api-tokens")).one()
            made = [secrets.new_secret() for _ in range(count)]
            plain = {"user_id": owner, "name": "n", "kind": "standard", "hint": "h", "tags": ["many", "more"]}
            found = [plain | {"digest": gateway.keys.digest(secret), "uuid": ids.uuid()} for secret in made]
            session.execute(insert(ApiKey), found)
            numbers = session.scalars(select(ApiKey.id).where(ApiKey.name == "n")).all()
            ceiling = {"scope": "key", "limit_amount": 10**9}
            session.execute(
                insert(Budget), [ceiling | {"scope_id": number, "unit": "usd", "period": "total"} for number in numbers]
            )
            session.execute(
                insert(Limit),
                [ceiling | {"scope_id": number, "unit": "requests", "period": "day"} for number in numbers],
            )
        gateway.catalog.refresh()
        return made[-1]

    return add


@pytest.fixture
def add(app):
    return adder(app)


def cost(app, action, status):
    """The statements that a request takes, by verb and table."""
    app.extensions["gateway"].catalog.refresh()
    with statements(app) as seen:
        assert action().status_code == status
    return seen


def test_calls_and_pages_cost_the_same_with_ten_thousand_keys(make_app, database):
    app = make_app(database, IN_MEMORY_DB_UPDATE_INTERVAL="2")
    add = adder(app)
    costs = []
    for count in (10, 9_990):
        secret = add(count)
        costs.append(
            [
                cost(app, lambda secret=secret: call(app, secret), 200),  # seen for the first time
                cost(app, lambda secret=secret: call(app, secret), 200),
                cost(app, lambda: call(app, secrets.new_secret()), 401),
                cost(app, lambda: ask(app, "GET", f"{KEYS}?tag=many&limit=10"), 200),
                cost(app, lambda: ask(app, "POST", SEARCH, {"revoked": False, "limit": 10, "returnCount": True}), 200),
                cost(app, lambda: ask(app, "GET", f"{USERS}?limit=10"), 200),
            ]
        )
        with app.extensions["gateway"].engine.begin() as connection:
            connection.execute(text("DELETE FROM limits"))
            connection.execute(text("DELETE FROM budgets"))
    assert costs[0] == costs[1]
    assert len(costs[1][2]) == 1
    assert len(costs[1][3]) == 6


def test_a_key_is_found_by_indexes(app, add):
    secret = add(3_000)
    engine = app.extensions["gateway"].engine
    query = _by_digest((app.extensions["gateway"].keys.digest(secret), "of an earlier pepper"))
    with engine.connect() as connection:
        written = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
        if engine.dialect.name == "sqlite":
            plan = [row[-1] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {written}"))]
            assert not [line for line in plan if line.startswith("SCAN")], plan
        else:
            connection.execute(text("ANALYZE"))
            plan = [row[0] for row in connection.execute(text(f"EXPLAIN {written}"))]
            assert not [line for line in plan if "Seq Scan on api_keys" in line], plan


def test_pages_are_bounded_and_cover_everything(app, add):
    add(1_050)
    first = ask(app, "GET", f"{KEYS}?tag=many")
    rest = ask(app, "GET", f"{KEYS}?tag=many&offset=1000")
    assert (len(first.json), len(rest.json), first.headers["x-total-count"]) == (1_000, 50, "1050")
    seen = [key["keyId"] for key in first.json + rest.json]
    assert len(set(seen)) == 1_050
    paged = []
    for offset in range(0, 1_100, 100):
        body = {"tags": ["many"], "limit": 100, "offset": offset, "returnCount": True}
        page = ask(app, "POST", SEARCH, body).json
        assert page["count"] == 1_050
        paged += [key["keyId"] for key in page["keys"]]
    assert paged == seen
    assert ask(app, "GET", f"{KEYS}?tag=many&offset=999999999").json == []
    owner = ask(app, "GET", f"{USERS}?userIds=api-tokens").json[0]
    assert owner["keyIds"] == seen[:100], "of a user with many keys the newest are shown"
