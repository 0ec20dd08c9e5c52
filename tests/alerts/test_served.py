"""Through gunicorn, with two workers: calls use a budget up, and a webhook hears of both marks, once each."""

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from models import Budget
from models_alerts import Alert
from services import alerttargets, budgets
from services.audit import Actor
from services.credentials import Sealer
from tests.conftest import SECRETS, TOKEN
from tests.fakes.receiver import Receiver, answer
from tests.races.conftest import ask

BY = Actor("tests")


def test_a_budget_is_told_of_at_80_and_100_percent(serve, sqlite_database, receiver: Receiver):
    engine, sealer = create_engine(sqlite_database), Sealer((SECRETS["ENCRYPTION_KEYS"],))
    with Session(engine) as session, session.begin():
        given = alerttargets.Given("hook", "webhook", receiver.url, None)
        alerttargets.create(session, sealer, BY, given)
    budgets.put(engine, BY, scope="user", owner="api-tokens", unit="tokens", limit="1000000", period="day")
    receiver.faults = [answer(500)]
    served = serve(WEB_CONCURRENCY="2", UNPRICED_POLICY="free_flagged")
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello " * 200}], "max_tokens": 300}
    assert ask(served, body, TOKEN)[0] == 200
    with Session(engine) as session, session.begin():  # what is spent stays, and is now 85 % of it
        spent = budgets.states(engine, session.scalars(select(Budget)).all())[0].spent
        assert spent > 0
        session.scalars(select(Budget)).one().limit_amount = spent * 100 // 85
    (first, *_again) = receiver.wait_for(2)
    assert first["type"] == "budget.warning"
    assert first["data"]["owner"] == "user api-tokens"
    status, _text = ask(served, body, TOKEN)
    assert status == 402, "the rest of it is too little for a call"
    told = receiver.wait_for(3)
    assert [one["type"] for one in told] == ["budget.warning", "budget.warning", "budget.exhausted"]
    assert len({one["id"] for one in told}) == 2
    with Session(engine) as session:
        assert session.scalars(select(Alert.event).order_by(Alert.id)).all() == ["budget.warning", "budget.exhausted"]
    engine.dispose()
