"""`flask backup` and `flask restore`: everything that is stored, in one file and back."""

from dataclasses import replace as replace_field
from pathlib import Path

import click
import flask_migrate

from routes.cli_base import fail, in_app, progress
from services import backups, restoring
from services.backups import BackupRefused, Source
from services.migrating import migration_lock
from utils.extensions import gateway
from utils.progress import Tell, silent

PROGRAMS = click.option(
    "--programs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with Postgres' pg_dump and psql; default: wherever programs are.",
)
POOLED = (
    "Postgres' programs leave settings on connections that a pooler in transaction mode then lends to the gateway. "
    "For this command name the server itself: DATABASE_URL=postgresql://…, with DB_POOLING=session."
)
FILE = click.argument("path", type=click.Path(path_type=Path, dir_okay=False))


@click.command("backup")
@FILE
@PROGRAMS
@in_app
def backup(path: Path, programs: Path | None) -> None:
    """Write database and spool into one file, while calls go on; it is complete or not there."""
    try:
        with progress("Backup") as tell:
            made = backups.write(_source(programs, tell), path)
    except BackupRefused as exc:
        fail(str(exc))
    size = path.stat().st_size
    click.echo(f"{path}: {_said(made)}, {size:,} bytes.")
    click.echo("Not in it: ENCRYPTION_KEYS and KEY_PEPPER, without which it is of little use. Keep them elsewhere.")


@click.command("restore")
@FILE
@PROGRAMS
@click.option("--replace", is_flag=True, help="Also into a database that has tables; asks before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_app
def restore(path: Path, programs: Path | None, replace: bool, yes: bool) -> None:
    """Put a backup back into an empty database, then bring its tables to this version. The gateway must not run."""
    here, source = gateway(), _source(programs)
    try:
        with progress("Checking") as tell:
            found = restoring.opened(path, here.engine, tell)
        tables, files = restoring.standing(source)
        if tables or files:
            _ask(
                f"{tables} tables of the database ({here.config.database[1]}) and {files} workers' files", replace, yes
            )
        with migration_lock(here.engine, here.config.instance_path), progress("Restoring") as tell:
            aside = restoring.put_back(replace_field(source, tell=tell), found)
    except BackupRefused as exc:
        fail(str(exc))
    flask_migrate.upgrade()
    click.echo(f"Restored: {_said(found.manifest)}.")
    if aside is not None:
        click.echo(f"The spool from before is kept in {aside}.")
    for misfit in restoring.misfits(source, found.manifest):
        click.echo(f"Warning: {misfit}")
    click.echo("Now run `flask ledger verify` and `flask audit verify`, then start the gateway.")


def _source(programs: Path | None, tell: Tell = silent) -> Source:
    here = gateway()
    if here.engine.dialect.name == "postgresql" and here.config.db_pooling == "transaction":
        fail(POOLED)
    return Source(here.engine, here.config.instance_path / "spool", here.sealer, here.config.key_pepper, programs, tell)


def _ask(what: str, replace: bool, yes: bool) -> None:
    if not replace:
        fail(f"There are {what}. `--replace` replaces them.")
    if not yes:
        click.confirm(f"Replace {what}?", abort=True)


def _said(made: backups.Manifest) -> str:
    spooled = len(made.members) - 1
    return (
        f"{made.database} at {made.revision} of version {made.version}, of {made.made_at}, {spooled} files of the spool"
    )
