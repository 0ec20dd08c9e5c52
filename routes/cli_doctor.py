"""`flask doctor`: what an operator would otherwise have to find out, and how to mend it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from config import project
from routes import providerwords
from routes.cli_base import fail, in_app
from services.checkup import BAD, Patient
from services.doctor import Line, examine, worst
from utils.extensions import gateway
from utils.logs import Redactor


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
@click.option("--tls", default="", metavar="HOST:PORT", help="Who ends TLS; default: port 443 of this machine.")
@click.option(
    "--tls-file", type=click.Path(path_type=Path), help="A certificate in PEM, such as certbot's fullchain.pem."
)
@in_app
def doctor(as_json: bool, tls: str, tls_file: Path | None) -> None:
    """Look at everything that can be wrong, and say how to mend it; exit 1 if something is bad."""
    here = gateway()
    patient = Patient(here, providerwords.english, tls_file, _place(tls) if tls else None)
    clean, found = Redactor(here.config.secrets).clean, []
    for line in examine(patient):
        found.append(line)
        if not as_json:
            click.echo("\n".join(clean(text) for text in _shown(line)))
    if as_json:
        click.echo(clean(json.dumps(_object(found), indent=2, ensure_ascii=False)))
    if worst(found) == BAD:
        sys.exit(1)


def _shown(line: Line) -> Iterator[str]:
    yield f"{line.result.state:<5} {line.check:<12} {line.result.found}"
    if line.result.mend:
        yield f"{'':<18} -> {line.result.mend}"


def _object(lines: list[Line]) -> dict[str, object]:
    checks = [
        {"check": line.check, "state": line.result.state, "found": line.result.found, "mend": line.result.mend}
        for line in lines
    ]
    return {"state": worst(lines), "version": project()[1], "checks": checks}


def _place(given: str) -> tuple[str, int]:
    host, _colon, port = given.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()):
        fail("--tls takes a host and a port, such as llm.example.com:443")
    return host.strip("[]"), int(port)
