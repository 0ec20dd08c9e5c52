"""`make deploy-check`: deploy/, Dockerfile and compose files against the schemas and linters of their tools.

The tools come from the registry in the versions that deploy/requirements.txt pins, into a folder outside the
repository, once for these versions. systemd-analyze, nginx and promtool are asked too, where they are installed.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PINNED = ROOT / "deploy/requirements.txt"
BOARD = ROOT / "deploy/monitoring/grafana-dashboard.json"
MANIFESTS = ("deployment", "service", "ingress", "secret.example")
PARSE = "import json, sys, promql_parser; [promql_parser.parse(text) for text in json.load(sys.stdin)]"


def main() -> int:
    """Run every check; 0 if none found anything."""
    tools = installed()
    scripts = [*map(str, (ROOT / "deploy").glob("*.sh")), ".ci/run"]
    manifests = [f"deploy/kubernetes/{name}.yaml" for name in MANIFESTS]
    compose = ["--builtin-schema", "vendor.compose-spec", "compose.yaml", "compose.ports.yaml"]
    found = [
        run("Dockerfile", tools / "hadolint", "Dockerfile"),
        run("compose", tools / "check-jsonschema", *compose),
        run("Kubernetes", tools / "kubernetes-validate", "--strict", *manifests),
        run("scripts", tools / "shellcheck", *scripts),
        run("hooks", tools / "pre-commit", "validate-config", ".pre-commit-config.yaml"),
        run("dashboard", tools / "python", "-c", PARSE, given=json.dumps(queries())),
    ]
    if promtool := shutil.which("promtool"):
        found.append(
            run("Prometheus", promtool, "check", "config", "--syntax-only", "deploy/monitoring/prometheus.yml")
        )
    print(f"{sum(found)} passed, {len(found) - sum(found)} failed")
    return 0 if all(found) else 1


def installed() -> Path:
    """The folder with the programs, made for these versions unless it is there."""
    version = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    place = Path.home() / ".cache/tollhouse-deploy" / version
    if not (place / "done").exists():
        venv.create(place, clear=True, with_pip=True)
        pip = [place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", PINNED], check=True)
        (place / "done").touch()
    return place / "bin"


def run(name: str, *words: str | Path, given: str = "") -> bool:
    """Run a tool in the root folder; whether it found nothing."""
    done = subprocess.run([*map(str, words)], cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    print(f"{'ok' if done.returncode == 0 else 'FAILED':8}{name}")
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def queries() -> list[str]:
    """What the dashboard asks, with numbers where Grafana puts its own."""
    panels = json.loads(BOARD.read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [text.replace("$__rate_interval", "1m").replace("$job", "tollhouse") for text in asked]


if __name__ == "__main__":
    sys.exit(main())
