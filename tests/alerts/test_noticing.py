"""What is worth telling is told once for its subject and period, whoever notices it."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, Setting
from models_alerts import Alert
from services import alerting as wiring
from services import alerts, alertwatch, balances
from services.alertwatch import AlertWatch
from services.audit import Actor
from services.errors import UpstreamUnreachable
from services.health import IN_A_ROW
from tests.admin.conftest import (
    add_budget,
    add_calls,
    add_key,
    add_model,
    add_provider,
    add_refusals,
    add_user,
    rows_of,
    spend,
)
from tests.alerts.conftest import deliveries, told
from utils import clock

USD = 1_000_000_000


def look(app) -> int:
    """A look, whoever's turn it is."""
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.execute(delete(Setting).where(Setting.key == alertwatch.TURN))
    return here.alerts.watch.look()


def use(app, budget: int, spent: int) -> None:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(BudgetWindow).where(BudgetWindow.budget_id == budget).values(spent_amount=spent))


def facts_of(app, event: str) -> dict:
    return next(row.facts for row in rows_of(app, Alert) if row.event == event)


def test_a_budget_is_told_of_at_its_share_and_at_its_end_once_a_window(app):
    user = add_user(app)
    budget = add_budget(app, "user", user, limit=10 * USD)
    spend(app, budget, 7 * USD, held=3 * USD)
    assert look(app) == 0, "what is only held may come back"
    use(app, budget, 8 * USD)
    assert look(app) == 1
    assert look(app) == 0
    assert told(app) == [("budget.warning", f"budget {budget}")]
    facts = facts_of(app, "budget.warning")
    assert facts["owner"] == "user ana"
    assert (facts["percent"], facts["spent"], facts["limit"]) == (80, "$8.00", "$10.00")
    use(app, budget, 10 * USD)
    assert look(app) == 1
    assert look(app) == 0
    assert told(app)[-1] == ("budget.exhausted", f"budget {budget}")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(Budget).values(limit_amount=11 * USD))
    assert look(app) == 1, "with another limit it begins anew"
    assert told(app)[-1] == ("budget.warning", f"budget {budget}")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(Alert).values(period="1/" + Alert.period))  # of another month
    use(app, budget, 10 * USD)
    assert look(app) == 1, "in another month too"


def test_a_budget_that_goes_past_both_marks_between_two_looks_is_told_of_once(app):
    budget = add_budget(app, "user", add_user(app), limit=10 * USD)
    spend(app, budget, 11 * USD)
    assert look(app) == 1
    use(app, budget, 9 * USD)  # a correction
    assert look(app) == 0
    assert told(app) == [("budget.exhausted", f"budget {budget}")]


def test_a_budget_that_refuses_is_used_up_though_a_little_is_left(app):
    user = add_user(app)
    budget, roomy = (add_budget(app, "user", user, limit=10 * USD, period=period) for period in ("month", "week"))
    for one, spent, period in ((budget, 9 * USD, "month"), (roomy, 2 * USD, "week")):
        spend(app, one, spent, period=period)
    add_refusals(app, 1, user_id=user, kind="budget", rule=f"budget {budget}")
    add_refusals(app, 1, user_id=user, kind="budget", rule=f"budget {roomy}")
    add_refusals(app, 1, user_id=user, kind="budget", rule="budget x")
    assert look(app) == 1, "a call that is too large for a budget with much left tells nothing"
    assert told(app) == [("budget.exhausted", f"budget {budget}")]


def test_budgets_of_minutes_without_warning_or_of_nothing_are_quiet(app):
    user = add_user(app)
    minute = add_budget(app, "user", user, limit=10, period="minute")
    spend(app, minute, 10, period="minute")
    silent = add_budget(app, "user", user, limit=100, period="day", warn_percent=None)
    spend(app, silent, 99, period="day")
    nothing = add_budget(app, "user", user, limit=0, period="week")
    spend(app, nothing, 5, period="week")
    assert look(app) == 0
    use(app, silent, 100)
    assert look(app) == 1
    assert told(app) == [("budget.exhausted", f"budget {silent}")]


def test_a_balance_is_told_of_again_after_it_was_topped_up(app):
    user = add_user(app)
    here = app.extensions["gateway"]
    balances.add(here.engine, user, 1000, Actor("tests"))
    (budget,) = [row.id for row in rows_of(app, Budget) if row.scope_id == user]
    spend(app, budget, 900, period="total", start=0)
    assert look(app) == 1
    use(app, budget, 1000)
    assert look(app) == 1
    assert [event for event, _subject in told(app)] == ["balance.low", "balance.exhausted"]
    assert {row.user_id for row in rows_of(app, Alert)} == {user}
    balances.add(here.engine, user, 1000, Actor("tests"))
    assert look(app) == 0
    use(app, budget, 2000)
    assert look(app) == 1
    assert len(told(app)) == 3


def test_a_key_is_told_of_a_week_before_it_expires(app):
    user, gone = add_user(app), add_user(app, "bob", is_active=False)
    soon, late, made = (clock.now() + timedelta(days=days) for days in (3, 30, -90))
    given = {"soon": soon, "late": late, "brief": soon, "revoked": soon, "over": made + timedelta(days=1)}
    keys = {name: add_key(app, user, name) for name in given} | {"of bob": add_key(app, gone, "of bob")}
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        for name, number in keys.items():
            row = session.get_one(ApiKey, number)
            row.expires_at, row.created_at = given.get(name, soon), clock.now() if name == "brief" else made
        session.get_one(ApiKey, keys["revoked"]).revoked_at = clock.now()
    assert look(app) == 1
    assert told(app) == [("key.expiring", f"key {keys['soon']}")]
    assert "sk-th-" in facts_of(app, "key.expiring")["hint"]
    app.extensions["gateway"].alerts.watch._keys_due_s = 0.0
    assert look(app) == 0


def test_a_provider_that_stays_down_is_told_of_and_again_while_it_lasts(app):
    here = app.extensions["gateway"]
    model = add_model(app, [add_provider(app)])
    deployment = here.catalog.refresh().models["fast"].deployments[0]
    assert deployment.model_id == model
    for _ in range(IN_A_ROW):
        here.health.failed(deployment, UpstreamUnreachable("nobody at 10.0.0.1"))
    assert look(app) == 0, "it may be well again by the next look"
    assert look(app) == 1
    assert look(app) == 0
    (alert,) = rows_of(app, Alert)
    assert (alert.event, alert.facts["provider"], alert.facts["error"]) == (
        "provider.down", "acme", "it cannot be reached",
    )  # fmt: skip
    with Session(here.engine) as session, session.begin():
        session.execute(update(Alert).values(created_at=clock.now() - timedelta(hours=2)))
    assert look(app) == 1
    here.health.succeeded(deployment)
    with Session(here.engine) as session, session.begin():
        session.execute(update(Alert).values(created_at=clock.now() - timedelta(hours=2)))
    assert look(app) == 0


def test_many_failed_calls_of_a_model_are_told_of(app):
    fault = {"status": 502, "outcome": "upstream_error"}
    add_calls(app, 30, model="good")
    add_calls(app, 5, model="good", **fault)
    add_calls(app, 14, model="bad")
    add_calls(app, 6, model="bad", **fault)
    add_calls(app, 10, model="rare", **fault)
    add_calls(app, 40, model="asked wrongly", status=400, outcome="upstream_error")
    add_calls(app, 40, model="left", status=499, outcome="client_gone")
    add_calls(app, 40, model="long ago", created_at=clock.now() - timedelta(minutes=9), **fault)
    assert look(app) == 1
    assert told(app) == [("errors.high", "model bad")]
    facts = facts_of(app, "errors.high")
    assert (facts["calls"], facts["failed"], facts["percent"]) == (20, 6, 30)
    assert look(app) == 0


def test_calls_that_wait_to_be_booked_for_long_are_told_of(app, monkeypatch):
    here, waiting = app.extensions["gateway"], [3]
    watch = here.alerts.watch
    monkeypatch.setattr(watch, "_waiting", lambda: waiting[0])
    assert look(app) == 0
    watch._stuck_since_s -= 61
    assert look(app) == 1
    assert facts_of(app, "spool.stuck")["waiting"] == 3
    waiting[0] = 0
    assert look(app) == 0
    waiting[0] = 1
    with Session(here.engine) as session, session.begin():
        session.execute(update(Alert).values(created_at=clock.now() - timedelta(hours=2)))
    assert look(app) == 0, "the time begins anew"


def test_workers_that_race_tell_once(app, receiver, add_target):
    """Each with a watch of its own, all at the same moment: one alert a subject, one delivery each."""
    here, user = app.extensions["gateway"], add_user(app)
    add_target()
    for period in ("hour", "day", "week", "month"):
        spend(app, add_budget(app, "user", user, limit=10, period=period), 10, period=period)
    down = alerts.Noticed("provider.down", "account 1", "", {"provider": "acme"})
    parts = (here.engine, here.sealer, None, here.catalog)
    watches = [wiring.build(here.config, parts, here.health, here.accounting, here.spool).watch for _ in range(6)]
    start, problems = threading.Barrier(len(watches)), []

    def work(watch: AlertWatch) -> None:
        start.wait()
        try:
            for noticed in alertwatch.budgets_of(here.engine):
                alerts.tell(here.engine, noticed)
            watch._tell_lasting(down)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the test must see it
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(watch,)) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(event for event, _subject in told(app)) == ["budget.exhausted"] * 4 + ["provider.down"]
    assert len(deliveries(app)) == 5


def test_one_worker_looks_at_the_database_for_all(app):
    here = app.extensions["gateway"]
    watches = [here.alerts.watch] * 5
    with Session(here.engine) as session, session.begin():
        session.execute(delete(Setting).where(Setting.key == alertwatch.TURN))
    start, turns = threading.Barrier(len(watches)), []

    def work(watch: AlertWatch) -> None:
        start.wait()
        turns.append(watch._is_our_turn())

    for _ in range(2):  # the row is made, and then it is changed
        threads = [threading.Thread(target=work, args=(watch,)) for watch in watches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Session(here.engine) as session, session.begin():
            session.execute(update(Setting).where(Setting.key == alertwatch.TURN).values(value="0" * 15))
    assert turns.count(True) == 2
    with Session(here.engine) as session, session.begin():  # a clock that was set back
        session.execute(update(Setting).where(Setting.key == alertwatch.TURN).values(value="9" * 15))
    assert watches[0]._is_our_turn()


@pytest.mark.parametrize("event", alerts.EVENTS)
def test_every_event_is_said_in_a_line_even_where_facts_are_missing(event):
    said = alerts.sentence(event, {"owner": "user\nana"})
    assert said
    assert "\n" not in said


def test_a_call_pays_nothing_for_alerts(app, client):
    """No statement about alerts is on the path of a call."""
    from tests.admin.conftest import statements
    from tests.helpers import AUTH, chat

    assert client.post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    with statements(app) as seen:
        assert client.post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    assert [one for one in seen if "alert" in one.lower()] == []


def test_old_alerts_go_but_not_those_that_say_that_they_were_told(app):
    here = app.extensions["gateway"]
    for event, period in (("budget.warning", "1700000000/9"), ("balance.low", "0/9"), ("key.expiring", "17")):
        alerts.tell(here.engine, alerts.Noticed(event, "a subject", period, {}))
    with Session(here.engine) as session, session.begin():
        session.execute(update(Alert).values(created_at=clock.now() - timedelta(days=91)))
    alerts.tell(here.engine, alerts.Noticed("provider.down", "account 1", "after 0", {}))
    assert here.retention.run()["alerts"] == 2
    assert [event for event, _subject in told(app)] == ["balance.low", "provider.down"]
