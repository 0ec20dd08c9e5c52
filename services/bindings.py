"""Which policy a key, user, team or model has; each has one at most, so what one policy gains another may lose."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models import ApiKey
from models_policies import Policy, PolicyBinding
from services import owners
from services.audit import Actor, note
from services.errors import FieldsInvalid
from utils import clock

RESOURCE: Final = "policy"
Ends = dict[str, list[str]]


def bind(session: Session, actor: Actor, end: tuple[str, int], uuid: str, member: str = "policyId") -> Sequence[str]:
    """Give a key, user, team or model the policy of that id, within the caller's transaction; an empty id is none.

    `end`: its scope and number. Returns the names of the policies that it was taken from for another.

    Raises:
        FieldsInvalid: there is no such policy.
    """
    scope, number = end
    policy_id = session.scalar(select(Policy.id).where(Policy.uuid == uuid)) if uuid else None
    if uuid and policy_id is None:
        raise FieldsInvalid({member: f"`{uuid}` does not exist"})
    row = session.get(PolicyBinding, end)
    old = None if row is None else row.policy_id
    if old == policy_id:
        return ()
    before = taken(session, [one for one in (old, policy_id) if one is not None])
    if policy_id is None:
        session.delete(row)
    else:
        session.merge(PolicyBinding(scope=scope, scope_id=number, policy_id=policy_id))
    session.flush()
    names = given(session, actor, before)
    return [] if policy_id is None else [name for number, name in names.items() if number != policy_id]


def taken(session: Session, policies: Collection[int]) -> dict[int, Ends]:
    """What these policies, which are about to gain or lose something, are bound to; nobody else changes them then."""
    if not policies:
        return {}
    raised = update(Policy).where(Policy.id.in_(policies)).values(version=Policy.version + 1, updated_at=clock.now())
    session.execute(raised.execution_options(synchronize_session=False))
    return ends(session, policies)


def given(session: Session, actor: Actor, before: dict[int, Ends]) -> dict[int, str]:
    """Write what became of them, after `taken`, to the audit log; returns their names."""
    if not before:
        return {}
    after = ends(session, before)
    rows = session.scalars(
        select(Policy).where(Policy.id.in_(before)).order_by(Policy.id).execution_options(populate_existing=True)
    ).all()
    for row in rows:
        session.expire(row, ["bindings"])
        details = {"before": {"boundTo": before[row.id]}, "after": {"boundTo": after[row.id]}}
        note(session, actor, "policy_update", RESOURCE, row.uuid, details)
    return {row.id: row.name for row in rows}


def ends(session: Session, policies: Iterable[int]) -> dict[int, Ends]:
    """The keys, by UUID, and the users, teams and models, by name, that have each of these policies."""
    found: dict[int, Ends] = {number: {f"{scope}s": [] for scope in owners.SCOPES} for number in policies}
    rows = session.execute(
        select(PolicyBinding.policy_id, PolicyBinding.scope, PolicyBinding.scope_id).where(
            PolicyBinding.policy_id.in_(found)
        )
    ).all()
    names = owners.names(session, [(scope, number) for _policy, scope, number in rows])
    keys = [number for _policy, scope, number in rows if scope == "key"]
    if keys:
        uuids = session.execute(select(ApiKey.id, ApiKey.uuid).where(ApiKey.id.in_(keys)))
        names |= {("key", number): uuid for number, uuid in uuids}
    for policy, scope, number in rows:
        if (scope, number) in names:
            found[policy][f"{scope}s"].append(names[scope, number])
    return {policy: {scope: sorted(named) for scope, named in bound.items()} for policy, bound in found.items()}


def bound(session: Session, scope: str, numbers: Collection[int]) -> dict[int, str]:
    """The ids of the policies of these keys, users, teams or models, by the number of what has one."""
    query = select(PolicyBinding.scope_id, Policy.uuid).join(Policy)
    rows = session.execute(query.where(PolicyBinding.scope == scope, PolicyBinding.scope_id.in_(numbers)))
    return dict(rows.tuples().all())
