"""What the fake provider answers at OpenAI's other endpoints."""

import base64
import email
import email.policy
import json
from typing import Any

PICTURE = base64.b64encode(b"not really a picture").decode()
SOUND = b"\xff\xfb\x00" + bytes(997)  # one chunk of what is not really a sound
KINDS = {"wav": "audio/wav", "pcm": "audio/pcm; rate=24000"}

Made = tuple[str, str | list[tuple[bytes, bool]]]  # content type, and a whole answer or chunks with "is a word"


def form_of(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of a form; a file is its name, type and content. Fields that come several times are lists."""
    head = f"content-type: {kind}\r\n\r\n".encode()
    found: dict[str, Any] = {}
    for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        filename = part.get_filename()
        value = content.decode() if filename is None else (filename, part.get_content_type(), content)
        if name in found:
            value = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        found[name] = value
    return found


def answer(path: str, body: dict[str, Any], plan: Any) -> Made | None:
    """The answer in the dialect; None at other paths."""
    for end, made in MADE.items():
        if path.endswith(end):
            return made(body, plan)
    return None


def _usage(plan: Any, right: dict[str, Any]) -> dict[str, Any]:
    return {} if plan.usage is None else {"usage": right if plan.usage == "right" else plan.usage}


def _json(value: dict[str, Any]) -> Made:
    return "application/json", json.dumps(value)


def _events(values: list[tuple[dict[str, Any], bool]]) -> Made:
    return "text/event-stream", [
        (f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode(), is_word) for value, is_word in values
    ]


def _moderation(body: dict[str, Any], plan: Any) -> Made:
    given = body["input"] if isinstance(body["input"], list) else [body["input"]]
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    usage = _usage(plan, {"prompt_tokens": 3, "total_tokens": 3}) if plan.usage != "right" else {}  # OpenAI says none
    return _json({"id": "modr-1", "model": body["model"], "results": [result] * len(given), **usage})


def _images(body: dict[str, Any], plan: Any) -> Made:
    count = int(body.get("n") or 1)
    usage = {
        "input_tokens": 9,
        "output_tokens": 272 * count,
        "total_tokens": 9 + 272 * count,
        "input_tokens_details": {"text_tokens": 9, "image_tokens": 0},
    }
    if body.get("stream") not in (True, "true"):
        data = [{"b64_json": PICTURE}] * count
        return _json({"created": 1, "data": data, **_usage(plan, usage)})
    frame = {"b64_json": PICTURE, "created_at": 1, "size": "auto", "quality": "low", "background": "auto"}
    frame["output_format"] = "png"
    events: list[tuple[dict[str, Any], bool]] = [
        ({"type": "image_generation.partial_image", **frame, "partial_image_index": index}, True)
        for index in range(plan.words)
    ]
    if plan.done:
        events.append(({"type": "image_generation.completed", **frame, **_usage(plan, usage)}, True))
    return _events(events)


def _speech(body: dict[str, Any], plan: Any) -> Made:
    if body.get("stream_format") != "sse":
        kind = KINDS.get(body.get("response_format", "mp3"), "audio/mpeg")
        return kind, [(SOUND, True)] * plan.words
    sound = base64.b64encode(SOUND).decode()
    events: list[tuple[dict[str, Any], bool]] = [({"type": "speech.audio.delta", "audio": sound}, True)] * plan.words
    usage = {"input_tokens": 4, "output_tokens": 40, "total_tokens": 44}
    if plan.done:
        events.append(({"type": "speech.audio.done", **_usage(plan, usage)}, False))
    return _events(events)


def _listen(body: dict[str, Any], plan: Any) -> Made:
    words, form = [f"word{number} " for number in range(plan.words)], body.get("response_format", "json")
    details = {"text_tokens": 2, "audio_tokens": 30}
    right = {"type": "tokens", "input_tokens": 32, "output_tokens": plan.words, "input_token_details": details}
    usage = _usage(plan, right | {"total_tokens": 32 + plan.words})
    if form in ("text", "srt", "vtt"):
        return "text/plain; charset=utf-8", "".join(words) + "\n"
    if body.get("stream") != "true":
        return _json({"text": "".join(words), **usage})
    events: list[tuple[dict[str, Any], bool]] = [
        ({"type": "transcript.text.delta", "delta": word}, True) for word in words
    ]
    if plan.done:
        events.append(({"type": "transcript.text.done", "text": "".join(words), **usage}, False))
    return _events(events)


def _rerank(body: dict[str, Any], plan: Any) -> Made:
    results = [{"index": index, "relevance_score": 0.5} for index in range(len(body["documents"]))]
    return _json({"id": "rerank-1", "model": body["model"], "results": results, **_usage(plan, {"total_tokens": 12})})


MADE = {
    "/moderations": _moderation,
    "/images/generations": _images,
    "/images/edits": _images,
    "/images/variations": _images,
    "/audio/speech": _speech,
    "/audio/transcriptions": _listen,
    "/audio/translations": _listen,
    "/rerank": _rerank,
}
