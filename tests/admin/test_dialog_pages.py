"""Dialogs and messages in the panel: who reads what, what is noted, what is cut, and how lists find their rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from models import AuditEntry, Dialog, LedgerEntry, Message
from tests.admin.conftest import Browser, add_user, row_of, rows_of, statements

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)
LONG = "a<b>" + "x" * 95 + "Zebra tail"


def add_dialog(app: Flask, user: int, title: str | None = "Plans", **columns: Any) -> str:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = Dialog(**{"user_id": user, "title": title, "model_name": "echo", "message_count": 2} | columns)
        session.add(row)
        session.flush()
        for role, content in (("user", LONG), ("assistant", "an answer")):
            session.add(Message(dialog_id=row.id, user_id=user, role=role, content=content, prompt_tokens=7))
        return row.id


def message_of(app: Flask, role: str) -> Message:
    with Session(app.extensions["gateway"].engine) as session:
        return session.query(Message).filter(Message.role == role).first()


def noted(app: Flask, *actions: str) -> list[tuple[str, str | None]]:
    return [(row.action, row.resource_id) for row in rows_of(app, AuditEntry) if row.action in actions]


def test_dialogs_are_newest_first_and_found_by_title_and_model(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, bea = add_user(app, "ana"), add_user(app, "bea")
    for place, (user, title, model) in enumerate(
        [(ana, "Holiday plans", "echo"), (bea, "Taxes 100%", "fast"), (ana, None, "echo-slow")]
    ):
        moment = BEGAN + timedelta(hours=place)
        add_dialog(app, user, title, model_name=model, created_at=moment, updated_at=moment)

    def models(query: str) -> list[str]:
        page = panel_anywhere_admin.get(f"/admin/dialogs/{query}").text
        return [part.split("<")[0] for part in page.split('data-label="Model"><span class="clip">')[1:]]

    assert models("") == ["echo-slow", "fast", "echo"]
    assert models("?search=PLANS") == ["echo"]
    assert models("?search=echo") == ["echo-slow", "echo"]
    assert models("?search=100%25") == ["fast"]
    assert models("?user=ana") == ["echo-slow", "echo"]
    assert models("?user=ana&search=fast") == []
    assert panel_anywhere_admin.get("/admin/dialogs/new/").status_code == 404


def test_every_dialog_is_on_exactly_one_page_both_ways(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana")
    made = [add_dialog(app, ana, f"t{place}", updated_at=BEGAN, created_at=BEGAN) for place in range(45)]
    seen, path = [], "/admin/dialogs/?page_size=20"
    back = ""
    while path:
        page = panel_anywhere_admin.get(path).text
        found = [part[:36] for part in page.split('lead-cell"><a href="/admin/dialogs/details/?id=')[1:]]
        seen.append(found)
        older = page.split('rel="next" href="')
        back = page.split('rel="prev" href="')[1].split('"')[0].replace("&amp;", "&") if 'rel="prev"' in page else back
        path = older[1].split('"')[0].replace("&amp;", "&") if len(older) > 1 else ""
    assert [len(found) for found in seen] == [20, 20, 5]
    assert sorted(number for found in seen for number in found) == sorted(made), "those of one moment too"
    page = panel_anywhere_admin.get(back).text
    assert [part[:36] for part in page.split('lead-cell"><a href="/admin/dialogs/details/?id=')[1:]] == seen[1]
    for broken in ("before=x", "before=1-", "after=99999999999999999-x", "before=-1"):
        assert panel_anywhere_admin.get(f"/admin/dialogs/?{broken}").status_code == 200


def test_opening_a_dialog_or_a_message_is_noted(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    dialog = add_dialog(app, add_user(app, "ana"))
    lists = panel_anywhere_admin.get("/admin/dialogs/").text + panel_anywhere_admin.get("/admin/messages/").text
    assert "Zebra" not in lists
    assert noted(app, "dialog_read", "message_read") == [], "lists show the beginning, and note nothing"
    page = panel_anywhere_admin.get(f"/admin/dialogs/details/?id={dialog}").text
    assert "Plans" in page
    assert "Zebra" not in page
    message = message_of(app, "user")
    assert "a&lt;b&gt;xxx" in page
    whole = panel_anywhere_admin.get(f"/admin/messages/details/?id={message.id}").text
    assert "Zebra tail" in whole
    assert noted(app, "dialog_read", "message_read") == [("dialog_read", dialog), ("message_read", message.id)]


def test_lists_cut_a_text_at_100_characters(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    add_dialog(app, add_user(app, "ana"))
    page = panel_anywhere_admin.get("/admin/messages/").text
    cut = LONG[:100].replace("<", "&lt;").replace(">", "&gt;")
    assert f'<span class="excerpt">{cut}…</span>' in page
    assert '<span class="excerpt">an answer</span>' in page
    for path in ("new/", "edit/?id=x"):
        assert panel_anywhere_admin.get(f"/admin/messages/{path}").status_code == 404


def test_an_auditor_sees_who_and_when_and_no_text(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "audrey", role="auditor")
    dialog = add_dialog(
        panel_anywhere, add_user(panel_anywhere, "ana"), system_prompt="be terse", agent_config={"top_p": 1}
    )
    browser, message = Browser(panel_anywhere, "audrey"), message_of(panel_anywhere, "user")
    pages = [
        browser.get(path)
        for path in (
            "/admin/dialogs/",
            "/admin/messages/",
            f"/admin/dialogs/details/?id={dialog}",
            f"/admin/messages/details/?id={message.id}",
        )
    ]
    assert {page.status_code for page in pages} == {200}
    for page in pages:
        assert "ana</a>" in page.text
        for secret in ("Plans", "xxx", "an answer", "be terse", "top_p"):
            assert secret not in page.text
    assert dialog not in browser.get("/admin/dialogs/?search=Plans").text, "nor by searching for them"
    assert noted(panel_anywhere, "dialog_read", "message_read") == []
    for path in ("dialogs/edit", "dialogs/delete", "messages/delete"):
        assert browser.get(f"/admin/{path}/?id={dialog}").status_code == 403
        assert browser.post(f"/admin/{path}/?id={dialog}").status_code == 403


def test_a_dialog_is_changed_for_its_owner(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    dialog = add_dialog(app, add_user(app, "ana"))
    path = f"/admin/dialogs/edit/?id={dialog}"
    assert 'value="Plans"' in panel_anywhere_admin.get(path).text
    data = {"title": "<i>New</i> 🚀", "model_name": "echo-slow", "system_prompt": "be kind\nand short"}
    assert panel_anywhere_admin.post(path, data).status_code == 303
    row = row_of(app, Dialog, dialog)
    assert (row.title, row.model_name, row.message_count) == ("<i>New</i> 🚀", "echo-slow", 2)
    entry = next(row for row in rows_of(app, AuditEntry) if row.action == "dialog_update")
    assert entry.details == {"changed": ["model_name", "system_prompt", "title"]}, "no text"
    assert panel_anywhere_admin.post(path, {"title": "", "model_name": "nothing"}).status_code == 422
    assert (
        panel_anywhere_admin.post(path, {"title": "t", "model_name": "echo", "system_prompt": "a\0b"}).status_code
        == 422
    )
    assert row_of(app, Dialog, dialog).model_name == "echo-slow"


def test_deleting_a_dialog_asks_and_takes_its_messages(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana")
    dialog, other = add_dialog(app, ana), add_dialog(app, ana, "Other")
    path = f"/admin/dialogs/delete/?id={dialog}"
    page = panel_anywhere_admin.get(path).text
    assert "Delete Plans?" in page
    assert "2 messages" in page
    assert panel_anywhere_admin.post(path).status_code == 303
    assert panel_anywhere_admin.post(path).status_code == 404
    assert row_of(app, Dialog, dialog) is None
    with Session(app.extensions["gateway"].engine) as session:
        assert {row.dialog_id for row in session.query(Message)} == {other}
    assert noted(app, "dialog_delete") == [("dialog_delete", dialog)]


def test_deleting_a_message_leaves_the_dialog(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    dialog = add_dialog(app, add_user(app, "ana"), updated_at=BEGAN)
    message = message_of(app, "user")
    path = f"/admin/messages/delete/?id={message.id}"
    assert "charges and token transactions stay" in panel_anywhere_admin.get(path).text
    assert panel_anywhere_admin.post(path).status_code == 303
    row = row_of(app, Dialog, dialog)
    assert (row.message_count, row.updated_at) == (1, BEGAN)
    assert message_of(app, "user") is None
    assert noted(app, "message_delete") == [("message_delete", message.id)]
    assert rows_of(app, LedgerEntry) == []
    assert panel_anywhere_admin.post(path).status_code == 404


@pytest.mark.parametrize("given", ["x", "", "1", "../x", "a\x00b", "00000000-0000-4000-8000-000000000000"])
def test_ids_of_nothing(panel_admin: Browser, given: str) -> None:
    for view in ("dialogs", "messages", "agents"):
        assert panel_admin.get(f"/admin/{view}/details/", query_string={"id": given}).status_code == 404


def test_lists_walk_an_index(panel_app: Flask) -> None:
    """SQLite says how it would do it: no walk over the whole table, no sorting of it."""
    browser, engine = Browser(panel_app, "admin"), panel_app.extensions["gateway"].engine
    ana = add_user(panel_app, "ana")
    with Session(engine) as session, session.begin():
        rows = [
            {
                "id": f"{place:08d}-0000-4000-8000-000000000000",
                "user_id": ana,
                "model_name": "echo",
                "updated_at": BEGAN,
            }
            for place in range(300)
        ]
        session.execute(insert(Dialog), rows)
    for view, table, queries in (
        ("dialogs", "FROM dialogs", ("", "?user=ana", "?search=x", f"?before=1772323200000-{rows[9]['id']}")),
        ("messages", "FROM messages", ("", "?user=ana", "?role=user", f"?dialog={rows[0]['id']}", "?before=5")),
        ("transactions", "FROM ledger", ("", "?search=x")),
    ):
        for query in queries:
            with statements(panel_app) as seen:
                assert browser.get(f"/admin/{view}/{query}").status_code == 200
            for statement in (one for one in seen if table in one):
                values = {f"p{place}": 1 for place in range(statement.count("?"))}
                for name in values:
                    statement = statement.replace("?", f":{name}", 1)  # noqa: PLW2901 - named, as text() wants them
                with engine.connect() as connection:
                    rows_said = connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), values)
                    plan = " ".join(row[-1] for row in rows_said)
                walked = plan.split("SCAN anon_1")[0]  # what a search has found is sorted, and is never much
                assert "TEMP B-TREE" not in walked, (view, query, plan)
