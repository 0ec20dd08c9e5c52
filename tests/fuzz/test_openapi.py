"""Requests made up from the OpenAPI document, for each kind of caller, against a served gateway.

Nobody gets a failure of ours, and every answer is one that the document has: its status, type, headers and body.
"""

import os
from collections.abc import Callable
from copy import deepcopy
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

from tests.callers import bearer
from tests.conftest import PASSWORD, TOKEN
from tests.fakes.served import Served
from tests.fuzz.test_streams import SEED

LONG = 20_000  # cases of each caller in a long run, unless TOLLHOUSE_FUZZ asks for fewer
SHORT = 160
COUNT = min(LONG, int(os.environ.get("TOLLHOUSE_FUZZ", SHORT)))
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
MODELS = ["echo", "echo-json", "echo-tool-call", "echo-no-usage", "echo-400", "echo-429", "nothing"]
ADMIN_PASS = "an-admin-pass-of-the-tests-0123456789"


@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("role", ["anonymous", "key", "admin"])
def test_made_up_requests_get_answers_that_the_document_has(serve: Callable[..., Served], role: str) -> None:
    served = serve(ADMIN_PASS=ADMIN_PASS, RATE_LIMIT_PER_MINUTE="1000000")
    headers = {"anonymous": {}, "key": bearer(TOKEN), "admin": bearer(admin_token(served))}[role]
    document = with_names(requests.get(f"{served.url}/openapi.json", timeout=30).json(), made(served))
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(with_security_parameters=False)
    operations = [found.ok() for found in schema.get_all_operations()]
    each = max(1, COUNT // (len(operations) * len(MODES)))
    asked, problems = 0, []
    for operation in operations:
        for mode in MODES:
            seen, wrong = try_out(operation, mode, each, served.url, headers)
            asked, problems = asked + seen, problems + wrong
    assert problems == [], f"{len(problems)} of {asked}"
    assert asked >= len(operations)
    assert "Traceback" not in served.output()


def try_out(
    operation: Any, mode: GenerationMode, count: int, url: str, headers: dict[str, str]
) -> tuple[int, list[str]]:
    """How many requests were made, and what was wrong with the answers."""
    asked: list[Case] = []
    problems: list[str] = []

    @seed(SEED)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case) -> None:
        asked.append(case)
        answer = case.call(base_url=url, headers=headers, timeout=60, allow_redirects=False)
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as exc:
            problems.append(f"{operation.label}: {exc.exceptions}"[:2000])

    try:
        attempt()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:  # where nothing is taken, nothing can be wrong
            problems.append(f"{operation.label}: no request fits what the document says")
    return len(asked), problems


def admin_token(served: Served) -> str:
    """The token of the admin."""
    answer = requests.post(f"{served.url}/login", json={"username": "admin", "password": PASSWORD}, timeout=60)
    return str(answer.json()["access_token"])


def made(served: Served) -> dict[str, list[Any]]:
    """Something to find: what some members and parameters may be called, in place of words nobody knows."""
    program = {"X-API-KEY": ADMIN_PASS}

    def create(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = requests.post(served.url + path, json=body, headers=program, timeout=60)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    keys = [create("/api/key-management/keys", {"name": f"key {n}", "tags": ["made"]})["keyId"] for n in range(3)]
    users = [create("/api/users", {"name": f"user {n}", "tags": ["made"]}) for n in range(3)]
    steps = [{"provider": "echo", "model": "echo"}]
    paths = [f"/r{n}" for n in range(3)]
    routes = [
        create("/api/routes", {"name": path, "path": path, "keyIds": keys, "steps": steps})["id"] for path in paths
    ]
    return {
        "model": MODELS,
        "model_name": MODELS,
        "name": MODELS,
        "key_id": keys,
        "keyIds": keys,
        "user_id": [int(user["id"]) for user in users],
        "userId": [user["userId"] for user in users],
        "route_id": [*routes, "r0", "r1"],
        "tag": ["made"],
    }


def with_names(document: dict[str, Any], names: dict[str, list[Any]]) -> dict[str, Any]:
    """The document with these words among what its members and parameters may be; what it says of answers stays."""
    changed = deepcopy(document)
    requests_of = [body for body in changed["components"]["schemas"].items() if body[0].endswith(("Request", "Search"))]
    for _name, schema in requests_of:
        for name in schema.get("properties", {}).keys() & names.keys():
            schema["properties"][name] = {"anyOf": [{"enum": names[name]}, schema["properties"][name]]}
    for entry in changed["paths"].values():
        for operation in entry.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in names and parameter["schema"].get("type") != "array":
                    parameter["schema"] = {"anyOf": [{"enum": names[parameter["name"]]}, parameter["schema"]]}
    return changed
