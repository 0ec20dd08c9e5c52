"""Who may do what. Every guard asks here, of the APIs and of the panel alike."""

from collections.abc import Mapping
from typing import Final

READ: Final = "read"  # everything that admins see
CHANGE: Final = "change"  # everything that admins change
TEAM: Final = "team"  # members, keys and budgets of one's own team
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

RIGHTS: Final[Mapping[str, frozenset[str]]] = {  # by role
    "admin": frozenset({READ, CHANGE}),
    "auditor": frozenset({READ}),
    "team_admin": frozenset({TEAM}),
    "user": frozenset(),
}
ROLES: Final = tuple(RIGHTS)


def has(role: str, right: str) -> bool:
    """Whether that role has that right; a role that nobody knows has none."""
    return right in RIGHTS.get(role, ())


def needed(method: str) -> str:
    """What a request of this method needs where admins are at home."""
    return READ if method in SAFE_METHODS else CHANGE
