"""`flask ledger …`: prove the books, look into them, compare them with a provider's."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, Cell, fail, in_app, owner, owner_options, show
from services import invoices, ledger, reconcile
from services.errors import GatewayError
from utils.extensions import gateway

group = AppGroup("ledger", help="The books.")
DAY: Final = click.DateTime(["%Y-%m-%d"])
COLUMNS: Final[dict[str, Cell]] = {
    "NUMBER": lambda one: str(one["number"]),
    "AT": lambda one: f"{one['at']:%Y-%m-%d %H:%M:%S}",
    "KIND": "kind",
    "ACCOUNT": "account",
    "AMOUNT": "amount",
    "REQUEST": "request_id",
    "ACTOR": "actor",
    "REASON": "reason",
}


@group.command("verify")
@in_app
def verify() -> None:
    """Recompute every balance from the ledger and the ledger from the usage rows; exit 1 on a difference."""
    report = ledger.verify(gateway().engine)
    for difference in report.differences:
        click.echo(difference)
    click.echo(
        f"{len(report.differences)} differences in {report.accounts:,} accounts and {report.days:,} of their days, "
        f"from {report.usage_rows:,} usage rows and {report.ledger_entries:,} ledger entries; "
        f"{report.open_holds:,} calls are under way."
    )
    if report.differences:
        sys.exit(1)


@group.command("show")
@owner_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@AS_JSON
@in_app
def show_movements(limit: int, as_json: bool, **given: str | None) -> None:
    """The newest movements: of one user (with its budgets), key, team or model, or all."""
    try:
        whose = owner(given) if any(name is not None for name in given.values()) else None
        found = ledger.newest(gateway().engine, whose, limit)
    except GatewayError as exc:
        fail(str(exc))
    show(found, COLUMNS, as_json=as_json, otherwise="Nothing was booked.")


@group.command("reconcile")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--provider", default="", help="Whose calls to compare; default: all.")
@click.option("--from", "first", type=DAY, help="First day; default: the file's.")
@click.option("--to", "last", type=DAY, help="Last day; default: the file's.")
@click.option("--tolerance", default="1", show_default=True, help="Percent by which figures may differ.")
@in_app
def reconcile_file(file: Path, provider: str, first: datetime | None, last: datetime | None, tolerance: str) -> None:
    """Compare usage rows with a provider's CSV export, by day and model; exit 1 when they differ, 78 for a bad file."""
    try:
        found = reconcile.compare(
            gateway().engine,
            invoices.read(file),
            provider=provider,
            first=first.date() if first else None,
            last=last.date() if last else None,
            tolerance=reconcile.percent(tolerance),
        )
    except (GatewayError, invoices.Unusable) as exc:
        fail(str(exc))
    for line in reconcile.table(found):
        click.echo(line)
    if not found.agrees:
        sys.exit(1)
