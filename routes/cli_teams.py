"""`flask teams …`: teams, whose users share budgets, limits and a list of models."""

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, OPERATOR, fail, in_app, show
from services import teams
from services.errors import GatewayError
from utils.extensions import gateway

group = AppGroup("teams", help="Groups of users that share budgets and limits.")


@group.command("add")
@click.argument("name")
@click.argument("users", nargs=-1)
@in_app
def add(name: str, users: tuple[str, ...]) -> None:
    """Make the team NAME, if there is none, and have USERS join it; each leaves the team it was in."""
    try:
        is_new = teams.add(gateway().engine, OPERATOR, name, users)
    except GatewayError as exc:
        fail(str(exc))
    joined = f"; {len(users):,} {'user' if len(users) == 1 else 'users'} joined" if users else ""
    click.echo(f"Team `{name}` {'made' if is_new else 'was there already'}{joined}.")


@group.command("list")
@AS_JSON
@in_app
def list_(as_json: bool) -> None:
    """All teams, and how many users each has."""
    columns = {"TEAM": "name", "USERS": "users"}
    show(teams.listed(gateway().engine), columns, as_json=as_json, otherwise="There is no team.", numbers=1)
