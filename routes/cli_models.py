"""`flask models …`: the public models, which deployments serve them, and how their calls go on."""

from collections.abc import Mapping
from typing import Any, Final

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, show, show_record, why
from services.errors import GatewayError
from services.singly import Singly
from utils.extensions import gateway

MODEL: Final = "model"
NONE: Final = "none"
COLUMNS: Final[Mapping[str, Cell]] = {
    "MODEL": "name",
    "SERVED BY": lambda one: ", ".join(f"{at['provider']}/{at['model']}" for at in one["deployments"]),
    "STATE": lambda one: "enabled" if one["enabled"] else "disabled",
    "FALLBACKS": lambda one: ", ".join(one.get("fallbacks", [])),
    "MANAGED BY": "managed_by",
    "CONTEXT": lambda one: one.get("context_window"),
}
AT: Final = click.option(
    "--at", nargs=2, multiple=True, metavar="PROVIDER MODEL", help="A deployment; several share the calls."
)
THEN: Final = click.option(
    "--then", nargs=2, multiple=True, metavar="PROVIDER MODEL", help="A deployment for when those before it fail."
)
FALLBACK: Final = click.option("--fallback", "fallbacks", multiple=True, help="Another model, tried when all fail.")
ALIAS: Final = click.option("--alias", "aliases", multiple=True, help="Another name that callers may use.")
CONTEXT: Final = click.option("--context", "context_window", help="Context window in tokens, or `unknown`.")
MOST_OUTPUT: Final = click.option("--max-output", "max_output_tokens", type=int, help="Most output tokens of a call.")
DESCRIPTION: Final = click.option("--description", help="What people read of it.")

group = AppGroup("models", help="The public models.")


@group.command("list")
@AS_JSON
@in_app
def list_(as_json: bool) -> None:
    """All models with the deployments that serve them."""
    show(_singly().listed(MODEL), COLUMNS, as_json=as_json, otherwise="There is no model.", numbers=1)


@group.command("show")
@click.argument("name")
@AS_JSON
@in_app
def show_one(name: str, as_json: bool) -> None:
    """One model with all that is said of it."""
    try:
        found = _singly().shown(MODEL, name)
    except GatewayError as exc:
        fail(why(exc))
    show_record(found, as_json=as_json)


@group.command("create")
@click.argument("name")
@AT
@THEN
@FALLBACK
@ALIAS
@CONTEXT
@MOST_OUTPUT
@DESCRIPTION
@in_app
def create(name: str, **given: Any) -> None:
    """Offer a model under NAME; its price is what the catalogue says, or `flask prices set`."""
    try:
        _singly().create(OPERATOR, MODEL, {"name": name, **_said(given)})
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Model `{name}` made. `flask prices show {name}` says what it costs.")


@group.command("change")
@click.argument("name")
@click.option("--rename", metavar="NAME", help="What callers send from now on.")
@AT
@THEN
@FALLBACK
@ALIAS
@CONTEXT
@MOST_OUTPUT
@DESCRIPTION
@click.option("--enabled/--disabled", default=None, help="Whether calls to it are answered.")
@click.option("--none", type=click.Choice(["fallbacks", "aliases"]), multiple=True, help="It has none any more.")
@in_app
def change(name: str, rename: str | None, enabled: bool | None, none: tuple[str, ...], **given: Any) -> None:
    """Change what is named of a model; the deployments, fallbacks or aliases given take the place of all before."""
    said = {member: [] for member in none} | _said(given)
    said |= {member: value for member, value in (("name", rename), ("enabled", enabled)) if value is not None}
    try:
        _singly().change(OPERATOR, MODEL, name, said)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Model `{rename or name}` saved.")


@group.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_app
def delete(name: str, yes: bool) -> None:
    """Remove a model with its prices, budgets and limits; what was used stays in the books."""
    try:
        found = _singly().shown(MODEL, name)
        if not yes:
            served = f", which {len(found['deployments'])} deployments serve," if found["deployments"] else ""
            click.confirm(f"Delete model `{name}`{served} for good?", abort=True)
        gateway().models.delete(OPERATOR, name)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Model `{name}` removed.")


def _singly() -> Singly:
    here = gateway()
    return Singly(here.engine, here.catalog, here.sealer)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as members of an entry; what was not given is not in it."""
    said: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value
    }
    window = said.get("context_window")
    if window is not None and window.isascii() and window.isdigit():
        said["context_window"] = int(window)
    first = [(1, at) for at in said.pop("at", [])]
    deployments = [*first, *enumerate(said.pop("then", []), 2 if first else 1)]
    if deployments:
        said["deployments"] = [
            {"provider": provider, "model": model, "priority": priority} for priority, (provider, model) in deployments
        ]
    return said
