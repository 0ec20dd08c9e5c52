"""The OpenAPI document: every route of the app, described by tables that lie beside one another here.

To document a new route, add one entry to a table: the name of its endpoint, and what is asked and answered. Its path,
methods and summary come from the app and the view's docstring. tests/routes/test_openapi.py fails where one is missing.
"""

import inspect
import re
from typing import Any, Final

from flask import Flask
from werkzeug.routing import Rule

from config import project
from routes.openapi import (
    administration,
    batches,
    calls,
    chats,
    dialogs,
    explanations,
    management,
    media,
    people,
    policies,
    privacy,
    prompts,
    refusals,
    reports,
    users,
)
from routes.openapi.operations import SCHEMES, Operation
from routes.openapi.shapes import Schema, text, whole
from utils.extensions import PAGES

OPENAPI: Final = "3.1.0"
TABLES: Final = (
    calls,
    batches,
    dialogs,
    users,
    management,
    policies,
    administration,
    people,
    privacy,
    prompts,
    reports,
)
SCHEMAS: Final = (
    *(chats, media, batches, explanations, dialogs, users),
    *(management, policies, administration, people, privacy, prompts, reports, refusals),
)
OTHERS: Final = ("static", "bootstrap.static", "apidocs.asset")  # files, no routes
UNSAID: Final = frozenset({"HEAD", "OPTIONS"})  # what every route answers to without a word
SAME_PATH: Final = {"/api/routes/<path:path>": "/api/routes/<route_id>"}  # OpenAPI sees one path in both
VARIABLE: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
KINDS: Final[dict[str, Schema]] = {"int": whole(minimum=0), "path": text("May have slashes.", minLength=1)}
ABOUT: Final = """A self-hosted gateway for language models: one address, one key per caller, hard budgets, exact usage.

Every answer of the gateway carries `x-request-id`. Errors have the form that clients of their surface know. Calls that
are streamed answer with server-sent events, and an error in a stream is its last event."""


def document(app: Flask) -> dict[str, Any]:
    """The document of all routes that the app has now.

    A route without an entry in the tables is left out.
    """
    operations = described()
    paths: dict[str, dict[str, Any]] = {}
    for rule in documented(app):
        operation = operations.get(rule.endpoint)
        if operation is None:
            continue
        entry = paths.setdefault(_path(rule), {})
        for method in sorted((rule.methods or set()) - UNSAID):
            entry[method.lower()] = _operation(app, rule, method, operation)
    schemas = {name: schema for table in SCHEMAS for name, schema in table.SCHEMAS.items()}
    name, version = project()
    return {
        "openapi": OPENAPI,
        "info": {"title": name.capitalize(), "version": version, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations.values())],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": refusals.responses(),
            "headers": refusals.HEADERS,
            "securitySchemes": SCHEMES,
        },
    }


def described() -> dict[str, Operation]:
    """What the tables say, by endpoint."""
    return {name: operation for table in TABLES for name, operation in table.OPERATIONS.items()}


def documented(app: Flask) -> list[Rule]:
    """The routes that belong into the document: all but the panel's and files."""
    return [
        rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in OTHERS and not f"{rule.rule}/".startswith(tuple(f"{page}/" for page in PAGES))
    ]


def _path(rule: Rule) -> str:
    return VARIABLE.sub(r"{\2}", SAME_PATH.get(rule.rule, rule.rule))


def _operation(app: Flask, rule: Rule, method: str, operation: Operation) -> dict[str, Any]:
    said = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
    name = re.sub(r"\W+", "_", method.lower() + rule.rule)
    found = {"operationId": name, "summary": operation.summary or said.partition("\n")[0].rstrip(".")}
    found |= operation.described(rule.rule, rule.endpoint)
    parameters = [
        {"name": variable, "in": "path", "required": True, "schema": KINDS.get(kind, text(minLength=1))}
        for kind, variable in VARIABLE.findall(SAME_PATH.get(rule.rule, rule.rule))
    ]
    return found | ({"parameters": [*parameters, *operation.query]} if parameters or operation.query else {})
