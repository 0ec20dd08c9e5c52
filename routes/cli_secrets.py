"""`flask secrets …`: changing the secrets that the gateway keeps things with."""

import sys

import click
from flask.cli import AppGroup

from routes.cli_base import OPERATOR, in_app, progress
from services import rotation
from utils.extensions import gateway

group = AppGroup("secrets", help="Changing the secrets that the gateway keeps things with.")


@group.command("rotate")
@click.option("--dry-run", is_flag=True, help="Only count what is left.")
@click.option(
    "--batch", type=click.IntRange(1, 10_000), default=rotation.BATCH, show_default=True, help="Rows at once."
)
@in_app
def rotate(dry_run: bool, batch: int) -> None:
    """Seal everything anew with the first of ENCRYPTION_KEYS; exit status 1 = there is something that no key opens."""
    here = gateway()
    with progress("Sealing") as tell:
        report = rotation.rotate(here.engine, here.sealer, here.keys, OPERATOR, rotation.How(batch, dry_run, tell))
    done = "to be sealed anew" if dry_run else "sealed anew"
    for column in report.columns:
        broken = f", {column.broken:,} that no key opens" if column.broken else ""
        click.echo(f"{column.column}: {column.found:,} sealed, {column.renewed:,} {done}{broken}")
    click.echo(f"keys under an earlier KEY_PEPPER: {report.keys_left:,}")
    if any(column.broken for column in report.columns):
        sys.exit(1)
