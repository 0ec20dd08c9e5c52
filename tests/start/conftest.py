"""Commands as an operator gives them: processes of their own, with an environment of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SECRETS
from tests.fakes.served import ROOT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def bare(folder: Path, **environ: str) -> dict[str, str]:
    """An environment with nothing of this process but the way to programs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "ENVIRONMENT": "test", "INSTANCE_PATH": str(folder), **environ}


@pytest.fixture
def flask(tmp_path: Path) -> Run:
    """`flask …` on a folder of the test's own; with the secrets of the tests unless told otherwise."""

    def run(*arguments: str, given: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", *arguments],
            cwd=ROOT,
            env=bare(tmp_path, **(SECRETS | environ)),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
