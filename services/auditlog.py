"""The audit log for programs: its entries, newest first, narrowed as they like."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, select

from models import AuditEntry


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; None = any. `until` is the first moment that is not meant any more."""

    user_id: int | None = None
    action: str | None = None
    resource_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def find(engine: Engine, wanted: Wanted, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """The entries, newest first, with their places in the chain."""
    entry = AuditEntry
    conditions = [
        getattr(entry, name) == value
        for name in ("user_id", "action", "resource_type")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.since is not None:
        conditions.append(entry.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(entry.created_at < wanted.until)
    # By number, the way to a day long ago would lead through everything after it.
    newest = [entry.id.desc()] if wanted.until is None else [entry.created_at.desc(), entry.id.desc()]
    query = select(entry.__table__).where(*conditions).order_by(*newest).offset(skip).limit(limit)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
