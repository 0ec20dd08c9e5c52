"""Every command, `curl` and program of the pages is run as it stands; those that cannot be are few, and say why."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.orm import Session

from services import alerttargets
from services.audit import Actor
from tests.conftest import PASSWORD, SECRETS, TOKEN
from tests.fakes.receiver import Receiver
from tests.fakes.served import ROOT
from tests.helpers import add_model, add_provider
from tests.start import pages
from tests.start.conftest import bare
from tests.start.pages import Block

ADMIN_PASS = "a-pass-of-the-tests-0123456789"
APART = {"docs/operations.md": "test_operations.py", "docs/architecture.md": "it shows no command"}
CANNOT = {  # page, beginning of the block: why it is checked and not run
    ("README.md", "make run"): "tests/start/test_make_run.py runs it",
    ("README.md", "make test"): "it is this",
    ("README.md", "OPENAI_API_KEY="): "needs an account there; tests/start/test_environment_providers.py",
    ("README.md", "install -d /opt"): "needs root, certbot and a public name; tests/deploy/test_nginx.py has the files",
    ("README.md", "certbot renew"): "needs a certificate of Let's Encrypt; tests/deploy/test_nginx.py runs the hook",
    ("docs/accessibility.md", "make pictures"): "minutes in a browser; tests/pictures",
    ("docs/deploy.md", ".venv/bin/gunicorn"): "every test of tests/served runs it",
    ("docs/deploy.md", "useradd "): "needs root and systemd; tests/deploy/test_systemd.py runs the unit's command",
    ("docs/deploy.md", "systemd-run "): "needs systemd",
    ("docs/deploy.md", "cp /opt/tollhouse/deploy/nginx"): "needs root; tests/deploy/test_nginx.py runs the files",
    ("docs/deploy.md", "cp .env.example"): "needs Docker",
    ("docs/deploy.md", "docker "): "needs Docker",
    ("docs/deploy.md", "cp deploy/kubernetes"): "needs a cluster",
    ("docs/observability.md", ".venv/bin/pip"): "installs; tests/served/test_otel.py uses what it installs",
    ("docs/outside-accounts.md", "export JWT_JWKS_URL"): "needs an issuer; tests/served/test_outside.py",
}
SAID = {  # what readers put in
    "YOUR_API_KEY": TOKEN,
    "sk-th-…": TOKEN,
    "password=…": f"'password={PASSWORD}'",
    ".venv/bin/flask": "flask",
}
OURS = re.compile(r"(?:/opt/tollhouse/|\s)(deploy/[\w./-]*|[\w.-]+\.(?:yaml|txt|conf\.py|example))")
FLASK = f"{shlex.quote(sys.executable)} -m flask --app {shlex.quote(str(ROOT / 'app.py'))}"


class Desk:
    """One gateway with what the pages take for granted, and a shell in an empty folder."""

    def __init__(self, app: Any, served: Any, folder: Path) -> None:
        self.app, self.url, self.folder = app, served.url, folder
        self.runner = app.test_cli_runner()
        self.said = SAID | {"http://localhost:8000": self.url, "http://127.0.0.1:8000": self.url}
        self.said |= {" localhost:8000": f" {self.url}"}

    def flask(self, line: str, given: str = f"{PASSWORD}\n") -> str:
        done = self.runner.invoke(args=shlex.split(line, comments=True)[1:], input=given)
        fine = (0, 2) if line.startswith("flask config plan") else (0,)  # 2 = there is something to do
        assert done.exit_code in fine, (line, done.output, done.exception)
        return str(done.output)

    def run(self, block: Block) -> None:
        text = block.text
        for place, value in self.said.items():
            text = text.replace(place, value)
        if block.kind == "python":
            self.process([sys.executable, "-c", text], text)
        elif all(re.match(r"flask [^|&]*$", line) for line in text.splitlines()):
            for line in text.splitlines():
                self.flask(line)
        else:
            names = 'curl() { command curl --fail-with-body --silent --show-error --max-time 30 "$@"; }\n'
            names += f'flask() {{ {FLASK} "$@"; }}\n'
            self.process(["bash", "-euo", "pipefail", "-c", names + text], text)

    def process(self, words: list[str], text: str) -> None:
        environ = bare(self.folder, **SECRETS, ADMIN_PASS=ADMIN_PASS, BASE=self.url, KEY=self.key, GROQ_KEY="gsk-x")
        environ |= {"TOKEN": self.token, "PYTHONWARNINGS": "error"}
        done = subprocess.run(
            words, cwd=self.folder, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (text, done.stdout, done.stderr)

    def prepare(self, upstream: Any) -> None:
        """People, a team, keys, providers, models and files that the pages speak of."""
        for name in ("openai", "local"):
            add_model(self.app, add_provider(self.app, upstream, name), {"openai": "fast", "local": "llama3.2"}[name])
        add_model(self.app, 2, "gpt-4o-mini")
        for line in ("flask users create ana", "flask teams add research", "flask keys create y-first --user admin"):
            self.flask(line)
        self.key = self.flask("flask keys create z-second --user admin").strip()
        answer = self.app.test_client().post("/login", json={"username": "admin", "password": PASSWORD})
        self.token = answer.json["access_token"]
        self.said["alerts test NAME"] = "alerts test ops"
        self.said["inv-…"] = self.flask("flask invite").splitlines()[0]
        first, second = sorted(
            self.app.extensions["gateway"].key_management.search({}).views, key=lambda one: one["name"]
        )[-2:]
        self.said |= {"KEY_ID": first["keyId"], "ID_OF_A_KEY": second["keyId"], "sk-th-AbCd…wxyz": second["key"]}
        (self.folder / "prices.csv").write_text("model,input_per_million,output_per_million\nfast,2,4\n", "utf-8")
        (self.folder / "invoice.csv").write_text("date,model,cost\n2026-05-01,gpt-4o-mini,0\n", "utf-8")
        (self.folder / "house.yaml").write_text("teams: [{name: research}, {name: house}]\n", "utf-8")

    def tell(self, address: str) -> None:
        """Somebody who hears of alerts."""
        here, wanted = self.app.extensions["gateway"], alerttargets.Given("ops", "webhook", address, None)
        with Session(here.engine) as session, session.begin():
            alerttargets.create(session, here.sealer, Actor("tests"), wanted)


@pytest.fixture
def desk(make_app, sqlite_database, serve, upstream, tmp_path, monkeypatch):
    environ = {"ADMIN_PASS": ADMIN_PASS, "REGISTRATION": "invite", "OPENAI_BASE_URL": upstream.base_url}
    app = make_app(sqlite_database, **environ)
    made = Desk(app, serve(**environ), tmp_path)
    monkeypatch.chdir(tmp_path)
    made.prepare(upstream)
    receiver = Receiver()
    made.tell(receiver.url)
    yield made
    receiver.stop()


def why_not(block: Block) -> str:
    found = (why for (page, first), why in CANNOT.items() if page == block.page and block.first.startswith(first))
    return next(found, "")


def runnable() -> list[Block]:
    found = [block for page in pages.PAGES for block in pages.blocks(page) if block.kind in ("shell", "python")]
    return [block for block in found if block.page not in APART]


def test_every_block_runs(desk):
    """In the order of the pages, on one gateway; what fails is named with all the rest."""
    failed, ran = [], 0
    for block in runnable():
        if why_not(block):
            continue
        ran += 1
        try:
            desk.run(block)
        except (AssertionError, subprocess.TimeoutExpired) as exc:
            failed.append(f"{block.place}: {exc}")
    assert failed == [], "\n\n".join(failed)
    assert ran > 30


def test_what_is_not_run_is_there_and_could_be():
    found = [block for block in runnable() if why_not(block)]
    named = {(block.page, first) for block in found for page, first in CANNOT if block.first.startswith(first)}
    assert CANNOT.keys() - named == set(), "take these out"
    assert [problem for block in found for problem in unsound(block)] == []


def unsound(block: Block) -> list[str]:
    """What is wrong with a block, as far as can be seen without running it."""
    shell = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    problems = [shell.stderr] if shell.returncode else []
    for target in re.findall(r"\bmake (?:-C \S+ )?([a-z-]+)", block.text):
        made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        problems += [f"there is no target `{target}`"] if made.returncode else []
    for path in OURS.findall(block.text):
        made_by_it = path in (".env", "deploy/kubernetes/secret.yaml")
        problems += [] if made_by_it or (ROOT / path).exists() else [f"there is no `{path}`"]
    return [f"{block.place}: {problem}" for problem in problems]


def test_what_is_wrong_with_such_a_block_is_seen():
    bad = ("make nothing", "if true", "cp deploy/gone.conf /etc")
    assert [bool(unsound(Block("x.md", 1, "shell", text))) for text in bad] == [True, True, True]


def test_a_block_is_found_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "    flask users list\n\n    data: {}\n\n```console\n$ curl x \\\n  -d y\nanswer\n```\n\n"
        "    X=1 make run\n\n```yaml\na: 1\n```\n\n    client = OpenAI()\n",
        encoding="utf-8",
    )
    assert [(block.line, block.kind, block.text) for block in pages.blocks(page)] == [
        (6, "shell", "curl x \\\n  -d y"),
        (14, "yaml", "a: 1\n"),
        (1, "shell", "flask users list"),
        (11, "shell", "X=1 make run"),
        (17, "python", "client = OpenAI()"),
    ]


def test_pages_that_are_run_elsewhere_have_nothing_else():
    """Both READMEs have the same blocks (tests/test_docs.py); operations.md has a test of its own."""
    assert (ROOT / "tests/start" / APART["docs/operations.md"]).exists()
    shells = {
        block.first.split()[0]
        for page in pages.PAGES
        for block in pages.blocks(page)
        if block.page in APART and block.kind == "shell"
    }
    assert shells == {"flask"}


def test_other_fenced_code_is_what_it_says():
    """YAML and JSON are read, tests/alerts/test_examples.py runs JavaScript; what nobody reads is not there."""
    found = [block for page in pages.PAGES for block in pages.blocks(page) if block.kind not in ("shell", "python", "")]
    assert {block.kind for block in found} <= {"yaml", "json", "csv", "javascript"}
    for block in found:
        if block.kind in ("yaml", "json"):
            assert yaml.safe_load(block.text), block.place


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubernetes_files_become_one_whole():
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    words = ["kubectl", "kustomize", "deploy/kubernetes"]
    made = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert {one["kind"] for one in yaml.safe_load_all(made.stdout)} >= {"Deployment", "Service", "Ingress", "ConfigMap"}
