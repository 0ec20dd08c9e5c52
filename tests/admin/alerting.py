"""Alerts and their targets for tests: rows with texts that come from a test, and the pages that show them."""

from datetime import UTC, datetime, timedelta

from flask import Flask
from sqlalchemy.orm import Session

from models_alerts import Alert, AlertDelivery, AlertTarget
from services import alerttargets
from utils import ids

REFUSED = "http://127.0.0.1:9/hook"  # nobody listens there


def add_target(app: Flask, text: str = "hook", **columns: object) -> int:
    """A webhook target whose address and secret are sealed like those of others."""
    here = app.extensions["gateway"]
    sealed = {"sealed_address": here.sealer.seal(REFUSED), "secret": here.sealer.seal(alerttargets.new_secret())}
    values = {"kind": "webhook", "hint": text[:300], "events": None, **sealed, **columns}
    with Session(here.engine) as session, session.begin():
        row = AlertTarget(name=f"{text[:90]}{ids.random_base62(8)}", **values)
        session.add(row)
        session.flush()
        return row.id


def add_alert(app: Flask, target: int, text: str = "ana", state: str = "failed", **columns: object) -> int:
    """An alert with its delivery to a target, which did not take it."""
    facts = {"owner": text, "spent": text, "limit": text, "percent": 80}
    subject = f"{text[:200]} {ids.random_base62(8)}"
    values = {"code": ids.random_base62(20), "event": "budget.warning", "subject": subject, "period": text[:80]}
    now = datetime.now(UTC)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = Alert(**{**values, "facts": facts, **columns})
        session.add(row)
        session.flush()
        later = now + timedelta(hours=1)
        told = {"alert_id": row.id, "target_id": target, "state": state, "next_at": later, "error": text[:500]}
        session.add(AlertDelivery(**told, sent_at=now if state == "sent" else None))
        return row.id


def furnish_alerts(app: Flask, text: str) -> list[str]:
    """Plant a text in everything that the pages about alerts show; returns the pages."""
    target = add_target(app, text, events=["key.expiring", text])
    alert = add_alert(app, target, text)
    add_alert(app, target, text, "sent", event=text[:30])
    return [
        *(f"/admin/{view}/" for view in ("alerts", "alert-targets")),
        "/admin/alert-targets/new/",
        f"/admin/alerts/details/?id={alert}",
        *(f"/admin/alert-targets/{page}/?id={target}" for page in ("details", "edit", "rotate", "delete")),
    ]
