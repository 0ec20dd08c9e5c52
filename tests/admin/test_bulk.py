"""Doing something to many rows: asked first, refused rows with their reasons, one transaction, an entry each, undo."""

import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from models import ApiKey, AuditEntry, Budget, Invitation, Limit, Model, Provider, SystemConfig, Team, User
from services import invitations
from services.audit import Actor
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_team,
    add_user,
    key_row,
    row_of,
    rows_of,
    statements,
)


def bulk(browser: Browser, view: str, action: str, ids: list[Any], **data: Any) -> TestResponse:
    return browser.post(f"/admin/{view}/bulk/", {"action": action, "id": [str(one) for one in ids], **data})


def entries(app: Flask, action: str) -> list[str | None]:
    return sorted(row.resource_id for row in rows_of(app, AuditEntry) if row.action == action)


def words(answer: TestResponse) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_users_are_disabled_after_asking_and_enabled_again_by_undo(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    ids = [add_user(app, f"user-{place}") for place in range(3)]
    asked = bulk(browser, "users", "disable", ids)
    assert asked.status_code == 200
    for text in ("Disable 3 rows?", "user-0", "user-2", "All sessions end"):
        assert text in words(asked)
    assert all(row_of(app, User, number).is_active for number in ids)
    done = bulk(browser, "users", "disable", ids, sure="yes", reason="left", back="search=user-&page_size=50")
    assert (done.status_code, done.location) == (303, "/admin/users/?search=user-&page_size=50")
    assert [(row_of(app, User, one).is_active, row_of(app, User, one).disabled_reason) for one in ids] == [
        (False, "left")
    ] * 3
    assert entries(app, "user_update") == sorted(map(str, ids))
    page = words(browser.get(done.location))
    assert "Rows that were disabled: 3." in page
    assert "Undo" in page
    assert "Undo" not in words(browser.get(done.location))  # said once
    assert browser.post("/admin/users/undo/").status_code == 303
    assert all(row_of(app, User, number).is_active for number in ids)
    assert len(entries(app, "user_update")) == 6
    assert "nothing to undo" in words(browser.post("/admin/users/undo/", follow_redirects=True))


def test_what_cannot_be_done_says_why_and_the_rest_only_when_asked(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    ana = add_user(app, "ana")
    me = next(row.id for row in rows_of(app, User) if row.username == "admin")
    ids = [ana, me, 987654321, "x", "-1", str(2**63), "1 OR 1=1"]
    asked = bulk(browser, "users", "delete", ids)
    assert "You cannot delete yourself." in words(asked)
    assert words(asked).count("This row is not there") == 5
    assert "go on with the other 1" in words(asked)
    refused = bulk(browser, "users", "delete", ids, sure="yes")
    assert refused.status_code == 422
    assert row_of(app, User, ana) is not None
    assert bulk(browser, "users", "delete", ids, sure="yes", skip="yes").status_code == 303
    assert (row_of(app, User, ana), row_of(app, User, me) is None) == (None, False)
    assert entries(app, "user_delete") == [str(ana)]
    none = bulk(browser, "users", "delete", [me], sure="yes", skip="yes")
    assert "none of these rows" in words(none)
    assert 'name="skip"' not in none.text


def test_the_last_admin_stays_and_so_does_everybody_of_that_transaction(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    ana, other = add_user(app, "ana"), add_user(app, "other-admin", role="admin")
    mine = Browser(app, "other-admin")
    me = next(row.id for row in rows_of(app, User) if row.username == "admin")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(User, other).role = "auditor"
    assert bulk(mine, "users", "disable", [ana, me], sure="yes").status_code == 403
    assert bulk(browser, "users", "disable", [ana], sure="yes").status_code == 303
    assert row_of(app, User, me).is_active


def test_a_failure_in_the_middle_leaves_nothing_done(
    panel_anywhere_admin: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from routes.admin.teams import Teams
    from services.errors import Conflict

    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    ids = [add_team(app, f"team-{place}") for place in range(3)]
    delete = Teams.delete

    def fail(self: Teams, session: Session, row: Team) -> None:
        if row.id == ids[1]:
            raise Conflict("The second one does not go.")
        delete(self, session, row)

    monkeypatch.setattr(Teams, "delete", fail)
    done = bulk(browser, "teams", "delete", ids, sure="yes")
    assert "The second one does not go." in words(browser.get(done.location))
    assert len(rows_of(app, Team)) == 3
    assert entries(app, "team_delete") == []


def test_keys_are_revoked_and_work_again_after_undo(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    user = add_user(app, "ana")
    ids = [add_key(app, user, f"key-{place}") for place in range(2)]
    bulk(browser, "keys", "revoke", ids, sure="yes", reason="leaked")
    assert key_row(app, "key-0").revoked_reason == "leaked"
    assert len(entries(app, "key_revoke")) == 2
    again = bulk(browser, "keys", "revoke", ids, sure="yes")
    assert "Lift that to change it" in words(again)
    browser.post("/admin/keys/undo/")
    assert [key_row(app, f"key-{place}").revoked_at for place in range(2)] == [None, None]
    assert len(entries(app, "key_lift")) == 2


def test_providers_and_models_come_back_exactly(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    provider = add_provider(app)
    found = add_model(app, [provider], "found", managed_by="discovery")
    filed = add_model(app, [provider], "filed", managed_by="file")
    bulk(browser, "providers", "disable", [provider], sure="yes")
    assert row_of(app, Provider, provider).is_enabled is False
    browser.post("/admin/providers/undo/")
    assert row_of(app, Provider, provider).is_enabled is True
    asked = words(bulk(browser, "models", "disable", [found, filed]))
    assert "This comes from the configuration file" in asked
    bulk(browser, "models", "disable", [found, filed], sure="yes", skip="yes")
    assert (row_of(app, Model, found).is_enabled, row_of(app, Model, filed).is_enabled) == (False, True)
    assert row_of(app, Model, found).managed_by == "admin"
    browser.post("/admin/models/undo/")
    assert (row_of(app, Model, found).is_enabled, row_of(app, Model, found).managed_by) == (True, "discovery")


def test_what_somebody_changed_since_is_not_undone(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    user = add_user(app, "ana")
    bulk(browser, "users", "disable", [user], sure="yes")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(User, user).role = "auditor"
    assert "Somebody changed this meanwhile" in words(browser.post("/admin/users/undo/", follow_redirects=True))
    assert row_of(app, User, user).is_active is False
    assert "nothing to undo" in words(browser.post("/admin/keys/undo/", follow_redirects=True))


def test_amounts_of_limits_and_budgets_can_be_undone(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    user = add_user(app, "ana")
    limit, budget = add_limit(app, "user", user, 100), add_budget(app, "user", user, 5_000_000_000)
    browser.post(f"/admin/limits/edit/?id={limit}", {"amount": "7"})
    assert row_of(app, Limit, limit).limit_amount == 7
    assert "Undo" in words(browser.get("/admin/limits/"))
    browser.post("/admin/limits/undo/")
    assert row_of(app, Limit, limit).limit_amount == 100
    browser.post(f"/admin/budgets/edit/?id={budget}", {"limit": "1", "timezone": "UTC", "warn_percent": "50"})
    assert row_of(app, Budget, budget).limit_amount == 1_000_000_000
    browser.post("/admin/budgets/undo/")
    row = row_of(app, Budget, budget)
    assert (row.limit_amount, row.warn_percent) == (5_000_000_000, 80)


def test_every_kind_of_row_can_be_deleted_together(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    here, user = app.extensions["gateway"], add_user(app, "ana")
    for place in range(2):
        invitations.make(here.engine, Actor("admin", 1), team="")
        with Session(here.engine) as session, session.begin():
            session.add(SystemConfig(key=f"k.{place}", value="v"))
    rows: dict[str, tuple[type[Any], list[Any]]] = {
        "invites": (Invitation, [row.id for row in rows_of(app, Invitation)]),
        "configs": (SystemConfig, ["k.0", "k.1"]),
        "keys": (ApiKey, [add_key(app, user, f"k-{place}") for place in range(2)]),
        "limits": (Limit, [add_limit(app, "user", user), add_limit(app, "address", 0)]),
        "budgets": (Budget, [add_budget(app, "user", user), add_budget(app, "user", user, period="day")]),
        "models": (Model, [add_model(app, [], f"m-{place}") for place in range(2)]),
        "providers": (Provider, [add_provider(app, f"p-{place}") for place in range(2)]),
    }
    for view, (model, ids) in rows.items():
        assert words(bulk(browser, view, "delete", ids)).count("There") == 0, view
        assert bulk(browser, view, "delete", ids, sure="yes").status_code == 303, view
        assert [row_of(app, model, one) for one in ids] == [None, None], view


def test_bounds_and_rubbish_are_refused_cleanly(panel_admin: Browser) -> None:
    add_user(panel_admin.app, "ana")
    many = bulk(panel_admin, "users", "delete", list(range(1, 502)), sure="yes", skip="yes")
    assert "At most 500 rows" in words(panel_admin.get(many.location))
    none = bulk(panel_admin, "users", "delete", [])
    assert "Tick the rows first" in words(panel_admin.get(none.location))
    assert bulk(panel_admin, "users", "drop", [1]).status_code == 400
    assert panel_admin.post("/admin/usage/bulk/", {"action": "delete", "id": "1"}).status_code == 404
    away = bulk(panel_admin, "users", "delete", [], back="next=//evil.test&a=%0d%0aset-cookie:x")
    assert away.location.startswith("/admin/users/?next=%2F%2Fevil.test")


def test_all_on_the_page_without_javascript(panel_admin: Browser) -> None:
    ids = [add_user(panel_admin.app, f"user-{place}") for place in range(3)]
    listed = re.findall(r'name="listed" value="(\d+)"', panel_admin.get("/admin/users/?search=user-").text)
    assert sorted(map(int, listed)) == ids
    asked = panel_admin.post("/admin/users/bulk/", {"action": "disable", "all": "yes", "listed": listed})
    assert "Disable 3 rows?" in words(asked)


def test_auditors_see_no_boxes_and_may_nothing(panel_app: Flask) -> None:
    user = add_user(panel_app, "ana")
    add_user(panel_app, "audrey", role="auditor")
    browser = Browser(panel_app, "audrey")
    page = browser.get("/admin/users/").text
    assert 'name="id"' not in page
    assert "Disable" not in page.split("<tbody>")[1]
    for path in ("bulk", "undo"):
        sent = browser.post(f"/admin/users/{path}/", {"action": "disable", "id": str(user), "sure": "yes"})
        assert sent.status_code == 403
    assert row_of(panel_app, User, user).is_active


def test_asking_needs_a_bounded_number_of_statements(panel_anywhere_admin: Browser) -> None:
    app, browser, counts = panel_anywhere_admin.app, panel_anywhere_admin, []
    user = add_user(app, "ana")
    for more in (2, 60):
        for place in range(more):
            add_limit(app, "key", add_key(app, user, f"k{more}-{place}"))
        ids = [row.id for row in rows_of(app, Limit)]
        bulk(browser, "limits", "delete", ids)
        with statements(app) as seen:
            assert bulk(browser, "limits", "delete", ids).status_code == 200
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 6


def test_rows_of_a_file_have_a_lock_with_the_reason(panel_admin: Browser) -> None:
    number = add_model(panel_admin.app, [], "filed", managed_by="file")
    for path in ("/admin/models/", f"/admin/models/details/?id={number}"):
        page = panel_admin.get(path).text
        assert "This comes from the configuration file; change it there." in page, path
    assert 'class="lock"' in panel_admin.get("/admin/models/").text
    refused = panel_admin.get(f"/admin/models/edit/?id={number}")
    assert (refused.status_code, "configuration file" in refused.text) == (403, True)
