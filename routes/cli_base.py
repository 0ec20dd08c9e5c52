"""What the `flask` commands of an operator have in common."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import click
from flask.cli import with_appcontext

import config as settings
from services import audit
from services.errors import GatewayError, InvalidRequest
from utils import jsonx
from utils.extensions import DATABASE_DOWN, gateway
from utils.progress import Tell, silent

P = ParamSpec("P")
T = TypeVar("T")
Cell = str | Callable[[Mapping[str, Any]], Any]

EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
OPERATOR: Final = audit.Actor("operator")
AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
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


def show(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Cell],
    *,
    as_json: bool,
    otherwise: str,
    numbers: int = 0,
) -> None:
    """Print what a command lists: the records whole as JSON, or as a table; `otherwise` is said if there are none.

    `columns`: by head the member that it shows, or a function that gives the text of a record.
    """
    if as_json:
        click.echo(jsonx.dumps(records).decode())
        return
    rows = [tuple(_cell(record, cell) for cell in columns.values()) for record in records]
    click.echo(table(tuple(columns), rows, numbers=numbers) if rows else otherwise)


def show_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one record: as JSON, or a line for each member."""
    if as_json:
        click.echo(jsonx.dumps(record).decode())
        return
    width = max(map(len, record))
    for name, value in record.items():
        text = ", ".join(map(_part, value)) if isinstance(value, list) else _cell(record, name)
        click.echo(f"{name:<{width}}  {text or '-'}")


def _part(value: Any) -> str:
    return jsonx.dumps(value).decode() if isinstance(value, dict) else str(value)


def _cell(record: Mapping[str, Any], cell: Cell) -> str:
    value = record[cell] if isinstance(cell, str) else cell(record)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return "-" if value is None or value == "" else str(value)


@contextmanager
def progress(label: str) -> Iterator[Tell]:
    """A bar while long work is done, on a terminal only and beside the output; gives whom the work tells of itself."""
    if not sys.stderr.isatty():
        yield silent
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def tell(done: int, whole: int) -> None:
            bar.length = max(whole, done, 1)
            bar.update(done - bar.pos)

        yield tell
        bar.update((bar.length or 0) - bar.pos)  # the whole may have been a guess


def read_secret(what: str, *, twice: bool = False) -> str:
    """A secret typed unseen, or the first line of what is piped in; never an argument, which others can read."""
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, confirmation_prompt=twice))
    given = sys.stdin.readline().rstrip("\r\n")
    return given or fail(f"{what}: nothing was given. Type it, or pipe it in.")


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
