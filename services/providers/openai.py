"""OpenAI's own dialect. Bytes pass through; usage is read on the way.

What compatible vendors do differently is in services/providers/compatible.py. Settings of such a provider:
`organization` (header), `max_tokens_field` (name of the output limit in chats), `stream_usage` false for servers that
refuse `stream_options`, `cache_control` true for those that know such marks, `responses` (see responses.py).
"""

from collections.abc import Mapping
from typing import Any, Final

from services.errors import UpstreamError
from services.providers import openai_other, translated
from services.providers.base import (
    SHAPE_ERRORS,
    StreamDecoder,
    UpstreamRequest,
    WholeAnswer,
    error_event,
    error_object,
    expecting,
    parse_object,
    refused,
    tokens,
)
from services.providers.events import EventStream
from services.providers.toolcalls import ToolCalls, mend_message
from services.types import CHAT, COMPLETION, EMBEDDING, Call, Chat, Deployment, Usage
from utils import jsonx, sse

PATHS: Final = {CHAT: "/chat/completions", COMPLETION: "/completions", EMBEDDING: "/embeddings", **openai_other.PATHS}
DIALECT: Final = "openai"
TOOLS: Final = b'"tool_calls"'  # without which nothing of a tool call is in there
OFFICIAL: Final = "api.openai.com"  # its newer models refuse max_tokens (developers.openai.com, read 2026-11-21)


class OpenAI:
    """See the module."""

    operations = frozenset(PATHS)
    not_streams = ("text/html", "application/json")

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode: the caller's own body with another model name, and what the books need."""
        settings = deployment.upstream.settings
        headers = request_headers(call, headers_of(settings, deployment.upstream.credential))
        if call.operation in openai_other.PATHS:
            return openai_other.encode(call, deployment, headers)
        body, dropped = request_body(call, deployment, settings)
        return UpstreamRequest("POST", PATHS[call.operation], headers, jsonx.dumps(body), dropped)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        if call.operation in openai_other.PATHS:
            return openai_other.decode(call, body)
        answer = parse_object(body)
        if answer.get("error"):
            raise error_event(answer["error"])
        if not isinstance(answer.get("choices", answer.get("data")), list):
            raise UpstreamError("the upstream answered with JSON that is no completion")
        pieces: list[str] = []
        with expecting("a completion"):
            if TOOLS in body and sum(
                mend_message(choice["message"], call.id.removeprefix("req_")) for choice in answer["choices"]
            ):
                body = jsonx.dumps(answer)
            for choice in answer.get("choices", ()):
                collect(choice, "message", pieces)
        return WholeAnswer(body, usage_of(answer.get("usage")), tuple(pieces))

    def stream(self, call: Call) -> StreamDecoder:
        """See Wire.stream."""
        if call.operation in openai_other.PATHS:
            return openai_other.stream(call)
        return OpenAIStream(call, wants_usage=call.wants_usage, name=call.id.removeprefix("req_"))

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error."""
        return refused(status, headers, error_detail(body), deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list."""
        return "/models", dict(headers_of(settings, credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names."""
        listed = parse_object(body).get("data")
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        return [entry["id"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def request_body(call: Call, deployment: Deployment, settings: Mapping[str, Any]) -> tuple[Chat, tuple[str, ...]]:
    """The caller's body with another model name and what the books need; and what of it OpenAI would refuse."""
    body, dropped = _asked(call, deployment, settings), tuple[str, ...]()
    if call.native is not None and OFFICIAL in deployment.upstream.base_url:
        dropped = translated.refused_by_openai(body, deployment.model)
        body = {name: value for name, value in body.items() if name not in dropped}
    if call.is_stream:
        if settings.get("stream_usage", True):
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
    if call.max_output_tokens is not None:
        body[_limit_field(call, deployment, settings)] = call.max_output_tokens
    return body, dropped


def request_headers(call: Call, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Ours, and the caller's where it speaks the same dialect."""
    return headers + call.forwarded if call.dialect == DIALECT else headers


class OpenAIStream(EventStream):
    """Hands an upstream's events on byte for byte, but for the usage its caller did not ask for.

    Broken pieces of tool calls are put right; `name` makes ids for calls that have none.
    """

    def __init__(self, call: Call, *, wants_usage: bool, name: str = "") -> None:
        super().__init__(sse.DONE)
        self.usage: Usage | None = None
        self._call, self._pieces, self._wants_usage = call, call.pieces, wants_usage
        self._tools = ToolCalls(name)
        self._has_tools = False

    def _event(self, event: bytes) -> bytes:
        payload = sse.data_of(event)
        if payload is None or self.is_done:
            return event if payload is None and not self.is_done else b""
        if payload.strip() == b"[DONE]":
            self.is_done, self._held = True, event
            return b""
        try:
            chunk = jsonx.peek(payload)
            if chunk.get("error"):
                raise error_event(chunk["error"])
            return self._chunk(event, chunk)
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def _chunk(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        choices = chunk.get("choices") or ()
        self._has_tools = self._has_tools or TOOLS in event
        if self._has_tools and sum(map(self._tools.mend, choices)):
            event = sse.format_event(chunk)
        for choice in choices:
            collect(choice, "delta", self._pieces)
            if choice.get("finish_reason"):
                self._is_finished = True
        if "usage" not in chunk:
            return event if choices or self._wants_usage or "choices" not in chunk else b""
        if chunk["usage"] is None:
            if not choices and not self._wants_usage:  # who did not ask for usage may count on choices in every chunk
                return b""
            # A quote within a text would be escaped, so these bytes can only be the member itself.
            return event if self._wants_usage else event.replace(b',"usage":null', b"")
        self._told(usage_of(chunk["usage"]))
        return event if choices or self._wants_usage else b""

    def _told(self, usage: Usage | None) -> None:
        """A report of what was used so far; None reports nothing."""
        if usage is not None:
            self.usage, self._call.told_pieces = usage, len(self._pieces)


def usage_of(raw: Any) -> Usage | None:
    """OpenAI's usage object; None when it counts nothing.

    Cached, audio and reasoning tokens are parts of the totals; what is more than its whole is no report of a part.
    """
    if not isinstance(raw, dict):
        return None
    prompt, completion = _details(raw, "prompt_tokens_details"), _details(raw, "completion_tokens_details")
    given, output = tokens(raw.get("prompt_tokens")), _output(raw, completion)
    if given is None and output is None:
        return None
    cached, written = _cached(raw, prompt), tokens(prompt.get("cache_write_tokens"))
    if (cached or 0) + (written or 0) > (given or 0):
        cached = written = None
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        reasoning_output_tokens=_part(completion, "reasoning_tokens", output),
        input_audio_tokens=_part(prompt, "audio_tokens", given),
        output_audio_tokens=_part(completion, "audio_tokens", output),
    )


def _cached(raw: dict[str, Any], details: dict[str, Any]) -> int | None:
    """Cached input, under whichever name: OpenAI's, DeepSeek's, that of Moonshot and Together."""
    for holder, name in ((details, "cached_tokens"), (raw, "prompt_cache_hit_tokens"), (raw, "cached_tokens")):
        if (found := tokens(holder.get(name))) is not None:
            return found
    return None


def _details(raw: dict[str, Any], name: str) -> dict[str, Any]:
    details = raw.get(name)
    return details if isinstance(details, dict) else {}


def _part(details: dict[str, Any], name: str, whole: int | None) -> int | None:
    part = tokens(details.get(name))
    return part if part is None or part <= (whole or 0) else None


def _output(raw: dict[str, Any], details: dict[str, Any]) -> int | None:
    """Output with reasoning. Some servers leave it out of `completion_tokens`, but not out of the total."""
    output, total, given = (tokens(raw.get(name)) for name in ("completion_tokens", "total_tokens", "prompt_tokens"))
    if output is None or total is None or given is None:
        return output
    missing, reasoning = total - given - output, tokens(details.get("reasoning_tokens"))
    return output + missing if missing > 0 and (reasoning or missing) == missing else output


def collect(choice: Any, member: str, pieces: list[str]) -> None:
    """Add the generated text of one choice to the pieces: content, reasoning, refusals, tool arguments."""
    message = choice.get(member)
    if message is None:
        text = choice.get("text")  # of /v1/completions
        if isinstance(text, str) and text:
            pieces.append(text)
        return
    for name, value in message.items():
        if isinstance(value, str) and value and name != "role":
            if name != "reasoning" or "reasoning_content" not in message:  # some say the same thought under both names
                pieces.append(value)
        elif name == "tool_calls" and value:
            pieces.extend(
                text for call in value for text in (call.get("function") or {}).values() if isinstance(text, str)
            )


def error_detail(body: bytes) -> dict[str, Any]:
    """Message, type, code and param of an error body, as far as it has them.

    Servers made with FastAPI, as many are, say it in `detail`: a text, or a list of what is wrong where
    (fastapi.tiangolo.com/tutorial/handling-errors, read 2026-11-21). Google puts the object into a list.
    """
    try:
        raw = jsonx.loads(body)
    except jsonx.BadJson:
        return {}
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if not isinstance(raw, dict):
        return {}
    return error_object(raw.get("error") or (raw if "message" in raw else raw.get("detail")) or raw)


def _asked(call: Call, deployment: Deployment, settings: Mapping[str, Any]) -> Chat:
    """The caller's body with the model's name there, in OpenAI's own words where it was translated."""
    if call.native is None:
        return {**call.body, "model": deployment.model}
    is_official = OFFICIAL in deployment.upstream.base_url
    body = translated.plain(
        call.body,
        limit_field=_limit_field(call, deployment, settings),
        without=(translated.THINKING, translated.REASONING) if is_official else (translated.THINKING,),
        marks_cache=bool(settings.get("cache_control")),
    )
    return body | {"model": deployment.model}


def _limit_field(call: Call, deployment: Deployment, settings: Mapping[str, Any]) -> str:
    if call.operation != CHAT:
        return "max_tokens"
    usual = "max_completion_tokens" if OFFICIAL in deployment.upstream.base_url else "max_tokens"
    return str(settings.get("max_tokens_field", usual))


def headers_of(settings: Mapping[str, Any], credential: str) -> tuple[tuple[str, str], ...]:
    """What every request has: its type, the credential, the organization."""
    headers = [("content-type", "application/json")]
    if credential:
        headers.append(("authorization", f"Bearer {credential}"))
    if settings.get("organization"):
        headers.append(("openai-organization", str(settings["organization"])))
    return tuple(headers)
