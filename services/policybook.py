"""The management API's policies: stored, changed and shown, and bound to keys, users, teams and models.

What becomes of them at a call: services/guards/guard.py. The members `config`, `regexConfig` and `customConfig` are
those of the gateway that this API comes from; the others are our own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, and_, false, or_, select, update
from sqlalchemy.orm import Session

from models_policies import Policy, PolicyBinding
from services import bindings, fields, owners, pages, policyfields
from services.audit import Actor, differences, note
from services.bindings import RESOURCE
from services.catalog import Catalog
from services.changing import changing
from services.errors import Conflict, FieldsInvalid, NotFound
from services.keymanagement import Answer
from utils import clock

COLUMNS: Final = {  # members that are stored as they were read
    "name": "name",
    "tags": "tags",
    "enabled": "is_enabled",
    "dryRun": "is_dry_run",
    "everyone": "is_for_all",
}


@dataclass(frozen=True, slots=True)
class Stored(Answer):
    """A policy as it is stored now. `losers`: the names of the policies that something was taken from for it."""

    losers: Sequence[str] = ()


class PolicyBook:
    """See the module."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine, self._catalog = engine, catalog

    def create(self, actor: Actor, body: Mapping[str, Any]) -> Stored:
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
            losers = _bind(session, actor, row, given.values.get("boundTo", {}))
            made = shown(session, [row])[0]
            note(session, actor, "policy_create", RESOURCE, row.uuid, differences(None, made))
            return Stored(made, given.ignored, losers)

    def get(self, uuid: str) -> dict[str, Any]:
        """One policy.

        Raises:
            NotFound: there is none (code `policy_not_found`).
        """
        with Session(self._engine) as session:
            return shown(session, [found(session, uuid)])[0]

    def listed(self, tags: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The policies that have all these tags, the oldest first."""
        with Session(self._engine) as session:
            query = select(Policy).where(*pages.has_all(session, Policy.tags, tags)).order_by(Policy.id)
            return shown(session, session.scalars(query).all())

    def update(self, actor: Actor, uuid: str, body: Mapping[str, Any]) -> Stored:
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
            before = shown(session, [row])[0]
            _fill(row, given.values)
            row.version += 1
            row.updated_at = clock.now()
            losers = _bind(session, actor, row, given.values.get("boundTo", {}))
            after = shown(session, [row])[0]
            note(session, actor, "policy_update", RESOURCE, row.uuid, differences(before, after))
            return Stored(after, given.ignored, losers)

    def delete(self, actor: Actor, uuid: str) -> None:
        """Remove a policy; what it applied to goes on without it.

        Raises:
            NotFound: there is no such policy.
        """
        with changing(self._engine, self._catalog) as session:
            row = _locked(session, uuid)
            note(session, actor, "policy_delete", RESOURCE, row.uuid, {"before": shown(session, [row])[0]})
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


def shown(session: Session, rows: Sequence[Policy]) -> list[dict[str, Any]]:
    """Policies as clients see them."""
    bound = bindings.ends(session, [row.id for row in rows])
    return [_shown(row, bound[row.id]) for row in rows]


def _shown(row: Policy, bound: bindings.Ends) -> dict[str, Any]:
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
        "boundTo": bound,
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


def _bind(session: Session, actor: Actor, row: Policy, given: Mapping[str, list[str]]) -> Sequence[str]:
    """Bind the policy to these, and of each scope that is given to no others; what had another one has this one now.

    Returns the names of those others.

    Raises:
        FieldsInvalid: one is not there.
    """
    wanted = {scope: _numbers(session, scope, given[f"{scope}s"]) for scope in owners.SCOPES if f"{scope}s" in given}
    row.bindings = [one for one in row.bindings if one.scope_id in wanted.get(one.scope, {one.scope_id})]
    session.flush()
    kept = {(one.scope, one.scope_id) for one in row.bindings}
    new = {(scope, number) for scope, numbers in wanted.items() for number in numbers} - kept
    here = [and_(PolicyBinding.scope == scope, PolicyBinding.scope_id.in_(wanted[scope])) for scope in wanted]
    others = select(PolicyBinding.policy_id).where(or_(false(), *here), PolicyBinding.policy_id != row.id).distinct()
    before = bindings.taken(session, session.scalars(others).all() if new else ())
    for scope, number in new:
        session.merge(PolicyBinding(scope=scope, scope_id=number, policy_id=row.id))
    session.flush()
    session.expire(row, ["bindings"])
    return list(bindings.given(session, actor, before).values())


def _numbers(session: Session, scope: str, names: Iterable[str]) -> set[int]:
    try:
        return {owners.find(session, scope, name) for name in names}
    except NotFound as exc:
        raise FieldsInvalid({f"boundTo.{scope}s": str(exc)}) from exc
