"""A revoked key stops in every worker within two seconds, whoever revoked it and however many keys there are."""

import time

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import ApiKey
from services import keys
from tests.helpers import chat
from tests.races.conftest import ask
from utils import ids

WORKERS = 4
KEYS = 10_000
ROUNDS = 40  # new connections, which the workers share out among themselves
PROMISED_S = 2.0


def crowd(gateway, user_id):
    """Thousands of other keys."""
    made = [
        {"user_id": user_id, "name": f"n{n}", "uuid": ids.uuid(), "digest": f"{n:064x}", "hint": f"h{n}"}
        for n in range(KEYS)
    ]
    with Session(gateway.engine) as session, session.begin():
        session.execute(insert(ApiKey), made)


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_every_worker_refuses_a_revoked_key_within_two_seconds(app, database, serve, worker_class):
    gateway = app.extensions["gateway"]
    crowd(gateway, 1)
    with Session(gateway.engine) as session, session.begin():
        issued = gateway.keys.issue(session, 1, "leaving")
    served = serve(DATABASE_URL=database, WORKER_CLASS=worker_class, WEB_CONCURRENCY=str(WORKERS))
    body = chat(model="echo")
    assert {ask(served, body, issued.secret)[0] for _ in range(ROUNDS)} == {200}
    with Session(gateway.engine) as session, session.begin():
        gateway.keys.revoke(session, issued.id, "left the company")
    time.sleep(PROMISED_S)
    answers = [ask(served, body, issued.secret) for _ in range(ROUNDS)]
    assert {status for status, _text in answers} == {401}
    assert "left the company" in answers[0][1]
    assert ask(served, body, keys.new_secret())[0] == 401
