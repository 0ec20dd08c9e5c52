"""What all tests share: databases, apps, an upstream, a served gateway. Nothing leaves loopback."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask_migrate
import psycopg
import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

import config as settings
from app import create_app
from services import Gateway
from tests import quick
from tests.fakes.network import OURS
from tests.fakes.pgbouncer import MISSING, pgbouncer
from tests.fakes.pgbouncer import PROGRAM as PGBOUNCER
from tests.fakes.postgres import postgres
from tests.fakes.served import Served
from tests.fakes.upstream import Upstream
from tests.fakes.valkey import Mute, Valkey
from utils.extensions import bcrypt, db

quick.use_memory()
quick.share_url_builders()
quick.share_parsed_rules()
quick.share_templates()
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "tollhouse-hypothesis"))

SECRETS = {
    "SECRET_KEY": "test-secret-key-of-the-tests-0123456789",
    "LLM_MAX_RETRIES": "0",  # an attempt at each deployment, unless a test wants more
    "KEY_PEPPER": "test-key-pepper-of-the-tests-0123456789",
    "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "API_AUTH_TOKENS": "test-token-of-the-tests",
}
IS_POOLED = bool(os.environ.get("TOLLHOUSE_PGBOUNCER"))  # every test of Postgres goes through a pooler: `make pooled`
if IS_POOLED:
    SECRETS["DB_POOLING"] = "transaction"
TOKEN = SECRETS["API_AUTH_TOKENS"]
PASSWORD = "correct horse battery"  # of the admin


def pytest_collection_finish() -> None:
    """All modules are read now."""
    quick.freeze()


@pytest.fixture(autouse=True, scope="session")
def _only_loopback() -> Iterator[None]:
    """A test that talks to anything but this machine, and the hosts that tests make in it, fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not (host.startswith(("127.", OURS)) or host in ("::1", "localhost")):
            raise AssertionError(f"a test tried to connect to {host}")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign,assignment]  # a guard in its place
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]  # a guard in its place


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A Postgres for the whole run."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-pg-", dir=quick.folder()))
    try:
        with postgres(folder) as (url, _pid):
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pooler(postgres_server: str) -> Iterator[str]:
    """A pgbouncer in transaction mode before it."""
    if PGBOUNCER is None:
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-pgbouncer-", dir=quick.folder()))
    try:
        with pgbouncer(folder, postgres_server) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey for the whole run."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """An empty Valkey. A test that ends or freezes one makes its own."""
    valkey_server.client.flushall()
    return valkey_server


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey that the test may kill or freeze."""
    server = Valkey(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def mute() -> Iterator[Mute]:
    """A Valkey that answers nobody."""
    server = Mute()
    yield server
    server.stop()


def make_config(folder: Path, **environ: str) -> settings.Config:
    """Settings of a test: the secrets of the tests, and what the test adds."""
    return settings.load({"ENVIRONMENT": "test", "INSTANCE_PATH": str(folder), **SECRETS, **environ}, root=folder)


@pytest.fixture(scope="session")
def templates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Prepared databases to copy: for `sqlite` a file's path, for `postgres` the name of a database."""
    made: dict[str, str] = {}

    def template(kind: str) -> str:
        if kind not in made:
            folder = tmp_path_factory.mktemp(f"template-{kind}")
            if kind == "sqlite":
                made[kind], url = str(folder / "template.db"), f"sqlite:///{folder}/template.db"
            else:
                made[kind], url = (
                    "template_tollhouse",
                    _create_database(request.getfixturevalue("postgres_server"), "template_tollhouse"),
                )
            app = _quick(make_config(folder, DATABASE_URL=url, DEFAULT_ADMIN_PASSWORD=PASSWORD))
            with app.app_context():
                flask_migrate.upgrade()
                prepare(app)
                app.extensions["gateway"].close()
                db.engine.dispose()
        return made[kind]

    return template


def _quick(config: settings.Config) -> Flask:
    app = create_app(config)
    bcrypt._log_rounds = 4  # passwords of tests are no secrets; what it costs has a test of its own
    return app


def _create_database(server: str, name: str, template: str = "template0") -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy".encode())
    return server.rsplit("/", 1)[0] + f"/{name}"


def pooled(pooler: str, url: str) -> str:
    """The address of a database through the pooler."""
    return f"{pooler.rsplit('/', 1)[0]}/{url.rsplit('/', 1)[1]}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, templates: Callable[[str], str]) -> Iterator[str]:
    """The address of a fresh, migrated database; every test that asks for one runs on both."""
    template = templates(request.param)
    if request.param == "sqlite":
        shutil.copy(template, tmp_path / "tollhouse.db")
        yield f"sqlite:///{tmp_path}/tollhouse.db"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"t_{secrets.token_hex(6)}"
    url = _create_database(server, name, template)
    yield pooled(request.getfixturevalue("pooler"), url) if IS_POOLED else url
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
def sqlite_database(tmp_path: Path, templates: Callable[[str], str]) -> str:
    """A fresh SQLite file, for what does not depend on the database."""
    shutil.copy(templates("sqlite"), tmp_path / "tollhouse.db")
    return f"sqlite:///{tmp_path}/tollhouse.db"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A provider with fault switches."""
    server = Upstream().start()
    yield server
    server.stop()


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Apps on a database of the test, prepared again when it has settings of its own; closed at the end."""
    apps: list[Flask] = []

    def make(database: str, **environ: str) -> Flask:
        app = _quick(make_config(tmp_path, DATABASE_URL=database, DEFAULT_ADMIN_PASSWORD=PASSWORD, **environ))
        apps.append(app)
        if environ:
            prepare(app)
        return app

    yield make
    for app in apps:
        app.extensions["gateway"].close()
        with app.app_context():
            db.engine.dispose()


def prepare(app: Flask) -> None:
    """What `flask prepare` does after the migrations."""
    from services import bootstrap

    here: Gateway = app.extensions["gateway"]
    bootstrap.run(here.engine, here.config, here.accounts, here.keys, here.sealer, here.discovery)


@pytest.fixture
def app(database: str, make_app: Callable[..., Flask]) -> Flask:
    """An app on each database."""
    return make_app(database)


@pytest.fixture
def lite(sqlite_database: str, make_app: Callable[..., Flask]) -> Flask:
    """An app on SQLite."""
    return make_app(sqlite_database)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def gateway(app: Flask) -> Gateway:
    here: Gateway = app.extensions["gateway"]
    return here


@pytest.fixture
def session(gateway: Gateway) -> Iterator[Session]:
    with Session(gateway.engine) as opened:
        yield opened


@pytest.fixture
def serve(tmp_path: Path, sqlite_database: str) -> Iterator[Callable[..., Served]]:
    """Gateways under gunicorn, on the test's own database; ended when the test ends."""
    running: list[Served] = []

    def start(**environ: str) -> Served:
        defaults = {
            "ENVIRONMENT": "test",
            "INSTANCE_PATH": str(tmp_path),
            "DATABASE_URL": sqlite_database,
            "DEFAULT_ADMIN_PASSWORD": PASSWORD,
            **SECRETS,
        }
        running.append(Served(defaults | environ))
        return running[-1]

    yield start
    for served in running:
        served.stop()
