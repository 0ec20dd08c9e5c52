"""`flask providers …`: the upstream accounts, and whether they answer. Keys are typed or piped in, never shown."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import click
from flask.cli import AppGroup

from routes import providerwords
from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, read_secret, show, show_record, why
from services.errors import GatewayError
from services.providers.kinds import KINDS
from services.providers.vendors import VENDORS
from services.singly import Singly, at_vendor
from utils import jsonx
from utils.extensions import gateway

PROVIDER: Final = "provider"
KEY: Final = "API key of the provider"
COLUMNS: Final[Mapping[str, Cell]] = {
    "PROVIDER": "name",
    "KIND": "kind",
    "ADDRESS": lambda one: one.get("base_url"),
    "STATE": lambda one: "enabled" if one["enabled"] else "disabled",
    "KEY": "has_key",
    "MANAGED BY": "managed_by",
    "MODELS": "models",
}
SETTING: Final = click.option(
    "--setting", "settings", multiple=True, metavar="NAME=VALUE", help="One of its kind; as JSON or as a text."
)
DISCOVER: Final = click.option("--discover/--no-discover", default=None, help="Whether all that it lists is offered.")

group = AppGroup("providers", help="Upstream accounts.")


@group.command("list")
@AS_JSON
@in_app
def providers_list(as_json: bool) -> None:
    """All providers, with how many models they serve."""
    models = {line.name: line.models for line in gateway().checks.providers()}
    found = [{**one, "models": models.get(one["name"], 0)} for one in _singly().listed(PROVIDER)]
    show(found, COLUMNS, as_json=as_json, otherwise="There is no provider.", numbers=1)


@group.command("show")
@click.argument("name")
@AS_JSON
@in_app
def show_one(name: str, as_json: bool) -> None:
    """One provider with its settings; never its key."""
    try:
        found = _singly().shown(PROVIDER, name)
    except GatewayError as exc:
        fail(why(exc))
    show_record(found, as_json=as_json)


@group.command("create")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Which API it speaks.")
@click.option("--vendor", type=click.Choice(list(VENDORS)), help="Instead of --kind: a vendor of OpenAI's dialect.")
@click.option("--url", "base_url", default="", help="Base URL; without it the usual one.")
@click.option("--key/--no-key", default=True, help="Ask for its API key, or read a line of a pipe.  [default: key]")
@SETTING
@DISCOVER
@in_app
def create(name: str, kind: str | None, vendor: str | None, base_url: str, key: bool, **given: Any) -> None:
    """Add an upstream account; asks for its API key, then for its models if all of them are to be offered."""
    if (kind is None) == (vendor is None):
        fail(f"Name one of --kind ({', '.join(KINDS)}) and --vendor.")
    said: dict[str, Any] = {"kind": kind, "base_url": base_url} if vendor is None else at_vendor(vendor, base_url)
    said["settings"] = _settings(said.get("settings", {}), given["settings"])
    said |= {"name": name, "discover": given["discover"]}
    if key and not KINDS[said["kind"]].is_local:
        said["api_key"] = read_secret(KEY)
    try:
        number = _singly().create(OPERATOR, PROVIDER, said)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Provider `{name}` made.")
    _ask(number, name)


@group.command("change")
@click.argument("name")
@click.option("--rename", metavar="NAME", help="Its name from now on.")
@click.option("--url", "base_url", help="Base URL.")
@click.option("--key/--no-key", default=None, help="Ask for another API key, or forget the stored one.")
@SETTING
@DISCOVER
@click.option("--enabled/--disabled", default=None, help="Whether calls go there.")
@in_app
def change(name: str, rename: str | None, key: bool | None, settings: tuple[str, ...], **given: Any) -> None:
    """Change what is named of a provider; a setting with an empty value is taken away."""
    said = {member: value for member, value in {**given, "name": rename}.items() if value is not None}
    if key is not None:
        said["api_key"] = read_secret(KEY) if key else ""
    try:
        if settings:
            said["settings"] = _settings(_singly().shown(PROVIDER, name).get("settings", {}), settings)
        number = _singly().change(OPERATOR, PROVIDER, name, said)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Provider `{rename or name}` saved.")
    _ask(number, rename or name)


@group.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@in_app
def delete(name: str, yes: bool) -> None:
    """Remove a provider with its deployments; models that were found at it only go with it."""
    models = next((line.models for line in gateway().checks.providers() if line.name == name), 0)
    try:
        _singly().shown(PROVIDER, name)
        if not yes:
            click.confirm(f"Delete provider `{name}`, where {models:,} models are deployed, for good?", abort=True)
        _singly().delete_provider(OPERATOR, name)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Provider `{name}` removed.")


@group.command("check")
@click.argument("name", required=False)
@in_app
def providers_check(name: str | None) -> None:
    """Ask all that are enabled, or the one named, for their models, and say what is wrong; ends with 1 if one fails."""
    checks = gateway().checks
    chosen = [line for line in checks.providers() if (line.is_enabled if name is None else line.name == name)]
    if not chosen:
        fail(f"There is no provider `{name}`." if name else "No provider is enabled.")
    is_good = True
    for line in chosen:
        finding = checks.look(line.id)
        is_good = is_good and finding.is_good
        click.echo(f"{line.name}  {'ok' if finding.is_good else 'FAILED'}  {providerwords.english(finding)}")
    if not is_good:
        sys.exit(1)


def _singly() -> Singly:
    here = gateway()
    return Singly(here.engine, here.catalog, here.sealer)


def _settings(settings: Mapping[str, Any], given: tuple[str, ...]) -> dict[str, Any]:
    """The settings with what was given as NAME=VALUE."""
    found = dict(settings)
    for one in given:
        name, is_there, text = one.partition("=")
        if not is_there:
            fail(f"--setting takes NAME=VALUE, and `{name}` has no value.")
        try:
            found[name] = jsonx.loads(text)
        except jsonx.BadJson:
            found[name] = text
    return {name: value for name, value in found.items() if value != ""}


def _ask(number: int, name: str) -> None:
    """Offer what it lists, where that is wanted, as the panel does after saving."""
    here = gateway()
    told = _singly().shown(PROVIDER, name)
    if not (told["discover"] and told["enabled"]):
        return
    problem = here.discovery.ask(number)
    here.catalog.refresh()
    if problem is not None:
        click.echo(f"Its models could not be listed: {problem}", err=True)
