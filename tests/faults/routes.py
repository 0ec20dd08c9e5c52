"""Every route that calls a provider: what is sent to it, in which form it fails, and how its streams end."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

from werkzeug.test import TestResponse

TEXT = "one two three"
MESSAGES = [{"role": "user", "content": TEXT}]
WAV = b"RIFF" + bytes(3200)
CHATS = ("openai", "anthropic", "gemini")


@dataclass(frozen=True)
class Route:
    """One of them, whole or streamed."""

    path: str  # with {wire} where the path says where it goes
    body: dict[str, Any]
    form: str = "openai"  # of its errors
    operation: str = "chat"
    wires: tuple[str, ...] = ("openai",)
    is_stream: bool = False
    is_binary: bool = False
    has_output: bool = True  # text, of which there is half an answer
    upload: tuple[str, bytes] | None = None
    name: str = field(default="", compare=False)

    def sent(self, model: str, wire: str, text: str = TEXT) -> tuple[str, dict[str, Any]]:
        """Where a call goes, and its body."""
        body = json.loads(json.dumps(self.body).replace(TEXT, text))
        named = {"model_name" if self.form == "plain" else "model": model}
        if self.is_stream and not self.is_binary:
            named["stream"] = True
        suffix = model.removeprefix(wire)
        return self.path.format(wire=f"{wire}{suffix}"), named | body


def _both(route: Route) -> list[Route]:
    return [route, Route(**{**route.__dict__, "is_stream": True, "name": f"{route.name} stream"})]


CHAT = {"messages": MESSAGES}
ROUTES = [
    *_both(Route("/v1/chat/completions", CHAT, wires=CHATS, name="chat")),
    *_both(Route("/v1/completions", {"prompt": TEXT}, operation="completion", name="completions")),
    Route(
        "/v1/embeddings",
        {"input": TEXT},
        operation="embedding",
        wires=("openai", "gemini"),
        has_output=False,
        name="embeddings",
    ),
    *_both(Route("/v1/messages", CHAT | {"max_tokens": 50}, "anthropic", wires=CHATS, name="messages")),
    *_both(Route("/v1/responses", {"input": TEXT}, "responses", wires=(*CHATS, "responses"), name="responses")),
    Route("/v1/images/generations", {"prompt": TEXT}, operation="image", has_output=False, name="images"),
    Route(
        "/v1/audio/speech",
        {"input": TEXT, "voice": "alloy"},
        operation="speech",
        is_stream=True,
        is_binary=True,
        name="speech",
    ),
    Route(
        "/v1/audio/transcriptions",
        {"prompt": TEXT},
        operation="transcription",
        upload=("a.wav", WAV),
        name="transcriptions",
    ),
    Route("/v1/moderations", {"input": TEXT}, operation="moderation", has_output=False, name="moderations"),
    Route("/v1/rerank", {"query": TEXT, "documents": ["a", "b"]}, operation="rerank", has_output=False, name="rerank"),
    *_both(Route("/api/providers/openai/v1/chat/completions", CHAT, "proxy", wires=CHATS, name="proxy chat")),
    Route("/api/call", {"prompt": TEXT}, "plain", wires=CHATS, name="prompt"),
    *_both(Route("/api/routes/faults/{wire}", CHAT, "proxy", wires=CHATS, name="route")),
]
CELLS = [(route, wire) for route in ROUTES for wire in route.wires]
IDS = {(route.name, wire): f"{route.name}-{wire}" for route, wire in CELLS}


def data_of(route: Route, model: str, wire: str) -> tuple[str, dict[str, Any]]:
    """Where a call goes, and the arguments with which a test client sends it."""
    path, body = route.sent(model, wire)
    if route.upload is None:
        return path, {"json": body}
    name, content = route.upload
    return path, {"data": {**body, "file": (io.BytesIO(content), name)}, "content_type": "multipart/form-data"}


def error_of(route: Route, answer: TestResponse) -> str:
    """The message of an error, whose whole form is checked."""
    return told(route.form, json.loads(answer.data), answer.status_code)


def told(form: str, body: dict[str, Any], status: int) -> str:
    """See `error_of`."""
    if form == "plain":
        assert {"detail", "error", "code", "request_id"} == set(body), body
        return str(body["detail"])
    error = body["error"]
    if form == "anthropic":
        assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error"), body
        assert (set(error), body["request_id"][:4]) == ({"type", "message", "details"}, "req_"), body
        return str(error["message"])
    if form == "proxy":
        assert set(error) == {"message", "type", "param", "code", "detail"}, body
        assert error["code"] == status
        return str(error["message"]) + str(error["detail"])
    assert (set(body), set(error)) == ({"error"}, {"message", "type", "param", "code"}), body
    return str(error["message"])


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of the events, but for OpenAI's end mark."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def is_whole(route: Route, text: str) -> bool:
    """Whether a stream has its end mark."""
    marks = {"anthropic": '"message_stop"', "responses": '"response.completed"'}
    return marks.get(route.form, "data: [DONE]") in text


def last_error(route: Route, text: str) -> str:
    """The message of the event with which a stream that failed ends."""
    last = events_of(text)[-1]
    if route.form == "responses":
        assert (last["type"], last.keys() - {"type", "code", "message", "param", "sequence_number"}) == (
            "error",
            {"error"},
        ), last
        failed = events_of(text)[-2]
        assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
        assert last["sequence_number"] == failed["sequence_number"] + 1
        return str(last["message"])
    return told(route.form, last, last["error"].get("code") if route.form == "proxy" else 0)


def text_of(route: Route, text: str) -> str:
    """The text that a stream brought, as its caller reads it."""
    if route.is_binary:
        return text
    said = []
    for event in events_of(text):
        choices = event.get("choices") or ()
        said += [(choice.get("delta") or {}).get("content") or choice.get("text") or "" for choice in choices]
        if event.get("type") == "content_block_delta":
            said.append(event["delta"].get("text", ""))
        if event.get("type") == "response.output_text.delta":
            said.append(event["delta"])
    return "".join(said)
