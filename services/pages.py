"""Lists of the key management API: which rows, how many of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

MOST: Final = 1_000  # rows of an answer; also how many come when nobody says
FARTHEST: Final = 1_000_000_000
LISTS: Final = {"sqlite": func.json_each, "postgresql": func.json_array_elements_text}


@dataclass(frozen=True, slots=True)
class Listed:
    """A part of a list and, if somebody asked, how many there are in all."""

    views: list[dict[str, Any]]
    count: int | None = None


def has_all(session: Session, column: InstrumentedAttribute[list[str] | None], names: Iterable[str]) -> list[Any]:
    """Conditions: the list in the column has all these names."""
    members = LISTS[session.get_bind().dialect.name]
    found = []
    for name in names:
        member = members(column).table_valued("value")
        found.append(select(1).select_from(member).where(member.c.value == name).exists())
    return found


def total(session: Session, number: InstrumentedAttribute[int], conditions: Iterable[ColumnElement[bool]]) -> int:
    """How many rows meet the conditions."""
    return session.scalar(select(func.count(number)).where(*conditions)) or 0
