"""Who may do what with a route, as one letter for each caller in the order of `CALLERS`.

y may; a 401; f 403; n 404, as if the thing were not there; g 404, as nothing is; s sent to the sign-in page; h sent to
another page.
"""

from typing import Final

from tests.matrix.world import CALLERS

#                              nobody | user, other, team_admin, other_team_admin, auditor, admin | their keys
POLICIES: Final = {
    "open": "y yyyyyy yyyyyy",
    "anybody": "a yyyyyy yyyyyy",  # who has signed in, or has a key
    "token": "a yyyyyy ffffff",  # who has signed in
    "own": "a ynnnnn ynnnnn",  # things of `user`
    "own-or-admin": "a ynnnny ynnnnn",
    "own-or-seen": "a ynnnyy ynnnnn",  # … which whoever may see everything sees
    "own-or-changed": "a ynnnfy ynnnnn",
    "own-or-reader": "a yfffyy yfffff",
    "named-key": "a ffffff yfffff",  # a route that names the key of `user`
    "admin-reads": "a ffffyy ffffff",
    "admin-changes": "a fffffy ffffff",
    "management-reads": "a ffffyy aaaaaa",
    "management-changes": "a fffffy aaaaaa",
    "team-reads": "a ffynyy ffffff",  # the team of `user` and `team_admin`
    "team-changes": "a ffynfy ffffff",
    "panel-open": "y yyyyyy yyyyyy",
    "panel-strangers": "y hhhhhh yyyyyy",
    "panel-own": "s yyyyyy ssssss",
    "panel-mine": "s ynnnnn ssssss",  # things of `user`
    "panel-seen": "s ynnnyy ssssss",  # the same for whoever may see everything
    "panel-changed": "s ynnnfy ssssss",
    "panel-team": "s ffyyff ssssss",
    "panel-looks": "s ffffyy ssssss",
    "panel-home": "s hhhhyy ssssss",
    "panel-forms": "s fffffy ssssss",
    "panel-nowhere": "s gggggg ssssss",
}
MAY = "y"
STATUS: Final = {"a": (401,), "f": (403,), "n": (404,), "g": (404,), "s": (302, 303), "h": (302, 303)}


def expected(policy: str) -> dict[str, str]:
    """The letter of each caller."""
    return dict(zip(CALLERS, POLICIES[policy].replace(" ", ""), strict=True))
