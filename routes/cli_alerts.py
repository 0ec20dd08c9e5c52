"""`flask alerts list|targets|test`: what was noticed, who hears of it, and whether that works."""

from collections.abc import Mapping
from typing import Any

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, show
from services import alerts, alerttargets
from utils.extensions import gateway

MOST = 1000

group = AppGroup("alerts", help="What operators are told of, and who is told.")


@group.command("list")
@click.option("--last", type=click.IntRange(1, MOST), default=20, show_default=True, help="How many, newest first.")
@AS_JSON
@in_app
def list_(last: int, as_json: bool) -> None:
    """The newest alerts, each with what became of telling it."""
    found: dict[int, dict[str, Any]] = {}
    for alert, target, delivery in alerttargets.recent(gateway().engine, last):
        told = {
            "id": alert.code,
            "time": f"{alert.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "type": alert.event,
            "text": alerts.sentence(alert.event, alert.facts),
            "data": alert.facts,
            "deliveries": [],
        }
        record = found.setdefault(alert.id, told)
        if delivery is not None:
            names = ("state", "attempts", "error")
            record["deliveries"].append({"target": target} | {name: getattr(delivery, name) for name in names})
    columns: dict[str, Cell] = {"TIME": "time", "EVENT": "type", "TEXT": "text", "DELIVERIES": _deliveries}
    show(list(found.values()), columns, as_json=as_json, otherwise="Nothing was noticed yet.")


def _deliveries(record: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{one['target']}: {one['state']}" + (f" ({one['error']})" if one["error"] else "")
        for one in record["deliveries"]
    )


@group.command("targets")
@AS_JSON
@in_app
def targets(as_json: bool) -> None:
    """Everybody who is told."""
    names = ("name", "kind", "hint", "events", "is_enabled")
    found = [{name: getattr(row, name) for name in names} for row in alerttargets.listed(gateway().engine)]
    columns: dict[str, Cell] = {
        "NAME": "name",
        "KIND": "kind",
        "WHERE": "hint",
        "EVENTS": lambda one: "all" if one["events"] is None else ", ".join(one["events"]),
        "ENABLED": "is_enabled",
    }
    show(found, columns, as_json=as_json, otherwise="There is no target: add one in the panel, under Alert targets.")


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
