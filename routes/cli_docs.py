"""docs/cli.md: every command with its arguments and options, as the code has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

PAGE: Final = "docs/cli.md"
OTHERS: Final = ("db",)  # Flask-Migrate's own; operations.md shows the one that is needed
HEAD: Final = """# Commands

<!-- Written by `flask config docs`; change the code instead. -->

All of the panel's everyday work without a browser, and what an operator does beside it. Where the gateway is installed,
with its settings and as its user:

    .venv/bin/flask users list
    .venv/bin/flask models list --json
    .venv/bin/flask usage --by model --days 7

- Lists are tables; `--json` prints the same for programs, with every member, and nothing else on the standard output.
- Changes go through what the panel uses, and are in the audit log with the actor `operator`.
- Secrets are never arguments, which others on the machine can read: they are asked for on a terminal, and read from a
  pipe otherwise. A secret of ours is printed once, when it is made.
- Long work shows a bar on a terminal, and none elsewhere.
- What is wrong is said in a line on the standard error. The exit status is 0 if all went well; 1 if a check found
  something bad, or a question was answered with no; 2 for a command that cannot be read, and of `config plan` for
  changes; 69 if database or file cannot be used; 78 if what was given, or a setting, cannot be used.

A provider, a model that it serves, and what that costs:

    printf '%s\\n' "$GROQ_KEY" | .venv/bin/flask providers create acme --vendor groq
    .venv/bin/flask models create swift --at acme llama-3.1-8b-instant --then echo echo
    .venv/bin/flask prices set swift --input 0.05 --output 0.08 --provider acme
    .venv/bin/flask prices list
    .venv/bin/flask models change swift --alias quick --max-output 4096
    .venv/bin/flask models change swift --disabled
    .venv/bin/flask models delete swift --yes
    .venv/bin/flask providers delete acme --yes
"""


def page(group: click.Group) -> str:
    """The page for the commands of the app."""
    found = [group.commands[name] for name in sorted(group.commands) if name not in OTHERS]
    return "\n".join([HEAD, *(line for command in found for line in _section(command))])


def write(root: Path, text: str, *, check_only: bool) -> list[str]:
    """Write the page where it differs; which pages differed."""
    path = root / PAGE
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return []
    if not check_only:
        path.write_text(text, encoding="utf-8")
    return [PAGE]


def leaves(command: click.Command, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be given, with its words."""
    words = f"{before} {command.name}".strip()
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name in sorted(command.commands):
        yield from leaves(command.commands[name], words)


def _section(command: click.Command) -> Iterator[str]:
    yield f"## {command.name}\n"
    if isinstance(command, click.Group):
        yield f"{_text(command.help)}\n"
    for words, one in leaves(command):
        arguments = [
            param.make_metavar(click.Context(one)) for param in one.params if isinstance(param, click.Argument)
        ]
        yield f"`flask {' '.join([words, *arguments])}`: {_text(one.help)}\n"
        options = [param for param in one.params if isinstance(param, click.Option) and not param.hidden]
        if options:
            yield "| option | |\n|---|---|"
            yield from (_row(option, one) for option in options)
            yield ""


def _row(option: click.Option, command: click.Command) -> str:
    called, text = option.get_help_record(click.Context(command)) or ("", "")
    return f"| `{called.replace('|', ', ')}` | {_text(text).replace('|', ', ')} |"


def _text(text: str | None) -> str:
    return " ".join((text or "").split())
