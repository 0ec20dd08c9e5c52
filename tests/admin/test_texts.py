"""The panel on what callers said, and on erasing people: who sees it, what it leaves in the audit log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, StoredBody, UsageRecord, User
from tests.admin.conftest import Browser, add_calls, add_key, add_user, row_of, rows_of
from utils import jsonx

SAID = {"messages": [{"role": "user", "content": "<b>a question</b> of Zoë"}]}


@pytest.fixture
def call(panel_anywhere: Flask) -> int:
    """The number of a call whose texts are stored."""
    app = panel_anywhere
    user = add_user(app, "ana")
    request_id = add_calls(app, 1, user_id=user, key_id=add_key(app, user))[0]
    answer = {"type": "text/plain", "body": "an answer", "is_whole": False}
    keep(app, request_id, user, {"type": "application/json", "body": SAID}, answer)
    return int(rows_of(app, UsageRecord)[-1].id)


def keep(app: Flask, request_id: str, user: int, *parts: dict[str, Any]) -> None:
    here, ends = app.extensions["gateway"], datetime.now(UTC) + timedelta(days=1)
    request, response = (here.sealer.seal(jsonx.dumps(part).decode()) for part in parts)
    row = StoredBody(request_id=request_id, user_id=user, created_at=ends, expires_at=ends)
    row.request, row.response = request, response
    with Session(here.engine) as session, session.begin():
        session.add(row)


def entries(app: Flask, action: str) -> list[tuple[str, str | None]]:
    return [(row.actor, row.resource_id) for row in rows_of(app, AuditEntry) if row.action == action]


def test_an_admin_reads_texts_and_that_is_in_the_audit_log(panel_anywhere: Flask, call: int) -> None:
    browser, row = Browser(panel_anywhere, "admin"), row_of(panel_anywhere, UsageRecord, call)
    details = browser.get(f"/admin/usage/details/?id={call}").text
    assert "Read texts" in details
    assert "a question" not in details
    assert entries(panel_anywhere, "content_read") == []
    page = browser.get(f"/admin/usage/content/?id={call}").text
    assert "&lt;b&gt;a question&lt;/b&gt; of Zoë" in page
    assert "an answer" in page
    assert "broke off" in page
    assert entries(panel_anywhere, "content_read") == [("admin", row.request_id)]


def test_an_auditor_sees_the_figures_alone(panel_anywhere: Flask, call: int) -> None:
    add_user(panel_anywhere, "audrey", role="auditor")
    browser = Browser(panel_anywhere, "audrey")
    details = browser.get(f"/admin/usage/details/?id={call}")
    assert details.status_code == 200
    assert "Read texts" not in details.text
    assert "kept until" not in details.text
    refused = browser.get(f"/admin/usage/content/?id={call}")
    assert (refused.status_code, "a question" in refused.text) == (403, False)
    assert browser.post("/admin/usage/forget/", {"id": str(call)}).status_code == 403
    assert len(rows_of_bodies(panel_anywhere)) == 1


def rows_of_bodies(app: Flask) -> list[StoredBody]:
    with Session(app.extensions["gateway"].engine) as session:
        return list(session.query(StoredBody))


def test_texts_are_deleted_after_asking(panel_anywhere: Flask, call: int) -> None:
    browser, row = Browser(panel_anywhere, "admin"), row_of(panel_anywhere, UsageRecord, call)
    assert "cannot be undone" in browser.get(f"/admin/usage/forget/?id={call}").text
    assert browser.post("/admin/usage/forget/", {"id": str(call)}).status_code == 303
    assert rows_of_bodies(panel_anywhere) == []
    assert entries(panel_anywhere, "content_delete") == [("admin", row.request_id)]
    assert browser.post("/admin/usage/forget/", {"id": str(call)}).status_code == 303  # there is nothing to do
    assert len(entries(panel_anywhere, "content_delete")) == 1
    assert "Nothing is stored" in browser.get(f"/admin/usage/content/?id={call}").text
    assert "not stored" in browser.get(f"/admin/usage/details/?id={call}").text


def test_an_account_is_erased_when_its_name_is_repeated(panel_anywhere: Flask, call: int) -> None:
    browser, number = Browser(panel_anywhere, "admin"), row_of(panel_anywhere, UsageRecord, call).user_id
    assert "Repeat the name" in browser.get(f"/admin/users/erase/?id={number}").text
    wrong = browser.post("/admin/users/erase/", {"id": str(number), "username": "anna"})
    assert wrong.status_code == 422
    assert "repeat its name" in wrong.text
    assert row_of(panel_anywhere, User, number).username == "ana"
    done = browser.post("/admin/users/erase/", {"id": str(number), "username": "ana"})
    assert done.status_code == 303
    assert row_of(panel_anywhere, User, number).username == f"erased-{number}"
    assert rows_of_bodies(panel_anywhere) == []
    assert entries(panel_anywhere, "user_erase") == [("admin", str(number))]
    page = browser.get(f"/admin/users/details/?id={number}").text
    assert "This account was erased" in page
    assert "New password" not in page
    assert "Create key" not in page
    assert browser.post("/admin/users/edit/", {"id": str(number), "is_active": "y"}).status_code == 403
    assert browser.post("/admin/users/password/", {"id": str(number)}).status_code == 403


def test_nobody_erases_oneself_or_an_account_of_the_gateway(panel_anywhere: Flask) -> None:
    browser = Browser(panel_anywhere, "admin")
    for row in rows_of(panel_anywhere, User):
        page = browser.get(f"/admin/users/erase/?id={row.id}")
        assert page.status_code == (200 if row.username == "key-management" else 403)
        sent = browser.post("/admin/users/erase/", {"id": str(row.id), "username": row.username})
        assert sent.status_code in (403, 422)
        assert row_of(panel_anywhere, User, row.id).username == row.username
