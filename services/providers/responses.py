"""OpenAI's Responses API, for callers who speak it: their own JSON goes there, and the events come back as they are.

A provider has it where its setting `responses` says so, and OpenAI itself by default; elsewhere such a call is sent
as a chat. The provider is told to store nothing, so the id of an answer, the one before it and whether it is stored
are the gateway's own.

Source: developers.openai.com/api/reference/resources/responses (read 2026-11-21).
"""

from typing import Any, Final

from services.errors import UpstreamError
from services.providers.base import (
    SHAPE_ERRORS,
    StreamDecoder,
    UpstreamRequest,
    WholeAnswer,
    error_event,
    expecting,
    parse_object,
    tokens,
)
from services.providers.compatible import Compatible
from services.providers.events import EventStream
from services.providers.openai import OFFICIAL, headers_of
from services.types import Call, Deployment, Reply, Usage
from utils import jsonx, sse

DIALECT: Final = "responses"
OPENINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
ENDS: Final = frozenset({"response.completed", "response.incomplete"})
FAILURES: Final = frozenset({"response.failed", "error"})


class WithResponses(Compatible):
    """OpenAI's wire with both its surfaces; see the module."""

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        if call.dialect != DIALECT or not _has_responses(deployment):
            return super().encode(call, deployment)
        body = {**(call.native or {}), "model": deployment.model}
        if call.max_output_tokens is not None:
            body["max_output_tokens"] = call.max_output_tokens
        upstream = deployment.upstream
        headers = (*headers_of(upstream.settings, upstream.credential), *call.forwarded)
        return UpstreamRequest("POST", "/responses", headers, jsonx.dumps(body), is_native=True)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        if not (call.is_native and call.dialect == DIALECT):
            return super().decode(call, body)
        answer = parse_object(body)
        if answer.get("error"):
            raise error_event(answer["error"])
        pieces: list[str] = []
        with expecting("an answer of the Responses API"):
            if not isinstance(answer["output"], list):
                raise TypeError
            for item in answer["output"]:
                _collect(item, pieces)
            whole = _as_ours(call, answer)
        return WholeAnswer(jsonx.dumps(whole), usage_of(answer.get("usage")), tuple(pieces))

    def stream(self, call: Call) -> StreamDecoder:
        """See Wire.stream."""
        return ResponsesEvents(call) if call.is_native and call.dialect == DIALECT else super().stream(call)


class ResponsesEvents(EventStream):
    """Hands events on byte for byte, but for those that carry the whole answer."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._call, self._reply, self._pieces = call, _reply_of(call), call.pieces
        self._reply.whole, self._reply.next_number = None, 0

    def _event(self, event: bytes) -> bytes:
        payload = sse.data_of(event)
        if payload is None or self.is_done:
            return event if payload is None and not self.is_done else b""
        try:
            told = jsonx.peek(payload)
            kind, delta = told["type"], told.get("delta")
            if isinstance(delta, str):
                self._pieces.append(delta)
                self._note_number(told)
                return event
            return self._rare(event, kind, told)
        except SHAPE_ERRORS as exc:
            raise UpstreamError("the upstream sent a malformed event") from exc

    def _rare(self, event: bytes, kind: str, told: dict[str, Any]) -> bytes:
        """What is handed on of an event that is no piece of text."""
        self._note_number(told)
        if kind == "response.output_item.added" and isinstance(told["item"].get("name"), str):
            self._pieces.append(told["item"]["name"])
        if kind in FAILURES:
            failed = told.get("response") or {}
            self.usage = usage_of(failed.get("usage")) or self.usage
            raise error_event(told.get("error") or failed.get("error") or told)
        if kind not in OPENINGS and kind not in ENDS:
            return event
        told["response"] = _as_ours(self._call, told["response"])
        ours = b"event: %b\ndata: %b\n\n" % (kind.encode(), jsonx.dumps(told))
        if kind in OPENINGS:
            return ours
        self.usage = usage_of(told["response"].get("usage")) or self.usage
        self.is_done, self._held = True, ours
        return b""

    def _note_number(self, told: dict[str, Any]) -> None:
        """An error of ours would be the next event."""
        number = told.get("sequence_number")
        self._reply.next_number = (number if isinstance(number, int) else self._reply.next_number) + 1


def usage_of(raw: Any) -> Usage | None:
    """The usage object of this API; None when it counts nothing. What is more than its whole is no part of it."""
    if not isinstance(raw, dict):
        return None
    given, output = tokens(raw.get("input_tokens")), tokens(raw.get("output_tokens"))
    if given is None and output is None:
        return None
    read, thought = raw.get("input_tokens_details"), raw.get("output_tokens_details")
    cached, written = _part(read, "cached_tokens"), _part(read, "cache_write_tokens")
    if (cached or 0) + (written or 0) > (given or 0):
        cached = written = None
    reasoning = _part(thought, "reasoning_tokens")
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=written,
        reasoning_output_tokens=reasoning if (reasoning or 0) <= (output or 0) else None,
    )


def _part(details: Any, name: str) -> int | None:
    return tokens(details.get(name)) if isinstance(details, dict) else None


def _has_responses(deployment: Deployment) -> bool:
    said = deployment.upstream.settings.get("responses")
    return OFFICIAL in deployment.upstream.base_url if said in (None, "") else str(said).lower() == "true"


def _as_ours(call: Call, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with what is the gateway's own, kept for who wants to see it again."""
    reply = _reply_of(call)
    reply.whole = {**answer, **reply.head}
    return reply.whole


def _reply_of(call: Call) -> Reply:
    assert call.reply is not None  # noqa: S101 - every call of this dialect has one
    return call.reply


def _collect(item: Any, pieces: list[str]) -> None:
    """Add the generated text of one item to the pieces: texts, refusals, reasoning, names and inputs of tools."""
    texts = [item.get(name) for name in ("name", "arguments", "input")]
    for member in ("content", "summary"):
        texts += [text for part in item.get(member) or () for text in (part.get("text"), part.get("refusal"))]
    pieces.extend(text for text in texts if isinstance(text, str) and text)
