"""Rows that the configuration file manages: whoever else would change one is told where it changes."""

from typing import Final, Protocol

from sqlalchemy.orm import Session

from services.errors import InvalidRequest

FILE: Final = "file"
APPLYING: Final = "tollhouse.applying"  # in `Session.info`: it is the file that changes them
WHY: Final = "This comes from the configuration file; change it there."


class Row(Protocol):
    """A row of which somebody has the say."""

    managed_by: str


def check(session: Session, row: Row) -> None:
    """Whether a row may be changed in this session.

    Raises:
        InvalidRequest: it stands in the configuration file.
    """
    if row.managed_by == FILE and not session.info.get(APPLYING):
        raise InvalidRequest(WHY)
