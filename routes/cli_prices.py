"""`flask prices …`: what models cost, what the catalogue has new, and files of prices."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from flask.cli import AppGroup

from models import Provider
from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, progress, show
from services import pricebook, pricefiles, prices, pricewords
from services.errors import GatewayError
from services.pricebook import Change, PriceFileError
from services.types import Price
from utils import jsonx
from utils.extensions import gateway

SOURCE: Final = "operator"
MAX_SOURCE: Final = 60  # characters
PER: Final = {"million": pricewords.MILLION, "1k": pricewords.THOUSAND}
CATALOGUES: Final = {"litellm": pricefiles.read_litellm, "genai": pricefiles.read_genai}

group = AppGroup("prices", help="What models cost.")


def _rate_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each kind of tokens."""
    for kind in reversed(pricewords.KINDS):
        command = click.option(f"--{kind.replace('_', '-')}", kind, metavar="USD")(command)
    return command


@group.command("list")
@AS_JSON
@in_app
def prices_list(as_json: bool) -> None:
    """What every model costs now at each of its providers, in USD per million tokens."""
    columns: dict[str, Cell] = {
        "MODEL": "model",
        "AT": lambda one: f"{one['provider']}/{one['upstream_model']}",
        "SOURCE": "source",
        "INPUT": _rate("input"),
        "OUTPUT": _rate("output"),
    }
    found = pricebook.listed(gateway().engine)
    show(found, columns, as_json=as_json, otherwise="There is no model.", numbers=2)


def _rate(kind: str) -> Cell:
    return lambda one: "free" if one["free"] else None if one[kind] is None else f"{one[kind].normalize():f}"


@group.command("show")
@click.argument("model", default="")
@AS_JSON
@in_app
def prices_show(model: str, as_json: bool) -> None:
    """What every model costs now; of one MODEL also each rate and the history."""
    try:
        if as_json:
            found = pricebook.history(gateway().engine, model) if model else pricebook.listed(gateway().engine)
            click.echo(jsonx.dumps(found).decode())
            return
        for line in pricebook.lines(gateway().engine, model):
            click.echo(line)
    except GatewayError as exc:
        fail(str(exc))


@group.command("set")
@click.argument("model")
@_rate_options
@click.option("--per", type=click.Choice(list(PER)), default="million", show_default=True, help="Tokens of the rates.")
@click.option("--request", "per_request", metavar="USD", help="For each request.")
@click.option("--image", "per_image", metavar="USD", help="For each made image.")
@click.option("--tier", "tiers", multiple=True, metavar="TIER", help="As `200000: input=2.5 output=15`, per million.")
@click.option("--free", is_flag=True, help="Count tokens and charge nothing.")
@click.option("--provider", default="", help="Only the deployment at this provider.")
@click.option("--valid-from", default="", metavar="MOMENT", help="As 2026-01-31T00:00Z; default: now.")
@in_app
def prices_set(model: str, per: str, tiers: tuple[str, ...], free: bool, **given: Any) -> None:
    """Set what MODEL costs, in USD per million tokens."""
    try:
        change = pricebook.put(
            gateway().engine,
            OPERATOR,
            model,
            pricewords.read(
                _fields(given, per), source=SOURCE, tiers=pricewords.read_tiers(";".join(tiers)), is_free=free
            ),
            provider=given["provider"],
            valid_from=pricefiles.moment(given["valid_from"]),
        )
    except GatewayError as exc:
        fail(str(exc))
    click.echo("It costs that already." if change is None else str(change))


@group.command("diff")
@in_app
def prices_diff() -> None:
    """Where the installed catalogue says something else than is stored. Prices that people set are left out."""
    _say(pricebook.differences(gateway().engine, _look_up, _is_looked_up), "The catalogue says what is stored.")


@group.command("refresh")
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_app
def prices_refresh(yes: bool) -> None:
    """Store what `diff` shows, as new prices from now on."""
    engine = gateway().engine
    found = pricebook.differences(engine, _look_up, _is_looked_up)
    _say(found, "The catalogue says what is stored.")
    if any(change.new is not None for change in found):
        if not yes:
            click.confirm("Store these prices?", abort=True)
        stored = pricebook.adopt(engine, OPERATOR, _look_up, _is_looked_up, action="price_refresh")
        click.echo(f"{_count(stored)} stored.")


@group.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "kind", type=click.Choice([*CATALOGUES, "csv"]), required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@in_app
def prices_import(file: Path, kind: str, dry_run: bool) -> None:
    """Store the prices of a FILE, all or none: others' catalogues, or CSV that names our models."""
    engine, source = gateway().engine, f"{kind} {file.name}"[:MAX_SOURCE]
    try:
        text = file.read_text(encoding="utf-8-sig")
        if kind == "csv":
            lines = pricefiles.read_csv(text, source)
            with progress("Prices") as tell:
                changes = pricebook.store(engine, OPERATOR, lines, dry_run=dry_run, tell=tell)
        else:
            changes = _from_catalogue(CATALOGUES[kind](text, source), dry_run=dry_run)
    except UnicodeDecodeError as exc:
        fail(f"{file} is not text in UTF-8: {exc}")
    except PriceFileError as exc:
        fail(f"{file}: {exc}")
    _say(changes, "Nothing is different.")
    click.echo(f"{_count(changes)} {'would be ' if dry_run else ''}stored.")


def _from_catalogue(find: pricebook.Find, *, dry_run: bool) -> list[Change]:
    """What an imported catalogue changes: only what came from a catalogue, and what has no price."""
    engine = gateway().engine
    if dry_run:
        found = pricebook.differences(engine, find, pricebook.is_listed)
        return [change for change in found if change.new is not None]
    with progress("Prices") as tell:
        return pricebook.adopt(engine, OPERATOR, find, pricebook.is_listed, action="price_import", tell=tell)


def _fields(given: Mapping[str, Any], per: str) -> dict[str, Any]:
    """The options as fields of a price."""
    rates = {f"{kind}{PER[per]}": given[kind] for kind in pricewords.KINDS}
    return rates | {name: given[name] for name in ("per_request", "per_image")}


def _look_up(provider: Provider, model: str) -> Price | None:
    entry = prices.find_entry(provider.kind, provider.base_url, model)
    return None if entry is None else entry.price


def _is_looked_up(price: Price) -> bool:
    return prices.is_catalogue(price.source)


def _count(changes: list[Change]) -> str:
    return "1 price" if len(changes) == 1 else f"{len(changes)} prices"


def _say(changes: list[Change], otherwise: str) -> None:
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo(otherwise)
