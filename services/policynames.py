"""Policies by their numbers, as usage has them, and by the UUIDs that clients know. This version has no policies."""

from collections.abc import Collection

from sqlalchemy.orm import Session


def numbers(_session: Session, _uuids: Collection[str]) -> tuple[int, ...]:
    """The numbers of the policies with these UUIDs; of one that does not exist there is none."""
    return ()


def uuids(_session: Session, _numbers: Collection[int]) -> dict[int, str]:
    """What these policies are called by clients, by number."""
    return {}
