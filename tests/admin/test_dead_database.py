"""Lists, forms and files while the database is locked, or gone: pages say so, soon, and no file looks whole."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from models import User
from routes.admin import exports
from tests.admin.conftest import Browser, add_user, rows_of

SOON_S = 20.0  # the panel waits for a locked file for as long as calls do, and the machine may be busy
SAYS = "The database does not take this at the moment"


@contextmanager
def written_by_another(url: str) -> Iterator[None]:
    """Somebody holds the file's write lock."""
    outsider = sqlite3.connect(make_url(url).database or "", isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        outsider.rollback()
        outsider.close()


@contextmanager
def gone(browser: Browser) -> Iterator[None]:
    """Postgres ends all connections and takes no new ones."""
    url = browser.gateway.engine.url
    server = url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    name = url.database or ""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())


def break_in_the_middle(browser: Browser) -> None:
    """The next statement fails, on either database."""
    with browser.gateway.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE users RENAME TO users_that_were")
        connection.commit()


def test_a_locked_file_is_read_and_what_would_change_it_says_so_soon(
    panel_admin: Browser, sqlite_database: str
) -> None:
    number = add_user(panel_admin.app, "ana")
    panel_admin.get("/admin/users/")
    panel_admin.token()
    panel_admin.post("/admin/users/undo/")
    with written_by_another(sqlite_database):
        assert panel_admin.get("/admin/users/").status_code == 200
        assert panel_admin.get(f"/admin/users/edit/?id={number}").status_code == 200
        sent = {"role": "auditor", "team": "", "is_active": "y", "scope": "all"}
        ticked = {"action": "disable", "id": str(number), "sure": "yes"}
        began = time.monotonic()
        answers = [
            panel_admin.post(f"/admin/users/edit/?id={number}", sent),
            panel_admin.post("/admin/users/bulk/", ticked),
            panel_admin.get("/admin/users/export.csv"),  # it is noted in the audit log first
        ]
        assert time.monotonic() - began < 3 * SOON_S
    assert [(answer.status_code, SAYS in answer.text) for answer in answers] == [(503, True)] * 3
    row = next(row for row in rows_of(panel_admin.app, User) if row.id == number)
    assert (row.role, row.is_active) == ("user", True)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_postgres_that_is_gone_is_said_soon(panel_anywhere_admin: Browser) -> None:
    browser, number = panel_anywhere_admin, add_user(panel_anywhere_admin.app, "ana")
    browser.get("/admin/users/")
    browser.post("/admin/users/undo/")
    with gone(browser):
        began = time.monotonic()
        answers = [
            browser.get("/admin/users/"),
            browser.get(f"/admin/users/edit/?id={number}"),
            browser.post(f"/admin/users/edit/?id={number}", {"role": "auditor"}),
            browser.get("/admin/users/export.csv"),
        ]
        assert time.monotonic() - began < 4 * SOON_S
    assert [answer.status_code for answer in answers] == [503] * 4
    assert browser.get("/admin/users/").status_code == 200


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_that_breaks_off_says_so_and_does_not_end_well(
    panel_anywhere_admin: Browser, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The last line says it, and the stream raises: the server ends the transfer without its last chunk."""
    monkeypatch.setattr(exports, "CHUNK", 5)
    for place in range(12):
        add_user(panel_anywhere_admin.app, f"user-{place:02}")
    answer = panel_anywhere_admin.client.get(f"/admin/users/export.{kind}?search=user-", buffered=False)
    parts = answer.iter_encoded()
    text = next(parts).decode()
    assert "user-04" in text
    break_in_the_middle(panel_anywhere_admin)
    pieces: list[str] = []
    with pytest.raises(DBAPIError):
        pieces.extend(part.decode() for part in parts)
    last = pieces[-1].splitlines()[-1]
    assert "This file is not complete" in (json.loads(last)["error"] if kind == "jsonl" else last)
    assert "user-05" not in "".join(pieces)
    answer.close()
