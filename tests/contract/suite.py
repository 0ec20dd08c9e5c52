"""openai-python's own tests of its resources, run against the gateway in front of a strict upstream.

`direct` runs them without a gateway: what fails there is between the tests and the document, and none of our doing.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract import documents, served
from tests.contract.strict import Strict, all_complaints

HERE = Path(__file__).resolve().parent
RESOURCES = "tests/api_resources"
CHATS = ("chat/test_completions.py",)
RESPONSES = ("test_responses.py", "responses/test_input_items.py", "responses/test_input_tokens.py")
VECTORS = "test_embeddings.py"
REST = (
    *("test_completions.py", VECTORS, "test_models.py", "test_moderations.py", "test_images.py"),
    *("audio/test_speech.py", "audio/test_transcriptions.py", "audio/test_translations.py"),
)
AZURE = {"api_version": "2025-04-01-preview"}
MODERATION = "omni-moderation-latest"  # what a moderation without a model means
MODEL = re.compile(r'\bmodel="([^"]+)"')


@dataclass(frozen=True)
class Run:
    """One pass through their tests: which of them, in front of which document, by which kind of provider."""

    name: str
    tests: tuple[str, ...]
    document: str = "openai"
    kind: str | None = None  # None: without a gateway
    settings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None  # None: the one that the test names
    only: str = ""  # which of their tests; each is run `loose` and `strict` about answers, and with `aiohttp`
    without: tuple[str, ...] = ()  # members that are left out of every JSON body


ALL = "strict and all_params"
REFUSED = (
    "background",
    "conversation",
    "max_tokens",
    "max_completion_tokens",
    "best_of",
)  # the tests set values that we refuse
RUNS = (
    Run("direct", (*CHATS, *RESPONSES, *REST)),
    Run("openai", (*CHATS, *RESPONSES, *REST), kind="openai", settings={"responses": True}),
    Run(
        "openai-all-params",
        (*CHATS, *RESPONSES, "test_completions.py"),
        kind="openai",
        settings={"responses": True},
        only=ALL,
        without=REFUSED,
    ),
    Run("openai-chats", RESPONSES, kind="openai", settings={"responses": False}, only="strict"),
    Run("azure", (*CHATS, *RESPONSES), "azure-preview", "azure", AZURE, "gpt-4o", "strict", REFUSED),
    Run("anthropic", (*CHATS, *RESPONSES), "anthropic", "anthropic", {}, "claude-sonnet-4-5", "strict", REFUSED),
    Run(
        "gemini",
        (*CHATS, *RESPONSES, "test_embeddings.py"),
        "gemini",
        "gemini",
        {},
        "gemini-2.5-flash",
        "strict",
        REFUSED,
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How one of their tests ended in one run."""

    run: str
    test: str
    outcome: str
    said: str


def run(plan: Run, source: Path, python: Path, steady: Path, folder: Path) -> list[Outcome]:
    """All outcomes of one run. What the upstream complained of stands in `complaints.txt` of its folder."""
    work = folder / re.sub(r"\W+", "-", f"suite-{plan.name}")
    work.mkdir()
    upstream = Strict(steady, documents.DOCUMENTS[plan.document](folder), work)
    try:
        with _target(plan, source, upstream, work) as environ:
            return _pytest(plan, source, python, work, environ | {"CONTRACT_WITHOUT": json.dumps(plan.without)})
    finally:
        upstream.stop()
        (work / "complaints.txt").write_text("\n".join(all_complaints(upstream.verdicts)), encoding="utf-8")


@contextmanager
def _target(plan: Run, source: Path, upstream: Strict, work: Path) -> Iterator[dict[str, str]]:
    """What their tests are told of where to go."""
    if plan.kind is None:
        yield {"TEST_API_BASE_URL": upstream.url}
        return
    provider = {"name": "strict", "kind": plan.kind, "base_url": upstream.url, "api_key": "sk-x", "discover": False}
    names = {name for test in plan.tests for name in MODEL.findall((source / RESOURCES / test).read_text())}
    models = [served.free_model(name, "strict", plan.model or name) for name in sorted(names | {MODERATION})]
    with served.gateway(work / "gateway", [provider | {"settings": plan.settings}], models) as running:
        answer = served.post(running, "/v1/responses", {"model": "echo", "input": "kept"}).json()
        yield {
            "TEST_API_BASE_URL": running.base_url,
            "CONTRACT_KEY": served.KEY,
            "CONTRACT_ANSWER": answer["id"],
            "CONTRACT_DATABASE": str(work / "gateway" / "tollhouse.db"),
        }


def _pytest(plan: Run, source: Path, python: Path, work: Path, environ: dict[str, str]) -> list[Outcome]:
    results = work / "results.jsonl"
    results.touch()
    options = ["-q", "-n0", "-p", "no:cacheprovider", "-p", "plugin", "--tb=short", "-k", plan.only]
    with (work / "pytest.log").open("wb") as log:
        done = subprocess.run(
            [str(python), "-m", "pytest", *options, *(f"{RESOURCES}/{test}" for test in plan.tests)],
            cwd=source,
            env={**os.environ, **environ, "CONTRACT_RESULTS": str(results), "PYTHONPATH": str(HERE)},
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode not in (0, 1):  # 1: tests failed
        sys.exit(f"openai's tests could not be run, see {work / 'pytest.log'}")
    found = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return [Outcome(plan.name, name_of(entry["test"]), entry["outcome"], entry["said"]) for entry in found]


def name_of(test: str) -> str:
    """A test's name without the folder that all have."""
    return test.removeprefix(f"{RESOURCES}/")
