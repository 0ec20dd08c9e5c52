"""Policies in the panel: made, tried on a text, changed, deleted."""

from flask import Flask

from models import AuditEntry, UsageRecord
from models_policies import Policy
from tests.admin.conftest import Browser, add_calls, rows_of

NEW = "/admin/policies/new/"
FIELDS = {
    "name": "no cards",
    "enabled": "y",
    "on_requests": "y",
    "failure": "block",
    "size_action": "block",
    "everyone": "y",
    "kind_credit_debit_number": "block",
    "kind_email": "allow_but_redact",
    "patterns-0-definition": "PRJ-[0-9]+",
    "patterns-0-action": "allow_but_warn",
    "words-0-action": "block",
    "judges-0-action": "block",
}


def made(app: Flask) -> Policy:
    (row,) = rows_of(app, Policy)
    return row


def test_a_policy_is_made_and_tried(panel_anywhere_admin: Browser) -> None:
    browser = panel_anywhere_admin
    assert "No policy yet" in browser.get("/admin/policies/").text
    assert browser.post(NEW, FIELDS).status_code == 303
    row = made(browser.app)
    assert row.rules["kinds"] == {"credit_debit_number": "block", "email": "allow_but_redact"}
    assert row.rules["patterns"] == [{"definition": "PRJ-[0-9]+", "action": "allow_but_warn", "name": "pattern_1"}]
    assert "no cards" in browser.get("/admin/policies/").text
    page = browser.post(f"/admin/policies/test/?id={row.id}", {"text": "ana@example.com on PRJ-7"})
    assert page.status_code == 200
    assert "[EMAIL_1] on PRJ-7" in page.text
    assert "pattern_1" in page.text
    page = browser.post(f"/admin/policies/test/?id={row.id}", {"text": "4111 1111 1111 1111"})
    assert "the call would be refused" in page.text
    assert [entry.action for entry in rows_of(browser.app, AuditEntry) if entry.resource_type == "policy"] == [
        "policy_create"
    ]


def test_what_is_wrong_stands_at_its_field(panel_admin: Browser) -> None:
    page = panel_admin.post(NEW, FIELDS | {"patterns-0-definition": "(", "users": "nobody-here"})
    assert page.status_code == 422
    assert "cannot be used" in page.text
    page = panel_admin.post(NEW, FIELDS | {"users": "nobody-here"})
    assert page.status_code == 422
    assert "nobody-here" in page.text
    page = panel_admin.post(NEW, {name: value for name, value in FIELDS.items() if name != "on_requests"})
    assert "Choose requests, answers or both." in page.text
    assert rows_of(panel_admin.app, Policy) == []


def test_a_policy_is_changed_and_goes(panel_admin: Browser) -> None:
    panel_admin.post(NEW, FIELDS)
    number = made(panel_admin.app).id
    path = f"/admin/policies/edit/?id={number}"
    assert "PRJ-[0-9]+" in panel_admin.get(path).text
    assert panel_admin.post(path, FIELDS | {"dry_run": "y", "kind_email": "", "chars": "500"}).status_code == 303
    row = made(panel_admin.app)
    assert (row.is_dry_run, row.version, row.rules["kinds"]) == (True, 2, {"credit_debit_number": "block"})
    assert row.rules["size"] == {"chars": 500, "action": "block"}
    assert "Dry run" in panel_admin.get("/admin/policies/").text
    asked = panel_admin.get(f"/admin/policies/delete/?id={number}")
    assert "go on without it" in asked.text
    assert panel_admin.post(f"/admin/policies/delete/?id={number}").status_code == 303
    assert rows_of(panel_admin.app, Policy) == []


def test_the_page_of_a_call_says_what_a_policy_did(panel_admin: Browser) -> None:
    panel_admin.post(NEW, FIELDS)
    (call,) = add_calls(panel_admin.app, 1, action="dry_block", policy_id=made(panel_admin.app).id)
    number = next(row.id for row in rows_of(panel_admin.app, UsageRecord) if row.request_id == call)
    page = panel_admin.get(f"/admin/usage/details/?id={number}").text
    assert "Dry run: would block" in page
    assert "no cards" in page


def test_why_a_pattern_cannot_be_is_said_in_the_language_of_the_page(panel_admin: Browser) -> None:
    fields = FIELDS | {"patterns-0-name": "all", "patterns-0-definition": "x*", "patterns-0-action": "block"}
    headers = {"Accept-Language": "pt-BR"}
    answer = panel_admin.post(NEW, fields, headers=headers)
    assert answer.status_code == 422
    assert "encontra o texto vazio" in answer.text
