"""The faces of the brain in vendor_brains.py: how each vendor's requests are read and its answers written."""

import base64
import json
import re
import struct
from typing import Any, Protocol

from tests.fakes.eventstream import stream as event_stream
from tests.fakes.vendor_brains import CACHED, Ask, Refusal, Said
from tests.fakes.vendor_responses import Responses

SIGNATURE = "c2lnLTE="  # of a thought, which Gemini 3 wants back with the call that it came with
FOREIGN = "skip_thought_signature_validator"


class Face(Protocol):
    """What a vendor speaks."""

    stream_kind: str

    def read(self, path: str, body: Any) -> Ask: ...
    def whole(self, said: Said, body: Any) -> Any: ...
    def stream(self, said: Said, body: Any) -> list[bytes]: ...
    def error(self, status: int, message: str) -> Any: ...


def face_of(path: str) -> Face:
    """The face that serves a path."""
    return next(face for pattern, face in FACES.items() if re.search(pattern, path))


class Chat:
    """OpenAI's chat completions."""

    stream_kind = "text/event-stream"

    def read(self, path: str, body: Any) -> Ask:
        ask = Ask(is_stream=body.get("stream") is True)
        for message in body["messages"]:
            text, role = _text(message.get("content")), message["role"]
            if role == "user":
                ask.said = text
            elif role in ("system", "developer"):
                ask.system = text
            elif role == "tool":
                ask.results[message["tool_call_id"]] = text
            for call in message.get("tool_calls") or ():
                json.loads(call["function"]["arguments"])
                ask.calls[call["id"]] = call["function"]["name"]
        choice = body.get("tool_choice")
        if choice != "none":
            functions = [tool["function"] for tool in body.get("tools") or ()]
            ask.tools = {function["name"]: function["parameters"] for function in functions}
        ask.must_call = choice == "required"
        ask.only = choice["function"]["name"] if isinstance(choice, dict) else ""
        form = body.get("response_format") or {}
        ask.schema = form["json_schema"]["schema"] if form.get("type") == "json_schema" else None
        return ask

    def whole(self, said: Said, body: Any) -> Any:
        message = {"role": "assistant", "content": said.text or None, "refusal": None}
        if said.calls:
            message["tool_calls"] = [self._call(call) for call in said.calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(said)}
        return {**self._frame(body, "chat.completion"), "choices": [choice], "usage": self._usage(said)}

    def stream(self, said: Said, body: Any) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if said.calls else ""}]
        deltas += [{"content": word} for word in said.words]
        for index, call in enumerate(said.calls):
            arguments = json.dumps(call.arguments)
            opened = self._call(call) | {"index": index, "function": {"name": call.name, "arguments": ""}}
            deltas.append({"tool_calls": [opened]})
            for piece in (arguments[:5], arguments[5:]):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        ends = [None] * len(deltas) + [self._finish(said)]
        wants = (body.get("stream_options") or {}).get("include_usage")
        frame = self._frame(body, "chat.completion.chunk") | ({"usage": None} if wants else {})
        chunks = [
            {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]}
            for delta, end in zip([*deltas, {}], ends, strict=True)
        ]
        if wants:
            chunks.append({**frame, "choices": [], "usage": self._usage(said)})
        return [b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in chunks] + [b"data: [DONE]\n\n"]

    def error(self, status: int, message: str) -> Any:
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def _call(self, call: Any) -> dict[str, Any]:
        return {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }

    def _finish(self, said: Said) -> str:
        return "tool_calls" if said.calls else "stop"

    def _frame(self, body: Any, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-x1", "object": kind, "created": 1_790_000_000, "model": body["model"]}

    def _usage(self, said: Said) -> dict[str, Any]:
        return {
            "prompt_tokens": said.input_tokens,
            "completion_tokens": said.output_tokens,
            "total_tokens": said.input_tokens + said.output_tokens,
            "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 7},
        }


class Embeddings(Chat):
    """OpenAI's embeddings."""

    def read(self, path: str, body: Any) -> Ask:
        given = body["input"]
        return Ask(texts=given if isinstance(given, list) else [given], packs=body.get("encoding_format") == "base64")

    def whole(self, said: Said, body: Any) -> Any:
        is_packed = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else list(vector)}
            for index, vector in enumerate(said.vectors)
        ]
        usage = {"prompt_tokens": said.input_tokens, "total_tokens": said.input_tokens}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}


class Messages:
    """Anthropic's messages."""

    stream_kind = "text/event-stream"

    def read(self, path: str, body: Any) -> Ask:
        ask = Ask(is_stream=body.get("stream") is True, system=_text(body.get("system")))
        if not isinstance(body.get("max_tokens"), int):
            raise Refusal(400, "max_tokens: Field required")
        for message in body["messages"]:
            content = message["content"]
            for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if block["type"] == "text" and message["role"] == "user":
                    ask.said = block["text"]
                elif block["type"] == "tool_use":
                    ask.calls[block["id"]] = block["name"]
                elif block["type"] == "tool_result":
                    ask.results[block["tool_use_id"]] = _text(block.get("content"))
        choice = body.get("tool_choice") or {}
        if choice.get("type") != "none":
            ask.tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools") or ()}
        ask.must_call = choice.get("type") == "any"
        ask.only = choice.get("name", "")
        form = (body.get("output_config") or {}).get("format") or {}
        ask.schema = form.get("schema")
        return ask

    def whole(self, said: Said, body: Any) -> Any:
        blocks: list[Any] = [{"type": "text", "text": said.text}] if said.text else []
        blocks += [
            {"type": "tool_use", "id": self._id(call), "name": call.name, "input": call.arguments}
            for call in said.calls
        ]
        return self._message(body, said, blocks, self._reason(said), said.output_tokens)

    def stream(self, said: Said, body: Any) -> list[bytes]:
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": self._message(body, said, [], None, 1)},
            {"type": "ping"},
        ]
        if said.text:
            deltas = [{"type": "text_delta", "text": word} for word in said.words]
            events += self._block(0, {"type": "text", "text": ""}, deltas)
        for index, call in enumerate(said.calls):
            block = {"type": "tool_use", "id": self._id(call), "name": call.name, "input": {}}
            arguments = json.dumps(call.arguments)
            pieces = ("", arguments[:5], arguments[5:])
            events += self._block(index, block, [{"type": "input_json_delta", "partial_json": p} for p in pieces])
        delta = {"stop_reason": self._reason(said), "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": said.output_tokens}})
        events.append({"type": "message_stop"})
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]

    def error(self, status: int, message: str) -> Any:
        kind = {429: "rate_limit_error", 401: "authentication_error"}.get(status, "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_x1"}

    def _block(self, index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"type": "content_block_start", "index": index, "content_block": block},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    def _message(self, body: Any, said: Said, blocks: list[Any], reason: str | None, told: int) -> dict[str, Any]:
        usage = {
            "input_tokens": said.input_tokens - CACHED,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": CACHED,
            "output_tokens": told,
        }
        frame = {"id": "msg_x1", "type": "message", "role": "assistant", "model": body["model"]}
        return {**frame, "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    def _reason(self, said: Said) -> str:
        return "tool_use" if said.calls else "end_turn"

    def _id(self, call: Any) -> str:
        return f"toolu_{call.id}"


class Gemini:
    """Google's generateContent and batchEmbedContents."""

    stream_kind = "text/event-stream"

    def read(self, path: str, body: Any) -> Ask:
        if "batchEmbedContents" in path:
            return Ask(texts=[_text(request["content"]["parts"]) for request in body["requests"]])
        ask = Ask(is_stream="streamGenerateContent" in path)
        ask.system = _text((body.get("systemInstruction") or {}).get("parts"))
        for content in body["contents"]:
            self._read_parts(ask, content)
        config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        if config.get("mode") != "NONE":
            declared = [entry for tool in body.get("tools") or () for entry in tool["functionDeclarations"]]
            ask.tools = {entry["name"]: entry["parametersJsonSchema"] for entry in declared}
        ask.must_call = config.get("mode") == "ANY"
        ask.only = (config.get("allowedFunctionNames") or [""])[0]
        ask.schema = (body.get("generationConfig") or {}).get("responseJsonSchema")
        return ask

    def _read_parts(self, ask: Ask, content: Any) -> None:
        is_first = True
        for part in content["parts"]:
            if "text" in part and content["role"] == "user":
                ask.said = part["text"]
            elif "functionCall" in part:
                if is_first and part.get("thoughtSignature") not in (SIGNATURE, FOREIGN):
                    raise Refusal(400, "Function call is missing a thought_signature in functionCall parts.")
                is_first = False
                call = part["functionCall"]
                ask.calls[call.get("id", call["name"])] = call["name"]
            elif "functionResponse" in part:
                answer = part["functionResponse"]
                said = answer["response"]
                ask.results[answer.get("id", answer["name"])] = said.get("result") or json.dumps(said)

    def whole(self, said: Said, body: Any) -> Any:
        if "requests" in body:
            values = [{"values": list(vector)} for vector in said.vectors]
            return {"embeddings": values, "usageMetadata": {"promptTokenCount": said.input_tokens}}
        return self._answer(said, [{"text": said.text}] if said.text else self._calls(said), is_last=True)

    def stream(self, said: Said, body: Any) -> list[bytes]:
        parts = [{"text": word} for word in said.words] + self._calls(said)
        answers = [self._answer(said, [part], is_last=False) for part in parts]
        answers.append(self._answer(said, [{"text": ""}], is_last=True))
        return [b"data: %s\r\n\r\n" % json.dumps(answer).encode() for answer in answers]

    def error(self, status: int, message: str) -> Any:
        word = {429: "RESOURCE_EXHAUSTED", 401: "UNAUTHENTICATED"}.get(status, "INVALID_ARGUMENT")
        return {"error": {"code": status, "message": message, "status": word, "details": []}}

    def _calls(self, said: Said) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [
            {"functionCall": {"name": call.name, "args": call.arguments}} for call in said.calls
        ]
        if parts:
            parts[0]["thoughtSignature"] = SIGNATURE
        return parts

    def _answer(self, said: Said, parts: list[Any], *, is_last: bool) -> dict[str, Any]:
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
        usage = {"promptTokenCount": said.input_tokens, "cachedContentTokenCount": CACHED}
        if is_last:
            candidate["finishReason"] = "STOP"
            usage |= {"candidatesTokenCount": said.output_tokens - 7, "thoughtsTokenCount": 7}
        usage["totalTokenCount"] = said.input_tokens + (said.output_tokens if is_last else 0)
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": "gemini-3-pro-preview",
            "responseId": "r-1",
        }


class Converse:
    """Amazon Bedrock's Converse."""

    stream_kind = "application/vnd.amazon.eventstream"

    def read(self, path: str, body: Any) -> Ask:
        ask = Ask(is_stream=path.endswith("/converse-stream"), system=_text(body.get("system")))
        for message in body["messages"]:
            for block in message["content"]:
                if "text" in block and message["role"] == "user":
                    ask.said = block["text"]
                elif "toolUse" in block:
                    ask.calls[block["toolUse"]["toolUseId"]] = block["toolUse"]["name"]
                elif "toolResult" in block:
                    ask.results[block["toolResult"]["toolUseId"]] = _text(block["toolResult"]["content"])
        config = body.get("toolConfig") or {}
        specs = [tool["toolSpec"] for tool in config.get("tools") or ()]
        ask.tools = {spec["name"]: spec["inputSchema"]["json"] for spec in specs}
        choice = config.get("toolChoice") or {}
        ask.must_call = "any" in choice
        ask.only = (choice.get("tool") or {}).get("name", "")
        form = (body.get("outputConfig") or {}).get("textFormat")
        ask.schema = json.loads(form["structure"]["jsonSchema"]["schema"]) if form else None
        return ask

    def whole(self, said: Said, body: Any) -> Any:
        blocks: list[Any] = [{"text": said.text}] if said.text else []
        blocks += [
            {"toolUse": {"toolUseId": self._id(call), "name": call.name, "input": call.arguments}}
            for call in said.calls
        ]
        message = {"message": {"role": "assistant", "content": blocks}}
        return {"output": message, "stopReason": self._reason(said), **self._counts(said)}

    def stream(self, said: Said, body: Any) -> list[bytes]:
        events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
        events += [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in said.words]
        if said.text:
            events.append(("contentBlockStop", {"contentBlockIndex": 0}))
        for index, call in enumerate(said.calls):
            place, arguments = {"contentBlockIndex": index}, json.dumps(call.arguments)
            start = {"toolUse": {"toolUseId": self._id(call), "name": call.name}}
            events.append(("contentBlockStart", {**place, "start": start}))
            for piece in (arguments[:5], arguments[5:]):
                events.append(("contentBlockDelta", {**place, "delta": {"toolUse": {"input": piece}}}))
            events.append(("contentBlockStop", place))
        events += [("messageStop", {"stopReason": self._reason(said)}), ("metadata", self._counts(said))]
        return [event_stream(event) for event in events]

    def error(self, status: int, message: str) -> Any:
        return {"message": message}

    def _counts(self, said: Said) -> dict[str, Any]:
        usage = {
            "inputTokens": said.input_tokens - CACHED,
            "outputTokens": said.output_tokens,
            "totalTokens": said.input_tokens + said.output_tokens,
            "cacheReadInputTokens": CACHED,
            "cacheWriteInputTokens": 0,
        }
        return {"usage": usage, "metrics": {"latencyMs": 10}}

    def _reason(self, said: Said) -> str:
        return "tool_use" if said.calls else "end_turn"

    def _id(self, call: Any) -> str:
        return f"tooluse_{call.id}"


def _text(content: Any) -> str:
    """The text of a content, which is one or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


FACES: dict[str, Face] = {
    r"^/v1/chat/completions$": Chat(),
    r"^/v1/embeddings$": Embeddings(),
    r"^/v1/responses$": Responses(),
    r"^/v1/messages$": Messages(),
    r"^/v1beta/models/[^/]+:(streamGenerateContent\?alt=sse|generateContent|batchEmbedContents)$": Gemini(),
    r"^/model/[^/]+/converse(-stream)?$": Converse(),
}
