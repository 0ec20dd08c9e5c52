"""The `flask` commands of an operator."""

import json
from contextlib import suppress
from typing import Final

import click
import flask_migrate
from flask import Flask, current_app
from flask.cli import AppGroup

import config as settings
from routes import (
    cli_alerts,
    cli_audit,
    cli_backup,
    cli_config,
    cli_doctor,
    cli_keys,
    cli_ledger,
    cli_models,
    cli_outside,
    cli_people,
    cli_prices,
    cli_privacy,
    cli_providers,
    cli_rollups,
    cli_secrets,
    cli_teams,
    cli_usage,
    openapi,
    screen,
)
from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, owner, owner_options, read_secret, show
from services import bootstrap, budgets, counting, limits, passwords
from services.configfile import ConfigFileError
from services.counters import RemoteAway
from services.errors import GatewayError
from services.migrating import await_database, migration_lock
from services.periods import PERIODS
from utils import money
from utils.extensions import db, gateway
from utils.settings import is_weak

NONE: Final = "none"  # as a limit: none any more
LIMIT_COLUMNS: Final[dict[str, Cell]] = {
    "OWNER": "owner",
    "UNIT": "unit",
    "PERIOD": "period",
    "LIMIT": "limit",
    "USED": "used",
}


def _amount(member: str) -> Cell:
    return lambda one: money.show_usd(one[member]) if one["unit"] == "usd" else f"{one[member]:,} tokens"


BUDGET_COLUMNS: Final[dict[str, Cell]] = {
    "OWNER": "owner",
    "PERIOD": "period",
    "LIMIT": _amount("limit"),
    "SPENT": _amount("spent"),
    "HELD": _amount("held"),
}

budgets_group = AppGroup("budgets", help="Ceilings of users, keys, teams and models.")
limits_group = AppGroup("limits", help="How many requests, tokens and concurrent calls may be had.")


def register(app: Flask) -> None:
    """Put the commands on the app, `flask db` among them."""
    for command in (cli_privacy.export, cli_privacy.erase):
        cli_people.group.add_command(command)
    directory = str(settings.ROOT / "migrations")
    flask_migrate.Migrate(app, db, directory=directory, render_as_batch=True)
    for command in (
        cli_config.group,
        cli_keys.group,
        cli_usage.usage,
        cli_secrets.group,
        cli_alerts.group,
        cli_audit.group,
        cli_backup.backup,
        cli_backup.restore,
        cli_doctor.doctor,
        cli_ledger.group,
        cli_models.group,
        budgets_group,
        limits_group,
        cli_people.group,
        cli_people.invite,
        cli_prices.group,
        cli_privacy.group,
        cli_providers.group,
        cli_rollups.group,
        cli_teams.group,
        prepare,
        create_admin,
        print_openapi,
    ):
        app.cli.add_command(command)
    for command in cli_outside.COMMANDS:
        cli_people.group.add_command(command)


@click.command()
@click.option("--url", default="", help="Address to show; default: from the settings.")
@in_app
def prepare(url: str) -> None:
    """Make ready to serve: migrate, then see to built-in rows, the first admin and the configuration file."""
    here = gateway()
    await_database(here.engine, here.config.database_wait_s)
    flask_migrate.upgrade()  # under the same lock: migrations/env.py
    with migration_lock(here.engine, here.config.instance_path):
        try:
            report = bootstrap.run(here.engine, here.config, here.accounts, here.keys, here.sealer, here.discovery)
        except (ConfigFileError, GatewayError) as exc:
            fail(str(exc))
    if here.remote is not None:
        with suppress(RemoteAway):  # said in the log; until it answers the database counts
            here.remote.check()
    click.echo(screen.started(here.config, report, url or here.config.public_url))


@click.command("openapi")
@in_app
def print_openapi() -> None:
    """Print the OpenAPI document, also where the gateway does not serve it."""
    click.echo(json.dumps(openapi.document(current_app), indent=2))


@click.command("create-admin")
@click.argument("username")
@in_app
def create_admin(username: str) -> None:
    """Make an admin; asks for the password, or reads it from a pipe."""
    password = read_secret("Password", twice=True)
    if gateway().config.is_strict and is_weak(password, settings.MIN_PASSWORD):
        fail(f"The password is well-known or shorter than {settings.MIN_PASSWORD} characters.")
    try:
        gateway().accounts.create(username, passwords.check_new(password), role="admin")
    except GatewayError as exc:
        fail(str(exc))
    gateway().audit.note(OPERATOR, "user_create", "user", username, {"role": "admin"})
    click.echo(f"Admin `{username}` made.")


@budgets_group.command("set")
@owner_options
@click.option("--unit", type=click.Choice(["usd", "tokens"]), required=True)
@click.option("--limit", required=True, help="USD or tokens; `none` takes the budget away.")
@click.option("--period", type=click.Choice(PERIODS), default="total", show_default=True)
@click.option("--timezone", default=None, help="Default: as it is; of a new budget UTC.")
@click.option("--warn", "warn_percent", type=click.IntRange(1, 100), default=budgets.WARN_PERCENT, show_default=True)
@in_app
def budgets_set(
    limit: str, unit: str, period: str, timezone: str | None, warn_percent: int, **given: str | None
) -> None:
    """Set the ceiling of a user, key, team or model, or change it."""
    engine = gateway().engine
    try:
        scope, name = owner(given)
        what = {"scope": scope, "owner": name, "unit": unit, "period": period}
        if limit == NONE:
            budgets.remove(engine, OPERATOR, **what)
        else:
            budgets.put(engine, OPERATOR, limit=limit, timezone=timezone, warn_percent=warn_percent, **what)
    except GatewayError as exc:
        fail(str(exc))
    click.echo("Budget removed." if limit == NONE else "Budget set.")


@budgets_group.command("show")
@AS_JSON
@in_app
def budgets_show(as_json: bool) -> None:
    """All budgets with what is spent and held of them now; as JSON in nano-USD or tokens."""
    found = budgets.listed(gateway().engine)
    show(found, BUDGET_COLUMNS, as_json=as_json, otherwise="There is no budget.", numbers=3)


@limits_group.command("set")
@owner_options
@click.option("--every-address", is_flag=True, help="Each client address has a count of its own.")
@click.option("--unit", type=click.Choice(limits.UNITS), required=True)
@click.option("--limit", required=True, help="How many; `none` takes the limit away.")
@click.option(
    "--period", type=click.Choice(counting.PERIODS), default=None, help="Default: minute; concurrent has none."
)
@in_app
def limits_set(every_address: bool, unit: str, limit: str, period: str | None, **given: str | None) -> None:
    """Set how many requests, tokens or concurrent calls a user, key, team, model or address may have."""
    try:
        scope, name = ("address", "") if every_address else owner(given, "--every-address")
        what = {"scope": scope, "owner": name, "unit": unit}
        what["period"] = period or (counting.NONE if unit == counting.CONCURRENT else "minute")
        limits.check_kind(unit, what["period"])
        if limit == NONE:
            limits.remove(gateway().engine, OPERATOR, **what)
        else:
            limits.put(gateway().engine, OPERATOR, limit=limit, **what)
    except GatewayError as exc:
        fail(str(exc))
    click.echo("Limit removed." if limit == NONE else "Limit set.")


@limits_group.command("show")
@AS_JSON
@in_app
def limits_show(as_json: bool) -> None:
    """All limits with what is used of them now."""
    found = limits.listed(gateway().engine, gateway().remote)
    show(found, LIMIT_COLUMNS, as_json=as_json, otherwise="There is no limit.", numbers=2)
