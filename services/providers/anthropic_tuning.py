"""How a chat in the hub format shall be answered, in the members of Anthropic's Messages API.

What models take differs by their version (platform.claude.com/docs: thinking-troubleshooting, effort, and the
OpenAPI document of 2026-05-31; read 2026-11-21):

- after Claude 4.6: no `temperature`, `top_p`, `top_k`; thinking only as `adaptive`, as deep as `output_config.effort`;
- Claude 4.6: both, effort up to `high` and `max`; 3.7 to 4.5: thinking by a budget of tokens; before: none;
- while a model of these thinks, `temperature` and `top_k` are refused, and so is a forced tool.

`reasoning_effort` becomes effort with adaptive thinking, or a share of the output limit as a budget: never more than
the call was admitted for. `none` switches thinking off, and from Claude 5 on, where some models cannot do without, asks
for the least effort. The names of models that are not Claude's say nothing: they get a budget, unless the provider's
setting `thinking` says `adaptive`.
"""

import re
from typing import Any, Final

from services.errors import Unsupported
from services.types import Call, Chat, Deployment

LIMIT: Final = 4096  # output tokens of a call whose caller and model say nothing; Anthropic wants a limit with each
LEAST_BUDGET: Final = 1024  # tokens
SHARES: Final = {  # of the output limit that may be thought with, in percent
    "minimal": 10,
    "low": 20,
    "medium": 50,
    "high": 80,
    "xhigh": 90,
    "max": 95,
}
EFFORTS: Final = {name: name for name in ("low", "medium", "high", "xhigh", "max")} | {"minimal": "low"}
FIRST_THINKING: Final = (3, 7)
ONE_SAMPLING: Final = (4, 1)  # from here on, `temperature` and `top_p` exclude each other
ADAPTIVE: Final = (4, 6)  # from here on
ALWAYS_THINKING: Final = (5, 0)  # some models from here on
NEWEST: Final = (99, 0)
LEAST_TOP_P: Final = 0.95  # while a model thinks
ANY_TOP_P: Final = 0.99  # as good as none
FORCED: Final = ("any", "tool")
TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
MAX_USER: Final = 512  # characters
JSON_ONLY: Final = "Answer with one JSON object and nothing else."
VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def version_of(model: str) -> tuple[int, int] | None:
    """The version in a model's name; the newest where Claude's name has none, None where it is not Claude."""
    if (found := VERSION.search(model)) is not None:
        return int(found[1]), int(found[2] or 0)
    return NEWEST if "claude" in model else None


def limit_of(call: Call) -> int:
    """The output limit that is sent: the caller's, or what the call was admitted for."""
    body, model = call.body, call.model
    return int(
        body.get("max_completion_tokens")
        or body.get("max_tokens")
        or call.max_output_tokens
        or (model.max_output_tokens if model is not None else None)
        or (call.bound.output_tokens if call.bound is not None else None)
        or LIMIT
    )


def tool_choice(body: Chat, tools: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The tools that may be chosen from, and the choice; None = as the model likes.

    Raises:
        Unsupported: a choice of something that is no function.
    """
    given, choice = body.get("tool_choice"), None
    if isinstance(given, dict) and given.get("type") == "allowed_tools":
        allowed = given.get("allowed_tools")
        given, names = _allowed(allowed if isinstance(allowed, dict) else {})
        tools = [tool for tool in tools if tool["name"] in names]
    if isinstance(given, dict):
        function = given.get("function")
        if given.get("type") != "function" or not isinstance(function, dict):
            raise Unsupported(f"the tool choice `{given.get('type')}` cannot be sent to Anthropic", param="tool_choice")
        choice = {"type": "tool", "name": function["name"]}
    elif given in ("none", "required"):
        choice = {"type": "none" if given == "none" else "any"}
    if body.get("parallel_tool_calls") is False and given != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return tools, choice


def _allowed(allowed: dict[str, Any]) -> tuple[str, list[Any]]:
    listed = allowed.get("tools")
    tools = [tool for tool in listed if isinstance(tool, dict)] if isinstance(listed, list) else []
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]
    return "required" if allowed.get("mode") == "required" else "auto", [one.get("name") for one in functions]


def output_format(body: Chat) -> tuple[dict[str, Any] | None, str]:
    """The format of the answer, and an instruction where Anthropic has no format for it.

    Raises:
        Unsupported: a format nobody knows.
    """
    given = body.get("response_format") or {"type": "text"}
    if given.get("type") == "text":
        return None, ""
    named = given.get("json_schema") if given.get("type") == "json_schema" else {}
    if not isinstance(named, dict) or given.get("type") not in ("json_schema", "json_object"):
        raise Unsupported("this `response_format` cannot be had from Anthropic", param="response_format")
    schema = named.get("schema")
    if not isinstance(schema, dict):
        return None, JSON_ONLY
    described = {"description": named["description"]} if isinstance(named.get("description"), str) else {}
    return {"type": "json_schema", "schema": {**described, **schema}}, ""


def think(call: Call, deployment: Deployment, sent: dict[str, Any]) -> list[str]:
    """Put `thinking` and the effort into what is sent; returns what could not be heeded.

    Raises:
        Unsupported: `thinking` is no object.
    """
    body, limit = call.body, sent["max_tokens"]
    own, effort = body.get("thinking"), body.get("reasoning_effort")
    version = version_of(deployment.model)
    is_adaptive = deployment.upstream.settings.get("thinking") == "adaptive" or (version or (0, 0)) >= ADAPTIVE
    dropped = []
    if own is not None:
        dropped += _own(own, limit, sent)
    if effort is None:
        return dropped
    if is_adaptive:
        good = _adaptive(effort, version or NEWEST, sent)
    else:
        good = own is None and _budget(effort, limit, version or FIRST_THINKING, sent)
    return dropped if good else [*dropped, "reasoning_effort"]


def _own(own: Any, limit: int, sent: dict[str, Any]) -> list[str]:
    """The caller's own `thinking`, with a budget below the limit."""
    if not isinstance(own, dict):
        raise Unsupported("`thinking` must be an object", param="thinking")
    budget = own.get("budget_tokens")
    if isinstance(budget, int) and budget >= limit:
        if limit <= LEAST_BUDGET:
            return ["thinking"]
        own = {**own, "budget_tokens": limit - 1}
    sent["thinking"] = own
    return []


def _adaptive(effort: str, version: tuple[int, int], sent: dict[str, Any]) -> bool:
    level = EFFORTS.get(effort)
    if effort == "none" and version < ALWAYS_THINKING:
        sent.setdefault("thinking", {"type": "disabled"})
        return True
    if effort == "none":
        level = "low"
    elif level is not None and sent.get("tool_choice", {}).get("type") not in FORCED:
        # Newer models leave the text of their thinking out unless they are asked for it.
        sent.setdefault("thinking", {"type": "adaptive", "display": "summarized"})
    if level is None:
        return False
    if level == "xhigh" and version == ADAPTIVE:
        level = "high"
    sent["output_config"] = {**sent.get("output_config", {}), "effort": level}
    return True


def _budget(effort: str, limit: int, version: tuple[int, int], sent: dict[str, Any]) -> bool:
    if effort == "none":
        return True
    is_possible = version >= FIRST_THINKING and limit > LEAST_BUDGET and _may_begin_to_think(sent["messages"])
    if effort not in SHARES or not is_possible or sent.get("tool_choice", {}).get("type") in FORCED:
        return False
    budget = min(max(limit * SHARES[effort] // 100, LEAST_BUDGET), limit - 1)
    sent["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


def _may_begin_to_think(messages: list[dict[str, Any]]) -> bool:
    """A model that called tools without thinking, as far as the conversation shows, must go on without it."""
    last = next((message["content"] for message in reversed(messages) if message["role"] == "assistant"), "")
    kinds = [block["type"] for block in last] if isinstance(last, list) else []
    return "tool_use" not in kinds or kinds[0] in ("thinking", "redacted_thinking")


def sample(body: Chat, deployment: Deployment, sent: dict[str, Any]) -> list[str]:
    """Put temperature, top_p and top_k into what is sent; returns what the model would refuse and does differ."""
    given = {name: body[name] for name in ("temperature", "top_p", "top_k") if body.get(name) is not None}
    version = version_of(deployment.model)
    taken = set(given)
    if version is not None and version > ADAPTIVE:
        taken = set()
    elif sent.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        taken = {"top_p"} if given.get("top_p", 0) >= LEAST_TOP_P else set()
    elif version is not None and version >= ONE_SAMPLING and "temperature" in given:
        taken -= {"top_p"}
    for name, value in given.items():
        if name in taken:
            sent[name] = min(max(value, 0), 1) if name == "temperature" else value
    return [name for name, value in given.items() if name not in taken and not _is_usual(name, value)]


def _is_usual(name: str, value: Any) -> bool:
    return (name == "temperature" and value == 1) or (name == "top_p" and value >= ANY_TOP_P)


def rest(body: Chat, sent: dict[str, Any]) -> list[str]:
    """Put stop texts, user, tier and caching into what is sent; returns what could not be heeded."""
    dropped = []
    if (stop := body.get("stop")) is not None:
        texts = [stop] if isinstance(stop, str) else stop
        if good := [text for text in texts if text.strip()]:
            sent["stop_sequences"] = good
        if len(good) < len(texts):
            dropped.append("stop")
    metadata = body.get("metadata") or {}
    user = metadata.get("user_id") or body.get("user")
    if isinstance(user, str) and 0 < len(user) <= MAX_USER:
        sent["metadata"] = {"user_id": user}
    elif user:
        dropped.append("user")
    if metadata.keys() - {"user_id"}:
        dropped.append("metadata")
    if (tier := body.get("service_tier")) is not None:
        if tier in TIERS:
            sent["service_tier"] = TIERS[tier]
        else:
            dropped.append("service_tier")
    if body.get("cache_control") is not None:
        sent["cache_control"] = body["cache_control"]
    return dropped
