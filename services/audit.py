"""Who did what, when, from where. Values of secrets never come here; the table takes no update and no delete.

services/chain.py writes the entries, each chained to the one before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services import chain
from services.settlement import clean
from utils import clock

SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where."""

    name: str
    user_id: int | None = None
    ip_address: str | None = None
    user_agent: str | None = None


def note(
    session: Session,
    actor: Actor,
    action: str,
    resource_type: str,
    resource_id: object = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Write the entry within the transaction of what it speaks of, when that commits."""
    entry = {
        "created_at": clock.now(),
        "user_id": actor.user_id,
        "actor": clean(actor.name)[:150],  # whatever somebody typed to sign in
        "action": action,
        "resource_type": resource_type,
        "resource_id": None if resource_id is None else str(resource_id)[:200],
        "details": json.loads(json.dumps(details or {})),  # as it will be read, whoever changes the dict meanwhile
        "ip_address": actor.ip_address and actor.ip_address[:45],
        "user_agent": actor.user_agent and actor.user_agent[:255],
    }
    chain.add(session, entry)


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """What changed, as details of an entry; without a `before` the thing is new."""
    if before is None:
        return {"after": dict(after)}
    changed = [name for name in after if before.get(name) != after[name]]
    return {"before": {name: before.get(name) for name in changed}, "after": {name: after[name] for name in changed}}


def moment(value: datetime | None) -> str | None:
    """A moment as details have it."""
    return None if value is None else value.isoformat(timespec="seconds")


class Audit:
    """Writes entries that stand alone, such as failed sign-ins."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def note(
        self,
        actor: Actor,
        action: str,
        resource_type: str,
        resource_id: object = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """See `note`."""
        with Session(self._engine) as session, session.begin():
            note(session, actor, action, resource_type, resource_id, details)
