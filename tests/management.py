"""Small words of the tests of the key management API."""

from typing import Any

from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import ApiKey, AuditEntry, Budget, Limit

KEYS = "/api/key-management/keys"
SEARCH = "/api/v2/key-management/keys"
USERS = "/api/users"
SETTINGS = "/api/provider-settings"
SECRET = "my-secret-key-of-tests"


def ask(app: Flask, method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
    """A request of a program on this machine, which needs no credential in the tests' environment."""
    if body is not None:
        options["json"] = body
    return app.test_client().open(path, method=method, **options)


def make(app: Flask, **members: Any) -> dict[str, Any]:
    """A key as the answer to its creation shows it; POST makes its secret up."""
    answer = ask(app, "PUT" if "key" in members else "POST", KEYS, {"name": "one", **members})
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


def seen(app: Flask, key_id: str) -> dict[str, Any]:
    answer = ask(app, "GET", f"{KEYS}/{key_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


def change(app: Flask, key_id: str, **members: Any) -> dict[str, Any]:
    answer = ask(app, "PATCH", f"{KEYS}/{key_id}", members)
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


def refused(answer: TestResponse, status: int, kind: str) -> str:
    """Checks a problem body; returns its detail."""
    body = answer.json
    assert body is not None, answer.text
    assert (answer.status_code, answer.mimetype) == (status, "application/json"), answer.text
    assert {"type", "title", "status", "detail", "instance"} <= body.keys() <= {*PROBLEM, "errors"}
    assert (body["type"], body["status"]) == (kind, status), answer.text
    assert body["instance"] == answer.request.path[:200]
    assert answer.headers["x-request-id"].startswith("req_")
    assert "Traceback" not in answer.text
    return str(body["detail"])


PROBLEM = ("type", "title", "status", "detail", "instance")


def call(app: Flask, secret: str, model: str = "echo") -> TestResponse:
    """A chat with that secret."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    headers = {"Authorization": f"Bearer {secret}"}
    return app.test_client().post("/v1/chat/completions", json=body, headers=headers)


def row_of(app: Flask, key_id: str) -> ApiKey:
    with Session(app.extensions["gateway"].engine) as session:
        return session.scalars(select(ApiKey).where(ApiKey.uuid == key_id)).one()


def ceilings_of(app: Flask, scope: str, scope_id: int) -> list[tuple[str, str, int]]:
    """The budgets and limits of somebody: unit, period, amount."""
    with Session(app.extensions["gateway"].engine) as session:
        found = [
            (row.unit, row.period, row.limit_amount)
            for table in (Budget, Limit)
            for row in session.scalars(select(table).where(table.scope == scope, table.scope_id == scope_id))
        ]
    return sorted(found)


def audited(app: Flask, resource: str = "key") -> list[AuditEntry]:
    with Session(app.extensions["gateway"].engine) as session:
        query = select(AuditEntry).where(AuditEntry.resource_type == resource).order_by(AuditEntry.id)
        return list(session.scalars(query))
