"""`flask providers`: which upstream accounts there are, and whether they answer."""

import sys

import click
from flask.cli import AppGroup

from routes import providerwords
from routes.cli_base import fail, in_app
from utils.extensions import gateway

group = AppGroup("providers", help="Upstream accounts.")


@group.command("list")
@in_app
def providers_list() -> None:
    """All providers, with the models they serve."""
    for line in gateway().checks.providers():
        state = "enabled" if line.is_enabled else "disabled"
        click.echo(
            f"{line.name}  {line.kind}  {line.base_url}  {state}  models={line.models}  managed by {line.managed_by}"
        )


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
