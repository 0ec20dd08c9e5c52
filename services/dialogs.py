"""Dialogs of people with models: making, finding, searching, renaming and deleting them.

A dialog belongs to a user; to everybody else there is none, in the same words and by the same statements. Whoever may
read all (an admin who has signed in) asks without a user. How a message is answered is in services/turns.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, RowMapping, case, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from models import Dialog, Message
from services import agents
from services.audit import Actor, note
from services.errors import NotFound
from utils import ids

MOST_HITS: Final = 1000  # messages that a search looks at, the newest
MAX_QUERY: Final = 200  # characters
ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
MISSING: Final = "There is no dialog of this id."
MISSING_MESSAGE: Final = "There is no message of this id."
COLUMNS: Final = (
    *(Dialog.id, Dialog.user_id, Dialog.title, Dialog.system_prompt, Dialog.model_name),
    *(Dialog.agent_config, Dialog.message_count, Dialog.created_at, Dialog.updated_at),
)
SHOWN: Final = (
    *(Message.id, Message.dialog_id, Message.role, Message.content),
    *(Message.prompt_tokens, Message.completion_tokens, Message.created_at),
)
SEARCH: Final = {  # by the kind of database; each looks up the user's messages by words, of which the user is one
    "sqlite": text("""
SELECT DISTINCT dialog_id FROM messages WHERE user_id = :user AND number IN
  (SELECT rowid FROM message_texts WHERE message_texts MATCH :words ORDER BY rowid DESC LIMIT :most)"""),
    # The conditions stand apart: with all in one the planner may read every message of the user instead.
    "postgresql": text("""
WITH found AS MATERIALIZED (
  SELECT number, dialog_id, user_id FROM messages
  WHERE to_tsvector('simple', 'user' || CAST(user_id AS text) || ' ' || left(content, 100000))
    @@ (plainto_tsquery('simple', :owner) && plainto_tsquery('simple', :words)))
SELECT DISTINCT dialog_id FROM (
  SELECT dialog_id FROM found
  WHERE user_id = :user AND numnode(plainto_tsquery('simple', :words)) > 0 ORDER BY number DESC LIMIT :most) newest"""),
}


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a user's dialogs, and how many there are."""

    items: list[dict[str, Any]]
    total: int


def create(engine: Engine, user_id: int, given: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
    """A new dialog, from members that `dialogs_fields.DIALOG` has read, with a model.

    Raises:
        InvalidRequest: its parameters name an agent that is not there.
    """
    dialog_id = ids.uuid()
    with Session(engine) as session, session.begin():
        agents.named(session, user_id, given.get("agent_config"))
        session.execute(insert(Dialog).values(**given, id=dialog_id, user_id=user_id))
        note(session, actor, "dialog_create", "dialog", dialog_id, {"model": given["model_name"]})
        return dict(_row(session, dialog_id, user_id))


def find(engine: Engine, user_id: int | None, dialog_id: str) -> dict[str, Any]:
    """One dialog of the user; of anybody where none is named.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    with Session(engine) as session:
        return dict(_row(session, dialog_id, user_id))


def page(engine: Engine, user_id: int, *, number: int, size: int, query: str | None) -> Page:
    """The user's dialogs, what was used last first; with a query those whose messages have all its words.

    A search looks at the newest MOST_HITS messages that fit. `number` counts from 1.
    """
    with Session(engine) as session:
        conditions: list[ColumnElement[bool]] = [Dialog.user_id == user_id]
        if query is not None:
            conditions.append(Dialog.id.in_(_hits(session, user_id, query)))
        total = session.scalar(select(func.count()).select_from(Dialog).where(*conditions)) or 0
        rows = session.execute(
            select(*COLUMNS)
            .where(*conditions)
            .order_by(Dialog.updated_at.desc(), Dialog.id.desc())
            .offset((number - 1) * size)
            .limit(size)
        ).mappings()
        return Page(list(map(dict, rows)), total)


def rename(engine: Engine, user_id: int, dialog_id: str, title: str | None, actor: Actor) -> dict[str, Any]:
    """Give a dialog another title.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    with Session(engine) as session, session.begin():
        row = _row(session, dialog_id, user_id)
        session.execute(update(Dialog).where(Dialog.id == row["id"]).values(title=title))
        note(session, actor, "dialog_rename", "dialog", row["id"])
        return dict(_row(session, dialog_id, user_id))


def remove(engine: Engine, user_id: int, dialog_id: str, actor: Actor) -> None:
    """Delete a dialog with all its messages; an answer under way is charged, and stored nowhere.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    with Session(engine) as session, session.begin():
        found = _known(dialog_id)
        gone = session.execute(
            delete(Dialog).where(Dialog.id == found, Dialog.user_id == user_id).returning(Dialog.message_count)
        ).first()
        if gone is None:
            raise NotFound(MISSING)
        session.execute(delete(Message).where(Message.dialog_id == found))
        note(session, actor, "dialog_delete", "dialog", found, {"messages": gone.message_count})


def edit(engine: Engine, dialog_id: str, values: Mapping[str, Any], actor: Actor) -> None:
    """An admin's change of somebody's title, instructions or model; the entry names them and holds no text.

    Raises:
        NotFound: there is none.
    """
    with Session(engine) as session, session.begin():
        row = _row(session, dialog_id, None)
        changed = {name: value for name, value in values.items() if row[name] != value}
        if changed:
            session.execute(update(Dialog).where(Dialog.id == row["id"]).values(changed))
            note(session, actor, "dialog_update", "dialog", row["id"], {"changed": sorted(changed)})


def remove_message(engine: Engine, message_id: str, actor: Actor) -> None:
    """Delete one message of anybody's dialog; what it cost stays booked.

    Raises:
        NotFound: there is none.
    """
    with Session(engine) as session, session.begin():
        gone = session.execute(delete(Message).where(Message.id == message_id).returning(Message.dialog_id)).first()
        if gone is None:
            raise NotFound(MISSING_MESSAGE)
        fewer = case((Dialog.message_count > 0, Dialog.message_count - 1), else_=0)
        values = {"message_count": fewer, "updated_at": Dialog.updated_at}  # it was not used by that
        session.execute(update(Dialog).where(Dialog.id == gone.dialog_id).values(values))
        note(session, actor, "message_delete", "message", message_id, {"dialog": gone.dialog_id})


def messages(engine: Engine, user_id: int | None, dialog_id: str, *, skip: int, limit: int) -> list[dict[str, Any]]:
    """A part of a dialog's messages, oldest first.

    Raises:
        NotFound: there is no such dialog, or it is somebody else's.
    """
    with Session(engine) as session:
        row = _row(session, dialog_id, user_id)
        found = session.execute(
            select(*SHOWN).where(Message.dialog_id == row["id"]).order_by(Message.number).offset(skip).limit(limit)
        )
        return [dict(message) for message in found.mappings()]


def owner_of(view: Mapping[str, Any]) -> int:
    """Whose dialog it is."""
    return int(view["user_id"])


def words_of(query: str) -> list[str]:
    """The words of a query: whatever stands between them is no syntax of any database."""
    return [word for word in re.findall(r"[^\s\0]+", query) if any(map(str.isalnum, word))]


def _hits(session: Session, user_id: int, query: str) -> list[str]:
    """The dialogs of the user that a search finds."""
    words, kind = words_of(query), session.get_bind().dialect.name
    if not words:
        return []
    if kind == "sqlite":
        quoted = " AND ".join('"' + word.replace('"', '""') + '"' for word in words)
        values = {"words": f'user_id : "{user_id}" AND content : ({quoted})'}
    else:
        values = {"words": " ".join(words), "owner": f"user{user_id}"}
    found = session.execute(SEARCH[kind], values | {"user": user_id, "most": MOST_HITS})
    return list(found.scalars())


def _known(dialog_id: str) -> str:
    """The id as it is stored, or one that nothing has."""
    lower = dialog_id.lower()
    return lower if ID.fullmatch(lower) else ""


def _row(session: Session, dialog_id: str, user_id: int | None) -> RowMapping:
    conditions = [Dialog.id == _known(dialog_id)]
    if user_id is not None:
        conditions.append(Dialog.user_id == user_id)
    row = session.execute(select(*COLUMNS).where(*conditions)).mappings().first()
    if row is None:
        raise NotFound(MISSING)
    return row
