"""What the `flask` commands of an operator have in common."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Final, NoReturn, ParamSpec, TypeVar

import click
from flask.cli import with_appcontext

import config as settings
from services import audit
from services.errors import GatewayError, InvalidRequest
from utils.extensions import DATABASE_DOWN, gateway

P = ParamSpec("P")
T = TypeVar("T")

EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
OPERATOR: Final = audit.Actor("operator")
OWNERS: Final = {
    "user": "User name.",
    "key": "Number, UUID or hint of a key, as the panel shows them.",
    "team": "Team name.",
    "model": "Model name.",
}


def in_app(command: Callable[P, T]) -> Callable[P, T]:
    """Run the command with the app; what is wrong with the database or a file is said in a line, not in a trace."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except DATABASE_DOWN as exc:
            source, why = gateway().config.database[1], str(getattr(exc, "orig", None) or exc).partition("\n")[0]
            click.echo(f"The database ({source}) cannot be used: {why}", err=True)
        except OSError as exc:
            click.echo(str(exc), err=True)
        sys.exit(EXIT_UNAVAILABLE)

    return with_appcontext(run)


def owner_options(command: Callable[P, T]) -> Callable[P, T]:
    """--user, --key, --team and --model: whose it is."""
    for scope, what in OWNERS.items():
        command = click.option(f"--{scope}", default=None, help=what)(command)
    return command


def owner(given: Mapping[str, str | None], *others: str) -> tuple[str, str]:
    """Scope and name of the one owner that was named; `others`: what could have been given instead of one.

    Raises:
        InvalidRequest: none, or more than one.
    """
    named = [(scope, name) for scope, name in given.items() if name is not None]
    if len(named) != 1:
        *first, last = [*(f"--{scope}" for scope in OWNERS), *others]
        raise InvalidRequest(f"Name one of {', '.join(first)} and {last}.")
    return named[0]


def fail(message: str) -> NoReturn:
    """End the command: something that was given cannot be used."""
    click.echo(message, err=True)
    sys.exit(settings.EXIT_BAD_CONFIG)


def why(exc: GatewayError) -> str:
    """The message with what is wrong in each member."""
    return "; ".join([str(exc), *(f"{name} {reason}" for name, reason in exc.details.items())])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> str:
    """Columns beside each other, the last `numbers` of them to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    first = len(heads) - numbers
    lines = (
        "  ".join(
            cell.ljust(width) if place < first else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)
