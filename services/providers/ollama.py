"""Ollama's native API: /api/chat, /api/generate, /api/embed, with streams of JSON lines.

Source: github.com/ollama/ollama docs/api.md and the Python library 0.6.3 (read 2026-11-21). Tool calls carry no
id there, and arguments are objects; done_reason stays "stop" with tool calls; counts may be missing.
"""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.errors import Unsupported, UpstreamError, UpstreamRefused
from services.providers.base import UpstreamRequest, WholeAnswer, expecting, parse_object, refused, tokens
from services.types import CHAT, COMPLETION, EMBEDDING, Call, Deployment, Usage
from utils import jsonx, sse

PATHS: Final = {CHAT: "/api/chat", COMPLETION: "/api/generate", EMBEDDING: "/api/embed"}
OPTIONS: Final = {  # ours: Ollama's
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "num_ctx": "num_ctx",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
}
TRANSLATED: Final = frozenset(
    {"model", "messages", "prompt", "suffix", "input", "stream", "stream_options", "tools", "tool_choice", "dimensions"}
)
SHAPES: Final = frozenset({"response_format", "reasoning_effort", "encoding_format", "logprobs", "top_logprobs"})
OLLAMAS_OWN: Final = frozenset({"options", "keep_alive", "think"})
COUNTED: Final = frozenset({"n", "best_of", "echo"})  # refused where they ask for more than the one answer that comes
UNDERSTOOD: Final = TRANSLATED | SHAPES | OLLAMAS_OWN | COUNTED | OPTIONS.keys()
FINISH: Final = {"stop": "stop", "length": "length", "load": "stop", "unload": "stop"}
MAX_LINE_BYTES: Final = 8 * 1024 * 1024


class Ollama:
    """See the module."""

    operations = frozenset(PATHS)
    not_streams = ("text/html",)

    def hidden_tokens(self, call: Call, deployment: Deployment) -> int:
        """See Wire.hidden_tokens."""
        return 0

    def encode(self, call: Call, deployment: Deployment) -> UpstreamRequest:
        """See Wire.encode."""
        body = call.body
        if (body.get("n") or 1) > 1:
            raise Unsupported("Ollama gives one choice a call; `n` must be 1", param="n")
        sent: dict[str, Any] = {"model": deployment.model}
        if call.operation == EMBEDDING:
            sent |= _embedding_input(body)
        else:
            sent |= _chat_fields(body) if call.operation == CHAT else _prompt_fields(body)
            sent["stream"] = call.is_stream
            sent["options"] = _options(call)
        if "keep_alive" in body:
            sent["keep_alive"] = body["keep_alive"]
        dropped = tuple(sorted(name for name in body if name not in UNDERSTOOD or _is_ignored(name, body[name])))
        return UpstreamRequest(
            "POST", PATHS[call.operation], _headers(deployment.upstream.credential), jsonx.dumps(sent), dropped
        )

    def decode(self, call: Call, body: bytes) -> WholeAnswer:
        """See Wire.decode."""
        answer = parse_object(body)
        if answer.get("error"):
            raise _error(answer["error"])
        with expecting("an answer of Ollama"):
            return _embeddings(call, answer) if call.operation == EMBEDDING else self._completion(call, answer)

    def _completion(self, call: Call, answer: dict[str, Any]) -> WholeAnswer:
        message = answer.get("message") if call.operation == CHAT else {"content": answer.get("response")}
        if not isinstance(message, dict):
            raise UpstreamError("the upstream answered with JSON that is no completion")
        hub, pieces = _message(call, message)
        finish = "tool_calls" if hub.get("tool_calls") else FINISH.get(answer.get("done_reason", "stop"), "stop")
        usage = _usage(answer)
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        choice |= (
            {"message": {"role": "assistant", **hub}} if call.operation == CHAT else {"text": hub.get("content") or ""}
        )
        return WholeAnswer(
            jsonx.dumps({**_frame(call), "choices": [choice], **_hub_usage(usage)}), usage, tuple(pieces)
        )

    def stream(self, call: Call) -> "OllamaStream":
        """See Wire.stream."""
        return OllamaStream(call)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment) -> UpstreamError:
        """See Wire.error."""
        try:
            detail = {"message": jsonx.loads(body)["error"]}
        except (jsonx.BadJson, KeyError, TypeError):
            detail = {}
        return refused(status, headers, detail, deployment)

    def model_list(self, settings: Mapping[str, Any], credential: str) -> tuple[str, Mapping[str, str]]:
        """See Wire.model_list."""
        return "/api/tags", dict(_headers(credential))

    def model_names(self, body: bytes) -> list[str]:
        """See Wire.model_names."""
        listed = parse_object(body).get("models")
        if not isinstance(listed, list):
            raise UpstreamError("the upstream's model list is not one")
        return [entry["name"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("name"), str)]


class OllamaStream:
    """JSON lines in, OpenAI events out."""

    def __init__(self, call: Call) -> None:
        self.usage: Usage | None = None
        self.is_done = False
        self._call, self._tail = call, b""
        self._tools = 0
        self._has_role = call.operation != CHAT

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See StreamDecoder.feed."""
        *lines, self._tail = (self._tail + data).split(b"\n")
        if len(self._tail) > MAX_LINE_BYTES:
            raise UpstreamError(f"a line is larger than {MAX_LINE_BYTES} bytes")
        for line in lines:
            if line.strip():
                yield self._line(line)

    def end(self) -> Iterator[bytes]:
        """See StreamDecoder.end."""
        tail, self._tail = self._tail, b""
        if tail.strip() and not self.is_done:
            yield self._line(tail)
        if not self.is_done:
            raise UpstreamError("the upstream ended its answer early")
        yield sse.DONE

    def _line(self, line: bytes) -> bytes:
        if self.is_done:
            return b""
        answer = parse_object(line)
        if answer.get("error"):
            raise _error(answer["error"])
        with expecting("a line of Ollama's stream"):
            return self._events(answer)

    def _events(self, answer: dict[str, Any]) -> bytes:
        if self._call.operation == CHAT:
            delta, pieces = _message(self._call, answer.get("message") or {}, first_tool=self._tools)
            self._tools += len(delta.get("tool_calls", ()))
        else:
            delta, pieces = {"content": _text(answer, "response")}, [_text(answer, "response")]
        self._call.pieces.extend(piece for piece in pieces if piece)
        delta = {name: value for name, value in delta.items() if value not in (None, "")}
        out = b""
        if not self._has_role:
            self._has_role, out = True, self._event([self._choice({"role": "assistant", "content": ""})])
        if delta:
            out += self._event([self._choice(delta)])
        return out + self._finish(answer) if answer.get("done") else out

    def _finish(self, answer: dict[str, Any]) -> bytes:
        self.is_done, self.usage = True, _usage(answer)
        finish = "tool_calls" if self._tools else FINISH.get(answer.get("done_reason") or "stop", "stop")
        out = self._event([self._choice({}, finish)])
        counts = _hub_usage(self.usage)
        return out + (self._event([], **counts) if counts and self._call.wants_usage else b"")

    def _choice(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        part = {"delta": delta} if self._call.operation == CHAT else {"text": delta.get("content", "")}
        return {"index": 0, **part, "logprobs": None, "finish_reason": finish}

    def _event(self, choices: list[Any], **more: Any) -> bytes:
        usage = more or ({"usage": None} if self._call.wants_usage else {})
        return sse.format_event({**_frame(self._call, chunk=True), "choices": choices, **usage})


def _is_ignored(name: str, value: Any) -> bool:
    """Whether the value asks for something Ollama does not do."""
    return name == "tool_choice" and value not in ("auto", "none", None)


def _chat_fields(body: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, str] = {}  # tool call id -> function, since results are told apart by name
    fields: dict[str, Any] = {"messages": [_to_ollama(message, names) for message in body["messages"]]}
    if body.get("tools") and body.get("tool_choice") != "none":
        fields["tools"] = body["tools"]
    kind = (body.get("response_format") or {}).get("type")
    if kind == "json_object":
        fields["format"] = "json"
    elif kind == "json_schema":
        fields["format"] = body["response_format"]["json_schema"].get("schema", {})
    if "think" in body:
        fields["think"] = body["think"]
    elif body.get("reasoning_effort"):
        fields["think"] = body["reasoning_effort"] != "none"
    return fields | {name: body[name] for name in ("logprobs", "top_logprobs") if body.get(name) is not None}


def _prompt_fields(body: dict[str, Any]) -> dict[str, Any]:
    prompt = body["prompt"]
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise Unsupported(
                "Ollama takes one text as a prompt; token ids and several prompts cannot be sent", param="prompt"
            )
        prompt = prompt[0]
    for name in ("echo", "logprobs"):
        if body.get(name):
            raise Unsupported(f"`{name}` of /v1/completions cannot be had from Ollama", param=name)
    return {"prompt": prompt} | ({"suffix": body["suffix"]} if body.get("suffix") else {})


def _embedding_input(body: dict[str, Any]) -> dict[str, Any]:
    given = body["input"]
    texts = given if isinstance(given, list) else [given]
    if any(not isinstance(text, str) for text in texts):
        raise Unsupported("Ollama embeds texts; token ids cannot be sent", param="input")
    return {"input": texts} | ({"dimensions": body["dimensions"]} if body.get("dimensions") else {})


def _options(call: Call) -> dict[str, Any]:
    given = call.body.get("options")
    options: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    for name, theirs in OPTIONS.items():
        if (value := call.body.get(name)) is not None:
            options[theirs] = [value] if name == "stop" and isinstance(value, str) else value
    if call.max_output_tokens is not None:
        options["num_predict"] = call.max_output_tokens
    return options


def _to_ollama(message: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    role = {"developer": "system", "function": "tool"}.get(message["role"], message["role"])
    text, images = _split_content(message.get("content"))
    sent: dict[str, Any] = {"role": role, "content": text}
    if images:
        sent["images"] = images
    if message.get("reasoning_content"):
        sent["thinking"] = message["reasoning_content"]
    if message.get("tool_calls"):
        sent["tool_calls"] = [_tool_call(call, names) for call in message["tool_calls"]]
    if role == "tool":
        sent["tool_name"] = names.get(message.get("tool_call_id", ""), message.get("name", ""))
    return sent


def _tool_call(call: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    function = call.get("function") or {}
    names[call.get("id", "")] = function.get("name", "")
    try:
        arguments = jsonx.loads(function.get("arguments") or "{}")
    except jsonx.BadJson as exc:
        raise Unsupported("`arguments` of a tool call must be JSON to be sent to Ollama", param="messages") from exc
    return {"function": {"name": function.get("name", ""), "arguments": arguments}}


def _split_content(content: Any) -> tuple[str, list[str]]:
    """Text and base64 images of a message's content."""
    if not isinstance(content, list):
        return content or "", []
    texts, images = [], []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image_url" and (data := _image(part["image_url"])) is not None:
            images.append(data)
        else:
            raise Unsupported(
                f"`{part['type']}` content cannot be sent to Ollama; pictures must be base64 data URIs",
                param="messages",
            )
    return "".join(texts), images


def _image(image: Any) -> str | None:
    """The base64 of a data URI; an address is not fetched for anybody."""
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url.startswith("data:") or ";base64," not in url:
        return None
    data = url.partition(";base64,")[2]
    try:
        base64.b64decode(data, validate=True)
    except binascii.Error:
        return None
    return data


def _message(call: Call, message: dict[str, Any], *, first_tool: int = 0) -> tuple[dict[str, Any], list[str]]:
    """A message or delta in the hub format, and its texts."""
    content, thinking = _text(message, "content"), _text(message, "thinking")
    hub: dict[str, Any] = {"content": content or None}
    pieces = [thinking, content]
    if thinking:
        hub["reasoning_content"] = thinking
    tools = []
    for index, tool in enumerate(message.get("tool_calls") or (), first_tool):
        function = tool.get("function") or {}
        arguments = jsonx.dumps(function.get("arguments") or {}).decode()
        name = _text(function, "name")
        pieces += [name, arguments]
        tools.append(
            {
                "index": index,
                "id": f"call_{call.id.removeprefix('req_')}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    if tools:
        hub["tool_calls"] = (
            tools if call.is_stream else [{k: v for k, v in tool.items() if k != "index"} for tool in tools]
        )
    return hub, pieces


def _text(holder: dict[str, Any], name: str) -> str:
    value = holder.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _embeddings(call: Call, answer: dict[str, Any]) -> WholeAnswer:
    vectors = answer.get("embeddings")
    if not isinstance(vectors, list):
        raise UpstreamError("the upstream answered with JSON that holds no embeddings")
    is_packed = call.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _pack(vector) if is_packed else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = Usage(tokens(answer.get("prompt_eval_count")), 0)
    counts = {"prompt_tokens": usage.input_tokens or 0, "total_tokens": usage.input_tokens or 0}
    return WholeAnswer(
        jsonx.dumps({"object": "list", "data": data, "model": call.body["model"], "usage": counts}), usage
    )


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(answer: dict[str, Any]) -> Usage:
    return Usage(tokens(answer.get("prompt_eval_count")), tokens(answer.get("eval_count")))


def _hub_usage(usage: Usage) -> dict[str, Any]:
    """The usage member, where Ollama said enough for one."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return {}
    return {
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
    }


def _frame(call: Call, *, chunk: bool = False) -> dict[str, Any]:
    if call.operation == CHAT:
        kind, prefix = "chat.completion.chunk" if chunk else "chat.completion", "chatcmpl"
    else:
        kind, prefix = "text_completion", "cmpl"
    return {
        "id": f"{prefix}-{call.id.removeprefix('req_')}",
        "object": kind,
        "created": call.started_ms // 1000,
        "model": call.body["model"],
    }


def _error(message: Any) -> UpstreamRefused:
    return UpstreamRefused(str(message), status=502)


def _headers(credential: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", "application/json"), *((("authorization", f"Bearer {credential}"),) if credential else ()))
