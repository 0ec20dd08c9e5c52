"""What the server is told that would otherwise end streams (F4 and F5 of docs/faults.md)."""

import os
import subprocess
import sys

import pytest

from config import ConfigError
from tests.conftest import SECRETS, make_config
from tests.fakes.served import ROOT


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_no_worker_is_recycled_and_none_is_sync(tmp_path, worker_class):
    with pytest.raises(ConfigError, match="WORKER_CLASS"):
        make_config(tmp_path, WORKER_CLASS="sync")
    environ = {"PATH": os.environ["PATH"], "ENVIRONMENT": "test", "INSTANCE_PATH": str(tmp_path), **SECRETS}
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--print-config", "app:serving()"],
        cwd=ROOT,
        env=environ | {"WORKER_CLASS": worker_class},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    told = {name.strip(): value.strip() for name, value in found.items()}
    assert (told["max_requests"], told["worker_class"]) == ("0", worker_class)
