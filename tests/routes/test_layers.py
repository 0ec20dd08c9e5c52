"""Budgets of keys, users, teams and models on one call; teams; warnings; keys that reach some providers only."""

import logging

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import ApiKey, Model, Provider, Team, User
from services import budgets
from services.audit import Actor
from tests.conftest import PASSWORD
from tests.helpers import AUTH, RATES, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream

ME = Actor("tests")
COST = 3 * 150 + 5 * 600


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


def gateway(app):
    return app.extensions["gateway"]


def budget(app, amount, unit="usd", period="total", scope="user", owner="api-tokens", **more):
    here = gateway(app)
    budgets.put(here.engine, ME, scope=scope, owner=owner, unit=unit, limit=str(amount), period=period, **more)
    here.catalog.refresh()


def post(app, body=None, auth=AUTH):
    return app.test_client().post(
        "/v1/chat/completions", json=body or chat("one two three", max_tokens=5), headers=auth
    )


def team(app, *users, name="blue", allowed_models=None):
    with Session(gateway(app).engine) as session, session.begin():
        row = Team(name=name, allowed_models=allowed_models)
        session.add(row)
        session.flush()
        session.query(User).filter(User.username.in_(users)).update({"team_id": row.id})
    gateway(app).catalog.refresh()


def windows(app):
    with gateway(app).engine.connect() as connection:
        query = text("""
            SELECT b.scope, w.spent_amount, w.held_amount FROM budget_windows w JOIN budgets b ON b.id = w.budget_id
            ORDER BY b.id""")
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("scope", ["key", "user", "team", "model"])
def test_each_layer_is_charged_and_each_can_refuse(fast, scope):
    team(fast, "api-tokens")
    owners = {"key": "1", "user": "api-tokens", "team": "blue", "model": "fast"}
    for layer, owner in owners.items():
        budget(fast, "0.00004" if layer == scope else "1", scope=layer, owner=owner, period="day")
    statuses = [post(fast).status_code for _ in range(12)]
    admitted = statuses.count(200)
    assert 0 < admitted < 12
    assert statuses == [200] * admitted + [429] * (12 - admitted)
    message = post(fast).get_json()["error"]["message"]
    assert f"The budget of this day of {scope} `" in message
    assert "limit $0.00004, spent $0.0000" in message
    assert windows(fast) == [(layer, admitted * COST, 0) for layer in owners]
    assert_books_agree(gateway(fast).engine)


def test_a_team_shares_its_budget(fast):
    client = fast.test_client()
    key = client.post("/register", json={"username": "ana", "password": PASSWORD}).get_json()["api_key"]
    team(fast, "api-tokens", "ana")
    budget(fast, 130, "tokens", scope="team", owner="blue")
    ana = {"Authorization": f"Bearer {key}"}
    assert [post(fast).status_code, post(fast, auth=ana).status_code] == [200, 200]
    assert windows(fast)[-1][:2] == ("team", 16)
    assert post(fast, chat("a much longer question " * 5, max_tokens=50), ana).status_code == 402
    assert last(gateway(fast).engine).team_id is not None


def test_models_must_be_allowed_by_key_user_and_team(fast, upstream):
    add_model(fast, add_provider(fast, upstream, "other"), "second")
    team(fast, "api-tokens", allowed_models=["fast", "echo"])
    assert post(fast).status_code == 200
    refused = post(fast, chat(model="second"))
    assert refused.status_code == 403
    assert "may not use model `second`; allowed: `echo`, `fast`" in refused.get_json()["error"]["message"]
    with Session(gateway(fast).engine) as session, session.begin():
        session.query(User).filter_by(username="api-tokens").update({"allowed_models": ["second", "echo"]})
    gateway(fast).catalog.refresh()
    assert [post(fast, chat(model=name)).status_code for name in ("fast", "second", "echo")] == [403, 403, 200]
    listed = fast.test_client().get("/v1/models", headers=AUTH).get_json()["data"]
    assert [model["id"] for model in listed] == ["echo"]


@pytest.fixture
def falling(fast, upstream):
    """`fast` falls over to `dear`, which costs three times as much and answers from a provider of its own."""
    rates = {name: rate * 3 for name, rate in RATES.items()}
    add_model(fast, add_provider(fast, upstream, "other"), "dear", price=rates)
    with Session(gateway(fast).engine) as session, session.begin():
        session.query(Model).filter_by(name="fast").update({"fallbacks": ["dear"]})
    gateway(fast).catalog.refresh()
    return fast


def test_a_models_budget_is_charged_for_what_that_model_served(falling, upstream):
    budget(falling, 1, scope="model", owner="fast")
    budget(falling, 1, scope="model", owner="dear")
    budget(falling, 1)
    assert post(falling).status_code == 200
    upstream.will(status=500)
    assert post(falling).status_code == 200
    assert [row.provider for row in rows(gateway(falling).engine)] == ["fake", "other"]
    assert windows(falling) == [("model", COST, 0), ("model", 3 * COST, 0), ("user", 4 * COST, 0)]
    assert_books_agree(gateway(falling).engine)


def test_a_fallback_that_its_budget_cannot_take_is_not_tried(falling, upstream):
    budget(falling, 0, scope="model", owner="dear")
    budget(falling, "0.00004")
    assert post(falling).status_code == 200, "held at the price of the first model alone"
    upstream.will(status=500)
    assert post(falling).status_code == 502
    assert [served.path for served in upstream.served].count("/v1/chat/completions") == 2
    assert post(falling, chat(model="dear")).status_code == 402
    assert windows(falling)[-1] == ("user", COST, 0)


def test_a_model_whose_own_budget_is_gone_refuses_although_it_has_a_fallback(falling):
    budget(falling, 0, scope="model", owner="fast")
    refused = post(falling)
    assert refused.status_code == 402
    assert "The budget of model `fast` cannot take this call" in refused.get_json()["error"]["message"]


def test_a_nearly_spent_budget_warns_and_goes_on(fast, caplog):
    budget(fast, "0.00003", period="month", warn_percent=20)
    caplog.set_level(logging.WARNING, "services.admission")
    answers = [post(fast) for _ in range(9)]
    warned = [answer.headers.get("x-gateway-budget-warning") for answer in answers if answer.status_code == 200]
    # Each call costs 11.5 % of it and holds some 40 %, of which it gives most back: its own hold is not gone.
    assert warned == [None, None, *(f"user budget (month): {int(11.5 * n)} % is gone" for n in range(2, len(warned)))]
    assert len(warned) > 3
    assert len([record for record in caplog.records if "nearly spent" in record.message]) == 1


def test_a_budget_may_go_without_a_warning(fast):
    budget(fast, "0.00003", warn_percent=None)
    assert not any("x-gateway-budget-warning" in post(fast).headers for _ in range(5))


def test_a_key_bound_to_provider_accounts_reaches_no_other(fast, upstream):
    other = add_provider(fast, upstream, "other")
    add_model(fast, other, "theirs")
    with Session(gateway(fast).engine) as session, session.begin():
        session.query(ApiKey).filter_by(kind="environment").update({"provider_ids": [other]})
    gateway(fast).catalog.refresh()
    assert [post(fast, chat(model=name)).status_code for name in ("theirs", "fast", "echo")] == [200, 400, 400]
    listed = fast.test_client().get("/v1/models", headers=AUTH).get_json()["data"]
    assert [model["id"] for model in listed] == ["theirs"]


def test_rows_made_before_there_were_teams_have_a_name_for_clients(fast):
    with Session(gateway(fast).engine) as session:
        assert all(row.uuid for kind in (ApiKey, Provider) for row in session.query(kind))
