"""`/usage/{username}`: what a user used in a span of days, and who may see it."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from models import UsageRecord
from tests.callers import bearer
from tests.conftest import PASSWORD
from tests.helpers import AUTH
from tests.people import FORBIDDEN, LOGIN, ask, engine, number_of, said, token


@pytest.fixture
def admin(app):
    return token(app)


@pytest.fixture
def maria(app, admin):
    assert ask(app, "POST", "/users/create", admin, json=LOGIN).status_code == 200
    return token(app, **LOGIN)


def spend(app, user_id, moment, tokens, cached=0):
    """A booked call of that moment."""
    ms = int(datetime.fromisoformat(moment).timestamp() * 1000)
    with Session(engine(app)) as session, session.begin():
        session.add(
            UsageRecord(
                request_id=f"req_{ms:012x}{tokens:020x}", created_at=datetime.fromtimestamp(ms / 1000, UTC),
                user_id=user_id, model="fast", operation="chat", is_stream=False, status=200, outcome="ok",
                state="measured", input_tokens=tokens, output_tokens=1, cache_read_input_tokens=cached or None,
                cost_nanousd=0, duration_ms=1,
            )
        )  # fmt: skip


SPANS = [
    pytest.param("", (1111, 4, 7), id="all"),
    pytest.param("?start_date=2026-01-31", (1110, 3, 7), id="from a day on"),
    pytest.param("?end_date=2026-01-31", (11, 2, 0), id="the last day counts whole"),
    pytest.param("?start_date=2026-01-31&end_date=2026-01-31", (10, 1, 0), id="one day"),
    pytest.param("?start_date=2026-02-01T08:00:00&end_date=2026-02-01T09:00:00Z", (100, 1, 7), id="moments name days"),
    pytest.param("?start_date=2026-02-02T01:00:00%2B02:00&end_date=2026-02-01", (100, 1, 7), id="days of UTC"),
    pytest.param("?start_date=2031-01-01", (0, 0, 0), id="none"),
    pytest.param("?start_date=&end_date=", (1111, 4, 7), id="empty ones"),
]


@pytest.mark.parametrize(("query", "expected"), SPANS)
def test_usage_of_a_span_of_days(app, maria, query, expected):
    number = number_of(app)
    spend(app, number, "2026-01-30T23:59:59.999+00:00", 1)
    spend(app, number, "2026-01-31T23:59:59.999+00:00", 10)
    spend(app, number, "2026-02-01T00:00:00+00:00", 100, cached=7)
    spend(app, number, "2026-02-02T00:00:00+00:00", 1000)
    spend(app, 1, "2026-01-31T12:00:00+00:00", 5555)
    kinds = dict(zip(("PROMPT", "COMPLETION", "CACHED"), expected, strict=True))
    for path in ("/usage/maria", "/users/usage/maria"):
        found = ask(app, "GET", path + query, maria)
        assert found.status_code == 200
        assert found.json.keys() == {"username", "current_usage", "period"}
        assert (found.json["username"], found.json["current_usage"]) == ("maria", kinds)
        assert found.json["period"].keys() == {"start_date", "end_date"}


@pytest.mark.parametrize(
    "query",
    ["?start_date=yesterday", "?end_date=2026-13-01", "?start_date=2026-02-02&end_date=2026-02-01",
     "?end_date=9999-12-31", "?start_date=20260101T", "?start_date=0001-01-01T00:00:00%2B14:00", "?end_date=%00"],
)  # fmt: skip
def test_spans_that_cannot_be(app, query):
    answer = ask(app, "GET", f"/usage/api-tokens{query}", AUTH)
    assert (answer.status_code, answer.json["code"]) == (400, "validation_error")


def test_usage_of_others_is_for_admins(app, admin, maria):
    own = ask(app, "POST", "/login", json={"username": "admin", "password": PASSWORD}).json["api_key"]
    assert ask(app, "GET", "/usage/maria", admin).status_code == 200
    for headers, other in ((maria, "admin"), (maria, "nobody"), (bearer(own), "maria")):
        assert said(ask(app, "GET", f"/usage/{other}", headers)) == (403, FORBIDDEN)
    assert said(ask(app, "GET", "/users/usage/nobody", admin)) == (404, "User not found")
    assert ask(app, "PATCH", "/users/maria", admin, json={"role": "auditor"}).status_code == 200
    assert ask(app, "GET", "/usage/admin", maria).status_code == 200  # who sees everything, sees that too


def test_sums_are_read_from_an_index(lite):
    query = "EXPLAIN QUERY PLAN SELECT sum(input_tokens), sum(output_tokens), sum(cache_read_input_tokens) FROM usage"
    query += " WHERE user_id = 1 AND request_id >= 'req_0' AND request_id < 'req_1'"
    with engine(lite).connect() as connection:
        plan = connection.exec_driver_sql(query).fetchall()
    assert "COVERING INDEX ix_usage_user_sums" in str(plan)
