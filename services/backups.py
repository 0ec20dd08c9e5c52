"""`flask backup`: database and spool of one moment in one file, while calls go on.

The file is a ZIP: `manifest.json` with version, revision and a digest of every member; the database, as a SQLite file
or as SQL of pg_dump; the spool, without which calls under way at that moment would end unbooked. It is there as a
whole or not at all. Secrets of the settings are not in it; the manifest only allows to tell whether
others are set later.
"""

import hashlib
import hmac
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import Connection, Engine, text

from config import project
from services import pgtools
from services.books import copies
from services.credentials import Sealer
from services.spool import COMPACT_BYTES, workers
from utils import clock, ids
from utils.progress import Tell, measured, silent

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DATABASES: Final = {"sqlite": "database.sqlite", "postgresql": "database.sql"}  # the member, by kind
CHUNK_BYTES: Final = COMPACT_BYTES
KNOWN: Final = "tollhouse"  # sealed with the keys of the settings: whoever has them can open it
LATER: Final = (b'["sent"', b'["progress"')  # of notes: true of any call, whenever it was admitted


class BackupRefused(Exception):
    """Nothing was written, or put back; the message says why and what to do."""


@dataclass(slots=True)
class Manifest:
    """What a backup says of itself."""

    format: int
    version: str
    revision: str
    database: str  # sqlite or postgresql
    made_at: str  # ISO 8601, UTC
    sealed: str  # KNOWN, sealed
    pepper: str  # of KNOWN, with the pepper of API keys
    members: dict[str, dict[str, Any]] = field(default_factory=dict)  # {"bytes": …, "sha256": …} by name


@dataclass(frozen=True, slots=True)
class Source:
    """What is backed up."""

    engine: Engine
    spool: Path
    sealer: Sealer
    pepper: str
    programs: Path | None = None  # folder of pg_dump and psql
    tell: Tell = silent  # bytes


def write(source: Source, path: Path) -> Manifest:
    """Back up to this file.

    Raises:
        BackupRefused: it is there already, or the database is empty or cannot be dumped.
        OSError: the folder is missing or full.
    """
    if path.exists():
        raise BackupRefused(f"{path} is there already, and a backup overwrites nothing. Choose another name.")
    part = path.with_name(f".{path.name}.{ids.random_base62(8)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            manifest = _fill(source, file, part.with_suffix(".copy"))
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike a rename, it never takes another file's place
    except FileExistsError:
        raise BackupRefused(f"{path} is there already, and a backup overwrites nothing. Choose another name.") from None
    except pgtools.ToolFailed as exc:
        raise BackupRefused(str(exc)) from exc
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)
    return manifest


def pepper_mark(pepper: str) -> str:
    """What tells one pepper from another, and nothing of it."""
    return hmac.new(pepper.encode(), KNOWN.encode(), hashlib.sha256).hexdigest()[:16]


def server_version(connection: Connection) -> int:
    """Main version of a Postgres server."""
    return int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000


def _fill(source: Source, file: IO[bytes], copy: Path) -> Manifest:
    kind = source.engine.dialect.name
    notes = _notes(source.spool)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as box, MOMENTS[kind](source, copy) as taken:
        revision, size, chunks = taken
        if not revision:
            raise BackupRefused("The database has no tables yet, so there is nothing to back up.")
        manifest = Manifest(
            FORMAT,
            project()[1],
            revision,
            kind,
            clock.now().isoformat(timespec="seconds"),
            source.sealer.seal(KNOWN).decode(),
            pepper_mark(source.pepper),
        )
        for name, content in _with_later(notes, _notes(source.spool)).items():
            _add(box, manifest, f"spool/{name}", iter([content]))
        _add(box, manifest, DATABASES[kind], measured(chunks(), source.tell, size))
        box.writestr(MANIFEST, json.dumps(asdict(manifest), indent=2))
    return manifest


Taken = tuple[str, int, Callable[[], Iterator[bytes]]]  # revision, about how many bytes, and they in pieces


@contextmanager
def _sqlite(source: Source, copy: Path) -> Iterator[Taken]:
    def chunks() -> Iterator[bytes]:
        copies.copy(connection, copy)
        copies.check(copy)
        with copy.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    try:
        path = Path(str(source.engine.url.database))
        with copies.moment(path) as connection:
            yield copies.revision(connection), path.stat().st_size, chunks
    except copies.BrokenCopy as exc:
        raise BackupRefused(f"The database is damaged, or cannot be copied: {exc}.") from exc
    finally:
        for path in copy.parent.glob(f"{copy.name}*"):
            path.unlink()


@contextmanager
def _postgres(source: Source, _copy: Path) -> Iterator[Taken]:
    with source.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        has_any = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is not None
        revision = connection.execute(text(copies.REVISION)).scalar() if has_any else None
        program = pgtools.find("pg_dump", source.programs, server_version(connection))
        snapshot = str(connection.execute(text("SELECT pg_export_snapshot()")).scalar_one())
        size = int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
        _arguments, options = source.engine.dialect.create_connect_args(source.engine.url)
        yield str(revision or ""), size, lambda: pgtools.dump(program, options, snapshot)


MOMENTS: Final = {"sqlite": _sqlite, "postgresql": _postgres}


def _notes(folder: Path) -> dict[str, bytes]:
    """The spool's files by name, as they are now."""
    place, owners = workers(folder)
    found = {"id": place.encode()} if place else {}
    for owner in owners:
        path = folder / f"{owner}.jsonl"
        if path.exists():
            found[path.name] = path.read_bytes()
    return found


def _with_later(before: dict[str, bytes], after: dict[str, bytes]) -> dict[str, bytes]:
    """Notes from before the moment, and those after it that say how far a call was.

    What the database has already, notes from before may have once more: booking is idempotent. A note that a call was
    booked must not be from after the moment, or the database would never hear of it.
    """
    found = {name: content for name, content in {**after, **before}.items() if name == "id"}
    for name in {**before, **after}.keys() - found.keys():
        lines = before.get(name, b"").splitlines(keepends=True)
        known = set(lines)
        lines += [
            one for one in after.get(name, b"").splitlines(keepends=True) if one.startswith(LATER) and one not in known
        ]
        found[name] = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
    return found


def _add(box: zipfile.ZipFile, manifest: Manifest, name: str, chunks: Iterator[bytes]) -> None:
    digest, size = hashlib.sha256(), 0
    with box.open(name, "w", force_zip64=True) as member:
        for chunk in chunks:
            member.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    manifest.members[name] = {"bytes": size, "sha256": digest.hexdigest()}


def _sync(folder: Path) -> None:
    """A new name in a folder survives a power cut once the folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
