"""Routes as a worker knows them: a path, the keys that may call it, and the places where its calls are tried.

A step names a provider account, by name or UUID, or a kind of them, and a model there. Which deployments that means is
looked up whenever the catalog is loaded, so a route follows what becomes of its providers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services import durations
from services.types import Caller, Deployment, PublicModel

if TYPE_CHECKING:
    from models import Provider
    from models import Route as RouteRow

CONSTANT: Final = "constant"
DEPLOYMENT: Final = "deploymentId"  # among a step's params: what Azure calls the model

Place = tuple[str, Deployment]  # a public model, and where it is served


@dataclass(frozen=True, slots=True)
class Step:
    """Where a call is tried, and how."""

    places: tuple[Place, ...]
    retries: int = 0
    timeout_s: float | None = None  # of one attempt, until its answer begins or, if it is not streamed, is whole
    pause_s: float | None = None  # before the first repeat; None = as usual
    is_constant: bool = False  # the pause does not grow
    params: Mapping[str, Any] = field(default_factory=dict)  # members of the request that are set here

    @property
    def ids(self) -> frozenset[int]:
        """The numbers of its deployments."""
        return frozenset(deployment.id for _model, deployment in self.places)


@dataclass(frozen=True, slots=True)
class Route:
    """A path and its steps, in the order in which they are tried."""

    path: str
    key_ids: frozenset[int]
    steps: tuple[Step, ...]
    uuid: str = ""
    cache_s: float | None = None  # so long an answer is given again; None = as the model says

    def model_for(self, caller: Caller) -> str | None:
        """The public model that a call counts as: the first that the caller may use, or else the first."""
        names = [model for step in self.steps for model, _deployment in step.places]
        return next(filter(caller.may_use, names), names[0] if names else None)

    def candidates(self, caller: Caller) -> list[Deployment]:
        """Where the caller's calls may go, in order; each once."""
        found: dict[int, Deployment] = {}
        for step in self.steps:
            for model, deployment in step.places:
                if caller.may_use(model) and caller.may_reach(deployment):
                    found.setdefault(deployment.id, deployment)
        return list(found.values())


def routes(
    rows: "Iterable[RouteRow]", models: Mapping[str, PublicModel], accounts: "Iterable[Provider]"
) -> dict[str, Route]:
    """The routes by their path, with the deployments that there are now."""
    known, found = list(accounts), {}
    for row in rows:
        steps = tuple(_step(row, given, models, known) for given in row.steps)
        found[row.path] = Route(row.path, frozenset(row.key_ids), steps, row.uuid, _cache_s(row.cache))
    return found


def _cache_s(config: Mapping[str, Any] | None) -> float | None:
    return durations.parse(config["ttl"]).total_seconds() if config and config["enabled"] else None


def accounts_of(provider: str, accounts: "Iterable[Provider]") -> frozenset[int]:
    """The numbers of the accounts that a step means: the one of that name or UUID, or else all of that kind."""
    known = list(accounts)
    named = frozenset(row.id for row in known if provider in (row.name, row.uuid))
    return named or frozenset(row.id for row in known if row.kind == provider)


def is_meant(given: Mapping[str, Any], public: str, upstream_model: str) -> bool:
    """Whether a step means this deployment of an account."""
    if wanted := given.get("params", {}).get(DEPLOYMENT):
        return bool(upstream_model == wanted)
    return given["model"] in (upstream_model, public)


def _step(
    row: "RouteRow", given: Mapping[str, Any], models: Mapping[str, PublicModel], known: "list[Provider]"
) -> Step:
    numbers = accounts_of(given["provider"], known)
    return Step(
        places=tuple(_places(given, models, numbers)),
        retries=given.get("retries", 0),
        timeout_s=given.get("timeout_s"),
        pause_s=given.get("pause_s"),
        is_constant=row.retry_strategy == CONSTANT,
        params=given.get("request_params", {}),
    )


def _places(given: Mapping[str, Any], models: Mapping[str, PublicModel], numbers: frozenset[int]) -> Iterator[Place]:
    for model in models.values():
        for deployment in model.deployments:
            if deployment.upstream.id in numbers and is_meant(given, model.name, deployment.model):
                yield model.name, deployment
