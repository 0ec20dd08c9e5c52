"""A call from before in the playground: read by its owner and who may, audited; else a sentence says why not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, StoredBody
from tests.admin.conftest import Browser, add_calls, add_key, add_user, rows_of
from tests.admin.test_playground import setup_of
from utils import jsonx

SAID = {"model": "fast", "messages": [{"role": "user", "content": "A question of Zoë"}], "temperature": 0.5}
ANTHROPIC = {
    "model": "fast",
    "system": "Be brief.",
    "max_tokens": 9,
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2"}]},
    ],
}


@pytest.fixture
def ana(panel_anywhere: Flask) -> int:
    for name, role in (("ben", "user"), ("audrey", "auditor")):
        add_user(panel_anywhere, name, role=role)
    return add_user(panel_anywhere, "ana")


def call(app: Flask, user: int, body: Any = None, **about: Any) -> str:
    """A call of the person's key; with a body, its texts are stored."""
    key = add_key(app, user)
    (name,) = add_calls(app, 1, user_id=user, key_id=key)
    if body is not None:
        here, ends = app.extensions["gateway"], datetime.now(UTC) + timedelta(days=1)
        sealed = here.sealer.seal(jsonx.dumps({"type": "application/json", "body": body} | about).decode())
        with Session(here.engine) as session, session.begin():
            session.add(StoredBody(request_id=name, user_id=user, created_at=ends, expires_at=ends, request=sealed))
    return name


def replay(app: Flask, who: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = setup_of(Browser(app, who).get(f"/playground/?call={name}"))
    assert found["replay"]["request_id"] == name
    return found


def audited(app: Flask) -> list[tuple[str, str | None]]:
    return [(row.actor, row.resource_id) for row in rows_of(app, AuditEntry) if row.action == "content_read"]


def test_ones_own_call_is_loaded(panel_anywhere: Flask, ana: int) -> None:
    name = call(panel_anywhere, ana, SAID)
    found = replay(panel_anywhere, "ana", name)
    assert found["replay"]["body"] == SAID
    assert (found["model"], found["replay"]["note"]) == ("fast", "")
    assert audited(panel_anywhere) == []


def test_an_admin_reads_it_and_that_is_in_the_audit_log(panel_anywhere: Flask, ana: int) -> None:
    name = call(panel_anywhere, ana, SAID)
    assert replay(panel_anywhere, "admin", name)["replay"]["body"] == SAID
    assert audited(panel_anywhere) == [("admin", name)]


def test_others_do_not_read_it(panel_anywhere: Flask, ana: int) -> None:
    name = call(panel_anywhere, ana, SAID)
    auditor = replay(panel_anywhere, "audrey", name)
    assert (auditor["replay"]["body"], auditor["model"]) == (None, "fast")
    assert "for admins only" in auditor["replay"]["note"]
    stranger = replay(panel_anywhere, "ben", name)
    assert (stranger["replay"]["body"], stranger["model"]) == (None, "")
    assert stranger["replay"] | {"request_id": ""} == replay(panel_anywhere, "ben", "req_none")["replay"] | {
        "request_id": ""
    }
    assert audited(panel_anywhere) == []
    assert "Zoë" not in str((auditor, stranger))


def test_a_sentence_says_why_nothing_is_there(panel_anywhere: Flask, ana: int) -> None:
    name = call(panel_anywhere, ana)
    found = replay(panel_anywhere, "ana", name)
    assert (found["replay"]["body"], found["model"]) == (None, "fast")
    assert "its key does not ask for that" in found["replay"]["note"]
    with Session(panel_anywhere.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(ApiKey).values(should_log_request=True))
    assert "not any more" in replay(panel_anywhere, "ana", name)["replay"]["note"]
    (signed_in,) = add_calls(panel_anywhere, 1, user_id=ana)
    assert "only keys can ask for that" in replay(panel_anywhere, "ana", signed_in)["replay"]["note"]
    for wrong in ({"prompt": ["a", "b"], "model": "fast"}, {"input": 7}, "cut text", {"messages": []}):
        assert "no conversation" in replay(panel_anywhere, "ana", call(panel_anywhere, ana, wrong))["replay"]["note"]


def test_other_dialects_become_chats(panel_anywhere: Flask, ana: int) -> None:
    body = replay(panel_anywhere, "ana", call(panel_anywhere, ana, ANTHROPIC))["replay"]["body"]
    assert [one["role"] for one in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][2]["tool_calls"][0]["function"]["name"] == "f"
    text = replay(panel_anywhere, "ana", call(panel_anywhere, ana, {"model": "fast", "input": "Hi"}))["replay"]["body"]
    assert text["messages"][-1]["role"] == "user"
    whole = replay(panel_anywhere, "ana", call(panel_anywhere, ana, {"model": "fast", "prompt": "Once"}))["replay"]
    assert whole["body"]["messages"] == [{"role": "user", "content": "Once"}]


def test_what_was_not_stored_of_it_is_said(panel_anywhere: Flask, ana: int) -> None:
    picture = {"type": "image_url", "image_url": {"url": "[image/png, 70 bytes]"}}
    parts = [{"type": "text", "text": "What is it?"}, picture]
    body = {"model": "fast", "messages": [{"role": "user", "content": parts}]}
    found = replay(panel_anywhere, "ana", call(panel_anywhere, ana, body, is_shortened=True))["replay"]
    assert found["body"]["messages"] == [{"role": "user", "content": parts[:1]}]
    assert found["note"] == "It was shortened when it was stored. Pictures are not stored; add them again."
