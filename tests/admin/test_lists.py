"""What lists show: columns that people choose, views with names, files of all rows, on both databases."""

import csv
import io
import json
import re
import threading
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import AuditEntry, SavedView, User
from routes.admin.exports import NUMBER
from services import savedviews
from services.audit import Actor
from services.errors import Conflict, InvalidRequest
from tests.admin.conftest import (
    CANARY,
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_model,
    add_provider,
    add_team,
    add_user,
    rows_of,
    statements,
)
from tests.admin.pages import furnish

VIEWS = ("users", "teams", "invites", "keys", "budgets", "limits", "providers", "models", "configs")
LOGS = ("usage", "ledger", "audit")
RTL = "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"


def heads(page: str) -> list[str]:
    return re.findall(r'<th scope="col" class="col-([\w-]+)"', page)


def names(page: str) -> list[str]:
    return re.findall(r'<td class="lead-cell"><a [^>]*>([^<]*)</a>', page)


def table(browser: Browser, path: str) -> list[dict[str, str]]:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


def lines(browser: Browser, path: str) -> list[dict[str, Any]]:
    answer = browser.get(path)
    assert answer.mimetype == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def save(browser: Browser, name: str, query: str = "list=users", **data: str) -> Any:
    return browser.post(f"/admin/views/new/?{query}", {"name": name, **data})


# Columns


def test_columns_are_chosen_kept_and_reset(panel_anywhere_admin: Browser) -> None:
    add_user(panel_anywhere_admin.app, "ana")
    usual = heads(panel_anywhere_admin.get("/admin/users/").text)
    assert len(usual) == 9
    path = "/admin/views/columns/?list=users&search=an"
    kept = panel_anywhere_admin.post(path, {"column": ["role", "created_at", "nonsense", "<script>"]})
    assert kept.location == "/admin/users/?search=an"
    page = panel_anywhere_admin.get("/admin/users/").text
    assert heads(page) == ["username", "role", "created-at"]
    cells = re.findall(r'data-label="([^"]+)"', page.split("<tbody>")[1])
    assert set(cells) == {"Role", "Created"}
    assert "3/9" in page
    add_user(panel_anywhere_admin.app, "other-admin", role="admin")
    assert heads(Browser(panel_anywhere_admin.app, "other-admin").get("/admin/users/").text) == usual
    panel_anywhere_admin.post("/admin/views/columns/?list=users", {"reset": "yes"})
    assert heads(panel_anywhere_admin.get("/admin/users/").text) == usual
    assert rows_of(panel_anywhere_admin.app, SavedView) == []


def test_the_address_says_which_columns_and_links_keep_them(panel_admin: Browser) -> None:
    for place in range(30):
        add_user(panel_admin.app, f"user-{place}")
    page = panel_admin.get("/admin/users/?columns=team,username,hostile%3Cscript%3E&search=user").text
    assert heads(page) == ["username", "team"]
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following is not None
    assert heads(panel_admin.get(following[1].replace("&amp;", "&")).text) == ["username", "team"]
    assert len(heads(panel_admin.get("/admin/users/?columns=nothing,%00").text)) == 9


@pytest.mark.parametrize("view", [*VIEWS, *LOGS])
def test_every_list_writes_a_cell_for_each_of_its_columns(panel_app: Flask, view: str) -> None:
    furnish(panel_app, "plain")
    browser = Browser(panel_app, "admin")
    page = browser.get(f"/admin/{view}/").text
    all_heads = heads(page)
    for place, head in enumerate(all_heads[1:], 1):
        shown = browser.get(f"/admin/{view}/?columns={head.replace('-', '_')}").text
        assert heads(shown) == [all_heads[0], head]
        for row in shown.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]:
            labels = re.findall(r'<td[^>]* data-label="([^"]*)"', row)
            assert len(labels) == 1, (view, head, place)
            assert row.count('class="lead-cell"') == 1


# Views


def test_a_view_keeps_the_list_and_opens_it_again(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    for place in range(3):
        add_user(app, f"user-{place}", role="auditor")
    query = {"search": "user", "role": "auditor", "columns": "username,role", "page_size": "50", "sort": "0"}
    saved = save(browser, "Auditors", urlencode({"list": "users", **query, "desc": "1", "page": "3"}))
    assert saved.status_code == 303
    page = browser.get(saved.location).text
    assert names(page) == ["user-2", "user-1", "user-0"]
    assert heads(page) == ["username", "role"]
    assert 'aria-current="true"' in page
    assert "Auditors" in browser.get("/admin/users/").text
    assert "Auditors" not in browser.get("/admin/keys/").text
    assert "Auditors" in browser.get("/admin/views/").text
    row = rows_of(app, SavedView)[0]
    assert row.settings["filters"] == {"search": "user", "role": "auditor"}
    assert browser.post(f"/admin/views/edit/?id={row.id}", {"name": RTL}).status_code == 303
    assert RTL in browser.get("/admin/users/").text
    assert browser.post("/admin/views/delete/", {"id": str(row.id)}).status_code == 303
    assert rows_of(app, SavedView) == []
    actions = [one.action for one in rows_of(app, AuditEntry) if one.resource_type == "view"]
    assert actions == ["view_save", "view_update", "view_delete"]


def test_a_shared_view_is_for_all_and_changed_by_its_owner_alone(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    save(browser, "For all", is_shared="y")
    save(browser, "For me")
    add_user(app, "audrey", role="auditor")
    auditor = Browser(app, "audrey")
    page = auditor.get("/admin/users/").text
    assert ("For all" in page, "For me" in page) == (True, False)
    shared = next(row for row in rows_of(app, SavedView) if row.is_shared)
    for path in ("edit", "delete"):
        assert auditor.get(f"/admin/views/{path}/?id={shared.id}").status_code == 404
        assert auditor.post(f"/admin/views/{path}/?id={shared.id}", {"name": "x"}).status_code == 404
    assert "is_shared" not in auditor.get("/admin/views/new/?list=users").text
    assert save(auditor, "Mine too", is_shared="y").status_code == 303
    assert [row.is_shared for row in rows_of(app, SavedView) if row.name == "Mine too"] == [False]
    auditor.post("/admin/views/columns/?list=users", {"column": "role"})
    assert heads(auditor.get("/admin/users/").text) == ["username", "role"]
    add_user(app, "plain")
    assert save(Browser(app, "plain"), "Not for users").status_code == 403


def test_a_name_that_is_taken_is_replaced_only_when_asked(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    save(browser, "Mine", "list=users&search=a")
    again = save(browser, "Mine", "list=users&search=b")
    assert again.status_code == 422
    assert "You have a view of that name already." in again.text
    assert 'name="replaces"' in again.text
    assert rows_of(app, SavedView)[0].settings["filters"] == {"search": "a"}
    assert save(browser, "Mine", "list=users&search=b", replaces="y").status_code == 303
    assert [row.settings["filters"] for row in rows_of(app, SavedView)] == [{"search": "b"}]
    save(browser, "Other")
    other = rows_of(app, SavedView)[1]
    taken = browser.post(f"/admin/views/edit/?id={other.id}", {"name": "Mine"})
    assert (taken.status_code, "that name already" in taken.text) == (422, True)


def test_names_of_every_kind(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    fine = ["x" * 300, RTL, "<script>alert(1)</script>", "{{ 7*7 }}", "a%b_c'\"", "\U0001f600" * 300]
    for name in fine:
        assert save(browser, name).status_code == 303, name
    assert {row.name for row in rows_of(app, SavedView)} == set(fine)
    assert "<script>alert" not in browser.get("/admin/users/").text + browser.get("/admin/views/").text
    for name in ("", "   ", "x" * 301, "a\x00b", "evil\u202ename", "two\nlines"):
        assert save(browser, name).status_code == 422, name


def test_fifty_views_of_a_list_and_no_more(panel_anywhere: Flask) -> None:
    here = panel_anywhere.extensions["gateway"]
    user = add_user(panel_anywhere, "ana")
    with Session(here.engine) as session, session.begin():
        rows = [SavedView(user_id=user, view="users", name=f"v{place}", settings={}) for place in range(50)]
        session.add_all(rows)
        savedviews.keep_columns(session, user, "users", ["role"])
    with Session(here.engine) as session:
        wish = savedviews.Wish("users", "one more", {})
        with pytest.raises(InvalidRequest, match="as many"):
            savedviews.save(session, Actor("ana", user), wish)
        session.rollback()
        savedviews.save(session, Actor("ana", user), savedviews.Wish("keys", "one more", {}))


def test_one_name_saved_from_many_places_is_there_once(panel_anywhere: Flask) -> None:
    here, user = panel_anywhere.extensions["gateway"], add_user(panel_anywhere, "ana")
    other = add_user(panel_anywhere, "bob")
    outcomes: list[str] = []
    start = threading.Barrier(6)

    def save_it(who: int) -> None:
        start.wait()
        try:
            with Session(here.engine) as session, session.begin():
                savedviews.save(session, Actor("x", who), savedviews.Wish("users", "same", {}))
            outcomes.append("saved")
        except Conflict:
            outcomes.append("taken")
        except Exception as exc:  # noqa: BLE001 - a busy file, or the unique index, are as good
            outcomes.append(type(exc).__name__)

    threads = [threading.Thread(target=save_it, args=(who,)) for who in [user, other] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row.user_id for row in rows_of(panel_anywhere, SavedView)) == sorted([user, other]), outcomes
    assert outcomes.count("saved") == 2


def test_views_go_with_their_owner(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "zoe", role="auditor")
    save(Browser(panel_admin.app, "zoe"), "Hers")
    panel_admin.post("/admin/users/delete/", {"id": str(number)})
    assert rows_of(panel_admin.app, SavedView) == []


def test_a_view_with_settings_of_another_time_opens_what_is_left(panel_admin: Browser) -> None:
    odd = {"filters": {"gone": "x", "search": "a"}, "columns": ["gone", "role"], "page_size": 7, "sort": 99}
    with Session(panel_admin.gateway.engine) as session, session.begin():
        admin = next(row.id for row in rows_of(panel_admin.app, User) if row.username == "admin")
        session.add(SavedView(user_id=admin, view="users", name="odd", settings=odd))
        session.add(SavedView(user_id=admin, view="a-list-that-is-gone", name="lost", settings={}))
    page = panel_admin.get("/admin/views/").text
    assert ("odd" in page, "lost" in page) == (True, False)
    path = re.search(r'href="(/admin/users/\?[^"]+)"', page)
    assert path is not None
    assert panel_admin.get(path[1].replace("&amp;", "&")).status_code == 200


# Exports


def test_every_list_is_a_file_without_secrets(panel_app: Flask) -> None:
    furnish(panel_app, "=plain")
    add_user(panel_app, "audrey", role="auditor")
    browser = Browser(panel_app, "audrey")
    for view in (*VIEWS, *LOGS):
        whole = table(browser, f"/admin/{view}/export.csv")
        objects = lines(browser, f"/admin/{view}/export.jsonl")
        assert len(objects) - len(whole) == (1 if view == "audit" else 0), view  # it has the first file as well
        assert whole, view
        assert list(whole[0]) == list(objects[0]), view
        text = repr(whole) + repr(objects)
        assert CANARY not in text
        assert "$2b$" not in text
        cells = [cell for row in whole for cell in row.values() if cell and not NUMBER.fullmatch(cell)]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
        shown = table(browser, f"/admin/{view}/export.csv?which=shown")
        assert len(shown) >= len(whole)
        assert set(shown[0]) <= set(whole[0])
    noted = [row for row in rows_of(panel_app, AuditEntry) if row.action == "list_export"]
    assert len(noted) == 36
    assert {row.actor for row in noted} == {"audrey"}


@pytest.mark.parametrize("order", ["", "sort=0&desc=1", "sort=8", "sort=8&desc=1"])
def test_a_file_has_all_rows_in_the_order_of_the_list(
    panel_anywhere_admin: Browser, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    from routes.admin import exports

    monkeypatch.setattr(exports, "CHUNK", 7)
    for place in range(30):
        add_user(panel_anywhere_admin.app, f"user-{place * 7919 % 30:02}", role="auditor" if place % 2 else "user")
    query = f"search=user-&{order}"
    listed = names(panel_anywhere_admin.get(f"/admin/users/?{query}&page_size=100").text)
    assert len(listed) == 30
    assert [row["username"] for row in table(panel_anywhere_admin, f"/admin/users/export.csv?{query}")] == listed
    some = table(panel_anywhere_admin, f"/admin/users/export.csv?{query}&role=auditor")
    assert [row["username"] for row in some] == [name for name in listed if name in {one["username"] for one in some}]
    assert len(some) == 15


def test_rows_without_a_value_come_last_and_once(panel_anywhere: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    from routes.admin import exports

    monkeypatch.setattr(exports, "CHUNK", 2)
    for place in range(5):
        add_user(panel_anywhere, f"u{place}", disabled_reason=None if place % 2 else f"r{9 - place}")
    with panel_anywhere.test_request_context("/admin/users/export.csv?search=u"):
        view = next(one for one in panel_anywhere.extensions["admin"][0]._views if one.endpoint == "users")
        monkeypatch.setattr(type(view), "_order", lambda _self: (User.disabled_reason, False))
        found = [row.username for chunk in view.chunks() for row in chunk if re.fullmatch(r"u\d", row.username)]
    assert found == ["u4", "u2", "u0", "u1", "u3"]


def test_the_columns_that_are_seen_are_those_of_the_file(panel_admin: Browser) -> None:
    add_user(panel_admin.app, "ana")
    whole = table(panel_admin, "/admin/users/export.csv?search=ana")
    assert set(whole[0]) >= {"id", "username", "role", "state", "spent_usd"}
    shown = table(panel_admin, "/admin/users/export.csv?search=ana&which=shown&columns=username,is_active")
    assert shown == [{"id": whole[0]["id"], "username": "ana", "state": "active", "disabled_reason": ""}]


def test_an_empty_list_is_a_file_with_its_head(panel_admin: Browser) -> None:
    assert panel_admin.get("/admin/teams/export.csv").text.startswith("id,name,members")
    assert panel_admin.get("/admin/teams/export.jsonl").text == ""


def test_a_file_costs_as_many_statements_for_few_rows_as_for_many(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    counts: dict[str, list[int]] = {view: [] for view in (*VIEWS, *LOGS)}
    for start, end in ((0, 2), (2, 12)):
        for place in range(start, end):
            user = add_user(app, f"user-{place}")
            key, team = add_key(app, user, f"key-{place}"), add_team(app, f"team-{place}", (user,))
            model = add_model(app, [add_provider(app, f"provider-{place}")], f"model-{place}")
            for scope, number in (("user", user), ("key", key), ("team", team), ("model", model)):
                add_budget(app, scope, number)
                add_limit(app, scope, number)
            add_calls(app, 2, user_id=user, key_id=key)
        for view, found in counts.items():
            browser.get(f"/admin/{view}/export.csv")
            with statements(app) as seen:
                assert browser.get(f"/admin/{view}/export.csv").status_code == 200
            found.append(len(seen))
    assert {view: found for view, found in counts.items() if found[0] != found[1] or found[0] > 16} == {}
