"""A gateway under gunicorn behind the nginx of the system, and callers of both versions of HTTP."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.deploy.edge import NAME, NGINX, Edge
from tests.fakes.served import Served
from tests.helpers import with_upstream

BEHIND = {"TRUSTED_PROXIES": "1", "PUBLIC_URL": f"https://{NAME}", "TRUSTED_HOSTS": f"{NAME},127.0.0.1"}


class Line(NamedTuple):
    """A line of an answer and when it came."""

    at: float
    text: str


class Call:
    """A streamed chat by curl, which may be read, or ended at once."""

    def __init__(self, edge: Edge, version: str, plan: dict[str, Any]) -> None:
        said = "one two {" + json.dumps(plan) + "}"
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": said}]}
        given = ["-H", f"authorization: Bearer {TOKEN}", "-H", "content-type: application/json", "-d", json.dumps(body)]
        asked = edge.curl("-N", f"--http{version}", "-w", "%{http_version}", *given, path="/v1/chat/completions")
        self.process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def words(self, count: int = 10_000) -> list[Line]:
        """The next so many words with their times, or all that come."""
        found: list[Line] = []
        assert self.process.stdout is not None
        while len(found) < count and (line := self.process.stdout.readline()):
            if '"content":"word' in line:
                found.append(Line(time.monotonic(), line))
            elif line.startswith("data: [DONE]"):
                break
        return found

    def end(self) -> tuple[int, str]:
        """What follows the words: curl's status, and the version that was spoken."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()  # with what is in its buffer, which `communicate` would leave there
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, out.strip() + err

    def kill(self) -> float:
        """End it without a word; returns when that was."""
        self.process.kill()
        at = time.monotonic()
        self.process.communicate()
        return at


class Site(NamedTuple):
    """What a test has: nginx, the gateway behind it."""

    edge: Edge
    served: Served
    engine: Any

    def chat(self, version: str, **plan: Any) -> Call:
        return Call(self.edge, version, plan)


@pytest.fixture
def site(serve: Any, sqlite_database: str, tmp_path: Path, upstream: Any) -> Iterator[Callable[..., Site]]:
    """A gateway with model `fast` on the fake provider, behind nginx."""
    if NGINX is None or shutil.which("curl") is None:
        pytest.skip("nginx or curl is not installed (Debian: apt-get install nginx-light curl)")
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    made: list[Edge] = []

    def start(**environ: str) -> Site:
        served = serve(**(BEHIND | environ))
        folder = tmp_path / "edge"
        folder.mkdir()
        made.append(Edge(folder, served.port))
        return Site(made[-1], served, app.extensions["gateway"].engine)

    yield start
    for edge in made:
        edge.stop()
    app.extensions["gateway"].close()
    app.extensions["gateway"].engine.dispose()
