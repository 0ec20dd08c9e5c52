"""Postgres' own programs, pg_dump and psql: a whole database as text, and back."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

CHUNK_BYTES: Final = 1024 * 1024
VERSION: Final = re.compile(r"\(PostgreSQL\)[^0-9]*(\d+)")
FAILED: Final = re.compile(r"(?:error|ERROR|FATAL):\s*(.*)")
DUMP: Final = ("--format=plain", "--encoding=UTF8", "--no-owner", "--no-privileges", "--no-tablespaces")
READ: Final = (
    "--no-psqlrc",
    "--quiet",
    "--set=ON_ERROR_STOP=1",
    "--single-transaction",
    "--output=/dev/null",
    "--file=-",
)


class ToolFailed(Exception):
    """A program is missing, too old, or did not do its work; the message says what to do."""


def find(name: str, folder: Path | None, server: int) -> str:
    """The program's path, in the folder or wherever programs are; `server`: the main version that it must know.

    Raises:
        ToolFailed: it is not there, or older than the server.
    """
    program = shutil.which(name, path=str(folder) if folder else None)
    mend = f"Install Postgres' client programs of version {server} or newer, or name their folder with --programs."
    if program is None:
        raise ToolFailed(f"`{name}` is not in {folder or 'PATH'}. {mend}")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found above
    match = VERSION.search(done.stdout)
    if match is None:
        raise ToolFailed(f"`{program} --version` says nothing that can be read. {mend}")
    if int(match[1]) < server:
        raise ToolFailed(f"`{program}` is of version {match[1]}, and the server of {server}. {mend}")
    return program


def dump(program: str, options: Mapping[str, object], snapshot: str) -> Iterator[bytes]:
    """The database at that exported moment as SQL, in pieces; `options` as the driver's connect takes them.

    Raises:
        ToolFailed: it broke off; what came before is of no use.
    """
    with _where(options) as place, tempfile.TemporaryFile() as errors:
        command = [program, *DUMP, f"--snapshot={snapshot}", f"--dbname={place}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:  # noqa: S603 - see `find`
            try:
                while process.stdout is not None and (chunk := process.stdout.read(CHUNK_BYTES)):
                    yield chunk
            except BaseException:
                process.kill()
                raise
        _unless_failed(process.returncode, program, errors)


def read(program: str, options: Mapping[str, object], parts: Iterable[bytes]) -> None:
    """Have the database run this SQL in one transaction.

    Raises:
        ToolFailed: it did not; the database is as it was.
    """
    with _where(options) as place, tempfile.TemporaryFile() as errors:
        command = [program, *READ, f"--dbname={place}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors) as process:  # noqa: S603 - see `find`
            try:
                for part in parts if process.stdin is not None else ():
                    process.stdin.write(part)  # type: ignore[union-attr]  # the loop has nothing to do without it
            except BrokenPipeError:
                pass  # it ended by itself, and says why
            except BaseException:
                process.kill()  # at the end of its input it would commit
                raise
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()  # type: ignore[union-attr]  # as above
        _unless_failed(process.returncode, program, errors)


@contextmanager
def _where(options: Mapping[str, object]) -> Iterator[str]:
    """The connection string, and the password in a file: everybody sees what programs are called with."""
    # The driver's own options are no texts or numbers.
    told = {name: str(value) for name, value in options.items() if name != "password" and isinstance(value, str | int)}
    with tempfile.TemporaryDirectory(prefix="tollhouse-") as folder:
        if options.get("password"):
            passfile = Path(folder) / "pgpass"
            passfile.touch(0o600)
            password = str(options["password"]).replace("\\", "\\\\").replace(":", "\\:")
            passfile.write_text(f"*:*:*:*:{password}\n", encoding="utf-8")
            told["passfile"] = str(passfile)
        yield " ".join(f"{name}={_quoted(value)}" for name, value in told.items())


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _unless_failed(status: int, program: str, errors: IO[bytes]) -> None:
    if status:
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
        match = FAILED.search(said)  # its first words; what follows may show rows
        raise ToolFailed(f"`{Path(program).name}` failed: {match[1] if match else f'it ended with {status}'}")
