"""A gateway under gunicorn in a process of its own, as in production."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

import requests

from tests.fakes.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = ("-m", "gunicorn", "-c", "gunicorn.conf.py", "app:serving()")


class Served:
    """Starts at once and answers when the constructor returns.

    `prefix`: words before the command, which must become it; `code`: where the code lies.
    """

    def __init__(
        self,
        environ: dict[str, str],
        command: tuple[str, ...] = GUNICORN,
        *,
        prefix: tuple[str, ...] = (),
        code: Path = ROOT,
    ) -> None:
        self.host = environ.get("HOST", "127.0.0.1")
        self.port = int(environ.get("PORT") or free_port())
        self.url = f"http://{self.host}:{self.port}"
        descriptor, name = tempfile.mkstemp(prefix="tollhouse-served-", suffix=".log")
        self.log = Path(name)
        weakref.finalize(self, self.log.unlink, missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        with os.fdopen(descriptor, "wb") as out:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, *command],
                cwd=code,
                stdout=out,
                stderr=out,
                env={**kept, "HOST": "127.0.0.1", "PORT": str(self.port), **environ},
                start_new_session=True,
            )
        self._wait()

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40.0) -> int:
        """End it; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _wait(self) -> None:
        end = time.monotonic() + 90  # two that begin on an empty database migrate one after the other
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended with {self.process.returncode}:\n{self.output()}")
            try:
                if requests.get(f"{self.url}/health", timeout=10).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the gateway did not answer:\n{self.output()}")
