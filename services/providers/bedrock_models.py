"""What families of models on Bedrock want beyond the Converse API, told apart by their ids.

Behind the id of an application's own inference profile any model may stand; such a one gets what all have in common.
Sources: docs.aws.amazon.com/bedrock/latest/userguide (claude-messages-adaptive-thinking, model-parameters-*) and
docs.aws.amazon.com/nova, read 2026-11-21.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from services.providers.hubrequests import MOST_THOUGHT_TOKENS, THOUGHT_TOKENS

SAMPLING: Final = ("temperature", "top_p", "top_k")
LEAST_CLAUDE_BUDGET: Final = 1024
NEWEST: Final = (99, 0)  # of Claudes without a number in their name
_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)?v?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
NOVA_EFFORTS: Final = {
    "minimal": "low",
    "low": "low",
}  # else medium: high goes with no output limit, which budgets need
GPT_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium"}
CLAUDE_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}


class Tuning(NamedTuple):
    """What of a request is said in a model's own words, and what is not said at all."""

    fields: dict[str, Any]  # additionalModelRequestFields
    effort: str | None = None  # outputConfig.effort
    without: frozenset[str] = frozenset()


def claude_version(model: str) -> tuple[int, int] | None:
    """The version of a Claude; None = it is none."""
    if "claude" not in model:
        return None
    found = _CLAUDE.search(model)
    return (int(found.group(1)), int(found.group(2) or 0)) if found else NEWEST


def caches(model: str) -> bool:
    """Whether the model knows cache points."""
    return "claude" in model or "nova" in model


def knows_strict(model: str) -> bool:
    """Whether the model can be held to the schemas of its tools."""
    return (claude_version(model) or (0, 0)) >= (4, 5)


def tuning_of(model: str, body: Mapping[str, Any], limit: int | None, *, is_forced: bool) -> Tuning:
    """How a request is tuned for a model; `is_forced`: it must call a tool, which thinking Claudes refuse."""
    effort = body.get("reasoning_effort")
    effort = None if effort == "none" else effort
    version = claude_version(model)
    if version is not None:
        return _claude(version, body, effort, limit, is_forced=is_forced)
    fields: dict[str, Any] = {}
    without = set()
    if body.get("top_k") is not None:
        if "nova" in model:
            fields["inferenceConfig"] = {"topK": body["top_k"]}
        else:
            without.add("top_k")
    if effort and "nova-2" in model:
        fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": NOVA_EFFORTS.get(effort, "medium")}
    elif effort and "gpt-oss" in model:
        fields["reasoning_effort"] = GPT_EFFORTS.get(effort, "high")
    elif effort:
        without.add("reasoning_effort")
    return Tuning(fields, None, frozenset(without))


def _claude(
    version: tuple[int, int], body: Mapping[str, Any], effort: str | None, limit: int | None, *, is_forced: bool
) -> Tuning:
    thinking = None if effort is None or is_forced else _thinking(version, body, effort, limit)
    without = set() if effort is None or thinking else {"reasoning_effort"}
    if thinking or version >= (4, 7):  # these take no other sampling than their own
        without.update(SAMPLING)
    elif version >= (4, 1) and body.get("temperature") is not None:  # one of both, not two
        without.add("top_p")
    fields: dict[str, Any] = {"thinking": thinking} if thinking else {}
    if body.get("top_k") is not None and "top_k" not in without:
        fields["top_k"] = body["top_k"]
    is_adaptive = thinking is not None and thinking["type"] == "adaptive"
    highest = "xhigh" if version >= (4, 7) else "high"
    return Tuning(fields, CLAUDE_EFFORTS.get(effort or "", highest) if is_adaptive else None, frozenset(without))


def _thinking(
    version: tuple[int, int], body: Mapping[str, Any], effort: str, limit: int | None
) -> dict[str, Any] | None:
    """How a Claude shall think; None where it cannot."""
    if version >= (4, 6):
        return {"type": "adaptive"}
    # A budget is part of the output, whose limit is not raised for it: the books have promised it. Half is for answers.
    budget = min(THOUGHT_TOKENS.get(effort, MOST_THOUGHT_TOKENS), MOST_THOUGHT_TOKENS if limit is None else limit // 2)
    if version < (3, 7) or budget < LEAST_CLAUDE_BUDGET or _lost_its_thoughts(body["messages"]):
        return None
    return {"type": "enabled", "budget_tokens": budget}


def _lost_its_thoughts(messages: list[Mapping[str, Any]]) -> bool:
    """Whether tools that were called have answered, and what the model thought before it called them is not there."""
    last: Mapping[str, Any] = next((message for message in reversed(messages) if message["role"] != "tool"), {})
    return bool(last.get("tool_calls")) and not last.get("thinking_blocks")
