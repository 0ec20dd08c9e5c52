"""The order in which the deployments of a model are tried. Pure but for the dice, which come in as an argument."""

from collections.abc import Callable, Mapping, Sequence

from services.types import Deployment, PublicModel


def order(deployments: Sequence[Deployment], dice: Callable[[], float]) -> list[Deployment]:
    """Lower priority first; within one, at random by weight, so that load spreads and each comes up in the end.

    `dice` gives numbers in [0, 1).
    """
    if len(deployments) == 1:
        return list(deployments)
    # Largest u^(1/weight) first: a draw without replacement in proportion to the weights (Efraimidis, Spirakis 2006).
    return sorted(deployments, key=lambda d: (d.priority, -(dice() ** (1 / d.weight))))


def candidates(model: PublicModel, models: Mapping[str, PublicModel], dice: Callable[[], float]) -> list[Deployment]:
    """The model's deployments in order, then those of its fallbacks; each at most once."""
    chosen = order(model.deployments, dice)
    for name in model.fallbacks:
        if (fallback := models.get(name)) is not None:
            chosen += [deployment for deployment in order(fallback.deployments, dice) if deployment not in chosen]
    return chosen
