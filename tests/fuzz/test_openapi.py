"""Requests made up from the OpenAPI document, for every role, against a served gateway.

Nobody gets a failure of ours, and every answer is one that the document has: its status, type, headers and body.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.fuzz.settled import ROLES, Settled, settle, with_names
from tests.fuzz.test_streams import SEED

LONG, SHORT = 20_000, 420  # cases in all, over the roles
COUNT = min(LONG, int(os.environ.get("TOLLHOUSE_FUZZ", SHORT)))
FOUND = 12  # of each kind of thing there are so many
EACH = 3  # the first one of an operation is always the simplest that there is
MOST_EACH = 10  # at a time, so that what others change comes in between
KINDS = (  # whether only things that are there are asked for, and how the rest is made up
    (True, GenerationMode.POSITIVE),
    (True, GenerationMode.NEGATIVE),
    (False, GenerationMode.POSITIVE),
)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
MOST_PROBLEMS = 40
MAKES_MODELS = "POST /models/create"


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, templates: Callable[[str], str]) -> Iterator[Settled]:
    """A gateway for all roles, with something of everything in it."""
    folder = tmp_path_factory.mktemp("openapi")
    found = settle(folder, Path(templates("sqlite")), found=FOUND if COUNT > SHORT else EACH)
    yield found
    found.served.stop()


@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("role", ROLES)
def test_made_up_requests_get_answers_that_the_document_has(
    settled: Settled, operations: list[dict[bool, Any]], role: str
) -> None:
    target = ceil(COUNT / len(ROLES))
    each = min(MOST_EACH, max(EACH, target // (len(operations) * len(KINDS))))
    step = max(1, len(operations) * len(KINDS) * each // target)
    problems: Counter[str] = Counter()
    asked = turn = 0
    while asked < target and len(problems) < MOST_PROBLEMS:
        for operation in operations[(ROLES.index(role) + turn) % step :: step]:
            if asked >= target and turn:
                break
            for is_found, mode in KINDS:
                asked += try_out(settled, role, (operation[is_found], mode, each, SEED + turn), problems)
            if operation[True].label == MAKES_MODELS:
                settled.tidy()
        turn += 1
    print(f"{role}: {asked} requests in {turn} rounds")
    assert problems == Counter(), "\n".join(f"{count} x {what}" for what, count in problems.items())
    assert asked >= target
    assert settled.is_known(role), f"the requests of {role} have taken its own rights away"
    assert "Traceback" not in settled.served.output()


@pytest.fixture(scope="module")
def operations(settled: Settled) -> list[dict[bool, Any]]:
    """Every operation of the document that the gateway serves: with anything, and with things that are there."""
    document = requests.get(f"{settled.served.url}/openapi.json", timeout=60).json()
    return [
        {False: anything, True: found}
        for anything, found in zip(_operations(document), _operations(with_names(document, settled.names)), strict=True)
    ]


def _operations(document: dict[str, Any]) -> list[Any]:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(with_security_parameters=False)
    return [found.ok() for found in schema.get_all_operations()]


def try_out(settled: Settled, role: str, what: tuple[Any, GenerationMode, int, int], problems: Counter[str]) -> int:
    """How many requests were made; what was wrong with the answers is counted."""
    operation, mode, count, start = what
    asked = 0

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case) -> None:
        nonlocal asked
        asked += 1
        headers = settled.headers[role]
        answer = case.call(base_url=settled.served.url, headers=headers, timeout=120, allow_redirects=False)
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as exc:
            for one in exc.exceptions:
                problems[f"{role} {operation.label} {answer.status_code}: {shortened(one)}"] += 1

    try:
        attempt()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:  # where nothing is taken, nothing can be wrong
            problems[f"{operation.label}: no request fits what the document says"] += 1
    return asked


def shortened(failure: BaseException) -> str:
    """What is wrong, without the parts that differ from request to request."""
    return " ".join(f"{type(failure).__name__} {failure}".split())[:600]
