"""Debian's pgbouncer in transaction mode, in front of a Postgres of the tests; its clients share a few connections."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
MISSING = "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
START_S = 60.0
SETTINGS = """
[databases]
* = host={server.host} port={server.port} user={server.username}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_client_conn = 2000
default_pool_size = {size}
query_wait_timeout = 30
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def pgbouncer(folder: Path, server: str, *, size: int = 4, host: str = "127.0.0.1") -> Iterator[str]:
    """Run one while the block lasts; gives the address of the database of `server`, reached through it."""
    assert PROGRAM is not None, MISSING
    url = make_url(server)
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = int(probe.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    path = folder / "pgbouncer.ini"
    path.write_text(SETTINGS.format(server=url, host=host, port=port, size=size, folder=folder), encoding="utf-8")
    if user:
        shutil.chown(folder, user)
    process = subprocess.Popen([PROGRAM, "--quiet", str(path)], cwd="/", user=user, stderr=subprocess.DEVNULL)
    try:
        _wait(process, host, port, folder / "pgbouncer.log")
        yield f"postgresql://{url.username}@{host}:{port}/{url.database}"
    finally:
        process.terminate()  # at once, without waiting for clients
        process.wait(20)


def _wait(process: "subprocess.Popen[bytes]", host: str, port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"pgbouncer did not start: {log.read_text(errors='replace') if log.exists() else ''}")
