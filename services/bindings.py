"""Which policy a key, user, team or model has; each has one at most."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from models_policies import Policy, PolicyBinding
from services.errors import FieldsInvalid


def bind(session: Session, scope: str, number: int, uuid: str, member: str = "policyId") -> None:
    """Give a key, user, team or model the policy of that id, within the caller's transaction; an empty id is none.

    Raises:
        FieldsInvalid: there is no such policy.
    """
    policy_id = session.scalar(select(Policy.id).where(Policy.uuid == uuid)) if uuid else None
    if uuid and policy_id is None:
        raise FieldsInvalid({member: f"`{uuid}` does not exist"})
    row = session.get(PolicyBinding, (scope, number))
    if policy_id is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(PolicyBinding(scope=scope, scope_id=number, policy_id=policy_id))
    else:
        row.policy_id = policy_id
    session.flush()


def bound(session: Session, scope: str, numbers: Collection[int]) -> dict[int, str]:
    """The ids of the policies of these keys, users, teams or models, by the number of what has one."""
    query = select(PolicyBinding.scope_id, Policy.uuid).join(Policy)
    rows = session.execute(query.where(PolicyBinding.scope == scope, PolicyBinding.scope_id.in_(numbers)))
    return dict(rows.tuples().all())
