"""`flask backup` and `flask restore`: what was there is there again, and anything less is refused."""

import json
import os
import stat
import threading
import zipfile
from contextlib import closing
from pathlib import Path

import flask_migrate
import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

import config as settings
from services import backups, pgtools, restoring
from services.spool import Spool
from tests.books.test_books import hold, settlement
from tests.conftest import PASSWORD, SECRETS
from tests.fakes.postgres import _programs
from tests.helpers import AUTH, assert_books_agree, chat, open_holds, rows
from utils.extensions import db

STRONG = {"KEY_PEPPER": "another-pepper-0123456789-0123456789"}


def call(app):
    assert app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200


def run(app, *arguments, given=None):
    """Exit status and text of a command."""
    folder = ("--programs", str(_programs())) if arguments[0] in ("backup", "restore") else ()
    result = app.test_cli_runner().invoke(args=[arguments[0], *folder, *arguments[1:]], input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def backed_up(app, path):
    status, output = run(app, "backup", str(path))
    assert status == 0, output
    with zipfile.ZipFile(path) as box:
        return json.loads(box.read("manifest.json"))


def stop(app):
    """As a gateway that was stopped: it holds no file and no connection."""
    app.extensions["gateway"].close()
    with app.app_context():
        db.engine.dispose()


def destroy(database):
    """Nothing is left of the database."""
    url = make_url(database)
    if url.get_backend_name() == "sqlite":
        for path in Path(url.database).parent.glob("tollhouse.db*"):
            path.unlink()
        return
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def contents(app):
    """Every row of every table."""
    engine = app.extensions["gateway"].engine
    with engine.connect() as connection:
        names = {"sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'"}.get(
            engine.dialect.name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        tables = sorted(connection.execute(text(names)).scalars())
        return {name: sorted(map(str, connection.execute(text(f'SELECT * FROM "{name}"')))) for name in tables}


def verified(app):
    for command in (["ledger", "verify"], ["audit", "verify"]):
        result = app.test_cli_runner().invoke(args=command)
        assert result.exit_code == 0, result.output


def test_what_was_destroyed_is_restored(app, make_app, database, tmp_path):
    for _ in range(3):
        call(app)
    assert run(app, "budgets", "set", "--user", "admin", "--unit", "usd", "--limit", "5")[0] == 0
    before, path = contents(app), tmp_path / "all.backup"
    told = backed_up(app, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (told["version"], told["revision"]) == (settings.project()[1], before["alembic_version"][0][2:6])
    stop(app)
    destroy(database)
    fresh = make_app(database)
    status, output = run(fresh, "restore", str(path), "--replace", "--yes")  # the spool's folder is still there
    assert status == 0, output
    assert "flask ledger verify" in output
    assert contents(fresh) == before
    verified(fresh)
    call(fresh)
    assert_books_agree(fresh.extensions["gateway"].engine)
    assert [one.name for one in tmp_path.iterdir() if "part" in one.name or "restore" in one.name] == []


def test_calls_go_on_while_a_backup_is_made(app, make_app, database, tmp_path):
    going, failed = threading.Event(), []

    def calls():
        while not going.is_set():
            try:
                call(app)
            except Exception as exc:  # noqa: BLE001 - the test shows it
                failed.append(exc)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        paths = [tmp_path / f"{number}.backup" for number in range(3)]
        for path in paths:
            backed_up(app, path)
    finally:
        going.set()
        for thread in threads:
            thread.join()
    assert failed == []
    stop(app)
    booked = []
    for path in paths:
        fresh = make_app(database)
        status, output = run(fresh, "restore", str(path), "--replace", "--yes")
        assert status == 0, output
        fresh.extensions["gateway"].accounting.sweep()  # calls of that moment
        verified(fresh)
        assert_books_agree(fresh.extensions["gateway"].engine)
        booked.append(len(rows(fresh.extensions["gateway"].engine)))
        stop(fresh)
    assert booked == sorted(booked)


def test_calls_under_way_are_booked_after_a_restore(app, make_app, database, tmp_path, session, gateway):
    worker = Spool(tmp_path / "spool")
    owner = worker.owner
    user = session.execute(text("SELECT id FROM users WHERE username = 'api-tokens'")).scalar_one()
    session.close()
    gateway.books.reserve(hold("r1", owner=owner), [])
    worker.sent("r1", None)
    worker.keep("r1", settlement("r1", user))
    told = backed_up(app, tmp_path / "all.backup")
    assert {name for name in told["members"] if owner in name} == {f"spool/{owner}.jsonl"}
    worker.close()
    stop(app)
    status, output = run(make_app(database), "restore", str(tmp_path / "all.backup"), "--replace", "--yes")
    assert status == 0, output
    fresh = make_app(database)
    engine = fresh.extensions["gateway"].engine
    assert open_holds(engine) == 1
    fresh.extensions["gateway"].accounting.sweep()
    assert [row.request_id for row in rows(engine)] == ["r1"]
    assert_books_agree(engine)
    (aside,) = tmp_path.glob("spool-before-*")
    assert (aside / f"{owner}.jsonl").exists()


def test_notes_from_after_the_moment_say_how_far_a_call_was_and_not_that_it_was_booked():
    before = {"id": b"place", "a": b'["hold","1",{}]\n["settle","1",{}]\n["sen'}
    after = {
        "id": b"place",
        "a": before["a"] + b't","2",0]\n["progress","2",9]\n["booked","",["1"]]\n',
        "b": b'["sent","3",0]\n',
    }
    found = backups._with_later(before, after)
    assert found["id"] == b"place"
    assert found["a"] == b'["hold","1",{}]\n["settle","1",{}]\n["sen\n["sent","2",0]\n["progress","2",9]\n'
    assert found["b"] == b'["sent","3",0]\n'


def test_a_file_that_is_there_is_never_overwritten(app, tmp_path, monkeypatch):
    path = tmp_path / "all.backup"
    path.write_text("precious", encoding="ascii")
    status, output = run(app, "backup", str(path))
    assert (status, "is there already" in output) == (settings.EXIT_BAD_CONFIG, True)
    monkeypatch.setattr(Path, "exists", lambda _path: False)  # it came while the backup was made
    status, output = run(app, "backup", str(path))
    assert (status, "is there already" in output) == (settings.EXIT_BAD_CONFIG, True)
    monkeypatch.undo()
    assert path.read_text(encoding="ascii") == "precious"
    assert list(tmp_path.glob(".all*")) == []


def test_a_backup_that_breaks_off_leaves_nothing(app, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    status, output = run(app, "backup", str(tmp_path / "all.backup"))
    assert (status, "No space left" in output) == (69, True)
    assert list(tmp_path.glob("*all*")) + list(tmp_path.glob(".all*")) == []


def test_an_empty_database_is_not_backed_up(make_app, app, database, tmp_path):
    stop(app)
    destroy(database)
    status, output = run(make_app(database), "backup", str(tmp_path / "all.backup"))
    assert (status, "no tables yet" in output) == (settings.EXIT_BAD_CONFIG, True)
    assert not (tmp_path / "all.backup").exists()


def test_a_database_with_tables_is_replaced_only_when_that_is_said(app, make_app, database, tmp_path):
    path = tmp_path / "all.backup"
    backed_up(app, path)
    call(app)
    stop(app)
    now = contents(app)
    stop(app)
    for arguments, given in (([], None), (["--replace"], "n\n")):
        status, output = run(app, "restore", str(path), *arguments, given=given)
        assert (status, "tables" in output) == (1 if given else settings.EXIT_BAD_CONFIG, True)
    assert contents(app) == now
    stop(app)
    assert run(make_app(database), "restore", str(path), "--replace", given="y\n")[0] == 0
    assert rows(app.extensions["gateway"].engine) == []


def test_while_a_worker_runs_nothing_is_restored(app, make_app, database, tmp_path):
    path = tmp_path / "all.backup"
    backed_up(app, path)
    call(app)
    status, output = run(app, "restore", str(path), "--replace", "--yes")
    assert (status, f"process {os.getpid()}" in output) == (settings.EXIT_BAD_CONFIG, True)
    assert len(rows(app.extensions["gateway"].engine)) == 1


def test_a_worker_on_another_host_is_seen_by_its_connection(app, make_app, database, tmp_path):
    if database.startswith("sqlite"):
        pytest.skip("a SQLite file has one host")
    path = tmp_path / "all.backup"
    backed_up(app, path)
    stop(app)
    with closing(psycopg.connect(database)):
        status, output = run(make_app(database), "restore", str(path), "--replace", "--yes")
    assert (status, "Others are connected" in output) == (settings.EXIT_BAD_CONFIG, True)


def test_a_backup_of_before_is_brought_to_this_version(app, make_app, database, tmp_path):
    with app.app_context():
        flask_migrate.downgrade(revision="0013")
    assert backed_up(app, tmp_path / "old.backup")["revision"] == "0013"
    with app.app_context():
        flask_migrate.upgrade()
    newest = contents(app)["alembic_version"]
    stop(app)
    assert run(make_app(database), "restore", str(tmp_path / "old.backup"), "--replace", "--yes")[0] == 0
    fresh = make_app(database)
    assert contents(fresh)["alembic_version"] == newest
    verified(fresh)


def rewritten(path, change, member="manifest.json"):
    """The backup with one member changed."""
    with zipfile.ZipFile(path) as box:
        members = {name: box.read(name) for name in box.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(path, "w") as box:
        for name, content in members.items():
            box.writestr(name, content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is no whole backup"),
        (lambda path: path.write_text("nothing", encoding="ascii"), "is no whole backup"),
        (lambda path: rewritten(path, lambda content: content + b" ", "database.sqlite"), "was changed"),
        (lambda path: rewritten(path, lambda told: told.replace(b'"revision": "0', b'"revision": "9')), "newer one"),
        (lambda path: rewritten(path, lambda told: told.replace(b'"sqlite"', b'"postgresql"')), "names sqlite"),
        (lambda path: rewritten(path, lambda told: told.replace(b'"format": 1', b'"format": 7')), "does not know"),
        (lambda path: rewritten(path, lambda told: told.replace(b'"database.sqlite"', b'"other"')), "no database"),
        (lambda path: rewritten(path, lambda told: b"{}"), "is no whole backup"),
    ],
)
def test_a_file_that_is_no_whole_backup_is_refused(lite, tmp_path, damage, words):
    path = tmp_path / "all.backup"
    backed_up(lite, path)
    damage(path)
    status, output = run(lite, "restore", str(path), "--replace", "--yes")
    assert (status, words in output) == (settings.EXIT_BAD_CONFIG, True), output


def test_other_secrets_than_then_are_named(lite, make_app, sqlite_database, tmp_path):
    path = tmp_path / "all.backup"
    backed_up(lite, path)
    stop(lite)
    assert "Warning" not in run(make_app(sqlite_database), "restore", str(path), "--replace", "--yes")[1]
    with zipfile.ZipFile(path) as box:
        told = box.read("manifest.json").decode()
    assert [secret for secret in (*SECRETS.values(), PASSWORD) if len(secret) > 1 and secret in told] == []
    here = lite.extensions["gateway"]
    source = backups.Source(here.engine, tmp_path / "spool", here.sealer, STRONG["KEY_PEPPER"])
    manifest = restoring.opened(path, here.engine).manifest
    manifest.sealed = "gAAAAABn"
    assert [one.split(":")[0] for one in restoring.misfits(source, manifest)] == ["ENCRYPTION_KEYS", "KEY_PEPPER"]


def program(folder, name, says, status=0):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n", encoding="ascii")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (None, "`pg_dump` is not in"),
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "is of version 15, and the server of 18"),
        ("who am I?", "says nothing that can be read"),
    ],
)
def test_programs_that_are_missing_or_too_old_are_named(tmp_path, says, words):
    if says:
        program(tmp_path, "pg_dump", says)
    with pytest.raises(pgtools.ToolFailed, match="--programs") as caught:
        pgtools.find("pg_dump", tmp_path, 18)
    assert words in str(caught.value)


def test_programs_are_told_the_password_in_a_file(tmp_path):
    log = tmp_path / "log"
    path = tmp_path / "pg_dump"
    path.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncat "${{@##*passfile=}}" 2>/dev/null\nexit 0\n', encoding="ascii")
    path.chmod(0o755)
    options = {"host": "db", "user": "o'neil", "password": "se:cret\\", "dbname": "x", "port": None}
    assert list(pgtools.dump(str(path), options, "1-1")) == []
    told = log.read_text(encoding="ascii")
    assert "se:cret" not in told
    assert "host='db' user='o\\'neil' dbname='x' passfile='" in told
    with pgtools._where(options) as place:
        passfile = Path(place.split("passfile='")[1].strip("'"))
        assert passfile.read_text(encoding="utf-8") == "*:*:*:*:se\\:cret\\\\\n"
        assert stat.S_IMODE(passfile.stat().st_mode) == 0o600
    assert not passfile.exists()


def test_a_dump_that_fails_leaves_no_backup_and_a_restore_that_fails_changes_nothing(app, make_app, database, tmp_path):
    if database.startswith("sqlite"):
        pytest.skip("SQLite needs no programs")
    path = tmp_path / "all.backup"
    program(tmp_path, "pg_dump", "pg_dump (PostgreSQL) 18.6", 3)
    here = app.extensions["gateway"]
    source = backups.Source(here.engine, tmp_path / "spool", here.sealer, "", tmp_path)
    with pytest.raises(backups.BackupRefused, match="`pg_dump` failed: it ended with 3"):
        backups.write(source, path)
    assert not path.exists()
    before, (_arguments, options) = contents(app), here.engine.dialect.create_connect_args(here.engine.url)
    stop(app)
    psql = str(_programs() / "psql")
    with pytest.raises(pgtools.ToolFailed, match='`psql` failed: relation "gone" does not exist'):
        pgtools.read(psql, options, [b"DROP TABLE usage;\n", b"SELECT * FROM gone;\n", *[b" " * 9999] * 99])
    with pytest.raises(ZeroDivisionError):
        pgtools.read(psql, options, (b"DROP TABLE usage;\n" * (1 // left) for left in (1, 0)))
    assert contents(app) == before


def test_a_database_that_is_damaged_is_not_backed_up(lite, tmp_path):
    call(lite)
    stop(lite)
    path = tmp_path / "tollhouse.db"
    with closing(create_engine(f"sqlite:///{path}").raw_connection()) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40_000] = b"\xff" * 40_000
    path.write_bytes(content)
    status, output = run(lite, "backup", str(tmp_path / "all.backup"))
    assert (status, "The database is damaged" in output) == (settings.EXIT_BAD_CONFIG, True), output
    assert list(tmp_path.glob("*all*")) + list(tmp_path.glob(".all*")) == []
