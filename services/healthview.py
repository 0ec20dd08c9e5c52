"""What is told of the providers' health: a worker's circuits by model and deployment."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.health import ACCOUNT, DEPLOYMENT
from services.types import Deployment, PublicModel

UNTRIED: Final[dict[str, Any]] = {
    "state": "untried",
    "failures_in_a_row": 0,
    "retry_in_s": 0.0,
    "first_byte_ms": None,
    "error": "",
}
WORST: Final = ("untried", "healthy", "half_open", "open")  # the later counts
Report = Mapping[tuple[str, int], dict[str, Any]]


def of_models(models: Iterable[PublicModel], report: Report, workers: int) -> dict[str, Any]:
    """Each model with its deployments; `status` is degraded where one of them is left alone for now.

    Every worker keeps circuits of its own: `worker` says whose these are, `workers` how many there are here.
    """
    listed: list[dict[str, Any]] = [
        {"model": model.name, "deployments": [_entry(deployment, report) for deployment in model.deployments]}
        for model in models
    ]
    is_bad = any(one["state"] in WORST[2:] for entry in listed for one in entry["deployments"])
    worker = os.getpid()
    return {
        "status": "degraded" if is_bad else "healthy",
        "worker": worker,
        "workers": workers,
        "scope": f"what worker {worker} has seen; each of the {workers} keeps circuits of its own",
        "models": listed,
    }


def of_providers(deployments: Iterable[Deployment], report: Report) -> dict[int, dict[str, Any]]:
    """The worst that is known of each provider by its number: of its account, or of one of its deployments."""
    found: dict[int, dict[str, Any]] = {}
    for deployment in deployments:
        entry, number = _entry(deployment, report), deployment.upstream.id
        if number not in found or WORST.index(entry["state"]) > WORST.index(found[number]["state"]):
            found[number] = entry
    return found


def _entry(deployment: Deployment, report: Report) -> dict[str, Any]:
    own = report.get((DEPLOYMENT, deployment.id), UNTRIED)
    account = report.get((ACCOUNT, deployment.upstream.id), UNTRIED)
    worse = max((own, account), key=lambda one: WORST.index(one["state"]))
    return {
        "provider": deployment.upstream.name,
        "model": deployment.model,
        **worse,
        "first_byte_ms": own["first_byte_ms"],
    }
