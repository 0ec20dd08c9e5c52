"""`flask config …`: settings, and the configuration as a file that is planned, applied and written."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from cryptography.fernet import Fernet
from flask import current_app
from flask.cli import AppGroup, with_appcontext

import config as settings
from routes import cli_docs, screen
from routes.cli_base import AS_JSON, OPERATOR, fail, in_app
from services import configapply, configexport, docs
from services.configapply import Wish
from services.configfile import ConfigFileError
from utils import ids
from utils.extensions import gateway

EXIT_CHANGES: Final = 2  # as other planners say it
ADOPT: Final = click.option("--adopt", is_flag=True, help="Take rows that people made, where the file names them.")

group = AppGroup("config", help="Settings and the configuration file.")


@group.command("show")
@AS_JSON
@in_app
def show(as_json: bool) -> None:
    """Every setting as it stands, secrets masked."""
    config = gateway().config
    click.echo(json.dumps(docs.settings(config)) if as_json else docs.shown(config))


@group.command("new-key")
def new_key() -> None:
    """Fresh values for SECRET_KEY, KEY_PEPPER, ENCRYPTION_KEYS and API_AUTH_TOKENS."""
    made = {
        "SECRET_KEY": ids.random_base62(64),
        "KEY_PEPPER": ids.random_base62(64),
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "API_AUTH_TOKENS": f"tok_{ids.random_base62(40)}",
    }
    click.echo("\n".join(f"{name}={value}" for name, value in made.items()))


@group.command("export")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--people", is_flag=True, help="Also what names users and keys.")
@in_app
def export(file: Path | None, people: bool) -> None:
    """Write what is configured as a YAML file, or print it; without a secret."""
    here = gateway()
    found = configexport.export(here.engine, here.sealer, people=people)
    if file is None:
        click.echo(found.text, nl=False)
    else:
        file.write_text(found.text, encoding="utf-8")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


@group.command("plan")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@ADOPT
@click.option("--prune", is_flag=True, help="Remove what an earlier file made and this one does not name.")
@AS_JSON
@in_app
def plan(file: Path, adopt: bool, prune: bool, as_json: bool) -> None:
    """Say what `apply` would do, and do nothing; exit status 2 = something."""
    changes = _run(configapply.plan, file, Wish(adopt, prune))
    click.echo(json.dumps(screen.plan_record(changes), indent=2) if as_json else screen.plan(changes))
    if changes.made:
        sys.exit(EXIT_CHANGES)


@group.command("apply")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@ADOPT
@click.option("--prune", is_flag=True, help="Remove what an earlier file made and this one does not name; asks first.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@in_app
def apply(file: Path, adopt: bool, prune: bool, yes: bool) -> None:
    """Store what a YAML file says, all or nothing; applying it twice changes nothing."""
    wish = Wish(adopt, prune)
    if prune and not yes:
        planned = _run(configapply.plan, file, wish)
        if planned.removed:
            click.confirm(f"Remove {', '.join(planned.removed)}?", abort=True)
        wish = Wish(adopt, prune, frozenset(planned.removed))
    click.echo(screen.changes(_run(configapply.apply, file, wish)))


def _run(what: Callable[..., configapply.Changes], file: Path, wish: Wish) -> configapply.Changes:
    here = gateway()
    try:
        return what(here.engine, here.sealer, file, here.config.environ, OPERATOR, wish)
    except ConfigFileError as exc:
        fail(str(exc))


@group.command("docs")
@click.option("--check", is_flag=True, help="Only say whether they are up to date.")
@with_appcontext
def write_docs(check: bool) -> None:
    """Write docs/configuration.md, docs/errors.md, docs/cli.md and .env.example from the code."""
    commands = cli_docs.page(current_app.cli)
    stale = docs.write(settings.ROOT, check_only=check) + cli_docs.write(settings.ROOT, commands, check_only=check)
    if check and stale:
        fail(f"out of date, run `make docs`: {', '.join(stale)}")
    click.echo("docs are up to date" if not stale else f"written: {', '.join(stale)}")
