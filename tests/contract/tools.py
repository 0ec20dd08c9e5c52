"""What the contract runs need and the project does not: a schema-checking server from npm, and openai's own tests."""

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

STEADY = "@stdy/cli@0.22.2"  # the server that openai-python's own scripts/mock starts
RUNNER = ("pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-xdist==3.8.0", "rich==15.0.0")


class Missing(Exception):
    """A tool could not be had; the message says which and why."""


def steady(folder: Path) -> Path:
    """The command that serves an OpenAPI document, installed by npm into the folder."""
    found = folder / "npm" / "node_modules" / ".bin" / "steady"
    if not found.exists():
        _run("npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder / "npm"), STEADY)
    return found


def suite(folder: Path) -> tuple[Path, Path]:
    """openai-python as its authors publish it, and a Python that can run its tests.

    It is the version that the tests here use, so its tests and its types belong together.
    """
    name = f"openai-{version('openai')}"
    source, python = folder / name, folder / "venv" / "bin" / "python"
    if not source.exists():
        wanted = name.replace("-", "==")
        _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "openai", wanted, "-d", folder)
        with tarfile.open(folder / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
        _run(python, "-m", "pip", "install", "-q", f"{source}[aiohttp]", *RUNNER)
    return source, python


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Missing(f"`{' '.join(map(str, command))}` failed:\n{said}")
