"""Starts and stops the fake provider and the gateway."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import procs

START_S = 60
STOP_S = 20
HERE = Path(__file__).resolve().parent

CONFIG = """\
providers:
  - {{name: fake, kind: openai, base_url: "http://127.0.0.1:{port}/v1", api_key: "sk-fake-upstream"}}
models:
  - name: fast
    deployments: [{{provider: fake, model: gpt-4o-mini, priority: 1, weight: 1}}]
    price: {{input_per_million: 0.15, output_per_million: 0.60}}
  - name: hot
    deployments: [{{provider: fake, model: gpt-4o-mini, priority: 1, weight: 1}}]
    price: {{input_per_million: 0.15, output_per_million: 0.60}}
  - name: cached
    deployments: [{{provider: fake, model: gpt-4o-mini, priority: 1, weight: 1}}]
    price: {{input_per_million: 0.15, output_per_million: 0.60}}
    routing: {{cache_s: 3600}}
"""
BASE_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
BUDGETS = ("--unit usd --limit 1000000 --period total", "--unit tokens --limit 1000000000000 --period day")


class BenchError(Exception):
    """The measurement cannot go on; the message says why."""


@dataclass(frozen=True)
class Database:
    """A running database server, or none for SQLite."""

    url: str | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Gateway:
    """A running gateway and what a caller needs to use it."""

    pid: int
    port: int
    token: str = ""  # none: it knows no keys
    repo: Path = HERE.parent
    env: Mapping[str, str] = field(default_factory=dict)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Asks the process to stop and waits; kills it and its children, by id, when it does not."""
    if process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for pid in procs.tree(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Waits for a server that was just started; fails with the end of its log."""
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None:
            raise BenchError(f"{name} ended with code {process.returncode} at its start:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{name} was not ready after {START_S} s:\n{tail(log)}")
        time.sleep(0.05)


def build_tools() -> None:
    """Builds the C programs."""
    if subprocess.run(["sh", str(HERE / "build.sh")], check=False).returncode:
        raise BenchError("the load tools could not be built")


@contextmanager
def upstream() -> Iterator[int]:
    """Runs the fake provider and gives its port."""
    process = subprocess.Popen([HERE / "bin" / "upstream", "-p", "0"], stdout=subprocess.PIPE)
    try:
        line = process.stdout.readline().decode() if process.stdout else ""
        if not line:
            raise BenchError("the fake provider did not start")
        yield int(line.rpartition(":")[2])
    finally:
        end(process, signal.SIGTERM)
        if process.stdout:
            process.stdout.close()


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _set_budgets(repo: Path, env: Mapping[str, str]) -> None:
    for budget in BUDGETS:
        words = ["budgets", "set", "--user", "api-tokens", *budget.split()]
        command = [str(repo / ".venv/bin/flask"), "--app", "app", *words]
        done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"'flask {' '.join(words)}' failed:\n{done.stdout}{done.stderr}")


@contextmanager
def floor(repo: Path, folder: Path, provider: int) -> Iterator[Gateway]:
    """Runs the bare relay in one gevent worker."""
    folder.mkdir(parents=True)
    port, log = free_port(), folder / "floor.log"
    env = BASE_ENV | {"HOME": str(folder)}
    command = [str(repo / ".venv/bin/gunicorn"), "-k", "gevent", "-b", f"127.0.0.1:{port}", f"floor:create({provider})"]
    command += ["--worker-connections", "2000", "--log-level", "warning"]
    with _serving(command, HERE, env, "the bare relay", log, port) as pid:
        yield Gateway(pid, port)


@contextmanager
def gateway(repo: Path, folder: Path, worker: str, provider: int, database: Database) -> Iterator[Gateway]:
    """Runs the gateway in a fresh instance folder, with budgets set."""
    folder.mkdir(parents=True)
    config, log = folder / "bench.yaml", folder / "gateway.log"
    port, token = free_port(), secrets.token_hex(16)
    config.write_text(CONFIG.format(port=provider))
    env = BASE_ENV | {"HOME": str(folder), "WORKER_CLASS": worker, "WEB_CONCURRENCY": "1"}
    env |= {"ENVIRONMENT": "development", "HOST": "127.0.0.1", "PORT": str(port)}
    env |= {"INSTANCE_PATH": str(folder), "API_AUTH_TOKENS": token, "TOLLHOUSE_CONFIG": str(config)}
    env |= {"DATABASE_URL": database.url} if database.url else {}
    command = [str(repo / ".venv/bin/gunicorn"), "-c", "gunicorn.conf.py", "app:serving()"]
    with _serving(command, repo, env, "the gateway", log, port) as pid:
        _set_budgets(repo, env)
        yield Gateway(pid, port, token, repo, env)


@contextmanager
def _serving(command: list[str], cwd: Path, env: Mapping[str, str], name: str, log: Path, port: int) -> Iterator[int]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _healthy(port), process, name, log)
        yield process.pid
        if process.poll() is not None:
            raise BenchError(f"{name} ended with code {process.returncode} under load:\n{tail(log)}")
    finally:
        end(process, signal.SIGTERM)
