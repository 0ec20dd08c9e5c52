"""`flask users …` and `flask invite`: people, without the panel."""

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, read_secret, show, show_record, why
from services import invitations, people
from services.errors import GatewayError
from utils.extensions import gateway

group = AppGroup("users", help="People and their roles.")
ROLE = click.Choice(people.ROLES)


@group.command("list")
@AS_JSON
@in_app
def list_(as_json: bool) -> None:
    """All users with role, team, and the hint of a key."""
    columns: dict[str, Cell] = {
        "USER": "username",
        "ROLE": "role",
        "TEAM": "team",
        "STATE": lambda one: "active" if one["is_active"] else "disabled",
        "KEY": "api_key",
    }
    show(people.all_shown(gateway().engine), columns, as_json=as_json, otherwise="There is no user.")


@group.command("show")
@click.argument("username")
@AS_JSON
@in_app
def show_one(username: str, as_json: bool) -> None:
    """One user with all that can be changed of it."""
    try:
        found = people.shown(gateway().engine, username)
    except GatewayError as exc:
        fail(why(exc))
    show_record(found, as_json=as_json)


@group.command("create")
@click.argument("username")
@click.option("--role", type=ROLE, default=people.ROLES[0], show_default=True)
@click.option("--team", default="", help="Its team, by name.")
@in_app
def create(username: str, role: str, team: str) -> None:
    """Make a user; asks for the password, or reads it from a pipe."""
    body = {"username": username, "password": read_secret("Password", twice=True), "role": role, "team": team}
    try:
        gateway().people.create(OPERATOR, body)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"User `{username}` made, with the role {role}.")


@group.command("change")
@click.argument("username")
@click.option("--role", type=ROLE)
@click.option("--team", help="Its team, by name; empty: none.")
@click.option("--active/--disabled", default=None, help="Whether it may sign in and use keys.")
@click.option("--reason", help="Why it is disabled; whoever still uses a key of it reads that.")
@in_app
def change(username: str, role: str | None, team: str | None, active: bool | None, reason: str | None) -> None:
    """Give a user another role or team, disable it, or let it in again."""
    wanted = {"role": role, "team": team, "is_active": active, "disabled_reason": reason}
    try:
        found = gateway().people.change(
            OPERATOR, username, {n: value for n, value in wanted.items() if value is not None}
        )
    except GatewayError as exc:
        fail(why(exc))
    state = "active" if found["is_active"] else "disabled"
    click.echo(f"{username}: role {found['role']}, team {found['team'] or 'none'}, {state}.")


@group.command("delete")
@click.argument("username")
@in_app
def delete(username: str) -> None:
    """Remove a user with keys, budgets and limits; what was used stays in the books."""
    try:
        gateway().people.delete(OPERATOR, username)
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"User `{username}` removed.")


@group.command("reset-second-factor")
@click.argument("username")
@in_app
def reset_second_factor(username: str) -> None:
    """Take away the second factor of a user whose device and recovery codes are lost; ends their sessions."""
    try:
        had_one = gateway().second_factors.reset(OPERATOR, people.number_of(gateway().engine, username))
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"{username}: the second factor is gone." if had_one else f"{username} has no second factor.")


@click.command("invite")
@click.option("--role", type=ROLE, default=people.ROLES[0], show_default=True)
@click.option("--team", default="", help="The team that the new user joins, by name.")
@click.option("--days", type=click.IntRange(1, invitations.MOST_DAYS), default=invitations.DAYS, show_default=True)
@in_app
def invite(role: str, team: str, days: int) -> None:
    """Make a code with which one person may register; it is shown once."""
    if gateway().config.registration_mode == "closed":
        fail("Registration is closed, so nobody could use it: set REGISTRATION=invite.")
    try:
        made = invitations.make(gateway().engine, OPERATOR, role=role, team=team, days=days)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(made.code)
    click.echo(f"Good once, until {made.view['expires_at']:%Y-%m-%d %H:%M} UTC, for the role {role}.", err=True)
