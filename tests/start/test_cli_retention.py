"""`flask retention run`, `flask users export|erase`."""

import json
import stat
import zipfile
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import AuditEntry, Dialog, Invitation, Message, StoredBody, StoredItem, StoredResponse, User, WebSession
from services import retention
from tests.callers import add_user
from tests.helpers import AUTH, assert_books_agree, chat
from utils import clock

DAY = timedelta(days=1)


@pytest.fixture
def command(app: Flask):
    def run(*arguments, given=None, on=app):
        done = on.test_cli_runner().invoke(args=list(arguments), input=given)
        return done.exit_code, done.output

    return run


def here(app):
    return app.extensions["gateway"]


def furnish(app, user_id):
    """Two of everything that ends: one that has ended, one that has not."""
    now = clock.now()
    with Session(here(app).engine) as session, session.begin():
        for name, moment in (("old", now - 100 * DAY), ("new", now)):
            times = {"created_at": moment, "expires_at": moment + DAY}
            session.add(StoredBody(request_id=name, user_id=user_id, **times))
            session.add(StoredResponse(id=name, user_id=user_id, model="m", sealed=b"x", **times))
            session.add(StoredItem(user_id=user_id, id=f"item-{name}", response_id=name))
            session.add(WebSession(digest=name, user_id=user_id, created_at=moment, seen_at=moment))
            session.add(Invitation(digest=name, hint="inv", created_by="t", expires_at=now + DAY, used_at=moment))
            session.add(
                Dialog(id=name, user_id=user_id, title=name, model_name="m", created_at=moment, updated_at=moment)
            )
            session.add(Message(dialog_id=name, user_id=user_id, role="user", content=name))


def left(app):
    tables = ("stored_bodies", "stored_responses", "stored_items", "web_sessions", "invitations", "dialogs", "messages")
    with here(app).engine.connect() as connection:
        return {name: connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar() for name in tables}


def test_what_has_expired_goes_and_what_is_kept_stays(app, command):
    furnish(app, add_user(app))
    status, said = command("retention", "run", "--dry-run")
    assert (status, said.splitlines()[0]) == (0, "Would be removed:")
    counts = {line.strip().partition(" ")[2]: int(line.split()[0]) for line in said.splitlines()[1:]}
    assert counts == {
        "refused calls": 0,
        "kept answers": 0,
        "batches": 0,
        "texts of calls": 1,
        "answers": 1,
        "dialogs": 0,
        "browser sessions": 1,
        "retired secrets": 0,
        "invitations": 0,
        "alerts": 0,
    }
    assert set(left(app).values()) == {2}
    status, said = command("retention", "run")
    assert (status, said.splitlines()[0]) == (0, "Removed:")
    assert [int(line.split()[0]) for line in said.splitlines()[1:]] == list(counts.values())
    assert left(app) == {
        "stored_bodies": 1,
        "stored_responses": 1,
        "stored_items": 1,
        "web_sessions": 1,
        "invitations": 2,
        "dialogs": 2,
        "messages": 2,
    }
    assert "       0 answers" in command("retention", "run")[1]


def test_dialogs_and_invitations_go_when_settings_say_so(database, make_app, command):
    app = make_app(database, DIALOGS_RETENTION_DAYS="30", INVITATIONS_RETENTION_DAYS="30")
    user = add_user(app)
    furnish(app, user)
    with Session(here(app).engine) as session, session.begin():
        busy = clock.now_ms() + 60_000  # it is being answered
        old = clock.now() - 100 * DAY
        session.add(Dialog(id="busy", user_id=user, model_name="m", busy_until=busy, created_at=old, updated_at=old))
    assert command("retention", "run", on=app)[0] == 0
    assert left(app) == {
        "stored_bodies": 1,
        "stored_responses": 1,
        "stored_items": 1,
        "web_sessions": 1,
        "invitations": 1,
        "dialogs": 2,
        "messages": 1,
    }


def test_usage_ledger_and_audit_log_are_never_cut(app, command, monkeypatch):
    client = app.test_client()
    assert command("users", "change", "admin", "--team", "")[0] == 0
    assert command("invite", "--role", "user")[0] in (0, 78)
    assert client.post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    tables = ("usage", "ledger_entries", "audit_log")
    with here(app).engine.connect() as connection:
        before = [connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar() for name in tables]
    with monkeypatch.context() as later:
        now = clock.now() + 20 * 365 * DAY
        later.setattr(clock, "now", lambda: now)
        assert command("retention", "run")[0] == 0
    assert min(before) > 0
    with here(app).engine.connect() as connection:
        assert [connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar() for name in tables] == before
    assert_books_agree(here(app).engine)
    assert command("audit", "verify")[0] == 0


def test_many_rows_go_in_batches(app, monkeypatch):
    monkeypatch.setattr(retention.clock, "sleep", lambda _s: None)
    user, old = add_user(app), clock.now() - DAY
    with Session(here(app).engine) as session, session.begin():
        session.add_all(
            [StoredBody(request_id=f"r{n}", user_id=user, created_at=old, expires_at=old) for n in range(1201)]
        )
    assert here(app).retention.run()["texts of calls"] == 1201
    assert left(app)["stored_bodies"] == 0


def test_the_housekeeper_does_it_too(app):
    furnish(app, add_user(app))
    here(app).housekeeper.do_due()
    assert (left(app)["stored_bodies"], left(app)["stored_responses"]) == (1, 1)


def test_an_export_in_either_form(app, command, tmp_path):
    furnish(app, add_user(app))
    one, many = tmp_path / "ana.json", tmp_path / "ana.zip"
    status, said = command("users", "export", "ana", "--output", str(one))
    assert status == 0
    assert "1 profile" in said
    whole = json.loads(one.read_text())
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert [row["content"] for row in whole["messages"]] == ["old", "new"]
    assert whole["counts"]["dialogs"] == len(whole["dialogs"]) == 2
    assert command("users", "export", "ana", "--output", str(many))[0] == 0
    with zipfile.ZipFile(many) as archive:
        assert archive.testzip() is None
        assert [json.loads(line)["content"] for line in archive.read("messages.jsonl").splitlines()] == ["old", "new"]
        assert json.loads(archive.read("export.json"))["counts"]["messages"] == 2
    for arguments, why in (
        (("nobody", "--output", str(tmp_path / "x.json")), "User not found"),
        (("ana", "--output", str(tmp_path / "x.csv")), "ends in .json or .zip"),
        (("ana", "--output", str(one)), "is there already"),
    ):
        status, said = command("users", "export", *arguments)
        assert (status, why in said) == (78, True)
    with Session(here(app).engine) as session:
        actors = session.scalars(select(AuditEntry.actor).where(AuditEntry.action == "user_export")).all()
    assert actors == ["operator", "operator"]


def test_erasing_asks_first(app, command):
    number = add_user(app)
    furnish(app, number)
    assert command("users", "erase", "ana", given="n\n")[0] == 1
    assert command("users", "erase", "nobody", "--yes")[0] == 78
    status, said = command("users", "erase", "admin", "--yes")
    assert (status, "last admin" in said) == (78, True)
    status, said = command("users", "erase", "ana", "--yes", "--vacuum")
    assert (status, f"User #{number} is now `erased-{number}`." in said) == (0, True)
    assert "2 messages" in said
    with Session(here(app).engine) as session:
        assert session.get(User, number).username == f"erased-{number}"
    assert command("audit", "verify")[0] == command("ledger", "verify")[0] == 0
