"""Targets of alerts and what they get."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models_alerts import Alert, AlertDelivery, AlertTarget
from services import alertpost, alerts, alerttargets
from services.alerting import Alerting
from services.audit import Actor
from tests.fakes.receiver import Receiver

BY = Actor("tests")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.stop()


@pytest.fixture
def add_target(app: Flask, receiver: Receiver) -> Callable[..., tuple[int, str]]:
    """Makes a target, by default the receiver for all events; gives its number and secret."""

    def add(name: str = "hook", address: str | None = None, **given: object) -> tuple[int, str]:
        here = app.extensions["gateway"]
        values = {"kind": "webhook", "events": None, "is_enabled": True, **given}
        with Session(here.engine) as session, session.begin():
            wanted = alerttargets.Given(name=name, address=address or receiver.url, **values)  # type: ignore[arg-type]  # of a test
            row, secret = alerttargets.create(session, here.sealer, BY, wanted)
            return row.id, secret

    return add


@pytest.fixture
def alerting(app: Flask) -> Alerting:
    found: Alerting = app.extensions["gateway"].alerts
    return found


@pytest.fixture
def noticed() -> alerts.Noticed:
    facts = {"provider": "acme", "what": "fast", "error": "it cannot be reached", "failures_in_a_row": 5}
    return alerts.Noticed("provider.down", "account 1", "after 0", facts)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertpost, "CONNECT_S", 1.0)
    monkeypatch.setattr(alertpost, "ANSWER_S", 0.5)


def told(app: Flask) -> list[tuple[str, str]]:
    """Event and subject of all alerts, in their order."""
    with Session(app.extensions["gateway"].engine) as session:
        return [(row[0], row[1]) for row in session.execute(select(Alert.event, Alert.subject).order_by(Alert.id))]


def deliveries(app: Flask) -> list[AlertDelivery]:
    with Session(app.extensions["gateway"].engine, expire_on_commit=False) as session:
        return list(session.scalars(select(AlertDelivery).order_by(AlertDelivery.id)))


def make_due(app: Flask, seconds: float = 1.0) -> None:
    """What waits is due now."""
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        when = AlertDelivery.next_at
        session.execute(update(AlertDelivery).values({when: _ago(seconds)}))


def change_target(app: Flask, number: int, **columns: object) -> None:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(AlertTarget).where(AlertTarget.id == number).values(**columns))


def _ago(seconds: float) -> object:
    from utils import clock

    return clock.now() - timedelta(seconds=seconds)
