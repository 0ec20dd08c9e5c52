"""OpenAI's dialect as other vendors speak it: what is different there, is said by settings.

The settings are named in services/providers/vendors.py. Where a provider has none of them, this is the wire of
services/providers/openai.py and its bytes pass; else a request is changed before it goes, and of the answer only those
events are written anew that would not be understood.
"""

import base64
import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from services.errors import UpstreamError
from services.providers import openai_other, vendors
from services.providers.base import StreamDecoder, UpstreamRequest, WholeAnswer, expecting, parse_object
from services.providers.openai import PATHS, OpenAI, OpenAIStream, headers_of, request_body, request_headers, usage_of
from services.types import EMBEDDING, Call, Chat, Deployment
from utils import jsonx, sse

ASKS: Final = frozenset({"rename", "drop", "drop_from_messages", "developer_role", "tool_ids", "floats_only"})
ANSWERS: Final = frozenset({"finish_reasons", "content_chunks", "reasoning_field", "usage_in"})
FRAME: Final = ("id", "object", "created", "model")
FAILED: Final = "error"
NONE: Final[Mapping[str, Any]] = {}
SHORT_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")
BARE_LIST: Final = re.compile(rb"\s*\[\s*\{")
UNLISTED: Final = "it has no list of its models; add them by name"


class Compatible(OpenAI):
    """See the module."""

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        if call.operation in openai_other.PATHS:
            return super().encode(call, deployment)
        settings = vendors.settings_of(deployment.upstream)
        body, dropped = request_body(call, deployment, settings)
        if settings and settings.keys() & ASKS:
            dropped += mend_request(call, body, settings)
        headers = request_headers(call, headers_of(settings, deployment.upstream.credential))
        return UpstreamRequest("POST", PATHS[call.operation], headers, jsonx.dumps(body), dropped)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        if call.operation in openai_other.PATHS:
            return super().decode(call, body)
        settings = _settings(call)
        is_packed = call.operation == EMBEDDING and bool(settings.get("floats_only"))
        if is_packed or settings.keys() & ANSWERS:
            with expecting("a completion"):
                answer = parse_object(body)
                is_changed = _pack(call, answer) if is_packed else mend_choices(answer, "message", settings)
            body = jsonx.dumps(answer) if is_changed else body
        return super().decode(call, body)

    def stream(self, call: Call) -> StreamDecoder:
        """See Wire.stream."""
        settings = _settings(call)
        is_mended = settings.keys() & ANSWERS and call.operation not in openai_other.PATHS
        return MendingStream(call, settings) if is_mended else super().stream(call)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list."""
        if not vendors.merged(str(settings.get("base_url", "")), settings).get("lists_models", True):
            raise UpstreamError(UNLISTED)
        return super().model_list(settings, credential)

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names; Together's list is a bare one (docs.together.ai/reference/models, read 2026-11-21)."""
        return super().model_names(b'{"data":%s}' % body if BARE_LIST.match(body) else body)


class MendingStream(OpenAIStream):
    """A stream some of whose events are written anew."""

    def __init__(self, call: Call, settings: Mapping[str, Any]) -> None:
        super().__init__(call, wants_usage=call.wants_usage)
        self._settings, self._usage_in = settings, settings.get("usage_in")
        self._late: dict[str, Any] | None = None  # the usage event that nobody sent

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        *events, mark = super().end()
        yield from events
        if self._late is not None and self._wants_usage:
            yield sse.format_event(self._late)
        yield mark

    def _chunk(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        if mend_choices(chunk, "delta", self._settings):
            event = sse.format_event(chunk)
        out = super()._chunk(event, chunk)
        if chunk.get("usage") is not None:
            self._late = None
        elif self._usage_in is not None and (usage := _usage_within(chunk, self._usage_in)) is not None:
            self._told(usage_of(usage))
            frame: dict[str, Any] = {name: chunk[name] for name in FRAME if name in chunk}
            self._late = {**frame, "choices": [], "usage": usage}
        return out


def mend_request(call: Call, body: Chat, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Change a request's body in place as its vendor wants it; returns what was dropped."""
    for ours, theirs in settings.get("rename", NONE).items():
        if ours in body:
            value = body.pop(ours)
            body.setdefault(theirs, value)
    dropped = [name for name in _names(settings.get("drop", ())) if body.pop(name, None) is not None]
    if settings.get("floats_only"):
        body.pop("encoding_format", None)
    if "messages" in body:
        body["messages"], left_out = _messages(body["messages"], settings)
        dropped += (f"messages.{name}" for name in left_out)
    return tuple(sorted(dropped))


def _messages(messages: list[dict[str, Any]], settings: Mapping[str, Any]) -> tuple[list[dict[str, Any]], set[str]]:
    """Messages as the vendor wants them, and the members that it does not want."""
    refused, developer = _names(settings.get("drop_from_messages", ())), settings.get("developer_role")
    is_short, left_out = settings.get("tool_ids") == "short", set()
    mended = []
    for message in messages:
        sent = message
        if developer is not None and message["role"] == "developer":
            sent = {**sent, "role": developer}
        for name in refused:
            if name in sent and message["role"] != "function":  # there it says which function
                if sent[name] is not None:
                    left_out.add(name)
                sent = {member: value for member, value in sent.items() if member != name}
        mended.append(_with_short_ids(sent) if is_short else sent)
    return mended, left_out


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    sent = dict(message)
    if isinstance(sent.get("tool_call_id"), str):
        sent["tool_call_id"] = short_id(sent["tool_call_id"])
    if sent.get("tool_calls"):
        sent["tool_calls"] = [{**call, "id": short_id(call.get("id") or "")} for call in sent["tool_calls"]]
    return sent


def short_id(given: str) -> str:
    """Nine letters and digits that stand for an id, always the same ones."""
    return given if SHORT_ID.fullmatch(given) else hashlib.blake2b(given.encode()).hexdigest()[:9]


def mend_choices(answer: dict[str, Any], member: str, settings: Mapping[str, Any]) -> bool:
    """Change the choices of an answer or chunk in place into what OpenAI's clients read; whether that changed any.

    Raises:
        UpstreamError: one ended with an error.
    """
    reasons, reasoning = settings.get("finish_reasons", NONE), settings.get("reasoning_field")
    is_changed = False
    for choice in answer.get("choices") or ():
        reason = choice.get("finish_reason")
        if reason in reasons:
            if reasons[reason] == FAILED:
                raise UpstreamError(f"the upstream ended its answer with `{reason}`")
            choice["finish_reason"], is_changed = reasons[reason], True
        message = choice.get(member)
        if not message:
            continue
        if isinstance(message.get("content"), list) and settings.get("content_chunks"):
            _join_chunks(message)
            is_changed = True
        if reasoning is not None and message.get(reasoning) and "reasoning_content" not in message:
            message["reasoning_content"], is_changed = message[reasoning], True
    return is_changed


def _join_chunks(message: dict[str, Any]) -> None:
    """Texts become the content and thoughts the reasoning; references and the like have no place in OpenAI's form."""
    chunks = message["content"]
    message["content"] = "".join(_texts(chunks, "text"))
    if thoughts := [text for chunk in chunks if chunk.get("type") == "thinking" for text in _thoughts(chunk)]:
        message["reasoning_content"] = "".join(thoughts)


def _thoughts(chunk: dict[str, Any]) -> Iterable[str]:
    inner = chunk.get("thinking")
    return [inner] if isinstance(inner, str) else _texts(inner or (), "text")


def _texts(chunks: Iterable[dict[str, Any]], kind: str) -> list[str]:
    return [chunk["text"] for chunk in chunks if chunk.get("type") == kind and isinstance(chunk.get("text"), str)]


def _usage_within(chunk: dict[str, Any], member: str) -> dict[str, Any] | None:
    """A usage object that stands in a member of the chunk, or in one of its choices."""
    held = chunk.get(member)
    for holder in held if isinstance(held, list) else [held]:
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            found: dict[str, Any] = holder["usage"]
            return found
    return None


def _pack(call: Call, answer: dict[str, Any]) -> bool:
    """Embeddings as base64, where that was asked for; openai-python always does, and reads both."""
    if call.body.get("encoding_format") != "base64":
        return False
    for entry in answer["data"]:
        vector = entry["embedding"]
        if isinstance(vector, list):
            entry["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return True


def _names(given: Any) -> tuple[str, ...]:
    """Member names: a list of the configuration file, or a text with commas of the panel."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    return tuple(given)


def _settings(call: Call) -> Mapping[str, Any]:
    return NONE if call.deployment is None else vendors.settings_of(call.deployment.upstream)
