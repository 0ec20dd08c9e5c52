"""How fast the overview and the list of calls are over millions of usage rows.

Run from the root of the project, in a virtual environment with requirements-dev:

    PYTHONPATH=. python bench/overview.py sqlite --rows 10000000 --folder /tmp/overview
    PYTHONPATH=. python bench/overview.py postgres --rows 10000000 --folder /tmp/overview

It makes a database in the folder, which must not exist, fills it with the calls of 180 days by 1,000 keys, adds them up
as housekeeping does, asks each page so many times through the WSGI app, and prints milliseconds that passed, those of
the processor in this process (with SQLite that is all there is), and the number of statements.
"""

import argparse
import gc
import secrets
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flask_migrate
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from postgres import postgres
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

import config
from app import create_app
from models import UsageRecord, User
from services import bootstrap, rollupproof, rollups

DAYS, KEYS, USERS, TEAMS, MODELS = 180, 1000, 300, 20, 10
REPO = Path(__file__).resolve().parent.parent
OVERVIEW = [f"/admin/?range={name}" for name in ("24h", "7d", "30d", "90d")]
LISTS = {
    "first page": "",
    "100 rows a page": "page_size=100",
    "of a user": "user=user-7",
    "of a key": "key=7",
    "of a model": "model=model-3",
    "failed": "outcome=upstream_error",
    "of a name nobody has": "custom_id=nothing",
    "last 24 hours": "span=24h",
    "of a user, by dates": "user=user-7&since=2026-01-01T00:00&until={middle}",
    "a page in the middle": "before={cursor}",
}
INDEXES = {
    "ix_usage_user_id_id": "user_id, id",
    "ix_usage_key_id_id": "key_id, id",
    "ix_usage_not_ok": "outcome, request_id",
    "ix_usage_user_sums": "user_id, request_id, input_tokens, output_tokens, cache_read_input_tokens",
}
SERIES = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})",
    "postgresql": "WITH n AS (SELECT i::bigint AS i FROM generate_series({0}, {1}) AS s (i))",
}
HEX = {"sqlite": "printf('%012x%020x', {0}, i)", "postgresql": "lpad(to_hex({0}), 12, '0') || lpad(to_hex(i), 20, '0')"}
NO, YES = {"sqlite": "0", "postgresql": "false"}, {"sqlite": "1", "postgresql": "true"}


def main() -> None:
    """Make, fill, add up, measure, remove."""
    run(__doc__, measure, times=40)


def run(told: str | None, measure: Callable[[str, argparse.Namespace], None], *, times: int) -> None:
    """`measure` on a database in a folder of its own, as the command line says; `times`: of each request, usually."""
    options = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("database", choices=("sqlite", "postgres"))
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--times", type=int, default=times)
    options.add_argument("--folder", type=Path, required=True)
    given = options.parse_args()
    given.folder.mkdir(parents=True)
    given.folder.chmod(0o755)
    try:
        if given.database == "sqlite":
            measure(f"sqlite:///{given.folder}/bench.db", given)
        else:
            with postgres(REPO, given.folder / "postgres") as server:
                measure(str(server.url), given)
    finally:
        shutil.rmtree(given.folder)


def measure(url: str, given: argparse.Namespace) -> None:
    """Everything on one database."""
    app = make_app(url, given.folder)
    fill(app, given.rows)
    ask(app, given.rows, given.times)
    app.extensions["gateway"].close()


def fill(app: Flask, rows: int) -> None:
    """Make the rows and add them up."""
    engine = app.extensions["gateway"].engine
    took("people and keys", lambda: add_people(app))
    took(f"{rows:,} usage rows", lambda: add_rows(app, rows))
    rollups.PAUSE_S, rollups.CHUNK = 0, 20_000  # there is nobody to wait for
    took("adding them up", rollups.Rollups(engine).fold)
    with engine.connect() as connection:
        for shape in rollups.SHAPES:
            print(f"{shape.table.name}: {connection.scalar(select(func.count()).select_from(shape.table)):,} rows")


def ask(app: Flask, rows: int, times: int) -> None:
    """Ask for the pages, with some rows that are not added up yet, and prove the sums."""
    engine = app.extensions["gateway"].engine
    with engine.connect() as connection:
        cursor = connection.scalar(select(UsageRecord.request_id).where(UsageRecord.id == rows // 2))
    add_rows(app, 2000, first=rows + 1)
    client, middle = signed_in(app), time.strftime("%Y-%m-%dT00:00", time.gmtime(time.time() - DAYS * 43_200))
    gc.collect()
    gc.freeze()  # as gunicorn.conf.py does before it forks
    print(f"\n{'page':34} {'p50, ms':>8} {'p95, ms':>8} {'most':>8} {'CPU p50':>8} {'CPU p95':>8} {'SQL':>4}")
    for path in OVERVIEW:
        line(app, client, path.partition("=")[2], path, times)
    for name, query in LISTS.items():
        line(app, client, name, f"/admin/usage/?{query.format(cursor=cursor, middle=middle)}", times)
    report = took("flask rollups verify", lambda: rollupproof.verify(engine))
    print(f"{len(report.differences)} differences in {report.days} days with {report.usage_rows:,} usage rows")


def make_app(url: str, folder: Path) -> Flask:
    """The gateway on a fresh database."""
    environ = {
        "ENVIRONMENT": "test",
        "INSTANCE_PATH": str(folder),
        "DATABASE_URL": url,
        "SECRET_KEY": "secret-of-a-database-that-is-thrown-away",
        "KEY_PEPPER": "pepper-of-a-database-that-is-thrown-away",
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "API_AUTH_TOKENS": secrets.token_hex(16),
        "DEFAULT_ADMIN_PASSWORD": secrets.token_hex(8),
    }
    app = create_app(config.load(environ, root=folder))
    with app.app_context():
        flask_migrate.upgrade()
    here = app.extensions["gateway"]
    bootstrap.run(here.engine, here.config, here.accounts, here.keys, here.sealer, here.discovery)
    return app


def add_people(app: Flask) -> None:
    """The owners of the keys, and the keys."""
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        taken = session.scalars(select(User.id).order_by(User.id.desc())).first() or 0
        session.add_all(User(id=number, username=f"user-{number}") for number in range(taken + 1, USERS + 1))
        session.flush()
        for number in range(KEYS):
            here.keys.issue(session, number % USERS + 1, f"key-{number}")


def add_rows(app: Flask, rows: int, first: int = 1) -> None:
    """Calls, evenly over the days before now; with `first`, those of the last seconds, numbered from there."""
    engine = app.extensions["gateway"].engine
    kind, now_ms, is_all = engine.dialect.name, int(time.time() * 1000), first == 1
    span_ms = DAYS * 86_400_000 if is_all else rows
    moment = f"({now_ms - span_ms} + (i - {first}) * {span_ms // rows})"
    dice = "((i * 7919 + (i / 1009) * 104729) % 1000003)"
    no, yes = ("0", "1") if kind == "sqlite" else ("false", "true")
    statement = f"""{SERIES[kind].format(first, first + rows - 1)}
        INSERT INTO usage (request_id, created_at, user_id, key_id, team_id, model, provider, upstream_model,
          operation, is_stream, status, outcome, state, is_overrun, input_tokens, output_tokens, cost_nanousd,
          input_rate, output_rate, price_source, first_byte_ms, duration_ms, attempts)
        SELECT 'req_' || {HEX[kind].format(moment)}, {moment}, {dice} % {KEYS} % {USERS} + 1, {dice} % {KEYS} + 1,
          {dice} % {KEYS} % {USERS} % {TEAMS} + 1, 'model-' || ({dice} / 17 % {MODELS}),
          'provider-' || ({dice} / 17 % {MODELS} % 4), 'upstream-model', 'chat',
          CASE WHEN {dice} % 3 = 0 THEN {no} ELSE {yes} END, 200,
          CASE WHEN {dice} % 211 = 0 THEN 'upstream_error' ELSE 'ok' END, 'measured', {no},
          {dice} % 4000, {dice} % 900, ({dice} % 4000) * 150 + ({dice} % 900) * 600 + {dice} % 77 * 100000,
          150000000, 600000000, 'catalogue', 80 + {dice} % 900, 300 + {dice} % 9000, '[["provider","ok"]]' FROM n"""
    with engine.begin() as connection:
        for name in INDEXES if is_all else ():  # made at once afterwards, which is much quicker
            connection.exec_driver_sql(f"DROP INDEX {name}")
        connection.exec_driver_sql(statement.replace("%", "%%") if kind == "postgresql" else statement)
        for name, columns in INDEXES.items() if is_all else ():
            few = " WHERE outcome <> 'ok'" if name == "ix_usage_not_ok" else ""
            connection.exec_driver_sql(f"CREATE INDEX {name} ON usage ({columns}){few}")
    if is_all:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")  # as the databases do by themselves, or not at all on SQLite


def signed_in(app: Flask) -> FlaskClient:
    """A browser of the admin."""
    here, client = app.extensions["gateway"], app.test_client()
    with Session(here.engine) as session:
        number = session.scalars(select(User.id).where(User.username == "admin")).one()
    token = here.accounts.begin_session(number, "127.0.0.1", "bench")
    with client.session_transaction("/admin/") as cookie:
        cookie["_user_id"], cookie["_fresh"] = token, True
    return client


def line(app: Flask, client: FlaskClient, name: str, path: str, times: int) -> None:
    """Ask for a page so many times and print what it took."""
    spent_ms, cpu_ms = [], []
    for _time in range(times + 2):  # the first two warm up
        with statements(app) as seen:
            start, cpu = time.perf_counter(), time.process_time()
            status = client.get(path).status_code
            cpu_ms.append((time.process_time() - cpu) * 1000)
            spent_ms.append((time.perf_counter() - start) * 1000)
        if status != 200:
            raise SystemExit(f"{path}: status {status}")
    ranked, ranked_cpu = (statistics.quantiles(found[2:], n=20) for found in (spent_ms, cpu_ms))
    figures = (ranked[9], ranked[18], max(spent_ms[2:]), ranked_cpu[9], ranked_cpu[18])
    print(f"{name:34} {' '.join(f'{figure:8.1f}' for figure in figures)} {len(seen):4}", flush=True)


@contextmanager
def statements(app: Flask) -> Iterator[list[str]]:
    """The SQL that runs meanwhile."""
    engine, seen = app.extensions["gateway"].engine, []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def took(what, work):
    """Do it, print how long it took, give what it gave."""
    start = time.perf_counter()
    found = work()
    print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
