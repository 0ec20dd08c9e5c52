"""`flask alerts list|targets|test`: what was noticed, who hears of it, and whether that works."""

import click
from flask.cli import AppGroup

from routes.cli_base import OPERATOR, fail, in_app
from services import alerts, alerttargets
from utils.extensions import gateway

MOST = 1000

group = AppGroup("alerts", help="What operators are told of, and who is told.")


@group.command("list")
@click.option("--last", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many, newest first.")
@in_app
def list_alerts(last: int) -> None:
    """The newest alerts, each with what became of telling it."""
    shown = None
    for alert, target, delivery in alerttargets.recent(gateway().engine, last):
        if alert.id != shown:
            shown = alert.id
            said = alerts.sentence(alert.event, alert.facts)
            click.echo(f"{alert.created_at:%Y-%m-%d %H:%M:%S}  {alert.event:<18} {said}")
        if delivery is not None:
            error = f": {delivery.error}" if delivery.error else ""
            click.echo(f"{'':<19}  -> {target}: {delivery.state}, {delivery.attempts} attempts{error}")
    if shown is None:
        click.echo("Nothing was noticed yet.")


@group.command("targets")
@in_app
def targets() -> None:
    """Everybody who is told."""
    found = alerttargets.listed(gateway().engine)
    for row in found:
        events = "all events" if row.events is None else ", ".join(row.events)
        click.echo(f"{row.name}  {row.kind}  {row.hint}  {events}{'' if row.is_enabled else '  (disabled)'}")
    if not found:
        click.echo("There is no target: add one in the panel, under Alert targets.")


@group.command("test")
@click.argument("name")
@in_app
def test(name: str) -> None:
    """Send a test to the target NAME now; it fails where the target does not take it."""
    here = gateway()
    row = alerttargets.named(here.engine, name)
    if row is None:
        fail(f"There is no target `{name}`; `flask alerts targets` lists them.")
    outcome = here.alerts.post.test(row.id, OPERATOR.name)
    if outcome.error:
        fail(outcome.error)
    click.echo(f"{name} took it" + (f": the answer was {outcome.status}." if outcome.status else "."))
