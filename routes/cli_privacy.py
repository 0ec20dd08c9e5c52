"""`flask retention run`, `flask users export|erase`: what is kept, handed over, and ended."""

from pathlib import Path

import click
from flask.cli import AppGroup

from routes.cli_base import OPERATOR, fail, in_app, progress
from services import people
from services.errors import GatewayError
from utils.extensions import gateway

group = AppGroup("retention", help="What has been kept long enough.")
SUFFIXES = (".json", ".zip")


@group.command("run")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@in_app
def run(dry_run: bool) -> None:
    """Delete what has expired; servers do the same every hour. Usage, ledger and audit log stay."""
    with progress("Looking" if dry_run else "Removing") as tell:
        found = gateway().retention.run(is_dry=dry_run, tell=tell)
    click.echo("Would be removed:" if dry_run else "Removed:")
    for name, count in found.items():
        click.echo(f"  {count:>8,} {name}")


@click.command("export")
@click.argument("username")
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A new .json or .zip.")
@in_app
def export(username: str, output: Path) -> None:
    """Write all that is kept of a user into a file that only you can read."""
    if output.suffix.lower() not in SUFFIXES:
        fail(f"Name a file that ends in {' or '.join(SUFFIXES)}.")
    here = gateway()
    try:
        number = people.number_of(here.engine, username)
        counts = here.takeout.write(number, output)
    except GatewayError as exc:
        fail(str(exc))
    except FileExistsError:
        fail(f"`{output}` is there already.")
    here.audit.note(OPERATOR, "user_export", "user", number)
    click.echo(f"{output}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count))


@click.command("erase")
@click.argument("username")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--vacuum", is_flag=True, help="Also write the SQLite file anew; nobody else can write meanwhile.")
@in_app
def erase(username: str, yes: bool, vacuum: bool) -> None:
    """Erase a user: name, keys, dialogs and all texts. What was used stays in the books, under a number."""
    here = gateway()
    try:
        number = people.number_of(here.engine, username)
        if not yes:
            click.confirm(f"Erase `{username}` (#{number})? This cannot be undone.", abort=True)
        told = here.erasure.erase(OPERATOR, number, username)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(f"User #{number} is now `{told['username']}`. Removed:")
    for name, count in told["removed"].items():
        click.echo(f"  {count:>8,} {name}")
    if vacuum:
        click.echo("The file was written anew." if here.erasure.rewrite() else "Postgres sees to its files by itself.")
