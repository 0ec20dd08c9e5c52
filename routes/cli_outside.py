"""`flask users link|unlink|identities`: which account stands for whom an outside issuer or a back end names."""

import click

from routes.cli_base import OPERATOR, fail, in_app
from services.errors import GatewayError
from services.identities import BACK_END
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
        gateway().identities.link(OPERATOR, username, place, subject)
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
        gateway().identities.unlink(OPERATOR, place, subject)
    except GatewayError as exc:
        fail(str(exc))
    click.echo(f"`{subject}` of `{place}` is nobody here.")


@click.command("identities")
@in_app
def identities() -> None:
    """Everybody who stands for somebody outside."""
    for one in gateway().identities.listed():
        click.echo(f"{one['username']}  {one['subject']}  {one['issuer']}")


def _issuer() -> str:
    """The one that is meant where nobody says; with public keys and a shared secret both, the keys'."""
    return gateway().config.outside_issuer or BACK_END


COMMANDS = (link, unlink, identities)
