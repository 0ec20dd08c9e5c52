"""A Postgres that can be killed and started again on its port, with what it had."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg

START_S = 90.0


class MortalPostgres:
    """The server with this process id, whose command and environment are read from the system."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self._pid = url, pid
        self._command = _words(Path(f"/proc/{pid}/cmdline"))
        self._environ = dict(word.split("=", 1) for word in _words(Path(f"/proc/{pid}/environ")))
        self._owner = Path(f"/proc/{pid}").stat().st_uid
        self._own: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """`kill -9` of the server and everything it started."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").split()
        for pid in (self._pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._own is not None:  # a process that nobody has waited for looks alive to the next server
            self._own.wait()
        else:
            os.waitpid(self._pid, 0)
        end = time.monotonic() + START_S
        while any(_is_alive(int(pid)) for pid in children) and time.monotonic() < end:
            time.sleep(0.01)

    def start(self) -> None:
        """Recover and serve again; takes connections when this returns."""
        user = self._owner if os.geteuid() == 0 else None
        self._own = subprocess.Popen(
            self._command, cwd="/", env=self._environ, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._pid, end = self._own.pid, time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=10).close()
            except psycopg.OperationalError:
                assert time.monotonic() < end, "Postgres did not come back"
                assert self._own.poll() is None, "Postgres ended"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End what was started here."""
        if self._own is not None and self._own.poll() is None:
            self._own.send_signal(signal.SIGINT)
            self._own.wait(20)


def _words(path: Path) -> list[str]:
    return [word for word in path.read_text(encoding="utf-8").split("\0") if word]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
