"""`flask usage`: what was called and what it cost, as the overview adds it up."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import click

from routes.cli_base import AS_JSON, in_app, table
from services import activity, reports
from services.activity import Activity, Period, Sums
from services.rollups import DAY, DAY_S
from utils import clock, jsonx, money
from utils.extensions import gateway

MOST_DAYS: Final = 366
FIGURES: Final = ("calls", "failed", "input_tokens", "output_tokens")
BY: Final = ("model", "provider", "user", "key", "day")


@click.command("usage")
@click.option("--by", type=click.Choice(BY), default="model", show_default=True)
@click.option(
    "--days", type=click.IntRange(1, MOST_DAYS), default=30, show_default=True, help="Of UTC, today included."
)
@AS_JSON
@in_app
def usage(by: str, days: int, as_json: bool) -> None:
    """Calls, tokens and cost of the last days, the dearest first; days in their order."""
    now_s = clock.now_s()
    end_s = (int(now_s) // DAY_S + 1) * DAY_S
    found = activity.activity(gateway().engine, Period.of(end_s - days * DAY_S, end_s, DAY, now_s))
    sums = _sums(found, by)
    if found.behind:
        click.echo(f"About {found.behind:,} of the latest calls are not added up yet.", err=True)
    if as_json:
        rows = [
            {by: name, **_figures(one), "cost_usd": f"{money.usd(one.cost_nanousd):f}"} for name, one in sums.items()
        ]
        click.echo(jsonx.dumps(rows).decode())
        return
    lines = [
        (name, *map(_grouped, _figures(one).values()), money.show_usd(one.cost_nanousd)) for name, one in sums.items()
    ]
    whole = found.now
    lines.append(("in all", *map(_grouped, _figures(whole).values()), money.show_usd(whole.cost_nanousd)))
    click.echo(table((by.upper(), "CALLS", "FAILED", "INPUT", "OUTPUT", "COST"), lines, numbers=5))


def _sums(found: Activity, by: str) -> Mapping[str, Sums]:
    """What each comes to, by name."""
    if by == "day":
        return {
            f"{datetime.fromtimestamp(start_s, UTC):%Y-%m-%d}": sum(models.values(), Sums())
            for start_s, models in found.slots
        }
    if by in ("model", "provider"):
        return dict(found.models) if by == "model" else found.providers
    rows = found.users if by == "user" else found.keys
    names = _names(by, [number for number, _one in rows])
    return {names.get(number, f"#{number}, deleted"): one for number, one in rows}


def _names(by: str, numbers: Sequence[int]) -> dict[int, str]:
    """User names, or names and hints of keys, a thousand in a statement."""
    engine = gateway().engine
    found: dict[int, str] = {}
    for place in range(0, len(numbers), 1000):
        part = numbers[place : place + 1000]
        if by == "user":
            found |= reports.names(engine, part, []).users
        else:
            found |= {number: " ".join(key) for number, key in reports.names(engine, [], part).keys.items()}
    return found


def _figures(sums: Sums) -> dict[str, int]:
    return {name: getattr(sums, name) for name in FIGURES}


def _grouped(number: int) -> str:
    return f"{number:,}"
