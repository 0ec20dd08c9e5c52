"""One world for each module: an app on SQLite, and what it left in the books when all is over."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import create_app
from services import attempts
from tests.conftest import PASSWORD, make_config
from tests.fakes.upstream import Plan, Upstream
from tests.faults.world import SECRET, World
from utils.extensions import bcrypt, db


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, templates: Callable[[str], str]) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("faults")
    shutil.copy(templates("sqlite"), folder / "tollhouse.db")
    app = create_app(
        make_config(folder, DATABASE_URL=f"sqlite:///{folder}/tollhouse.db", DEFAULT_ADMIN_PASSWORD=PASSWORD)
    )
    bcrypt._log_rounds = 4
    servers = Upstream().start(), Upstream().start()
    made = World(app, *servers)
    yield made
    made.settled()
    for server in servers:
        server.stop()
    app.extensions["gateway"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def world(shared: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """The world with nothing noted; afterwards no log line may have a traceback or a secret."""
    monkeypatch.setattr(attempts, "PAUSE_S", 0.01)
    shared.upstream.default, shared.spare.default = Plan(), Plan()
    shared.forget()
    yield shared
    assert SECRET not in caplog.text
    assert shared.key["key"] not in caplog.text
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
