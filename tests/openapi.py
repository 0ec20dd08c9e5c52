"""Small words of the tests of the OpenAPI document: checking JSON against its schemas."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

from routes import openapi

JSON = "application/json"


def problems(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """What of the value does not fit a schema that may refer to others of the document."""
    rooted = schema | {"components": document["components"]}
    return [f"{error.json_path}: {error.message[:300]}" for error in Draft202012Validator(rooted).iter_errors(value)]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every operation."""
    for path, entry in document["paths"].items():
        for method, operation in entry.items():
            yield path, method, operation


def said(document: dict[str, Any], operation: dict[str, Any], status: int) -> dict[str, Any]:
    """The answer of that status, whichever way it is described."""
    found = operation["responses"].get(str(status)) or operation["responses"].get(f"{status // 100}XX")
    assert found is not None, f"{operation['operationId']} does not say what {status} is"
    name = found.get("$ref", "").rpartition("/")[2]
    return dict(document["components"]["responses"][name] if name else found)


def check(app: Flask, path: str, answer: TestResponse) -> None:
    """Whether a real answer is what the document says of that path."""
    document = documented(app)
    operation = document["paths"][path][answer.request.method.lower()]
    described = said(document, operation, answer.status_code)
    for name, header in described.get("headers", {}).items():
        whole = document["components"]["headers"].get(header.get("$ref", "").rpartition("/")[2], header)
        assert name in answer.headers or not whole.get("required"), name
    content, body = described.get("content", {}), answer.data  # an event stream happens while it is read
    if not content:
        assert body == b""
        return
    assert answer.mimetype in content, answer.mimetype
    if answer.mimetype == JSON:
        assert problems(document, content[JSON]["schema"], answer.json) == [], answer.text


@cache
def documented(app: Flask) -> dict[str, Any]:
    """The document of that app."""
    return openapi.document(app)
