"""A new version takes the place of the old one, host by host, behind nginx: no call fails."""

import http.client
import json
import re
import shutil
import socket
import ssl
import threading
import time
from collections import Counter

import pytest
import requests
from sqlalchemy import text

from tests.deploy.edge import NAME
from tests.fakes.served import ROOT
from tests.helpers import chat
from tests.races.conftest import SOAK, wait_until_clean

CALLERS, CALLS, PAUSE_S = (12, 10_000, 0.05) if SOAK else (4, 400, 0.1)
NEW = "9.9.9"
LEFT_OUT = (".git", ".venv", ".mypy_cache", "__pycache__", "bench", "docs", "instance", "tests")
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None


def upgrade() -> None:
    op.add_column("usage", sa.Column("of_the_next_version", sa.String(16)))
    op.add_column("users", sa.Column("of_the_next_version", sa.String(16)))
"""


@pytest.fixture(scope="module")
def new_version(tmp_path_factory):
    """The code of the next version: it adds columns to the tables that every call writes."""
    folder = tmp_path_factory.mktemp("new") / "tollhouse"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    project = folder / "pyproject.toml"
    project.write_text(re.sub(r'(?m)^version = "[^"]+"', f'version = "{NEW}"', project.read_text("utf-8")), "utf-8")
    versions = folder / "migrations/versions"
    head = max(path.name[:4] for path in versions.glob("0*.py"))
    (versions / "9999_next.py").write_text(MIGRATION.format(head=head), "utf-8")
    return folder


class Callers:
    """They call through nginx all the time, each call on a connection of its own; `seen` counts what came of it."""

    def __init__(self, edge, secret):
        self.port, self.secret = edge.tls_port, secret
        self.context = ssl.create_default_context(cafile=str(edge.authority.ca))
        self.seen, self.chats, self.failed, self.is_over = 0, 0, [], threading.Event()
        self.guard = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def end(self):
        """Once there were so many calls."""
        while self.seen < CALLS:
            time.sleep(0.1)
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number):
        while not self.is_over.is_set():
            number += 1
            is_chat = bool(number % 5)
            what = self._chat(is_stream=bool(number % 2)) if is_chat else self._ask("GET", "/v1/models", None)
            with self.guard:
                self.seen += 1
                self.chats += is_chat
                if what:
                    self.failed.append((round(time.monotonic(), 2), what))
            time.sleep(PAUSE_S)

    def _chat(self, *, is_stream):
        return self._ask("POST", "/v1/chat/completions", chat("one two three", max_tokens=20, stream=is_stream))

    def _ask(self, method, path, body):
        """What went wrong; empty = nothing."""
        try:
            line = self.context.wrap_socket(
                socket.create_connection(("127.0.0.1", self.port), timeout=60), server_hostname=NAME
            )
            connection = http.client.HTTPConnection(NAME)
            connection.sock = line
            headers = {"authorization": f"Bearer {self.secret}", "content-type": "application/json"}
            try:
                connection.request(method, path, body and json.dumps(body), headers | {"connection": "close"})
                answer = connection.getresponse()
                said = answer.read().decode()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as exc:
            return repr(exc)
        is_whole = "[DONE]" in said if body and body["stream"] else said.endswith("}")
        return "" if answer.status == 200 and is_whole and "error" not in said else f"{answer.status} {said[-200:]}"


def version_of(host):
    return requests.get(f"{host.served.url}/health", timeout=30).json()["version"]


@pytest.mark.timeout(3600 if SOAK else 600)
def test_no_call_fails_while_one_host_after_the_other_becomes_the_new_version(world, edge, new_version):
    key = world.key("rolling")
    old = [version_of(host) for host in world.hosts]
    callers = Callers(edge, key.secret)
    renewed = world.hosts if SOAK else world.hosts[:1]
    for host in renewed:
        done = edge.host("out", host.name)
        assert done.returncode == 0, done.stderr
        assert host.served.stop() == 0
        host.start(new_version)
        done = edge.host("in", host.name)
        assert (done.returncode, done.stdout) == (0, f"nginx-host: {host.name} is in\n"), done.stderr
        time.sleep(CALLS / 1000)  # both versions serve
    callers.end()
    assert [version_of(host) for host in world.hosts] == [NEW] * len(renewed) + old[len(renewed) :] != old
    assert callers.failed == []
    wait_until_clean(world.engine, 20)
    with world.engine.connect() as connection:
        query = text("SELECT outcome, state FROM usage WHERE key_id = :key")
        booked = Counter(tuple(row) for row in connection.execute(query, {"key": key.id}))
    assert booked == {("ok", "measured"): callers.chats}
    said = f"{len(renewed)} of {len(world.hosts)} hosts became the next version, which migrated"
    print(f"{world.kind}: {said}: {len(callers.failed)} failed of {callers.seen}, {callers.chats} booked once")


def test_the_last_host_stays_in_and_so_does_one_that_nobody_knows(world, edge):
    first, last = (host.name for host in world.hosts)
    site = edge.folder / "sites/tollhouse.conf"
    before = site.read_text("utf-8")
    assert edge.host("out", "10.9.9.9:1").returncode == 1
    assert edge.host("away", first).returncode == 1
    assert edge.host("out", first).returncode == 0
    done = edge.host("out", last)
    assert (done.returncode, "is the last one" in done.stderr) == (1, True)
    site.write_text(site.read_text("utf-8").replace("listen", "listten", 1), "utf-8")
    refused = site.read_text("utf-8")
    done = edge.host("in", first)
    assert (done.returncode, "nginx refuses its files" in done.stderr) == (1, True)
    assert site.read_text("utf-8") == refused
    site.write_text(refused.replace("listten", "listen"), "utf-8")
    assert edge.host("in", first).returncode == 0
    assert site.read_text("utf-8") == before
