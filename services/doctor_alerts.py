"""The check of alerts: whether somebody is told, and whether that worked lately. See doctor.py."""

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select

from models_alerts import AlertDelivery, AlertTarget
from services.checkup import OK, WARN, Patient, Result, or_ok
from utils import clock

LATELY: Final = timedelta(days=1)
LATE: Final = timedelta(minutes=10)  # so long after its moment somebody should have tried


def alerts(patient: Patient) -> list[Result]:
    """Targets, deliveries of the last day that failed, and those that nobody tries."""
    now, delivery = clock.now(), AlertDelivery
    with patient.here.engine.connect() as connection:
        kinds = connection.execute(select(AlertTarget.kind, AlertTarget.is_enabled)).tuples().all()
        lost = select(AlertTarget.name, func.count()).join(delivery, delivery.target_id == AlertTarget.id)
        lost = lost.where(delivery.state == "failed", delivery.created_at >= now - LATELY)
        failed = connection.execute(lost.group_by(AlertTarget.name).order_by(AlertTarget.name)).tuples().all()
        idle = select(func.count()).select_from(delivery).join(AlertTarget, AlertTarget.id == delivery.target_id)
        waits = (delivery.state == "waiting", delivery.next_at < now - LATE, AlertTarget.is_enabled)
        left = connection.scalar(idle.where(*waits)) or 0
    enabled = [kind for kind, is_enabled in kinds if is_enabled]
    if not enabled:
        return [Result(OK, "nobody is told of alerts; targets are added in the panel, under Alert targets")]
    found = [
        Result(WARN, f"`{name}` did not take {count:,} alerts of the last day", "`flask alerts list` says why.")
        for name, count in failed
    ]
    if left:
        said = f"{left:,} alerts should have been sent already"
        found.append(Result(WARN, said, "Start the gateway: a worker sends them within seconds."))
    if "email" in enabled and not patient.here.config.smtp_host:
        found.append(Result(WARN, "a target is an e-mail address, and no mail server is set", "Set SMTP_HOST."))
    return or_ok(found, f"{len(enabled)} targets are told")
