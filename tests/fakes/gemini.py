"""What Gemini would say, for the fake provider: one word a token, usage with every event."""

import re
from typing import Any

PATH = re.compile(r":(generateContent|streamGenerateContent|batchEmbedContents)$")
Event = tuple[dict[str, Any], bool]  # and whether it is a word


def answer(path: str, body: dict[str, Any], plan: Any) -> dict[str, Any] | list[Event]:
    """The answer at one of these paths; a list is a stream."""
    if path.endswith(":batchEmbedContents"):
        return {"embeddings": [{"values": [0.5, -0.25]}] * len(body["requests"])}
    words = [f"word{number} " for number in range(plan.words)]
    if path.endswith(":generateContent"):
        return _part("".join(words), "STOP") | _usage(body, plan, plan.words)
    events: list[Event] = [(_part(word) | _usage(body, plan, at), True) for at, word in enumerate(words, 1)]
    if plan.finish:
        events.append((_part("", "STOP") | _usage(body, plan, plan.words), False))
    return events


def _part(text: str, reason: str | None = None) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": reason} if reason else {})]}


def _usage(body: dict[str, Any], plan: Any, output: int) -> dict[str, Any]:
    if plan.usage is None:
        return {}
    texts = [part.get("text", "") for content in body["contents"] for part in content["parts"]]
    prompt = len(" ".join(texts).split())
    right = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
    return {"usageMetadata": right if plan.usage == "right" else plan.usage}
