"""Keys and users of tests, with whatever columns a test wants."""

from typing import Any

from flask import Flask
from sqlalchemy.orm import Session

from models import ApiKey, Team, User
from services import Gateway
from services.keys import IssuedKey


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def add_user(app: Flask, name: str = "ana", **columns: Any) -> int:
    """A person without a password; `team` is made with them, as a dict of its columns."""
    here: Gateway = app.extensions["gateway"]
    team = columns.pop("team", None)
    with Session(here.engine) as session, session.begin():
        row = User(username=name, **columns)
        if team is not None:
            grouped = Team(name=team.pop("name", "crew"), **team)
            session.add(grouped)
            session.flush()
            row.team_id = grouped.id
        session.add(row)
        session.flush()
        return row.id


def issue(app: Flask, user_id: int | None = None, **columns: Any) -> IssuedKey:
    """A key with these columns, of a person made for it unless one is named; all workers of the app know it."""
    here: Gateway = app.extensions["gateway"]
    owner = add_user(app) if user_id is None else user_id
    with Session(here.engine) as session, session.begin():
        issued = here.keys.issue(session, owner, "test")
        if columns:
            session.query(ApiKey).filter_by(id=issued.id).update(columns)
    here.catalog.refresh()
    return issued


def change(app: Flask, kind: type[ApiKey | User | Team], number: int, **columns: Any) -> None:
    """Change a row, as an admin would."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(kind).filter_by(id=number).update(columns)
    here.catalog.refresh()


def find(app: Flask, kind: type[Any], number: int) -> Any:
    """The row as it is stored now."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session:
        return session.get(kind, number)
