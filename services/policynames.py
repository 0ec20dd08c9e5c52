"""Policies by their numbers, as usage has them, and by the UUIDs that clients know."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from models_policies import Policy


def numbers(session: Session, uuids: Collection[str]) -> tuple[int, ...]:
    """The numbers of the policies with these UUIDs; of one that does not exist there is none."""
    return tuple(session.scalars(select(Policy.id).where(Policy.uuid.in_(uuids))))


def uuids(session: Session, numbers: Collection[int]) -> dict[int, str]:
    """What these policies are called by clients, by number; of one that was deleted there is none."""
    return dict(session.execute(select(Policy.id, Policy.uuid).where(Policy.id.in_(numbers))).tuples().all())
