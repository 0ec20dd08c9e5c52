"""Two people who edit one row: the second is told who changed what meanwhile, and may save all the same.

The form carries what the row looked like when it was loaded, and when that was. The audit log knows the rest.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select

from models import AuditEntry
from routes.admin.texts import N_, gettext
from utils import clock, jsonx
from utils.extensions import db

CHANGED: Final = N_("Somebody else changed this meanwhile. Saving again replaces what they did.")
MOST: Final = 10  # changes that are told
LONGEST: Final = 80  # characters of a value
SLACK_MS: Final = 1000  # between the clocks of two hosts


def fingerprint(state: Any) -> str:
    """Of what a form shows: another one as soon as that changes."""
    return hashlib.sha256(jsonx.dumps(state)).hexdigest()[:16]


def mark(fingerprint: str) -> str:
    """What a form carries of the row that it shows."""
    return f"{fingerprint}_{clock.now_ms():x}"


def is_of(given: str, fingerprint: str) -> bool:
    """Whether the row still looks like that."""
    return given.partition("_")[0] == fingerprint


def told(given: str, resource: str, number: object, labels: Mapping[str, Any], *, action: str = "") -> list[str]:
    """A sentence for each change of the row since the form was loaded, the latest first; `action`: only for these."""
    try:
        since = datetime.fromtimestamp((int(given.partition("_")[2], 16) - SLACK_MS) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return []
    query = (
        select(AuditEntry)
        .where(AuditEntry.created_at >= since, AuditEntry.resource_type == resource)
        .where(AuditEntry.resource_id == str(number))
        .order_by(AuditEntry.id.desc())
        .limit(MOST)
    )
    if action:
        query = query.where(AuditEntry.action == action)
    return [_sentence(entry, labels) for entry in db.session.scalars(query)]


def _sentence(entry: AuditEntry, labels: Mapping[str, Any]) -> str:
    changes = "; ".join(_changes(entry.details or {}, labels)) or entry.action
    told = {"who": entry.actor, "time": f"{entry.created_at:%H:%M:%S}", "changes": changes}
    return gettext("%(who)s at %(time)s UTC: %(changes)s", **told)


def _changes(details: Mapping[str, Any], labels: Mapping[str, Any]) -> Iterator[str]:
    before, after = details.get("before"), details.get("after")
    if not isinstance(after, dict):
        return
    for name, value in after.items():
        old = before.get(name) if isinstance(before, dict) else None
        yield f"{labels.get(name, name)}: {_short(old)} → {_short(value)}"


def _short(value: Any) -> str:
    if value is None or value == "":
        return "–"  # noqa: RUF001 - it is meant
    text = value if isinstance(value, str) else jsonx.dumps(value).decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
