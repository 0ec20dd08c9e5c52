"""`flask restore`: a file of `flask backup`, checked as a whole before anything is changed.

The database gets all of it in one transaction or stays as it was; the spool follows, and what was there before is kept
beside it. Nobody may be at work meanwhile: workers of this host are seen by their locks, others on Postgres by their
connections.
"""

import hashlib
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from config import ROOT
from services import pgtools
from services.backups import (
    CHUNK_BYTES,
    DATABASES,
    FORMAT,
    MANIFEST,
    BackupRefused,
    Manifest,
    Source,
    pepper_mark,
    server_version,
)
from services.books import copies
from services.credentials import SealBroken
from services.spool import workers
from utils import clock
from utils.progress import Tell, measured, silent, told

SPOOLED: Final = re.compile(r"spool/(id|\w+\.\d+\.\w+\.jsonl)", re.ASCII)
MANIFEST_BYTES: Final = 16 * 1024 * 1024
GONE_S: Final = 2.0
MOST_ASIDE: Final = 1000
TABLES: Final = {
    "sqlite": text("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"),
    "postgresql": text("SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()"),
}
OTHERS: Final = text("""
SELECT COUNT(*) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
AND backend_type = 'client backend'""")
# All that stands in the schema, but for what extensions put there.
DROPS: Final = text("""
SELECT format('DROP %s IF EXISTS %s CASCADE;',
  CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
  format('%I.%I', current_schema(), relname))
FROM pg_class c WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP FUNCTION IF EXISTS %s CASCADE;', p.oid::regprocedure)
FROM pg_proc p WHERE pronamespace = current_schema()::regnamespace
AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""")


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup whose every byte is as it was written."""

    path: Path
    manifest: Manifest
    spool: tuple[str, ...]  # names of members


def opened(path: Path, engine: Engine, tell: Tell = silent) -> Opened:
    """Look at the file, all of it.

    Raises:
        BackupRefused: it is none, is damaged, of a newer version or of the other kind of database.
    """
    try:
        with zipfile.ZipFile(path) as box:
            with box.open(MANIFEST) as member:
                manifest = Manifest(**json.loads(member.read(MANIFEST_BYTES)))
            _check(manifest, engine.dialect.name)
            for name, known in told(manifest.members.items(), len(manifest.members), tell):
                _verify(box, name, known)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, zlib.error) as exc:
        raise BackupRefused(f"{path} is no whole backup: {exc}. Take another one.") from exc
    return Opened(path, manifest, tuple(sorted(name for name in manifest.members if SPOOLED.fullmatch(name))))


def standing(source: Source) -> tuple[int, int]:
    """How many tables and files of the spool would be replaced.

    Raises:
        BackupRefused: somebody is at work with them.
    """
    _place, owners = workers(source.spool)
    alive = [owner for owner, is_alive in owners.items() if is_alive]
    if alive:
        pids = ", ".join(owner.split(".")[1] for owner in alive)
        raise BackupRefused(f"Workers of the gateway run here (process {pids}). Stop it first.")
    kind = source.engine.dialect.name
    with source.engine.connect() as connection:
        others = _others(connection) if kind == "postgresql" else 0
        tables = int(connection.execute(TABLES[kind]).scalar_one())
    if others:
        raise BackupRefused(f"Others are connected with this database ({others} connections). Stop the gateway first.")
    return tables, len(owners)


def put_back(source: Source, backup: Opened) -> Path | None:
    """Replace database and spool; returns where the spool went that was there before.

    Raises:
        BackupRefused: the database is as it was.
    """
    try:
        with zipfile.ZipFile(backup.path) as box:
            RESTORES[backup.manifest.database](source, box)
            return _put_spool(source.spool, box, backup.spool)
    except (pgtools.ToolFailed, copies.BrokenCopy) as exc:
        raise BackupRefused(f"The database was not replaced: {exc}") from exc


def misfits(source: Source, manifest: Manifest) -> list[str]:
    """Settings that are not those of when the backup was made, and what comes of it."""
    found = []
    try:
        source.sealer.open(manifest.sealed.encode())
    except SealBroken:
        found.append("ENCRYPTION_KEYS: none of them is from then, so credentials of providers cannot be opened.")
    if pepper_mark(source.pepper) != manifest.pepper:
        found.append("KEY_PEPPER: it is not the one from then, so no API key is accepted.")
    return found


def _check(manifest: Manifest, kind: str) -> None:
    if manifest.format != FORMAT:
        raise BackupRefused(f"The backup is of a form that this version does not know ({manifest.format}).")
    if manifest.database != kind:
        raise BackupRefused(f"The backup is of {manifest.database}, and DATABASE_URL names {kind}.")
    scripts = ScriptDirectory(str(ROOT / "migrations"))
    if manifest.revision not in {script.revision for script in scripts.walk_revisions()}:
        newer = f"The backup is of version {manifest.version} (at {manifest.revision}), which this one does not know."
        raise BackupRefused(f"{newer} Install that version or a newer one.")
    if DATABASES[kind] not in manifest.members:
        raise BackupRefused("There is no database in the backup. Take another one.")


def _verify(box: zipfile.ZipFile, name: str, known: dict[str, Any]) -> None:
    digest = hashlib.sha256()
    for chunk in _chunks(box, name):
        digest.update(chunk)
    if digest.hexdigest() != known["sha256"]:
        raise ValueError(f"`{name}` was changed")


def _chunks(box: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with box.open(name) as member:
        while chunk := member.read(CHUNK_BYTES):
            yield chunk


def _database(source: Source, box: zipfile.ZipFile, kind: str) -> Iterator[bytes]:
    name = DATABASES[kind]
    return measured(_chunks(box, name), source.tell, box.getinfo(name).file_size)


def _sqlite(source: Source, box: zipfile.ZipFile) -> None:
    target = Path(str(source.engine.url.database))
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=target.parent) as folder:
        copy = Path(folder) / "copy.db"
        with copy.open("wb") as file:
            file.writelines(_database(source, box, "sqlite"))
        copies.check(copy)
        with copies.moment(copy) as connection:
            copies.copy(connection, target)


def _postgres(source: Source, box: zipfile.ZipFile) -> None:
    with source.engine.connect() as connection:
        program = pgtools.find("psql", source.programs, server_version(connection))
        drops = _drops(connection)
    _arguments, options = source.engine.dialect.create_connect_args(source.engine.url)

    def parts() -> Iterator[bytes]:
        yield from drops
        yield from _database(source, box, "postgresql")

    pgtools.read(program, options, parts())


RESTORES: Final = {"sqlite": _sqlite, "postgresql": _postgres}


def _others(connection: Connection) -> int:
    """How many are connected; the server sees for a moment longer those who have just left."""
    give_up_s = clock.monotonic_s() + GONE_S
    while (others := int(connection.execute(OTHERS).scalar_one())) and clock.monotonic_s() < give_up_s:
        connection.rollback()  # within one transaction it would say the same again
        clock.sleep(0.1)
    return others


def _drops(connection: Connection) -> list[bytes]:
    return [f"{statement}\n".encode() for statement in connection.execute(DROPS).scalars()]


def _put_spool(folder: Path, box: zipfile.ZipFile, names: tuple[str, ...]) -> Path | None:
    """Each worker gets its lock file, which nobody holds: so the next start books what it left."""
    aside = None
    if folder.exists():
        aside = _unused(folder.with_name(f"{folder.name}-before-{clock.now():%Y%m%d-%H%M%S}"))
        folder.rename(aside)
    folder.mkdir(mode=0o700, parents=True)
    for name in names:
        path = folder / name.partition("/")[2]
        path.touch(0o600)
        path.write_bytes(box.read(name))
        if path.suffix == ".jsonl":
            path.with_suffix(".lock").touch(0o600)
    return aside


def _unused(path: Path) -> Path:
    """The path, or the first with a number behind it that is not there: two restores may share a second."""
    others = (path.with_name(f"{path.name}-{number}") for number in range(2, MOST_ASIDE))
    return next(one for one in (path, *others) if not one.exists())
