"""Migrations that are killed, and migrations that several begin at once."""

import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, make_url, text

from services.migrating import migration_lock
from tests.conftest import SECRETS
from tests.degraded.conftest import SOAK, figure
from tests.fakes.served import ROOT
from tests.start.conftest import bare
from tests.start.test_backup import destroy
from tests.test_migrations import schema

# Upgrades, one after another, that end with `kill -9` before their statement of such a number; 0 = it may finish.
UPGRADES = """
import os, signal, sys
import flask_migrate
from sqlalchemy import event
from app import create_app
from utils.extensions import db

def upgrade(left):
    def count(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.engine, "before_cursor_execute", count)
    flask_migrate.upgrade()

with create_app().app_context():
    for number in sys.argv[1:]:
        if not (child := os.fork()):  # nothing is open yet
            upgrade(int(number))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
BEFORE_ROLLUPS, MANY = "0010", 1_000_000
CALL = {"created_at": "1", "user_id": "1", "model": "'m'", "operation": "'chat'", "is_stream": "false", "status": "200"}
CALL |= {"outcome": "'ok'", "state": "'measured'", "is_overrun": "false", "cost_nanousd": "1", "duration_ms": "1"}
SERIES = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i, {{}} FROM n",
    "postgresql": "SELECT i, {{}} FROM generate_series(1, {}) AS n(i)",
}
PATIENCE_S = 240.0  # a process takes long to start where many tests run
pytestmark = pytest.mark.timeout(600)
KILLS = (9, 30, 60, 45, 45, 25, 25)  # each goes on where the one before was killed; one that may finish has 243


@pytest.fixture
def environ(database, tmp_path):
    return bare(tmp_path, **SECRETS, DATABASE_URL=database)


def upgraded(environ, *kills):
    """How each of these upgrades ended."""
    numbers = [str(number) for number in kills]
    command = [sys.executable, "-c", UPGRADES, *numbers]
    options = {"cwd": ROOT, "env": environ, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def engine_of(database):
    url = make_url(database)
    return create_engine(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)


def schema_of(database):
    engine = engine_of(database)
    try:
        return schema(engine)
    finally:
        engine.dispose()


def test_an_upgrade_that_is_killed_again_and_again_is_finished_by_the_next(database, environ):
    wanted = schema_of(database)
    destroy(database)
    assert upgraded(environ, *KILLS) == [-signal.SIGKILL] * len(KILLS)
    between = schema_of(database)
    assert 0 < len(between) < len(wanted), "what was finished is kept"
    assert upgraded(environ, 0) == [0]
    assert schema_of(database) == wanted


@pytest.mark.skipif(not SOAK, reason="takes minutes: `make soak` runs it")
def test_a_killed_upgrade_of_a_million_calls_is_finished_by_the_next(database, environ):
    wanted = schema_of(database)
    destroy(database)
    before = [sys.executable, "-m", "flask", "--app", "app", "db", "upgrade", BEFORE_ROLLUPS]
    subprocess.run(before, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=PATIENCE_S)
    engine = engine_of(database)
    names = ", ".join(CALL)
    series = SERIES[engine.dialect.name].format(MANY)
    with engine.begin() as connection:
        values = ", ".join(CALL.values())
        connection.execute(text(f"INSERT INTO usage (request_id, {names}) {series.format(values)}"))
    kills = (4, 9, 14, 19, 24, 9, 14)  # statements; each goes on where the one before was killed
    assert upgraded(environ, *kills) == [-signal.SIGKILL] * len(kills)
    assert upgraded(environ, 0) == [0]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM usage WHERE outcome = 'ok'")) == MANY
    engine.dispose()
    assert schema_of(database) == wanted
    figure("F37", calls=MANY, kills=len(kills), lost=0)


def test_two_upgrades_at_once_take_turns(database, environ):
    wanted = schema_of(database)
    destroy(database)
    command = [sys.executable, "-m", "flask", "--app", "app", "db", "upgrade"]
    both = [
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for one in both:
        _output, errors = one.communicate(timeout=PATIENCE_S)
        assert one.returncode == 0, errors
    assert schema_of(database) == wanted


def test_while_one_migrates_another_waits(app, tmp_path):
    """Whatever folder of its own either has."""
    engine, done = app.extensions["gateway"].engine, threading.Event()

    def other():
        with migration_lock(engine, tmp_path / "other"):
            done.set()

    thread = threading.Thread(target=other)
    with migration_lock(engine, tmp_path):
        thread.start()
        assert not done.wait(0.5)
    thread.join(30)
    assert done.is_set()
