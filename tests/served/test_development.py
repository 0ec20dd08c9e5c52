"""`python app.py`, the server for developers."""

import os
import re
import signal
import subprocess
import sys

import pytest
import requests

from tests.fakes.served import ROOT, Served


@pytest.fixture
def development(tmp_path):
    running = Served({"INSTANCE_PATH": str(tmp_path)}, ("app.py",))
    yield running
    running.stop(signal.SIGKILL)


def test_it_makes_what_it_needs_and_answers(development):
    shown = development.output()
    assert re.search(r"^  Password +\S+   \(shown once\)$", shown, re.MULTILINE)
    key = re.search(r"^  API key +(\S+)   \(shown once\)$", shown, re.MULTILINE)[1]
    response = requests.post(
        f"{development.base_url}/chat/completions",
        json={"model": "echo", "messages": [{"role": "user", "content": "Hello!"}]},
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    assert response.json()["choices"][0]["message"]["content"] == "Hello!"
    used = requests.get(f"{development.url}/user/usage", headers={"Authorization": f"Bearer {key}"}, timeout=30).json()
    assert used == {"username": "admin", "tokens_used": response.json()["usage"]["total_tokens"]}


def test_it_is_not_for_production(tmp_path):
    environ = {"PATH": os.environ["PATH"], "INSTANCE_PATH": str(tmp_path), "ENVIRONMENT": "production"}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environ, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 78
    assert "FATAL: Settings validation failed in 'production' environment:" in done.stderr
    assert list(tmp_path.iterdir()) == []
