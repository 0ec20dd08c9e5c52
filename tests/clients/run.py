"""`make clients`: every script of this folder against every wire, through gunicorn, with clients from the registries.

The clients are installed in versions that requirements*.txt and package.json pin, into a folder outside the
repository, once for these versions. Vendors are fakes on loopback. What is told to clients and what is booked must be
what the vendors said. Exits with 1 if anything fails.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import flask_migrate
from flask import Flask

from app import create_app
from tests.clients.wires import WIRES, with_wires
from tests.conftest import PASSWORD, SECRETS, TOKEN, make_config, prepare
from tests.fakes.served import Served
from tests.fakes.vendor_server import Vendors
from tests.helpers import assert_books_agree, rows
from utils.extensions import db

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATIENCE_S = 300  # of a script


class Script(NamedTuple):
    """A client's script and what it runs on: a file of requirements, or the packages of Node."""

    file: str
    pins: str


SCRIPTS = {
    "openai": Script("openai_sdk.py", "requirements.txt"),
    "anthropic": Script("anthropic_sdk.py", "requirements.txt"),
    "langchain-openai": Script("langchain_chat.py", "requirements.txt"),
    "llama-index": Script("llama_index_chat.py", "requirements-llama-index.txt"),
    "pydantic-ai": Script("pydantic_agents.py", "requirements.txt"),
    "llm": Script("llm_command.py", "requirements.txt"),
    "openai (Node)": Script("openai_sdk.mjs", "package.json"),
    "anthropic (Node)": Script("anthropic_sdk.mjs", "package.json"),
    "ai (Node)": Script("ai_sdk.mjs", "package.json"),
}


def installed(folder: Path, pins: str) -> Path:
    """The folder of an environment with these pins, made where it is not there yet."""
    text = (HERE / pins).read_bytes()
    place = folder / f"{pins.rpartition('.')[0]}-{hashlib.sha256(text).hexdigest()[:12]}"
    if (place / "complete").exists():
        return place
    print(f"installing {pins} into {place}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    if pins.endswith(".json"):
        place.mkdir(parents=True)
        shutil.copy(HERE / pins, place)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=place, check=True)
    else:
        venv.create(place, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(HERE / pins)]
        subprocess.run([place / "bin" / "python", *install], check=True)
    (place / "complete").touch()
    return place


def command_of(script: Script, place: Path) -> list[str]:
    """What runs a script; one for Node finds its packages only from beside them."""
    if script.pins.endswith(".json"):
        for file in HERE.glob("*.mjs"):
            shutil.copy(file, place)
        own = place / "node_modules" / ".bin" / "node"
        return [str(own) if own.exists() else "node", str(place / script.file)]
    return [str(place / "bin" / "python"), "-W", "ignore", "-m", f"tests.clients.{Path(script.file).stem}"]


@contextmanager
def serving(vendors: Vendors) -> Iterator[tuple[Served, Flask]]:
    """A gateway under gunicorn with a model for each wire, on a database of its own."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-clients-") as name:
        folder = Path(name)
        environ = {"DATABASE_URL": f"sqlite:///{folder}/tollhouse.db", "DEFAULT_ADMIN_PASSWORD": PASSWORD}
        app = create_app(make_config(folder, **environ))
        with app.app_context():
            flask_migrate.upgrade()
        prepare(app)
        with_wires(app, vendors)
        served = Served({"ENVIRONMENT": "test", "INSTANCE_PATH": name, **SECRETS, **environ})
        try:
            yield served, app
        finally:
            served.stop()
            app.extensions["gateway"].close()
            with app.app_context():
                db.engine.dispose()


def outcomes(command: list[str], served: Served, wire: str) -> list[dict[str, Any]]:
    """What a script printed about a wire; an outcome of its own where it broke off."""
    more = [] if WIRES[wire].embeds else ["--no-embeddings"]
    done = subprocess.run(
        [*command, served.url, TOKEN, wire, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
    if done.returncode != any(not outcome["ok"] for outcome in found) or not found:
        broken = f"exit {done.returncode}: {done.stderr[-2000:]}"
        found.append({"check": "script", "ok": False, "usages": [], "error": broken})
    return found


def misbooked(app: Flask, vendors: Vendors, told: list[tuple[int, int]]) -> list[str]:
    """Where clients or books have other counts than the vendors said, and what a vendor could not accept."""
    engine, noted = app.extensions["gateway"].engine, vendors.brain.noted
    said = [(answer.input_tokens, answer.output_tokens) for answer in noted]
    booked = [(row.input_tokens, row.output_tokens) for row in rows(engine) if row.state == "measured"]
    faults = [f"a client was told {usage}, which no vendor said" for usage in sorted(set(told) - set(said))]
    faults += [f"booked, but not said: {usage}" for usage in sorted(set(booked) - set(said))]
    faults += [f"said, but not booked: {usage}" for usage in sorted(set(said) - set(booked))]
    faults += [f"a vendor refused what it was sent: {why}" for why in vendors.brain.refused]
    assert_books_agree(engine)
    print(f"{len(said)} answers, {len(booked)} booked rows, {len(told)} counts shown by clients; the books agree")
    return faults


def table(results: dict[tuple[str, str], list[dict[str, Any]]], wires: list[str]) -> str:
    """Clients and their checks against wires."""
    lines = [f"{'':<18}{'':<26}" + "".join(f"{wire:>11}" for wire in wires)]
    for client in dict.fromkeys(client for client, _wire in results):
        checks = dict.fromkeys(outcome["check"] for wire in wires for outcome in results[client, wire])
        for check in checks:
            marks = [
                next(("ok" if one["ok"] else "FAILED" for one in results[client, wire] if one["check"] == check), "-")
                for wire in wires
            ]
            lines.append(f"{client:<18}{check:<26}" + "".join(f"{mark:>11}" for mark in marks))
    return "\n".join(lines)


def main() -> int:
    """Run what the arguments name; everything by default."""
    parser = argparse.ArgumentParser(description="Real clients against every wire.")
    parser.add_argument("--client", action="append", choices=SCRIPTS, help="only this one")
    parser.add_argument("--wire", action="append", choices=WIRES, help="only this one")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "tollhouse-clients")
    given = parser.parse_args()
    clients, wires = given.client or list(SCRIPTS), given.wire or list(WIRES)
    commands = {name: command_of(SCRIPTS[name], installed(given.folder, SCRIPTS[name].pins)) for name in clients}
    vendors = Vendors()
    with serving(vendors) as (served, app):
        results = {}
        for client in clients:
            for wire in wires:
                results[client, wire] = outcomes(commands[client], served, wire)
                for one in results[client, wire]:
                    if not one["ok"]:
                        print(f"FAILED {client} on {wire}, {one['check']}: {one['error']}", flush=True)
        everything = [outcome for found in results.values() for outcome in found]
        faults = misbooked(app, vendors, [tuple(usage) for one in everything for usage in one["usages"]])
    vendors.stop()
    print(table(results, wires), *faults, sep="\n")
    failed = sum(not outcome["ok"] for outcome in everything)
    print(f"{len(everything) - failed} of {len(everything)} checks passed")
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
