"""The snapshot that a worker serves from: never older than it may be, however many ask at once."""

import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from services.errors import AccountingUnavailable
from tests.helpers import AUTH, chat

CROWD = 12


def test_an_idle_worker_lets_no_crowd_in_on_what_is_out_of_date(make_app, sqlite_database, monkeypatch):
    """All callers of a burst come while the first one looks what has changed."""
    app = make_app(sqlite_database, IN_MEMORY_DB_UPDATE_INTERVAL="50ms")
    here = app.extensions["gateway"]
    assert app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    with here.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE api_keys SET revoked_at = 1, revoked_reason = 'left'")
    time.sleep(0.1)
    look = here.catalog._version
    monkeypatch.setattr(here.catalog, "_version", lambda: (time.sleep(0.3), look())[1])
    statuses, start = [], threading.Barrier(CROWD)

    def ask():
        start.wait()
        body = chat(model="echo")
        statuses.append(app.test_client().post("/v1/chat/completions", json=body, headers=AUTH).status_code)

    threads = [threading.Thread(target=ask) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [401] * CROWD


def test_while_the_database_hangs_the_last_snapshot_serves(gateway, monkeypatch):
    catalog = gateway.catalog
    last = catalog.snapshot()
    monkeypatch.setattr("services.catalog.PATIENCE_S", 0.05)
    catalog._checked_s = -1e9
    with catalog._loading:  # somebody looks, and gets no answer
        assert catalog.snapshot() is last


def test_without_any_snapshot_a_database_that_is_away_is_said(gateway, monkeypatch):
    def away():
        raise OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(gateway.catalog, "_snapshot", None)
    monkeypatch.setattr(gateway.catalog, "_version", away)
    with pytest.raises(AccountingUnavailable):
        gateway.catalog.snapshot()
