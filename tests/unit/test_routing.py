"""The order of deployments."""

import random
from collections import Counter

from services.routing import candidates, order
from services.types import Deployment, PublicModel, Upstream

UP = Upstream(1, "p", "openai", "http://x/v1")


def deployment(number, priority=1, weight=1):
    return Deployment(number, UP, f"m{number}", priority, weight, None)


def test_lower_priority_goes_first():
    ordered = order([deployment(1, priority=2), deployment(2, priority=1)], random.Random(1).random)
    assert [d.id for d in ordered] == [2, 1]


def test_within_a_priority_by_weight():
    dice = random.Random(7).random
    firsts = Counter(order([deployment(1, weight=1), deployment(2, weight=3)], dice)[0].id for _ in range(4000))
    assert 0.70 < firsts[2] / 4000 < 0.80


def test_fallbacks_come_after_and_nobody_twice():
    shared = deployment(9)
    first = PublicModel("a", "x", 0, (deployment(1), shared), fallbacks=("b", "missing"))
    second = PublicModel("b", "x", 0, (shared, deployment(3)))
    ids = [d.id for d in candidates(first, {"a": first, "b": second}, random.Random(3).random)]
    assert sorted(ids[:2]) == [1, 9]
    assert ids[2:] == [3]
