"""One dialog, four processes: messages at once, and a delete among them. Nothing mixes, nothing is left over."""

import http.client
import json
from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Dialog, Message
from tests.conftest import TOKEN
from tests.helpers import rows, with_upstream
from tests.races.conftest import SOAK, crowd, wait_until_clean

PROCESSES, THREADS = 4, 8
ROUNDS = 2000 if SOAK else 160


@pytest.fixture
def spoken(serve, make_app, database, upstream):  # `serve` makes a file of its own, so it comes first
    return with_upstream(make_app(database, MAX_MESSAGES_PER_DIALOG="100000"), upstream)


@pytest.fixture
def gateway(serve, database, spoken):
    return serve(
        DATABASE_URL=database,
        WORKER_CLASS="gthread",
        WEB_CONCURRENCY=str(PROCESSES),
        THREADS=str(THREADS),
        MAX_MESSAGES_PER_DIALOG="100000",
    )


def ask(served, method, path, body=None):
    """Status and text; (0, reason) where the line broke."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    try:
        connection.request(method, f"/api/v1/dialogs{path}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def make(served):
    status, body = ask(served, "POST", "", {"model_name": "fast"})
    assert status == 201, body
    return json.loads(body)["id"]


def test_messages_at_once_are_answered_one_after_the_other_or_refused(spoken, gateway):
    engine = spoken.extensions["gateway"].engine
    dialogs = [make(gateway) for _ in range(4)]

    def send(number):
        path = f"/{dialogs[number % len(dialogs)]}/messages"
        while True:
            status, body = ask(
                gateway, "POST", path if number % 2 else f"{path}/sync", {"content": f"message {number}"}
            )
            if status != 503:  # a busy database: nothing was stored, so everybody tries again
                return status, body

    done = crowd(PROCESSES * THREADS // 2, range(ROUNDS), send)
    wait_until_clean(engine, 10)

    counted = Counter(status for status, _body in done)
    assert counted.keys() <= {200, 201, 409}
    assert counted[409] > 0, "nobody met anybody"
    assert all('"done":true,"message_id"' in body for status, body in done if status == 200)
    good = counted[200] + counted[201]
    assert good > len(dialogs)
    assert len(rows(engine)) == good, "a refused message is no call"
    with Session(engine) as session:
        for row in session.query(Dialog):
            said = session.query(Message).filter_by(dialog_id=row.id).order_by(Message.number).all()
            assert [message.role for message in said] == ["user", "assistant"] * (len(said) // 2)
            assert row.message_count == len(said)
            assert row.busy_until is None
            pairs = zip(said[::2], said[1::2], strict=True)
            assert all(asked.request_id == answered.request_id for asked, answered in pairs)
        assert session.query(Message).count() == 2 * good


def test_a_delete_among_messages_leaves_nothing(spoken, gateway):
    engine = spoken.extensions["gateway"].engine
    for _round in range(10 if SOAK else 3):
        dialog = make(gateway)

        def act(number, dialog=dialog):
            if number % 8 == 5:
                return ask(gateway, "DELETE", f"/{dialog}")[0]
            return ask(gateway, "POST", f"/{dialog}/messages/sync", {"content": "x"})[0]

        counted = Counter(crowd(8, range(32), act))
        assert counted.keys() <= {201, 204, 404, 409, 503}
        assert counted[204] == 1
        with engine.connect() as connection:
            for table in ("dialogs", "messages"):
                assert connection.execute(text(f"SELECT COUNT(*) FROM {table}")).scalar_one() == 0, table
    wait_until_clean(engine, 10)
