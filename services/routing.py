"""The order in which the deployments of a model are tried. Pure but for the dice, which come in as an argument."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from services.types import Deployment, PublicModel, Routing

CONTEXT, CONTENT = "context", "content"  # why a call takes a detour
WEIGHT, LATENCY = "weight", "latency"  # strategies
REASONS: Final = {  # the error codes of providers that give a reason
    "context_length_exceeded": CONTEXT,
    "model_max_prompt_tokens_exceeded": CONTEXT,
    "string_above_max_length": CONTEXT,
    "content_filter": CONTENT,
    "content_policy_violation": CONTENT,
    "ResponsibleAIPolicyViolation": CONTENT,
}

USUAL: Final = Routing()

Dice = Callable[[], float]
Delay = Callable[[Deployment], float | None]


def of_record(record: Mapping[str, Any] | None) -> Routing:
    """The routing of a model as it is stored: the fields that are set."""
    if not record:
        return USUAL
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Routing(**fields)


def order(deployments: Sequence[Deployment], dice: Dice, delay: Delay | None = None) -> list[Deployment]:
    """Lower priority first; within one, at random by weight, so that load spreads and each comes up in the end.

    `dice` gives numbers in [0, 1). With `delay`, the quickest of a priority goes first; one whose delay nobody knows
    goes before, so that it becomes known.
    """
    if len(deployments) == 1:
        return list(deployments)
    if delay is not None:
        return sorted(deployments, key=lambda d: (d.priority, delay(d) or 0.0, dice()))
    # Largest u^(1/weight) first: a draw without replacement in proportion to the weights (Efraimidis, Spirakis 2006).
    return sorted(deployments, key=lambda d: (d.priority, -(dice() ** (1 / d.weight))))


def candidates(
    model: PublicModel, models: Mapping[str, PublicModel], dice: Dice, delay: Delay | None = None
) -> list[Deployment]:
    """The model's deployments in order, then those of its fallbacks; each at most once."""
    chosen = order(model.deployments, dice, delay if model.routing.strategy == LATENCY else None)
    return chosen + _of_models(model.fallbacks, models, chosen, dice)


def detours(
    model: PublicModel, models: Mapping[str, PublicModel], chosen: Sequence[Deployment], dice: Dice
) -> list[tuple[Deployment, str]]:
    """Deployments that are only tried for a reason, with that reason; none of those chosen anyway."""
    found: list[tuple[Deployment, str]] = []
    for reason, names in ((CONTEXT, model.routing.context_fallbacks), (CONTENT, model.routing.content_fallbacks)):
        known = [*chosen, *(deployment for deployment, _reason in found)]
        found += [(deployment, reason) for deployment in _of_models(names, models, known, dice)]
    return found


def _of_models(
    names: Sequence[str], models: Mapping[str, PublicModel], known: Sequence[Deployment], dice: Dice
) -> list[Deployment]:
    found: list[Deployment] = []
    for name in names:
        if (model := models.get(name)) is not None:
            found += [one for one in order(model.deployments, dice) if one not in known and one not in found]
    return found
