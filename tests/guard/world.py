"""What the tests of policies share: a policy made by the API, calls on every surface, and what came of them."""

import json
from typing import Any

from flask import Flask

from tests.helpers import AUTH
from tests.management import ask

CARD = "4111111111111111"
EMAIL = "ana.sousa@example.com"


def policy(app: Flask, status: int = 200, **members: Any) -> dict[str, Any]:
    """A policy for every call, made by the API."""
    answer = ask(app, "POST", "/api/policies", {"name": "cards", "everyone": True, **members})
    assert answer.status_code == status, answer.text
    return answer.json


def kinds(**rules: str) -> dict[str, Any]:
    return {"config": {"rules": rules}}


def post(app: Flask, path: str, body: dict[str, Any], headers: dict[str, str] = AUTH) -> Any:
    return app.test_client().post(path, json=body, headers=headers, buffered=True)


def engine(app: Flask) -> Any:
    return app.extensions["gateway"].engine


def events(text: str) -> list[dict[str, Any]]:
    """The data of a stream's events."""
    found = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(one) for one in found if one != "[DONE]"]


def said(text: str) -> str:
    """All that a stream said, whatever its dialect: the texts of its deltas, one after the other."""
    return "".join(_texts(event) for event in events(text))


def _texts(event: dict[str, Any]) -> str:
    found = []
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        calls = [call.get("function", {}).get("arguments") for call in delta.get("tool_calls") or ()]
        found += [choice.get("text"), delta.get("reasoning_content"), delta.get("content"), *calls]
    delta = event.get("delta")
    if isinstance(delta, dict):
        found += [delta.get(name) for name in ("text", "partial_json", "thinking")]
    elif isinstance(delta, str):
        found.append(delta)
    if "done" in event:
        found.append(event.get("content"))
    return "".join(text for text in found if text)
