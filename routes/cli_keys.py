"""`flask keys …`: API keys, without the panel. A secret is printed once, when it is made."""

from typing import Any

import click
from flask.cli import AppGroup

from routes.cli_base import AS_JSON, OPERATOR, Cell, fail, in_app, show, why
from services import keyviews, pages
from services.errors import GatewayError
from utils import jsonx
from utils.extensions import gateway

group = AppGroup("keys", help="API keys.")


@group.command("list")
@click.option("--user", default=None, help="Only those of this user.")
@AS_JSON
@in_app
def list_(user: str | None, as_json: bool) -> None:
    """All keys, newest first; of each what one sees of its secret."""
    found: list[dict[str, Any]] = []
    filters = {} if user is None else {"userId": user}
    try:
        while len(page := gateway().key_management.search(filters | {"offset": len(found)}).views) == pages.MOST:
            found += page
    except GatewayError as exc:
        fail(why(exc))
    found += page
    columns: dict[str, Cell] = {
        "KEY": "key",
        "NAME": "name",
        "USER": "userId",
        "STATE": lambda one: "revoked" if one["revoked"] else "works",
        "UUID": "keyId",
    }
    show(found, columns, as_json=as_json, otherwise="There is no key.")


@group.command("create")
@click.argument("name")
@click.option("--user", required=True, help="Whose usage it counts as.")
@click.option("--model", "models", multiple=True, help="A model it may use; several times. Without, all.")
@click.option("--ttl", help="How long it works, such as 90d.")
@click.option("--usd", help="What it may spend in all, in USD.")
@AS_JSON
@in_app
def create(name: str, user: str, models: tuple[str, ...], ttl: str | None, usd: str | None, as_json: bool) -> None:
    """Make a key and print its secret, which is shown this once."""
    wanted = {"allowedModels": list(models), "ttl": ttl, "costLimitInUsd": usd}
    body = {"name": name, "userId": user} | {member: value for member, value in wanted.items() if value}
    _print(lambda: gateway().key_management.create(OPERATOR, body, needs_key=False).view, as_json=as_json)


@group.command("rotate")
@click.argument("key")
@click.option(
    "--grace", default="0s", show_default=True, help="How long the secret before goes on working, such as 1d."
)
@AS_JSON
@in_app
def rotate(key: str, grace: str, as_json: bool) -> None:
    """Give KEY (number, UUID or hint) a new secret and print it."""
    _print(lambda: gateway().key_management.rotate(OPERATOR, _uuid(key), {"grace": grace}).view, as_json=as_json)


@group.command("revoke")
@click.argument("key")
@click.option("--reason", default="", help="Whoever still uses the key reads it.")
@in_app
def revoke(key: str, reason: str) -> None:
    """Let KEY (number, UUID or hint) open nothing any more; it is seen everywhere within two seconds."""
    body = {"revoked": True, "revokedReason": reason}
    try:
        view = gateway().key_management.update(OPERATOR, _uuid(key), body).view
    except GatewayError as exc:
        fail(why(exc))
    click.echo(f"Key `{view['name']}` ({view['key']}) revoked.")


def _print(make: Any, *, as_json: bool) -> None:
    try:
        view = make()
    except GatewayError as exc:
        fail(why(exc))
    click.echo(jsonx.dumps(view).decode() if as_json else view["key"])


def _uuid(given: str) -> str:
    return keyviews.uuid_of(gateway().engine, given)
