"""`flask audit …`: prove the audit log, and take it elsewhere."""

import sys
from datetime import UTC, datetime
from typing import Final

import click
from flask.cli import AppGroup

from routes.cli_base import fail, in_app
from services import chain
from utils import jsonx
from utils.extensions import gateway

group = AppGroup("audit", help="The audit log.")
DAY: Final = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
DIGEST_CHARS: Final = 64


@group.command("verify")
@click.option("--known", default="", metavar="NUMBER:DIGEST", help="An end of the chain that was kept elsewhere.")
@in_app
def verify(known: str) -> None:
    """Follow the chain of entries; exit 1 at the first that was changed, taken out, put in or cut off."""
    report = chain.verify(gateway().engine, _end(known) if known else None)
    before = f" {report.outside:,} older ones are from before there was a chain." if report.outside else ""
    if report.broken is not None:
        click.echo(f"{report.broken.words} Entries before it that hold: {report.entries:,}.{before}")
        sys.exit(1)
    number, digest = report.end
    click.echo(f"{report.entries:,} entries, and the chain holds.{before}")
    click.echo(f"It ends with {number}:{digest}" if digest else "It has not begun yet.")


@group.command("export")
@click.option("--from", "since", type=DAY, help="First moment, in UTC; default: the beginning.")
@click.option("--to", "until", type=DAY, help="The moment that is not in it any more; default: now.")
@in_app
def export(since: datetime | None, until: datetime | None) -> None:
    """Every entry as a line of JSON, oldest first, with its place in the chain."""
    for entry in chain.read(gateway().engine, _utc(since), _utc(until)):
        moment = entry["created_at"].astimezone(UTC).isoformat(timespec="milliseconds")
        click.echo(jsonx.dumps({**entry, "created_at": moment}))


def _end(given: str) -> tuple[int, str]:
    number, _colon, digest = given.partition(":")
    if not (number.isascii() and number.isdigit()) or len(digest) != DIGEST_CHARS:
        fail("--known takes what `flask audit verify` printed, such as 4211:9c1f…")
    return int(number), digest.lower()


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)
