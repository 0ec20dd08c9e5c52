"""What Bedrock's Converse API is sent for a chat in the hub format.

Source: the service model bedrock-runtime 2023-09-30 in botocore 1.44.5 (read 2026-11-21).
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from services.errors import Unsupported
from services.providers import bedrock_models
from services.providers.hubrequests import (
    Media,
    arguments_of,
    choice_of,
    content_of,
    conversation,
    functions_of,
    output_limit,
    reading,
    schema_of,
    stops_of,
)
from services.types import Call
from utils import jsonx

VENDOR: Final = "Bedrock"
UNDERSTOOD: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "functions", "max_tokens", "stop", "n"}
    | {"max_completion_tokens", "temperature", "top_p", "top_k", "response_format", "reasoning_effort", "modalities"}
)
TIERS: Final = {"auto": None, "default": "default", "flex": "flex", "priority": "priority"}
MAX_TEMPERATURE: Final = 1  # the hub's goes up to 2
JSON_ONLY: Final = "Answer with a single JSON object and nothing else."  # Converse has no JSON mode without a schema
NO_PARAMETERS: Final = {"type": "object", "properties": {}}

IMAGES: Final = {f"image/{kind}": kind for kind in ("png", "jpeg", "gif", "webp")} | {"image/jpg": "jpeg"}
DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
SOUNDS: Final = {f"audio/{kind}": kind for kind in ("mp3", "wav", "flac", "ogg", "opus", "aac", "m4a", "mpeg", "webm")}
FILMS: Final = {f"video/{kind}": kind for kind in ("mp4", "webm", "mpeg")} | {"video/quicktime": "mov"}
FORMATS: Final = {"image": IMAGES, "document": DOCUMENTS, "audio": SOUNDS, "video": FILMS}
IN_RESULTS: Final = frozenset({"text", "image", "document", "video"})
TTLS: Final = ("5m", "1h")

MAX_NAME: Final = 200
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9\-()\[\]]+")


def chat_request(call: Call, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body to send, and what of the request is not in it.

    Raises:
        Unsupported: content that Converse cannot take.
    """
    body = call.body
    if (body.get("n") or 1) > 1:
        raise Unsupported("Bedrock gives one choice a call; `n` must be 1", param="n")
    with reading("messages", VENDOR):
        blocks = _Blocks(model)
        system, turns = conversation(body["messages"], blocks)
    with reading("tools", VENDOR):
        tools, is_forced, ignores_choice = _tools(body, model, blocks)
    with reading("response_format", VENDOR):
        form, described = schema_of(body)
        if any(modality != "text" for modality in body.get("modalities") or ()):
            raise Unsupported("Bedrock's models can be asked for text only", param="modalities")
    with reading("stop", VENDOR):
        tuning = bedrock_models.tuning_of(model, body, output_limit(call), is_forced=is_forced)
        inference = _inference(call, tuning.without)
    if form == "json_object":
        system.append({"text": JSON_ONLY})
    tier = TIERS.get(body.get("service_tier") or "auto")
    sent = {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "system": system,
        "inferenceConfig": inference,
        "toolConfig": tools,
        "additionalModelRequestFields": tuning.fields,
        "outputConfig": _output(form, described, tuning.effort),
        "serviceTier": {"type": tier} if tier else None,
    }
    lost = set(tuning.without)
    lost |= {name for name in body if name not in UNDERSTOOD and not (name == "service_tier" and body[name] in TIERS)}
    lost |= {"tool_choice"} if ignores_choice else set()
    return {name: value for name, value in sent.items() if value}, tuple(
        sorted(name for name in lost if body.get(name) is not None)
    )


class _Blocks:
    """See hubrequests.Blocks."""

    vendor = VENDOR
    joins_results = True  # users and assistants take turns, strictly

    def __init__(self, model: str) -> None:
        self._caches = bedrock_models.caches(model)
        self._keeps_thoughts = bedrock_models.claude_version(model) is not None
        self._files: set[str] = set()
        self.called: dict[str, None] = {}  # names of tools in the history, in order

    def text(self, text: str, part: Mapping[str, Any]) -> list[Any]:
        """A blank text is refused there, and so left out."""
        return [{"text": text}, *self.cache_point(part)] if text.strip() else []

    def cache_point(self, holder: Mapping[str, Any]) -> list[Any]:
        """What follows a piece that is marked with Anthropic's `cache_control`."""
        wanted = holder.get("cache_control")
        if not wanted or not self._caches:
            return []
        ttl = {"ttl": wanted["ttl"]} if wanted.get("ttl") in TTLS else {}
        return [{"cachePoint": {"type": "default", **ttl}}]

    def media(self, media: Media) -> Any:
        for kind, formats in FORMATS.items():
            if media.mime in formats:
                name = {"name": self._file_name(media.name)} if kind == "document" else {}
                return {kind: {"format": formats[media.mime], **name, "source": {"bytes": media.data}}}
        raise Unsupported(f"`{media.mime}` cannot be sent to Bedrock", param="messages")

    def _file_name(self, name: str) -> str:
        """The name of a document in the few characters that are allowed, not twice the same."""
        plain = _NOT_IN_NAMES.sub(" ", name.rpartition(".")[0] or name).strip()[:MAX_NAME] or "document"
        number, found = 1, plain
        while found in self._files:
            number += 1
            found = f"{plain[: MAX_NAME - 10]} {number}"
        self._files.add(found)
        return found

    def assistant(self, message: Mapping[str, Any]) -> list[Any]:
        if message.get("function_call"):
            raise Unsupported("`function_call` cannot be sent to Bedrock; `tool_calls` can", param="messages")
        made = _thoughts(message) if self._keeps_thoughts else []
        made += content_of(message, self)
        for call in message.get("tool_calls") or ():
            name = call["function"]["name"]
            self.called[name] = None
            used = {"toolUseId": _tool_id(call.get("id")), "name": name, "input": arguments_of(call, VENDOR)}
            made += [{"toolUse": used}, *self.cache_point(call)]
        return made

    def result(self, message: Mapping[str, Any], name: str) -> list[Any]:
        said = content_of(message, self)
        content = [block for block in said if "cachePoint" not in block]
        for block in content:
            if block.keys().isdisjoint(IN_RESULTS):
                raise Unsupported("a tool's result for Bedrock cannot hold sounds", param="messages")
        # An empty list is refused by some models, an empty text by none (stdapi-ai/stdapi.ai issue 226).
        result = {"toolUseId": _tool_id(message.get("tool_call_id")), "content": content or [{"text": ""}]}
        points = [block for block in said if "cachePoint" in block]
        return [{"toolResult": result}, *points[-1:]]


def _thoughts(message: Mapping[str, Any]) -> list[Any]:
    """What the model thought before, where its signature proves it."""
    made: list[Any] = []
    for block in message.get("thinking_blocks") or ():
        if block["type"] == "redacted_thinking":
            made.append({"reasoningContent": {"redactedContent": block["data"]}})
        elif block.get("signature"):
            thought = {"text": block["thinking"], "signature": block["signature"]}
            made.append({"reasoningContent": {"reasoningText": thought}})
    return made


def _tool_id(given: str | None) -> str:
    """The id of a tool call as Bedrock takes it; another provider's that is too long or strange becomes its hash."""
    if not given:
        raise Unsupported("tool calls and their results must have an id to be sent to Bedrock", param="messages")
    return given if _ID.fullmatch(given) else f"call_{hashlib.sha256(given.encode()).hexdigest()[:32]}"


def _tools(body: Mapping[str, Any], model: str, blocks: _Blocks) -> tuple[dict[str, Any], bool, bool]:
    """The tools, whether one must be called, and whether `tool_choice` could not be obeyed.

    Tools that the history has called must be there, even if nobody declares them any more or none shall be called.
    """
    functions = functions_of(body, VENDOR)
    mode, name = choice_of(body, VENDOR)
    if not blocks.called and (mode == "none" or not functions):
        return {}, False, False
    declared: list[Any] = []
    for function in functions or [{"name": called} for called in blocks.called]:
        spec = {"name": function["name"], "inputSchema": {"json": function.get("parameters") or NO_PARAMETERS}}
        if function.get("description"):
            spec["description"] = function["description"]
        if function.get("strict") and bedrock_models.knows_strict(model):
            spec["strict"] = True
        declared += [{"toolSpec": spec}, *blocks.cache_point(function)]
    config: dict[str, Any] = {"tools": declared}
    is_forced = bool(functions) and mode == "required"
    if is_forced:
        config["toolChoice"] = {"any": {}} if name is None else {"tool": {"name": name}}
    return config, is_forced, mode == "none"


def _inference(call: Call, without: frozenset[str]) -> dict[str, Any]:
    body = call.body
    temperature = body.get("temperature")
    config = {
        "maxTokens": output_limit(call),
        "temperature": None if temperature is None else min(temperature, MAX_TEMPERATURE),
        "topP": body.get("top_p"),
        "stopSequences": stops_of(body) or None,
    }
    unwanted = {"temperature" if "temperature" in without else "", "topP" if "top_p" in without else ""}
    return {name: value for name, value in config.items() if value is not None and name not in unwanted}


def _output(form: str, described: Mapping[str, Any], effort: str | None) -> dict[str, Any]:
    config: dict[str, Any] = {} if effort is None else {"effort": effort}
    if form == "json_schema":
        schema = {"schema": jsonx.dumps(described.get("schema") or {"type": "object"}).decode()}
        schema |= {name: described[name] for name in ("name", "description") if described.get(name)}
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    return config
