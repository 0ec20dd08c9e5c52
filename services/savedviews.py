"""How people like the lists of the panel: columns they see, and filters that they gave a name.

A saved view is somebody's own; an admin may share one with everybody. The row without a name keeps which columns its
owner sees where no view says otherwise. Nothing of it changes what anybody may see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from models import SavedView, User
from services import audit
from services.audit import Actor
from services.errors import Conflict, InvalidRequest, NotFound

MOST: Final = 50  # of a person for one list
MOST_SHOWN: Final = 200  # of one list: one's own and those of all who share some
MAX_NAME: Final = 300
COLUMNS: Final = ""  # the name of the row that keeps the columns
RESOURCE: Final = "view"
TAKEN: Final = "You have a view of that name already."
FULL: Final = "You have as many views of this list as there may be; delete one first."


@dataclass(frozen=True, slots=True)
class Found:
    """A view as its reader has it. `settings`: filters (by parameter), columns, page_size, sort, is_descending."""

    id: int
    view: str
    name: str
    settings: Mapping[str, Any]
    is_shared: bool
    is_own: bool
    owner: str | None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a person has of one list: its columns, None = the usual ones, and the views by name, one's own first."""

    columns: Sequence[str] | None
    views: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Wish:
    """A view to be kept: of which list, under which name."""

    view: str
    name: str
    settings: Mapping[str, Any]
    is_shared: bool = False


def arrangement(session: Session, user_id: int, view: str) -> Arrangement:
    """What the person has of a list, in one statement."""
    found = _found(session, user_id, view)
    columns = next((one.settings.get("columns") for one in found if one.is_own and one.name == COLUMNS), None)
    return Arrangement(columns, [one for one in found if one.name != COLUMNS])


def listed(session: Session, user_id: int) -> list[Found]:
    """All views that the person has, of every list."""
    return [one for one in _found(session, user_id) if one.name != COLUMNS]


def get(session: Session, user_id: int, number: int, *, with_shared: bool = False) -> SavedView:
    """A view of the person's own; `with_shared`: or one that somebody shares.

    Raises:
        NotFound: there is none.
    """
    row = session.get(SavedView, number)
    if row is None or row.name == COLUMNS or not (row.user_id == user_id or (with_shared and row.is_shared)):
        raise NotFound("There is no such view.")
    return row


def keep_columns(session: Session, user_id: int, view: str, columns: Sequence[str] | None) -> None:
    """Keep which columns the person sees of a list; None = the usual ones."""
    row = session.scalar(select(SavedView).where(*_called(user_id, view, COLUMNS)))
    if columns is None:
        session.execute(delete(SavedView).where(*_called(user_id, view, COLUMNS)))
    elif row is None:
        session.add(SavedView(user_id=user_id, view=view, name=COLUMNS, settings={"columns": list(columns)}))
    else:
        row.settings = {"columns": list(columns)}


def save(session: Session, actor: Actor, wish: Wish, *, replaces: bool = False) -> SavedView:
    """Keep a view, within the transaction; `replaces`: one of that name may be there already.

    Raises:
        Conflict: there is one of that name.
        InvalidRequest: the person has as many as there may be.
    """
    user_id = actor.user_id or 0
    session.scalar(select(User.id).where(User.id == user_id).with_for_update())  # two tabs come one after the other
    row = session.scalar(select(SavedView).where(*_called(user_id, wish.view, wish.name)))
    if row is not None and not replaces:
        raise Conflict(TAKEN, param="name")
    before = None if row is None else _described(row)
    if row is None:
        row = SavedView(user_id=user_id, view=wish.view, name=wish.name)
        session.add(row)
    row.settings, row.is_shared = dict(wish.settings), wish.is_shared
    session.flush()
    mine = SavedView.user_id == user_id, SavedView.view == wish.view, SavedView.name != COLUMNS
    if before is None and (session.scalar(select(func.count()).where(*mine)) or 0) > MOST:
        raise InvalidRequest(FULL, param="name")
    _note(session, actor, "view_save", row, before)
    return row


def change(session: Session, actor: Actor, row: SavedView, *, name: str, is_shared: bool) -> None:
    """Call a view otherwise, share it or keep it to oneself, within the transaction.

    Raises:
        Conflict: there is one of that name.
    """
    before = _described(row)
    other = session.scalar(select(SavedView.id).where(*_called(row.user_id, row.view, name)))
    if other is not None and other != row.id:
        raise Conflict(TAKEN, param="name")
    row.name, row.is_shared = name, is_shared
    session.flush()
    _note(session, actor, "view_update", row, before)


def remove(session: Session, actor: Actor, row: SavedView) -> None:
    """Delete a view, within the transaction."""
    audit.note(session, actor, "view_delete", RESOURCE, row.id, {"before": _described(row)})
    session.delete(row)


def _found(session: Session, user_id: int, view: str | None = None) -> list[Found]:
    """One's own views first, then those of others, by name."""
    query = (
        select(SavedView, User.username)
        .outerjoin(User, User.id == SavedView.user_id)
        .where(or_(SavedView.user_id == user_id, SavedView.is_shared))
        .order_by((SavedView.user_id == user_id).desc(), SavedView.view, SavedView.name, SavedView.id)
        .limit(MOST_SHOWN)
    )
    rows = session.execute(query if view is None else query.where(SavedView.view == view)).tuples()
    return [
        Found(row.id, row.view, row.name, row.settings, row.is_shared, row.user_id == user_id, owner)
        for row, owner in rows
    ]


def _called(user_id: int, view: str, name: str) -> tuple[Any, ...]:
    return SavedView.user_id == user_id, SavedView.view == view, SavedView.name == name


def _described(row: SavedView) -> dict[str, Any]:
    return {"view": row.view, "name": row.name, "settings": dict(row.settings), "is_shared": row.is_shared}


def _note(session: Session, actor: Actor, action: str, row: SavedView, before: Mapping[str, Any] | None) -> None:
    audit.note(session, actor, action, RESOURCE, row.id, audit.differences(before, _described(row)))
