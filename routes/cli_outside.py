"""`flask users link|unlink|identities|pull`: which account stands for whom an outside issuer or a back end names."""

import click

from routes.cli_base import AS_JSON, OPERATOR, fail, in_app, read_secret, show
from services.errors import GatewayError
from services.outsiders import BACK_END
from utils.extensions import gateway

ISSUER = click.option("--issuer", help="The issuer; without it the back end, or JWT_ISSUER where JWT_JWKS_URL is set.")


@click.command("link")
@click.argument("username")
@click.argument("subject")
@ISSUER
@in_app
def link(username: str, subject: str, issuer: str | None) -> None:
    """Have a user stand for the one that the issuer calls SUBJECT."""
    place = issuer or _issuer()
    try:
        gateway().outsiders.link(OPERATOR, username, place, subject)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(f"`{subject}` of `{place}` is `{username}` here.")


@click.command("unlink")
@click.argument("subject")
@ISSUER
@in_app
def unlink(subject: str, issuer: str | None) -> None:
    """Forget whom SUBJECT stands for; the tokens of that user end."""
    place = issuer or _issuer()
    try:
        gateway().outsiders.unlink(OPERATOR, place, subject)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(f"`{subject}` of `{place}` is nobody here.")


@click.command("identities")
@AS_JSON
@in_app
def identities(as_json: bool) -> None:
    """Everybody who stands for somebody outside."""
    columns = {"USER": "username", "SUBJECT": "subject", "ISSUER": "issuer"}
    show(gateway().outsiders.listed(), columns, as_json=as_json, otherwise="Nobody stands for anybody.")


@click.command("pull")
@click.argument("username")
@in_app
def pull(username: str) -> None:
    """Make an account for everybody whom BACKEND_USERS_URL lists; USERNAME and the password are of that service."""
    password = read_secret("Password")
    try:
        made, listed = gateway().sign_ins.pull(username, password)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(f"{made} of {listed} are new here.")


def _issuer() -> str:
    """The one that is meant where nobody says; with public keys and a shared secret both, the keys'."""
    return gateway().config.outside_issuer or BACK_END


COMMANDS = (link, unlink, identities, pull)
