"""Anthropic's Messages API, towards Anthropic and the servers that speak its dialect.

Source: Anthropic's OpenAPI document of 2026-05-31, its Python library 2.11.0 and platform.claude.com/docs (read
2026-11-21). Callers who speak the dialect themselves are handed through: their own JSON goes out with another model
name, and the answer comes back byte for byte. Chats of other dialects are translated: see anthropic_request.py for
conversations, anthropic_tuning.py for everything else that is asked for, anthropic_answer.py for what comes back.

Settings of such a provider: `auth` `bearer` for servers that want the key as Authorization; `thinking` `adaptive` where
the model's name does not say that it is a Claude of version 4.6 or later.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.errors import Unsupported, UpstreamError
from services.providers.anthropic_answer import error_event, pieces_of, understood, usage_of, whole_answer
from services.providers.anthropic_request import conversation, plain, tools_of, tools_used
from services.providers.anthropic_stream import AnthropicStream, NativeStream
from services.providers.anthropic_tuning import FORCED, limit_of, output_format, rest, sample, think, tool_choice
from services.providers.base import UpstreamRequest, WholeAnswer, claudes_tokens, expecting, parse_object, refused
from services.providers.openai import error_detail
from services.types import CHAT, Call, Chat, Deployment
from utils import jsonx

DIALECT: Final = "anthropic"
PATH: Final = "/v1/messages"
VERSION: Final = "2023-06-01"  # of the API; callers of the dialect may name a newer one
VERSION_HEADER: Final = "anthropic-version"
REFUSED: Final = {  # what would change the answer, and how it could be had
    "functions": "send them as `tools`",
    "audio": "it answers with text only",
}
UNDERSTOOD: Final = frozenset(
    {
        "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens",
        "temperature", "top_p", "top_k", "stop", "response_format", "reasoning_effort", "thinking", "cache_control",
        "user", "metadata", "service_tier", "stream", "stream_options", "n", "modalities", *REFUSED,
    }
)  # fmt: skip
NEUTRAL: Final = {  # values that ask for nothing
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "store": False,
}


class Anthropic:
    """See the module."""

    operations = frozenset({CHAT})
    not_streams = ("text/html", "application/json")

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return claudes_tokens(call)

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        settings, credential = deployment.upstream.settings, deployment.upstream.credential
        if call.dialect == DIALECT and call.native is not None:
            native = {**call.native, "model": deployment.model}
            if call.max_output_tokens is not None:
                native["max_tokens"] = call.max_output_tokens
            headers = _headers(settings, credential, call.forwarded)
            return UpstreamRequest("POST", PATH, headers, jsonx.dumps(native), is_native=True)
        sent, dropped = _translated(call, deployment)
        return UpstreamRequest("POST", PATH, _headers(settings, credential), jsonx.dumps(sent), dropped)

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        answer = parse_object(body)
        if answer.get("error"):
            raise error_event(answer["error"])
        if not isinstance(answer.get("content"), list):
            raise UpstreamError("the upstream answered with JSON that is no message")
        with expecting("a message of Anthropic"):
            if call.is_native:
                return WholeAnswer(body, usage_of(answer.get("usage")), tuple(pieces_of(answer["content"])))
            return whole_answer(call, answer)

    def stream(self, call: Call) -> AnthropicStream | NativeStream:
        """See Wire.stream."""
        return NativeStream(call) if call.is_native else AnthropicStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error."""
        status, detail = understood(status, error_detail(body))
        return refused(status, headers, detail, deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list."""
        return "/v1/models?limit=1000", dict(_headers(settings, credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names."""
        listed = parse_object(body).get("data")
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        return [entry["id"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _translated(call: Call, deployment: Deployment) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request's body, and what of the chat could not be heeded.

    Raises:
        Unsupported: see Wire.encode.
    """
    body = call.body
    _refuse(body)
    form, instruction = output_format(body)
    system, messages = conversation(body)
    if instruction:
        system.append({"type": "text", "text": instruction})
    sent: dict[str, Any] = {"model": deployment.model, "max_tokens": limit_of(call)}
    if system:
        sent["system"] = plain(system)
    sent["messages"] = messages
    dropped = _tools(body, sent)
    if form is not None:
        sent["output_config"] = {"format": form}
    dropped += think(call, deployment, sent)
    dropped += sample(body, deployment, sent)
    dropped += rest(body, sent)
    if call.is_stream:
        sent["stream"] = True
    dropped += [name for name, value in body.items() if name not in UNDERSTOOD and _asks(name, value)]
    return sent, tuple(sorted(dropped))


def _refuse(body: Chat) -> None:
    if (body.get("n") or 1) > 1:
        raise Unsupported("Anthropic gives one choice a call; `n` must be 1", param="n")
    for name, why in REFUSED.items():
        if body.get(name):
            raise Unsupported(f"`{name}` cannot be sent to Anthropic: {why}", param=name)
    if (body.get("modalities") or ["text"]) != ["text"]:
        raise Unsupported("Anthropic answers with text only", param="modalities")


def _tools(body: Chat, sent: dict[str, Any]) -> list[str]:
    """Put the tools and the choice among them into what is sent; returns what could not be heeded."""
    tools, choice = tool_choice(body, tools_of(body))
    dropped = []
    if not tools:
        dropped = ["tool_choice"] if choice is not None and choice["type"] in FORCED else []
        tools, choice = tools_used(sent["messages"]), {"type": "none"}
    if tools:
        sent["tools"] = tools
        sent |= {"tool_choice": choice} if choice is not None else {}
    return dropped


def _asks(name: str, value: Any) -> bool:
    return value is not None and value != NEUTRAL.get(name, ...)


def _headers(
    settings: Mapping[str, Any], credential: str, forwarded: tuple[tuple[str, str], ...] = ()
) -> tuple[tuple[str, str], ...]:
    """The caller's own version of the API goes before ours."""
    headers = [("content-type", "application/json")]
    if credential and settings.get("auth") == "bearer":
        headers.append(("authorization", f"Bearer {credential}"))
    elif credential:
        headers.append(("x-api-key", credential))
    if not any(name == VERSION_HEADER for name, _value in forwarded):
        headers.append((VERSION_HEADER, VERSION))
    return (*headers, *forwarded)
