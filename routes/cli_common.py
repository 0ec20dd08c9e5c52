"""What all commands share: the app around them, who acts, and how they fail."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Final, NoReturn, ParamSpec, TypeVar

import click
from flask.cli import with_appcontext

import config as settings
from services import audit
from utils.extensions import DATABASE_DOWN, gateway

P = ParamSpec("P")
T = TypeVar("T")

EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
OPERATOR = audit.Actor("operator")


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


def fail(message: str) -> NoReturn:
    """Say what was wrong with what was asked for, and end."""
    click.echo(message, err=True)
    sys.exit(settings.EXIT_BAD_CONFIG)
