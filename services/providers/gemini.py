"""Google's Gemini API, as the Gemini Developer API serves it with a key: generateContent and batchEmbedContents.

Setting of such a provider: `api_version`. Sources as in gemini_request.py. Pictures, sounds and documents must come
with the request: no address is fetched for anybody.
"""

import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from services.errors import Unsupported, UpstreamError
from services.providers.base import UpstreamRequest, WholeAnswer, error_event, expecting, parse_object, refused
from services.providers.gemini_answer import (
    GeminiStream,
    finish_of,
    index_of,
    logprobs_of,
    read_candidate,
    refusal_of,
    usage_of,
)
from services.providers.gemini_request import VENDOR, chat_request
from services.providers.hubanswers import frame, hub_usage, packed, unstreamed
from services.types import CHAT, EMBEDDING, Call, Deployment, Usage
from utils import jsonx

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
TOO_MANY: Final = 429
API_VERSION: Final = "v1beta"
LISTED: Final = 1000  # models on a page, the most there may be
SERVES: Final = frozenset({"generateContent", "embedContent", "batchEmbedContents"})
EMBEDDING_UNDERSTOOD: Final = frozenset({"model", "input", "dimensions", "encoding_format", "task_type", "title"})
LISTS: Final = ("tool_calls", "images")  # of a message
TOO_LONG: Final = ("input token count", "exceeds the maximum")  # no status of theirs says it


class Gemini:
    """See the module."""

    operations = frozenset({CHAT, EMBEDDING})
    not_streams = ("text/html", "application/json")

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        upstream = deployment.upstream
        if call.operation == EMBEDDING:
            method, (sent, dropped) = "batchEmbedContents", _embedding_request(call.body, deployment.model)
        else:
            method = "streamGenerateContent?alt=sse" if call.is_stream else "generateContent"
            sent, dropped = chat_request(call, deployment.model)
        path = f"{_root(upstream.settings)}/{quote(_resource(deployment.model))}:{method}"
        return UpstreamRequest("POST", path, _headers(upstream.credential), jsonx.dumps(sent), dropped)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        answer = parse_object(body)
        if answer.get("error"):
            raise error_event(answer["error"])
        with expecting("an answer of Gemini"):
            return _embeddings(call, answer) if call.operation == EMBEDDING else _completion(call, answer)

    def stream(self, call: Call) -> GeminiStream:
        """See Wire.stream."""
        return GeminiStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error. A key that opens nothing is a 400 here, and so is a country that may not use it."""
        error = _error_object(body)
        details = [detail for detail in _listed(error.get("details")) if isinstance(detail, dict)]
        message, code = str(error.get("message") or ""), error.get("status")
        is_key = any(str(detail.get("reason")).startswith("API_KEY_") for detail in details)
        if status == BAD_REQUEST and (is_key or code == "FAILED_PRECONDITION"):
            status = FORBIDDEN
        if all(words in message.lower() for words in TOO_LONG):
            code = "context_length_exceeded"
        delay = next((detail["retryDelay"] for detail in details if "retryDelay" in detail), None)
        if "retry-after" not in headers and (seconds := _seconds(delay)) is not None:
            headers = {**headers, "retry-after": str(seconds)}
        kind = "rate_limit_error" if status == TOO_MANY else None
        return refused(status, headers, {"message": message, "code": code, "type": kind}, deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list."""
        return f"{_root(settings)}/models?pageSize={LISTED}", dict(_headers(credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names."""
        listed = parse_object(body).get("models")
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        return [
            entry["name"].removeprefix("models/")
            for entry in listed
            if isinstance(entry, dict)
            and isinstance(entry.get("name"), str)
            and not SERVES.isdisjoint(map(str, _listed(entry.get("supportedGenerationMethods")) or SERVES))
        ]


def _root(settings: Mapping[str, Any]) -> str:
    return f"/{settings.get('api_version') or API_VERSION}"


def _resource(model: str) -> str:
    """What a model is called in a path; tuned ones stand in another collection."""
    return model if "/" in model else f"models/{model}"


def _headers(credential: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", "application/json"), *((("x-goog-api-key", credential),) if credential else ()))


def _embedding_request(body: Mapping[str, Any], model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    given = body["input"]
    texts = given if isinstance(given, list) else [given]
    if any(not isinstance(text, str) for text in texts):
        raise Unsupported(f"{VENDOR} embeds texts; token ids cannot be sent", param="input")
    wanted = {"outputDimensionality": "dimensions", "taskType": "task_type", "title": "title"}
    more = {theirs: body[ours] for theirs, ours in wanted.items() if body.get(ours) is not None}
    requests = [{"model": _resource(model), "content": {"parts": [{"text": text}]}, **more} for text in texts]
    return {"requests": requests}, tuple(sorted(body.keys() - EMBEDDING_UNDERSTOOD))


def _embeddings(call: Call, answer: Mapping[str, Any]) -> WholeAnswer:
    is_packed = call.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": packed(entry["values"]) if is_packed else list(entry["values"]),
        }
        for index, entry in enumerate(answer["embeddings"])
    ]
    told = usage_of(answer.get("usageMetadata"))
    usage = Usage(told.input_tokens if told else None, 0)
    counts = {"prompt_tokens": usage.input_tokens or 0, "total_tokens": usage.input_tokens or 0}
    hub = {"object": "list", "data": data, "model": call.body["model"], "usage": counts}
    return WholeAnswer(jsonx.dumps(hub), usage)


def _completion(call: Call, answer: Mapping[str, Any]) -> WholeAnswer:
    choices, pieces = [], list[str]()
    for candidate in answer.get("candidates") or ():
        said = read_candidate(call, candidate, 0, pieces)
        finish = finish_of(candidate["finishReason"], has_tools="tool_calls" in said)
        said |= {name: [unstreamed(made) for made in said[name]] for name in LISTS if name in said}
        message = {"role": "assistant", "content": None, "refusal": None} | said
        choice = {"index": index_of(candidate), "message": message, "logprobs": logprobs_of(candidate)}
        choices.append({**choice, "finish_reason": finish})
    if (refusal := refusal_of(answer)) is not None:
        message = {"role": "assistant", "content": None, "refusal": refusal}
        choices.append({"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"})
    if not choices:
        raise UpstreamError("the upstream answered without a candidate")
    usage = usage_of(answer.get("usageMetadata"))
    hub = {**frame(call, is_chunk=False), "choices": choices}
    if (counts := hub_usage(usage)) is not None:
        hub["usage"] = counts
    return WholeAnswer(jsonx.dumps(hub), usage, tuple(pieces))


def _error_object(body: bytes) -> dict[str, Any]:
    """The error in a body, which is an array where a stream was asked for; empty where there is none."""
    try:
        raw = jsonx.loads(body)
    except jsonx.BadJson:
        return {}
    first = raw[0] if isinstance(raw, list) and raw else raw
    error = first.get("error") if isinstance(first, dict) else None
    return error if isinstance(error, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _seconds(delay: Any) -> int | None:
    """Google's `58.9s` in whole seconds."""
    try:
        return math.ceil(float(str(delay).removesuffix("s")))
    except (ValueError, OverflowError):
        return None
