"""Gateways in trouble, crowds that call them meanwhile, and figures of what came of it (docs/faults.md)."""

import json
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from app import create_app
from tests import quick
from tests.conftest import PASSWORD, SECRETS, TOKEN, make_config
from tests.fakes.mortal import MortalPostgres
from tests.fakes.postgres import postgres
from tests.fakes.served import Served
from tests.helpers import chat, with_upstream
from tests.races.conftest import ask

SOAK = bool(os.environ.get("TOLLHOUSE_SOAK"))


def figure(fault: str, **values: object) -> None:
    """A line for docs/faults.md."""
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    print(f"\nfigure {fault}: {told}")


def part_of(values: list[float], part: float) -> float:
    """The value below which this part of them lies."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)] if values else math.nan


class Crowd:
    """Callers who call again and again until they are told to stop; what each got, and how long it took."""

    def __init__(self, served: Served, size: int, plan: dict[str, Any], *, pause_s: float = 0.0) -> None:
        self.answers: list[tuple[int, str, float, float]] = []  # status, text, seconds, when it was over
        self._served, self._plan, self._pause_s = served, plan, pause_s
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(size)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let everybody finish."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def statuses(self) -> dict[int, int]:
        """How often each status came."""
        found = [status for status, *_ in self.answers]
        return {status: found.count(status) for status in sorted(set(found))}

    def seconds(self, *statuses: int) -> list[float]:
        """How long these answers took."""
        return [took_s for status, _text, took_s, _at in self.answers if status in statuses]

    def _run(self, number: int) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            body = chat("one two {" + json.dumps(self._plan) + "}", stream=number % 2 == 0, max_tokens=30)
            status, text = ask(self._served, body, TOKEN)
            over = time.monotonic()
            self.answers.append((status, text, over - began, over))
            self._end.wait(self._pause_s)


@pytest.fixture
def mortal_postgres() -> Iterator[MortalPostgres]:
    """A Postgres of the test's own, that it may kill."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-mortal-", dir=quick.folder()))
    try:
        with postgres(folder) as (url, pid):
            server = MortalPostgres(url, pid)
            yield server
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def books_of(tmp_path: Path, upstream: Any) -> Iterator[Callable[[str], Engine]]:
    """The books of a migrated database, seen from outside the gateway; model `fast` is on the fake upstream."""
    apps = []

    def open_books(url: str) -> Engine:
        app = with_upstream(create_app(make_config(tmp_path, DATABASE_URL=url)), upstream)
        apps.append(app)
        engine: Engine = app.extensions["gateway"].engine
        return engine

    yield open_books
    for app in apps:
        app.extensions["gateway"].close()
        app.extensions["gateway"].engine.dispose()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The settings of a gateway that a test starts by itself."""
    given = {"ENVIRONMENT": "test", "INSTANCE_PATH": str(tmp_path), "DEFAULT_ADMIN_PASSWORD": PASSWORD}
    return given | SECRETS
