"""A host that runs out: of disk, of open files, of memory; and workers that are killed for it."""

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, text

from config import EXIT_BAD_CONFIG
from services import HOLD_MARGIN_S
from tests.conftest import SECRETS, TOKEN
from tests.degraded.conftest import SOAK, Crowd, figure, part_of
from tests.fakes.served import GUNICORN, ROOT, Served
from tests.helpers import chat, rows
from tests.races.conftest import ask, wait_until_clean

SOON_S = 60.0
LONGEST_S = 30  # a call, where a hold is to come to its deadline
pytestmark = pytest.mark.timeout(300)


class OnSmallDisk(Served):
    """A gateway whose folder is a file system of its own, of so many MiB, which nobody else sees."""

    def __init__(self, environ, folder, mib):
        """`folder` is copied onto it first."""
        mount = f"mkdir {folder}.disk && mount -t tmpfs -o size={mib}m,mode=0700 none {folder}.disk"
        fill = f"cp -a {folder}/. {folder}.disk && mount --move {folder}.disk {folder}"
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        script = f'{mount} && {fill} && exec "$0" "$@"'
        command = ["unshare", "--mount", *user, "sh", "-c", script, sys.executable, *GUNICORN]
        super().__init__(environ, ("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *command))

    def inside(self, folder):
        """The folder as the gateway sees it."""
        return Path(f"/proc/{self.workers()[0]}/root{folder}")


def fill(folder):
    """Leave no byte free; returns the file that took them."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64))
    return ballast


def settled(served, engine, upstream, within_s=SOON_S):
    """Until calls are taken again, and every call that reached the provider is booked."""
    began = time.monotonic()
    while ask(served, chat(), TOKEN)[0] != 200:
        assert time.monotonic() - began < SOON_S, served.output()[-3000:]
    took_s = time.monotonic() - began
    wait_until_clean(engine, within_s)
    assert len([row for row in rows(engine) if row.state != "void"]) == len(upstream.served)
    return took_s


def test_a_disk_that_is_full(tmp_path, templates, books_of, environ, upstream):
    folder = tmp_path / "small"
    folder.mkdir()
    shutil.copy(templates("sqlite"), folder / "tollhouse.db")
    books_of(f"sqlite:///{folder}/tollhouse.db")
    environ |= {"INSTANCE_PATH": str(folder), "DATABASE_URL": f"sqlite:///{folder}/tollhouse.db"}
    served = OnSmallDisk(environ, folder, 24)
    try:
        inside = served.inside(folder)
        streams = Crowd(served, 6, {"words": 40, "every_s": 0.05})
        time.sleep(1.0)
        ballast = fill(inside)
        streams.stop()
        crowd = Crowd(served, 6, {})
        time.sleep(4.0)
        health = requests.get(f"{served.url}/health", timeout=30)
        assert "the disk is nearly full" in health.text
        assert requests.get(f"{served.url}/v1/models", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30).ok
        assert requests.get(f"{served.url}/admin/login", timeout=30).ok
        crowd.stop()
        assert set(crowd.statuses()) <= {200, 503}
        assert 503 in crowd.statuses(), "what cannot be recorded is not admitted"
        assert {status for status, *_ in streams.answers} <= {200, 503}
        workers = served.workers()
        ballast.unlink()
        began = time.monotonic()
        while ask(served, chat(), TOKEN)[0] != 200:
            assert time.monotonic() - began < SOON_S, served.output()[-3000:]
        back_s = time.monotonic() - began
        end = time.monotonic() + SOON_S
        while (count := len(copied(served, folder, tmp_path))) != len(upstream.served):
            assert time.monotonic() < end, (count, len(upstream.served))
            time.sleep(0.5)
        assert served.workers() == workers, "nobody died, and nothing was started again"
        checked = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", "ledger", "verify"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "ENVIRONMENT": "test", **SECRETS, "INSTANCE_PATH": str(tmp_path / "copy"),
                 "DATABASE_URL": f"sqlite:///{tmp_path}/copy.db"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "0 differences" in checked.stdout, checked.stdout + checked.stderr
        figure(
            "F28",
            answers=crowd.statuses(),
            booked=count,
            reached=len(upstream.served),
            admitted_again_s=f"{back_s:.2f}",
        )
    finally:
        served.stop()


def copied(served, folder, tmp_path):
    """The rows of the database on the small disk, from a copy that SQLite itself made."""
    copy = tmp_path / "copy.db"
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", "--mount", *user, "--target", str(served.workers()[0])]
    made = [str(folder / "tollhouse.db"), str(folder / "copy.db")]
    subprocess.run([*enter, sys.executable, "-c", code, *made], check=True)
    shutil.copyfile(served.inside(folder) / "copy.db", copy)
    engine = create_engine(f"sqlite:///{copy}")
    try:
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
        return [row for row in rows(engine) if row.state != "void"]
    finally:
        engine.dispose()


class Limited(Served):
    """A gateway whose processes may have so many files open."""

    def __init__(self, environ, files):
        code = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}));" \
               "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"  # fmt: skip
        super().__init__(environ, ("-c", code, *GUNICORN))


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gthread"])
def test_no_more_files_can_be_opened(worker_class, books_of, environ, sqlite_database, upstream):
    engine = books_of(sqlite_database)
    environ |= {"DATABASE_URL": sqlite_database, "WORKER_CLASS": worker_class}
    served = Limited(environ, 128)
    try:
        assert "calls at once instead of" in served.output()
        workers = served.workers()
        limit = int(
            Path(f"/proc/{workers[0]}/limits").read_text(encoding="ascii").split("Max open files")[1].split()[0]
        )
        crowd = Crowd(served, 120, {"words": 20, "every_s": 0.05})
        most, end = 0, time.monotonic() + 8
        while time.monotonic() < end:
            most = max(most, sum(1 for _ in Path(f"/proc/{workers[0]}/fd").iterdir()))
            time.sleep(0.02)
        assert requests.get(f"{served.url}/health/live", timeout=30).ok
        crowd.stop()
        assert served.workers() == workers, "no worker died"
        assert most < limit == 128
        assert set(crowd.statuses()) <= {200, 503}, crowd.statuses()
        assert "Too many open files" not in served.output()
        settled(served, engine, upstream)
        figure(f"F42 {worker_class}", worker_deaths=0, most_files=f"{most} of {limit}", answers=crowd.statuses())
    finally:
        served.stop()


def test_a_start_with_too_few_files_says_how_many_are_needed(environ, sqlite_database):
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));" \
           "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *GUNICORN],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ, "DATABASE_URL": sqlite_database},
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    assert (done.returncode, "too few open files" in done.stderr) == (EXIT_BAD_CONFIG, True)


def test_no_more_memory(serve, books_of, sqlite_database, upstream):
    """A worker that gets no more memory answers with an error or dies as by `kill -9`; nothing is lost either way."""
    engine = books_of(sqlite_database)
    served = serve(WEB_CONCURRENCY="2", PROXY_TIMEOUT=str(LONGEST_S))
    (first, second) = served.workers()
    used = int(Path(f"/proc/{first}/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.prlimit(first, resource.RLIMIT_AS, (used + 24 * 2**20, resource.RLIM_INFINITY))
    crowd, large = Crowd(served, 8, {"words": 20, "every_s": 0.02}), "word " * 2_000_000
    said = []

    def post():
        said.append(ask(served, chat(large), TOKEN)[0])

    threads = [threading.Thread(target=post) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(2.0)
    crowd.stop()
    assert second in served.workers()
    assert len(served.workers()) == 2
    # A call for whose booking there was no memory either is booked at its deadline, if its worker lives on.
    settled(served, engine, upstream, LONGEST_S + HOLD_MARGIN_S + SOON_S)
    assert crowd.statuses().get(200, 0) > 0
    figure("F43", large_bodies={status: said.count(status) for status in sorted(set(said))}, answers=crowd.statuses(),
           worker_died=first not in served.workers(), p99_s=f"{part_of(crowd.seconds(200), 0.99):.2f}")  # fmt: skip
