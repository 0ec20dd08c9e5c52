"""The management API's policies: stored, changed and shown, and bound to keys, users, teams and models.

What becomes of them at a call: services/guards/guard.py. The members `config`, `regexConfig` and `customConfig` are
those of the gateway that this API comes from; the others are our own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, selectinload

from models_policies import Policy
from services import fields, pages, policyfields
from services.audit import Actor, differences, note
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, NotFound
from services.keymanagement import Answer
from utils import clock

RESOURCE: Final = "policy"
COLUMNS: Final = {  # members that are stored as they were read
    "name": "name",
    "tags": "tags",
    "enabled": "is_enabled",
    "dryRun": "is_dry_run",
    "everyone": "is_for_all",
}


class PolicyBook:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def create(self, actor: Actor, body: Mapping[str, Any]) -> Answer:
        """A new policy.

        Raises:
            FieldsInvalid: what the body says cannot be.
        """
        given = fields.read(policyfields.MEMBERS, body, ("name",))
        with changing(self._engine, self._catalog) as session:
            row = Policy(rules={})
            _fill(row, given.values)
            session.add(row)
            session.flush()
            note(session, actor, "policy_create", RESOURCE, row.uuid, differences(None, shown(row)))
            return Answer(shown(row), given.ignored)

    def get(self, uuid: str) -> dict[str, Any]:
        """One policy.

        Raises:
            NotFound: there is none (code `policy_not_found`).
        """
        with Session(self._engine) as session:
            return shown(found(session, uuid))

    def listed(self, tags: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The policies that have all these tags, the oldest first."""
        with Session(self._engine) as session:
            query = select(Policy).where(*pages.has_all(session, Policy.tags, tags)).order_by(Policy.id)
            return [shown(row) for row in session.scalars(query.options(selectinload(Policy.bindings)))]

    def update(self, actor: Actor, uuid: str, body: Mapping[str, Any]) -> Answer:
        """Change what the body names and leave the rest.

        Raises:
            FieldsInvalid: what the body says cannot be.
            NotFound: there is no such policy.
            Conflict: `version` is not the policy's any more.
        """
        given = fields.read(policyfields.MEMBERS, body)
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, uuid)
            if given.values.get("version", row.version) != row.version:
                raise Conflict(
                    f"Somebody else changed this policy meanwhile: it is at version {row.version}.",
                    code="version_conflict",
                )
            before = shown(row)
            _fill(row, given.values)
            row.version += 1
            row.updated_at = clock.now()
            session.flush()
            after = shown(row)
            note(session, actor, "policy_update", RESOURCE, row.uuid, differences(before, after))
            return Answer(after, given.ignored)

    def delete(self, actor: Actor, uuid: str) -> None:
        """Remove a policy; what it applied to goes on without it.

        Raises:
            NotFound: there is no such policy.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, uuid)
            note(session, actor, "policy_delete", RESOURCE, row.uuid, {"before": shown(row)})
            session.delete(row)


def found(session: Session, uuid: str) -> Policy:
    """The policy of that id.

    Raises:
        NotFound: there is none.
    """
    row = session.scalar(select(Policy).where(Policy.uuid == uuid)) if uuid.isascii() and uuid.isprintable() else None
    if row is None:
        raise NotFound(f"There is no policy `{uuid[:36]}`.", param="id", code="policy_not_found")
    return row


def shown(row: Policy) -> dict[str, Any]:
    """A policy as clients see it."""
    counts: dict[str, int] = {}
    for binding in row.bindings:
        counts[f"{binding.scope}s"] = counts.get(f"{binding.scope}s", 0) + 1
    return {
        "id": row.uuid,
        "name": row.name,
        "createdAt": int(row.created_at.timestamp()),
        "updatedAt": int(row.updated_at.timestamp()),
        "tags": row.tags or [],
        **policyfields.shown(row.rules),
        "appliesTo": [name for name, is_so in (("requests", row.on_requests), ("answers", row.on_answers)) if is_so],
        "enabled": row.is_enabled,
        "dryRun": row.is_dry_run,
        "everyone": row.is_for_all,
        "boundTo": counts,
        "version": row.version,
    }


def _locked(session: Session, uuid: str) -> Policy:
    """The policy, which nobody else changes until the end of the transaction."""
    lock = update(Policy).where(Policy.uuid == uuid).values(version=Policy.version)
    if uuid.isascii() and uuid.isprintable():
        session.execute(lock.execution_options(synchronize_session=False))
    return found(session, uuid)


def _fill(row: Policy, values: Mapping[str, Any]) -> None:
    """Set what has been read.

    Raises:
        FieldsInvalid: the rules do not go together.
    """
    for member, column in COLUMNS.items():
        if member in values:
            setattr(row, column, values[member])
    if "appliesTo" in values:
        row.on_requests, row.on_answers = ("requests" in values["appliesTo"], "answers" in values["appliesTo"])
    row.rules = policyfields.merged(row.rules, values)
