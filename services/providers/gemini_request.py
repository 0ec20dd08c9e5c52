"""What Gemini is sent for a chat in the hub format.

Sources: Google's discovery document v1beta of 2026-05-29, google-genai 3.4.0, ai.google.dev/gemini-api/docs/{openai,
thinking,thought-signatures} (read 2026-11-21).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from services.errors import Unsupported
from services.providers.hubrequests import (
    MOST_THOUGHT_TOKENS,
    THOUGHT_TOKENS,
    Media,
    arguments_of,
    choice_of,
    content_of,
    conversation,
    functions_of,
    media_of,
    output_limit,
    reading,
    schema_of,
    stops_of,
)
from services.types import Call
from utils import jsonx

VENDOR: Final = "Gemini"
TUNING: Final = {  # ours: Gemini's
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
TRANSLATED: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "functions", "max_tokens", "stop", "seed"}
)
SHAPES: Final = frozenset(
    {"n", "logprobs", "top_logprobs", "response_format", "modalities", "extra_body", "max_completion_tokens"}
)
UNDERSTOOD: Final = TRANSLATED | SHAPES | TUNING.keys()
MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
TIERS: Final = {"auto": None, "default": "standard", "flex": "flex", "priority": "priority"}
THINKING: Final = {  # as Google's own OpenAI endpoint takes it in `extra_body.google.thinking_config`
    "include_thoughts": "includeThoughts",
    "thinking_budget": "thinkingBudget",
    "thinking_level": "thinkingLevel",
}
LEVELS: Final = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
THINKS: Final = 2.5  # versions before do not, and refuse to be told how much
HAS_LEVELS: Final = 3.0  # versions from here on have levels instead of budgets
LEAST_PRO_BUDGET: Final = 128  # 2.5 Pro cannot do without thinking

# Versions with levels refuse tool calls in the history that have no signature of theirs; this one, which Google gives
# for calls that another model made or whose client lost it, is let through.
FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"
_VERSION: Final = re.compile(r"gemini-(\d+(?:\.\d+)?)")


def chat_request(call: Call, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body to send, and what of the request is not in it.

    Raises:
        Unsupported: content that Gemini cannot take.
    """
    body = call.body
    with reading("messages", VENDOR):
        system, turns = conversation(body["messages"], _Blocks(needs_signatures=version_of(model) >= HAS_LEVELS))
    sent: dict[str, Any] = {
        "contents": [{"role": "model" if role == "assistant" else "user", "parts": parts} for role, parts in turns]
    }
    if system:
        sent["systemInstruction"] = {"parts": system}
    with reading("tools", VENDOR):
        sent |= _tools(body)
    with reading("response_format", VENDOR):
        generation = _limits(call) | _form(body)
    with reading("reasoning_effort", VENDOR):
        thinking = _thinking(body, model)
    if thinking:
        generation["thinkingConfig"] = thinking
    if generation:
        sent["generationConfig"] = generation
    if tier := TIERS.get(body.get("service_tier") or "auto"):
        sent["serviceTier"] = tier
    ignored = {
        "parallel_tool_calls": body.get("parallel_tool_calls") is False,
        "reasoning_effort": not thinking,
        "service_tier": body.get("service_tier") not in TIERS,
    }
    lost = (name for name, value in body.items() if value is not None and ignored.get(name, name not in UNDERSTOOD))
    return sent, tuple(sorted(lost))


def version_of(model: str) -> float:
    """The version in a model's name; a name without one, such as `gemini-flash-latest`, means a new one."""
    found = _VERSION.search(model)
    if found:
        return float(found.group(1))
    return HAS_LEVELS if "gemini" in model else 0.0


def signature_of(holder: Mapping[str, Any]) -> str | None:
    """The signature of a thought that came with a message or tool call, where clients send it back.

    Raises:
        TypeError: it is no text.
    """
    extra = holder.get("extra_content") or {}
    signature = (extra.get("google") or {}).get("thought_signature")
    if not isinstance(signature, str | None):
        raise TypeError("thought_signature")
    return signature


class _Blocks:
    """See hubrequests.Blocks."""

    vendor = VENDOR
    joins_results = False  # a turn of results holds nothing else

    def __init__(self, *, needs_signatures: bool) -> None:
        self._needs_signatures = needs_signatures
        self._ids: set[str] = set()

    def text(self, text: str, part: Mapping[str, Any]) -> list[Any]:
        return [{"text": text}] if text else []

    def media(self, media: Media) -> Any:
        return {"inlineData": {"mimeType": media.mime, "data": media.data}}

    def assistant(self, message: Mapping[str, Any]) -> list[Any]:
        if message.get("function_call"):
            raise Unsupported("`function_call` cannot be sent to Gemini; `tool_calls` can", param="messages")
        parts = content_of(message, self)
        if (signature := signature_of(message)) is not None:
            parts = parts or [{"text": ""}]  # the signature of a text may come with none
            parts[-1]["thoughtSignature"] = signature
        parts += [self.media(media_of(image, VENDOR)) for image in message.get("images") or ()]
        for index, call in enumerate(message.get("tool_calls") or ()):
            part: dict[str, Any] = {
                "functionCall": {"name": call["function"]["name"], "args": arguments_of(call, VENDOR)}
            }
            if call.get("id"):
                part["functionCall"]["id"] = call["id"]
                self._ids.add(call["id"])
            signature = signature_of(call)
            if signature is None and index == 0 and self._needs_signatures:  # the first one's stands for all
                signature = FOREIGN_SIGNATURE
            if signature is not None:
                part["thoughtSignature"] = signature
            parts.append(part)
        return parts

    def result(self, message: Mapping[str, Any], name: str) -> list[Any]:
        said = content_of(message, self)
        text = "".join(part["text"] for part in said if "text" in part)
        response: dict[str, Any] = {"name": name, "response": _as_object(text)}
        if message.get("tool_call_id") in self._ids:
            response["id"] = message["tool_call_id"]
        if media := [part for part in said if "text" not in part]:
            response["parts"] = media
        return [{"functionResponse": response}]


def _as_object(text: str) -> dict[str, Any]:
    """A tool's answer, which must be an object."""
    try:
        value = jsonx.loads(text) if text.lstrip().startswith("{") else None
    except jsonx.BadJson:
        value = None
    return value if isinstance(value, dict) else {"result": text}


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    functions = functions_of(body, VENDOR)
    mode, name = choice_of(body, VENDOR)
    if not functions:
        return {}
    declared = []
    for function in functions:
        declaration = {member: function[member] for member in ("name", "description") if function.get(member)}
        if function.get("parameters"):
            declaration["parametersJsonSchema"] = function["parameters"]
        declared.append(declaration)
    sent: dict[str, Any] = {"tools": [{"functionDeclarations": declared}]}
    if body.get("tool_choice"):
        only = {} if name is None else {"allowedFunctionNames": [name]}
        sent["toolConfig"] = {"functionCallingConfig": {"mode": MODES[mode], **only}}
    return sent


def _limits(call: Call) -> dict[str, Any]:
    """How the answer is chosen, and how long it may be."""
    body = call.body
    config = {theirs: body[ours] for ours, theirs in TUNING.items() if body.get(ours) is not None}
    if (limit := output_limit(call)) is not None:
        config["maxOutputTokens"] = limit
    if stops := stops_of(body):
        config["stopSequences"] = stops
    if body.get("seed") is not None:
        config["seed"] = body["seed"] & 0x7FFF_FFFF  # it has 31 bits there
    if (body.get("n") or 1) > 1:
        config["candidateCount"] = body["n"]
    if body.get("logprobs"):
        config["responseLogprobs"] = True
        if body.get("top_logprobs"):
            config["logprobs"] = body["top_logprobs"]
    return config


def _form(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer shall look like."""
    form, described = schema_of(body)
    config: dict[str, Any] = {} if form == "text" else {"responseMimeType": "application/json"}
    if described.get("schema"):
        config["responseJsonSchema"] = described["schema"]
    modalities = [modality.upper() for modality in body.get("modalities") or ()]
    if set(modalities) - {"TEXT", "IMAGE"}:
        raise Unsupported("Gemini can be asked for text and pictures only", param="modalities")
    return config | ({"responseModalities": modalities} if "IMAGE" in modalities else {})


def _thinking(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """How much the model shall think; nothing where it does not think or nobody asked."""
    exact = ((body.get("extra_body") or {}).get("google") or {}).get("thinking_config")
    if exact:
        return {THINKING.get(name, name): value for name, value in exact.items()}
    effort, version = body.get("reasoning_effort"), version_of(model)
    if effort is None or version < THINKS:
        return {}
    is_shown = {"includeThoughts": effort != "none"}
    if version >= HAS_LEVELS and _VERSION.search(model):
        level = LEVELS.get(effort, "HIGH")
        return {"thinkingLevel": "LOW" if level == "MINIMAL" and "pro" in model else level} | is_shown
    budget = THOUGHT_TOKENS.get(effort, MOST_THOUGHT_TOKENS)  # which models without a version in their name take too
    return {"thinkingBudget": max(budget, LEAST_PRO_BUDGET) if "pro" in model else budget} | is_shown
