"""deploy/systemd: the unit is sound and tight, and its socket lets a restart refuse nobody."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from tests.conftest import PASSWORD, SECRETS
from tests.fakes.served import ROOT

UNITS = ROOT / "deploy/systemd"
FIRST_FD = 3  # of those that systemd hands over
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt-get install systemd)"
)


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_finds_no_fault_with_the_units(tmp_path):
    for name in ("tollhouse.service", "tollhouse.socket"):
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(
            text.replace("/opt/tollhouse/.venv/bin/gunicorn", sys.executable), encoding="utf-8"
        )
    done = analyze("verify", "--man=no", str(tmp_path / "tollhouse.service"), str(tmp_path / "tollhouse.socket"))
    ours = [line for line in done.stderr.splitlines() if "tollhouse" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
def test_the_service_is_exposed_to_little():
    said = analyze("security", "--offline=true", str(UNITS / "tollhouse.service")).stdout
    level = float(re.search(r"exposure level for tollhouse.service: ([\d.]+)", said)[1])
    assert level <= 2.0
    print(f"exposure {level}")


class Unit:
    """The service as systemd starts it: with an open socket and the order to say when it is ready."""

    def __init__(self, folder, database):
        self.folder = folder
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.notify.settimeout(60)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.environ = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
            **SECRETS,
            "ENVIRONMENT": "test",
            "INSTANCE_PATH": str(folder),
            "DATABASE_URL": database,
            "DEFAULT_ADMIN_PASSWORD": PASSWORD,
            "GRACEFUL_TIMEOUT": "5",
            "NOTIFY_SOCKET": str(folder / "notify"),
            "LISTEN_FDS": "1",
        }
        self.process = None

    def start(self):
        """Start it as the unit does, and wait until it says that it is ready."""
        command = re.search(r"^ExecStart=\S+/gunicorn (.+)$", (UNITS / "tollhouse.service").read_text("utf-8"), re.M)[1]
        # The shell becomes the service: with the process id that it says, and the socket where systemd puts it.
        line = f'exec {FIRST_FD}<&{self.socket.fileno()}; LISTEN_PID=$$ exec "$@"'
        # dash takes no file number of two digits.
        words = ["bash", "-c", line, "bash", sys.executable, "-m", "gunicorn", *command.split()]
        with (self.folder / "unit.log").open("ab") as out:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=self.environ, stdout=out, stderr=out, pass_fds=[self.socket.fileno()]
            )
        try:
            while b"READY=1" not in self.notify.recv(4096):
                pass
        except TimeoutError:
            raise AssertionError((self.folder / "unit.log").read_text("utf-8")) from None

    def stop(self):
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def unit(tmp_path, sqlite_database):
    made = Unit(tmp_path, sqlite_database)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()
    made.socket.close()
    made.notify.close()


def wait_for(count, seen):
    end = time.monotonic() + 60
    while len(seen) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_restart_refuses_nobody(unit):
    """New connections wait in the socket, which systemd holds open, until the new process takes them."""
    unit.start()
    seen, is_over = [], threading.Event()

    def knock():
        while not is_over.is_set():
            try:
                seen.append(requests.get(f"{unit.url}/health", timeout=60, headers={"connection": "close"}).status_code)
            except requests.RequestException as exc:
                seen.append(repr(exc))
            time.sleep(0.02)

    callers = [threading.Thread(target=knock) for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_for(20, seen)
    assert unit.stop() == 0
    unit.start()
    wait_for(len(seen) + 20, seen)
    is_over.set()
    for caller in callers:
        caller.join()
    assert set(seen) == {200}
    print(f"{len(seen)} requests over a restart, none refused")
