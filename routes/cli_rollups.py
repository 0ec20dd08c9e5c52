"""`flask rollups …`: prove the sums that the overview shows, make them anew."""

import sys

import click
from flask.cli import AppGroup

from routes.cli_base import in_app, progress
from services import rollupproof
from utils.extensions import gateway

group = AppGroup("rollups", help="The sums that the overview shows.")


@group.command("verify")
@in_app
def verify() -> None:
    """Add up every usage row and compare with the roll-ups, day by day; exit 1 on a difference."""
    report = rollupproof.verify(gateway().engine)
    for difference in report.differences:
        click.echo(difference)
    click.echo(
        f"{len(report.differences)} differences in {report.days:,} days with {report.usage_rows:,} usage rows; "
        f"the last {report.later_rows:,} are not in the roll-ups yet and were added."
    )
    if report.differences:
        sys.exit(1)


@group.command("rebuild")
@in_app
def rebuild() -> None:
    """Make the roll-ups of every day anew that usage still has in full; calls and pages go on meanwhile."""
    with progress("Roll-ups") as tell:
        days = rollupproof.rebuild(gateway().engine, tell)
    click.echo(f"The roll-ups of {days:,} days were made anew.")
