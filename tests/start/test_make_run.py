"""`make run` on a fresh machine: one screen, a call to copy that works, and nothing left behind when it ends."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.ports import free_port
from tests.fakes.served import ROOT
from tests.start.conftest import bare

START_S, END_S = 120.0, 60.0
SHOWN_ONCE = re.compile(r"^ +(?:Password|API key) +(\S+) +\(shown once\)$", re.MULTILINE)
CALL = re.compile(r"curl .*?}'$", re.MULTILINE | re.DOTALL)


class Run:
    """The command as a person without a terminal gives it, in a session of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.log = folder / f"run-{time.monotonic_ns()}.log"
        # What is installed is not the matter here, so the target that installs is taken as done.
        command = ["make", "--old-file=.venv/.installed", f"BIN={Path(sys.executable).parent}", "run"]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=bare(folder / "instance", **{"ENVIRONMENT": "development", **environ}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> str:
        end = time.monotonic() + START_S
        while text not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)
        return self.output()

    def session(self) -> list[int]:
        """The processes that belong to the command, whoever their parent is by now; those that ended do not."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, _group, session = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            except OSError:
                continue  # it has ended meanwhile
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def ended(self) -> bool:
        self.process.poll()
        return not self.session()


@pytest.fixture
def start(tmp_path):
    running = []

    def once(**environ):
        running.append(Run(tmp_path, **environ))
        return running[-1]

    yield once
    for run in running:
        for pid in run.session():
            os.kill(pid, signal.SIGKILL)
        run.process.wait()


@pytest.fixture
def port():
    return str(free_port())


def end(run, by):
    """End it that way; every process of it must be gone."""
    before = run.session()
    assert len(before) >= 3, "make, master and worker"
    by()
    limit = time.monotonic() + END_S
    while not run.ended():
        assert time.monotonic() < limit, (run.session(), run.output())
        time.sleep(0.05)


def test_it_serves_what_it_prints_and_ends_with_all_its_children(start, port, tmp_path):
    run = start(PORT=port, HOST="127.0.0.1")
    shown = run.wait_for("Booting worker")
    password, key = SHOWN_ONCE.findall(shown)
    assert f"http://127.0.0.1:{port}/admin" in shown
    (call,) = CALL.findall(shown)
    assert key in call
    if shutil.which("curl") is None:
        pytest.skip("no curl is installed")
    answer = subprocess.run(["sh", "-c", f"{call} -sS --max-time 20"], capture_output=True, text=True, check=True)
    assert "Hello!" in answer.stdout
    assert '"usage"' in answer.stdout
    end(run, lambda: run.process.send_signal(signal.SIGTERM))

    run = start(PORT=port, HOST="127.0.0.1")
    shown = run.wait_for("Booting worker")
    assert SHOWN_ONCE.findall(shown) == []
    assert (password in shown, key in shown) == (False, False)
    assert "shown when they are made and never again" in shown
    end(run, lambda: os.killpg(run.process.pid, signal.SIGINT))  # as a terminal sends Ctrl-C
    assert "Traceback" not in run.output(), run.output()


def test_wrong_settings_stop_it_with_78_and_a_readable_message(start, tmp_path):
    run = start(PORT="99999", WORKER_CLASS="sync")
    run.process.wait(START_S)
    said = run.output()
    assert "Error 78" in said
    assert "  - PORT: Input should be less than or equal to 65535. Fix: " in said
    assert "  - WORKER_CLASS: Input should be 'gevent' or 'gthread'. Fix: " in said
    assert "Traceback" not in said
    assert run.ended()
    assert not (tmp_path / "instance").exists()
