"""What the queries of `/api/v1` say: whole numbers, moments, which part of a list."""

from datetime import UTC, datetime
from typing import Final

from flask import request

from services.errors import InvalidRequest

MAX_SKIP: Final = 1_000_000
MAX_LIMIT: Final = 1000
MAX_ID: Final = 2**63 - 1
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def whole(name: str, default: int | None, *, least: int = 0, most: int) -> int | None:
    """A whole number.

    Raises:
        InvalidRequest: it is none, or out of these bounds.
    """
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise InvalidRequest(f"`{name}` is a whole number from {least} to {most}.", param=name)
    return int(text)


def part(default: int) -> dict[str, int]:
    """`skip` and `limit`, of which there are `default` when nobody says.

    Raises:
        InvalidRequest: as `whole`.
    """
    skip = whole("skip", 0, most=MAX_SKIP)
    limit = whole("limit", default, least=1, most=MAX_LIMIT)
    return {"skip": skip or 0, "limit": limit or default}


def word(name: str, most: int) -> str | None:
    """A short text.

    Raises:
        InvalidRequest: it is longer, or has characters that nobody can see.
    """
    text = request.args.get(name)
    if text is not None and (len(text) > most or not text.isprintable()):
        raise InvalidRequest(f"`{name}` has at most {most} characters that can be seen.", param=name)
    return text or None


def moment(name: str) -> datetime | None:
    """A day or moment as ISO 8601 has them; without a zone it is in UTC.

    Raises:
        InvalidRequest: it is none.
    """
    text = request.args.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a query has a space where its sender wrote a plus
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        if FIRST <= aware < LAST:
            return aware
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"`{name}` is a day such as 2026-01-31 or a moment such as 2026-01-31T12:00:00Z.", param=name)
