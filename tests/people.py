"""Small words of the tests about people: signing in, asking, what was said."""

from typing import Any

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import User
from tests.callers import bearer
from tests.conftest import PASSWORD

LOGIN = {"username": "maria", "password": "senha-da-maria"}
FORBIDDEN = "Not enough permissions"


def engine(app: Flask) -> Engine:
    here: Engine = app.extensions["gateway"].engine
    return here


def token(app: Flask, username: str = "admin", password: str = PASSWORD) -> dict[str, str]:
    """The headers of somebody who has signed in."""
    answer = app.test_client().post("/login", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return bearer((answer.json or {})["access_token"])


def ask(app: Flask, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> TestResponse:
    return app.test_client().open(path, method=method, headers=headers or {}, **more)


def said(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.json or {}).get("detail")


def number_of(app: Flask, username: str = "maria") -> int:
    with Session(engine(app)) as session:
        return int(session.query(User.id).filter_by(username=username).one()[0])
