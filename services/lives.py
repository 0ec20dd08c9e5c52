"""When a key or a user ends: by a length of life from its creation, by a date, or because somebody revoked it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from models import ApiKey, User
from services import durations
from services.errors import FieldsInvalid
from utils import clock

SLACK: Final = timedelta(seconds=1)  # moments are stored in milliseconds and shown in seconds


def ttl_of(row: ApiKey | User) -> str:
    """The length of life that was given, unless somebody has set another end since; else empty."""
    if not row.ttl or row.expires_at is None:
        return ""
    return row.ttl if abs(row.expires_at - row.created_at - durations.parse(row.ttl)) < SLACK else ""


def has_ended(row: ApiKey | User) -> bool:
    """Whether the end has passed."""
    return row.expires_at is not None and row.expires_at <= clock.now()


def seconds(moment: datetime | None) -> int | None:
    """Unix seconds, as clients read them."""
    return None if moment is None else int(moment.timestamp())


def store(row: ApiKey | User, values: Mapping[str, Any]) -> None:
    """Take over `ttl` and `expiresAt` as far as they differ from what is shown; each sets the other aside.

    Raises:
        FieldsInvalid: they name different ends.
    """
    ttl = values.get("ttl")
    by_ttl = ttl is not None and ttl != ttl_of(row)
    by_date = "expiresAt" in values and seconds(values["expiresAt"]) != seconds(row.expires_at)
    if by_ttl:
        end = row.created_at + durations.parse(ttl) if ttl else None
        if by_date and seconds(end) != seconds(values["expiresAt"]):
            why = "ttl and expiresAt name different ends"
            raise FieldsInvalid({"ttl": why, "expiresAt": why})
        row.ttl, row.expires_at = ttl or None, end
    elif by_date:
        row.ttl, row.expires_at = None, values["expiresAt"]


def check_new(row: ApiKey | User) -> None:
    """Whether the date makes sense of something new; a ttl may be as short as it likes.

    Raises:
        FieldsInvalid: it has passed.
    """
    if row.ttl is None and has_ended(row):
        raise FieldsInvalid({"expiresAt": "has passed"})


def revocation(
    values: Mapping[str, Any], seen: Mapping[str, Any], stored: tuple[bool, str | None]
) -> tuple[bool, str | None]:
    """Whether it is revoked from now on, and why; what is sent back as it was shown changes nothing.

    `seen` also has what follows from an end or a spent limit; `stored` is what somebody decided.

    Raises:
        FieldsInvalid: a reason without a revocation.
    """
    said, reason = values.get("revoked"), values.get("revokedReason", "")
    if (said, reason) == (seen["revoked"], seen["revokedReason"]):
        return stored
    if said is False:
        return False, None
    if said:
        return True, reason or stored[1]
    if reason and not stored[0] and reason != seen["revokedReason"]:
        raise FieldsInvalid({"revokedReason": "says why something is revoked, and this is not"})
    return stored[0], reason or stored[1]
