"""Simon Willison's `llm`, by its command line: models of its own file of further OpenAI models, and their vectors."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.checks import AFTER_TOOLS, NO_SUCH, SAID, SYSTEM, TEXT, City, Gateway, Usages, main, refused

FUNCTIONS = '''
def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny" if city == "Lisbon" else city

def clock(zone: str) -> str:
    """The time in a zone."""
    return "noon" if zone == "Lisbon" else zone
'''


class Failed(Exception):
    """The command ended with an error."""


def llm(gateway: Gateway, *arguments: str, log: list[Any] | None = None) -> str:
    """What the command prints; with `log` also what it wrote into its own log."""
    with tempfile.TemporaryDirectory() as folder:
        models = [
            {
                "model_id": f"gw-{name}",
                "model_name": name,
                "api_base": gateway.base_url,
                "api_key_name": "gateway",
                "supports_tools": True,
                "supports_schema": True,
            }
            for name in (gateway.model, NO_SUCH)
        ]
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps(models), encoding="utf-8")  # JSON is YAML
        Path(folder, "keys.json").write_text(json.dumps({"gateway": gateway.key}), encoding="utf-8")
        environ = {**os.environ, "LLM_USER_PATH": folder, "PYTHONIOENCODING": "utf-8"}

        def command(*given: str) -> str:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "llm", *given],
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                raise Failed(done.stderr[-1000:])
            return done.stdout

        told = command(*arguments)
        if log is not None:
            log += json.loads(command("logs", "list", "--json", "-n", "0"))
        return told.strip()


def named(gateway: Gateway) -> str:
    return f"gw-{gateway.model}"


def plain(gateway: Gateway) -> Usages:
    log: list[Any] = []
    told = llm(gateway, "prompt", "-m", named(gateway), "-s", SYSTEM, "--no-stream", SAID, log=log)
    assert told == TEXT, told
    return [(log[0]["input_tokens"], log[0]["output_tokens"])]


def stream(gateway: Gateway) -> Usages:
    log: list[Any] = []
    told = llm(gateway, "prompt", "-m", named(gateway), "-s", SYSTEM, SAID, log=log)
    assert told == TEXT, told
    return [(log[0]["input_tokens"], log[0]["output_tokens"])]


def tools(gateway: Gateway) -> Usages:
    for more in ([], ["--no-stream"]):
        told = llm(gateway, "prompt", "-m", named(gateway), "--functions", FUNCTIONS, *more, SAID)
        assert told == AFTER_TOOLS, told
    return []


def schema(gateway: Gateway) -> Usages:
    told = llm(gateway, "prompt", "-m", named(gateway), "--schema", json.dumps(City.model_json_schema()), SAID)
    assert json.loads(told) == {"name": "Lisbon", "size": 3}, told
    return []


def errors(gateway: Gateway) -> Usages:
    failed = refused(Failed, lambda: llm(gateway, "prompt", "-m", f"gw-{NO_SUCH}", SAID))
    assert NO_SUCH in str(failed), failed
    assert "not available" in str(failed), failed
    return []


CHECKS = (plain, stream, tools, schema, errors)

if __name__ == "__main__":
    main(CHECKS)
