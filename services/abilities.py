"""What models can be asked for, before anybody asks: by their providers' wires, their prices and vendors' names.

A wire says what its dialect can carry, for all models of a provider. Which of these one model answers, only its vendor
knows; what is shown to people leaves out those whose price or name says that they do not chat. Calls are refused by the
wire alone.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from services.health import Health
from services.providers import WIRES
from services.providers.base import Wire
from services.types import CHAT, Caller, Deployment, PublicModel, Upstream

BUILT_IN: Final = "echo"  # the kind of provider that every gateway has, and its model that behaves
OTHERS: Final = re.compile(  # what vendors call models that make vectors, pictures, sounds, rankings, verdicts
    r"(?:^|[^a-z0-9])(?:\w*embed(?:ding)?s?|\w*rerank(?:er)?|whisper|tts|transcribe|speech|dall-e|gpt-image|imagen|"
    r"stable-diffusion|flux|sora|veo|\w*moderation|bge|e5)(?![a-z])",
    re.IGNORECASE,
)


def operations(wires: Mapping[str, Wire], upstream: Upstream) -> frozenset[str]:
    """What the provider's wire, of these, can carry, less what its settings leave out."""
    wire, offered = wires.get(upstream.kind), upstream.settings.get("operations")
    if wire is None:
        return frozenset()
    return wire.operations.intersection(map(str, offered)) if isinstance(offered, list) else wire.operations


def chats(model: PublicModel, caller: Caller) -> bool:
    """Whether the caller can have a conversation with it, as far as anybody can tell."""
    return any(is_chat(one) for one in model.deployments if caller.may_reach(one))


def best(models: Iterable[PublicModel], caller: Caller, health: Health, *, needs_price: bool) -> str:
    """The name of the one that is likeliest to answer a chat now, a provider's rather than a built-in one.

    Empty = there is none. Where none would answer, one is named all the same: its call then says why.
    """
    offered = list(models)
    return min(offered, key=lambda model: _rank(model, caller, health, needs_price)).name if offered else ""


def _rank(model: PublicModel, caller: Caller, health: Health, needs_price: bool) -> tuple[bool, bool, bool, bool]:
    able = [one for one in model.deployments if caller.may_reach(one) and is_chat(one)]
    priced = [one for one in able if one.price is not None]
    usable = health.usable(priced or ([] if needs_price else able))
    is_built_in = all(one.upstream.kind == BUILT_IN for one in usable)
    return not usable, is_built_in, not priced, model.name != BUILT_IN


def is_chat(deployment: Deployment) -> bool:
    """Whether it has conversations, as far as anybody can tell."""
    price = deployment.price
    makes_images = price is not None and price.image_nanousd > 0
    return CHAT in operations(WIRES, deployment.upstream) and not makes_images and not OTHERS.search(deployment.model)
