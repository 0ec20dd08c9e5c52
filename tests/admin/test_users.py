"""The pages about users: making, changing, deleting, and what nobody may do to themselves."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, Limit, RetiredSecret, User, WebSession
from services import ledger
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_calls,
    add_key,
    add_limit,
    add_team,
    add_user,
    columns_of,
    row_of,
    rows_of,
    user_of,
)
from tests.conftest import PASSWORD
from tests.helpers import assert_books_agree

SECRET = re.compile(r'<code id="secret">([^<]+)</code>')


def make(browser: Browser, **data: Any) -> Any:
    return browser.post("/admin/users/new/", {"username": "ana", "role": "user", "password_mode": "generate", **data})


def test_a_generated_password_is_shown_once_and_works(panel_anywhere_admin: Browser) -> None:
    answer = make(panel_anywhere_admin, must_change="y")
    found = SECRET.search(answer.text)
    assert answer.status_code == 200
    assert found is not None
    made = user_of(panel_anywhere_admin.app, "ana")
    assert made is not None
    assert (made.role, made.must_change_password, made.is_active) == ("user", True, True)
    assert Browser(panel_anywhere_admin.app).sign_in("ana", found[1]).status_code == 303
    assert found[1] not in panel_anywhere_admin.get(f"/admin/users/details/?id={made.id}").text


def test_a_chosen_password_is_not_shown(panel_admin: Browser) -> None:
    answer = make(panel_admin, password_mode="choose", password=PASSWORD, role="admin")
    assert PASSWORD not in answer.text
    assert Browser(panel_admin.app).sign_in("ana", PASSWORD).status_code == 303


def test_a_service_account_has_no_password(panel_admin: Browser) -> None:
    make(panel_admin, password_mode="none")
    made = user_of(panel_admin.app, "ana")
    assert made is not None
    assert (made.password_hash, made.must_change_password) == (None, False)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"username": ""}, id="no name"),
        pytest.param({"username": "admin"}, id="a taken name"),
        pytest.param({"username": "API-Tokens"}, id="a reserved name"),
        pytest.param({"username": "two words"}, id="a space"),
        pytest.param({"username": "<b>"}, id="markup"),
        pytest.param({"username": "a\u202eb"}, id="a character nobody sees"),
        pytest.param({"username": "x" * 151}, id="too long"),
        pytest.param({"role": "owner"}, id="a role there is not"),
        pytest.param({"password_mode": "choose", "password": "short"}, id="a short password"),
        pytest.param({"password_mode": "choose", "password": "long enough\0"}, id="a NUL in the password"),
        pytest.param({"password_mode": "telepathy"}, id="a mode there is not"),
    ],
)
def test_a_user_is_not_made(panel_admin: Browser, data: dict[str, str]) -> None:
    before = len(rows_of(panel_admin.app, User))
    assert make(panel_admin, **data).status_code == 422
    assert len(rows_of(panel_admin.app, User)) == before


@pytest.mark.parametrize("role", ["user", "team_admin", "auditor", "admin"])
def test_every_role_may_be_given(panel_admin: Browser, role: str) -> None:
    assert make(panel_admin, role=role).status_code == 200
    (made,) = [row for row in rows_of(panel_admin.app, User) if row.username == "ana"]
    assert made.role == role
    assert panel_admin.get(f"/admin/users/?role={role}").status_code == 200


def test_role_and_state_change_and_are_audited(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_user(app, "ana")
    answer = panel_anywhere_admin.post(f"/admin/users/edit/?id={number}", {"role": "admin"})
    assert answer.status_code == 303
    changed = row_of(app, User, number)
    assert (changed.role, changed.is_active) == ("admin", False)
    entry = rows_of(app, AuditEntry)[-1]
    assert (entry.action, entry.actor, entry.resource_id) == ("user_update", "admin", str(number))
    assert entry.details == {
        "before": {"role": "user", "is_active": True},
        "after": {"role": "admin", "is_active": False},
    }


def test_no_other_column_can_be_set(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "ana")
    before = row_of(panel_admin.app, User, number)
    fields = {"tags", "allowed_models", "allowed_paths", "ttl", "expires_at"}
    every = dict.fromkeys(columns_of(User) - fields, "7") | {"id": str(number), "role": "user", "is_active": "y"}
    assert panel_admin.post(f"/admin/users/edit/?id={number}", every).status_code == 303
    after = row_of(panel_admin.app, User, number)
    for column in User.__table__.columns:
        if column.name != "updated_at":
            assert getattr(after, column.name) == getattr(before, column.name), column.name
    made = make(panel_admin, **{**every, "username": "eva", "password_mode": "none"})
    assert made.status_code == 200
    eva = user_of(panel_admin.app, "eva")
    assert eva is not None
    assert (eva.tokens_used, eva.spent_nanousd, eva.token_version, eva.password_hash) == (0, 0, 0, None)
    assert eva.id != 7


def test_nobody_changes_or_deletes_themselves(panel_admin: Browser) -> None:
    me = user_of(panel_admin.app, "admin")
    assert me is not None
    assert panel_admin.get(f"/admin/users/edit/?id={me.id}").status_code == 403
    assert panel_admin.post(f"/admin/users/edit/?id={me.id}", {"role": "user"}).status_code == 403
    assert panel_admin.post("/admin/users/delete/", {"id": me.id}).status_code == 403
    assert panel_admin.post(f"/admin/users/password/?id={me.id}", {"password_mode": "generate"}).status_code == 403
    after = row_of(panel_admin.app, User, me.id)
    assert (after.role, after.is_active, after.password_hash) == ("admin", True, me.password_hash)


def test_the_account_of_the_fixed_tokens_stays(panel_admin: Browser) -> None:
    tokens = user_of(panel_admin.app, "api-tokens")
    assert tokens is not None
    assert panel_admin.post("/admin/users/delete/", {"id": tokens.id}).status_code == 403
    assert panel_admin.post(f"/admin/users/password/?id={tokens.id}", {"password_mode": "generate"}).status_code == 403
    panel_admin.post(f"/admin/users/edit/?id={tokens.id}", {"role": "admin", "is_active": "y"})
    assert row_of(panel_admin.app, User, tokens.id).role == "user"


def test_a_new_password_ends_sessions_and_is_shown_once(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "ana", role="admin")
    theirs = Browser(panel_admin.app, "ana")
    assert theirs.get("/admin/").status_code == 200
    answer = panel_admin.post(f"/admin/users/password/?id={number}", {"password_mode": "generate", "must_change": "y"})
    found = SECRET.search(answer.text)
    assert found is not None
    assert theirs.get("/admin/").status_code == 302
    assert Browser(panel_admin.app).sign_in("ana", PASSWORD).status_code == 401
    again = Browser(panel_admin.app)
    assert again.sign_in("ana", found[1]).status_code == 303
    assert again.get("/admin/").location == "/admin/password"
    assert "password_reset" in [row.action for row in rows_of(panel_admin.app, AuditEntry)]


def test_deleting_asks_first_and_takes_everything_with_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_user(app, "ana")
    key = add_key(app, number)
    for scope, of in (("user", number), ("key", key)):
        add_budget(app, scope, of)
    Browser(app, "ana")
    add_calls(app, 2, user_id=number, key_id=key)
    question = panel_anywhere_admin.get(f"/admin/users/delete/?id={number}").text
    assert "cannot be undone" in question
    assert row_of(app, User, number) is not None
    assert panel_anywhere_admin.post("/admin/users/delete/", {"id": number}).location == "/admin/users/"
    assert row_of(app, User, number) is None
    assert [row.id for row in rows_of(app, ApiKey) if row.user_id == number] == []
    assert rows_of(app, Budget) == []
    with Session(app.extensions["gateway"].engine) as session:
        assert session.scalars(select(WebSession).where(WebSession.user_id == number)).all() == []
    assert f"#{number}" in panel_anywhere_admin.get("/admin/usage/").text
    assert rows_of(app, AuditEntry)[-1].details["before"]["username"] == "ana"


def test_the_number_of_a_deleted_user_key_or_budget_is_never_given_again(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_user(app, "ana")
    key, budget = add_key(app, number), add_budget(app, "user", number)
    panel_anywhere_admin.post("/admin/users/delete/", {"id": number})
    again = add_user(app, "ana")
    assert again > number
    assert add_key(app, again) > key
    assert add_budget(app, "user", again) > budget


def test_the_list_searches_narrows_and_sorts(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    for name in ("ana", "Anabel", "b%b", "bxb", "c_d", "cxd"):
        add_user(app, name, is_active=name != "bxb")
    page = panel_anywhere_admin.get

    def names(query: str) -> list[str]:
        return re.findall(r'lead-cell"><a [^>]*>([^<]+)<', page(f"/admin/users/{query}").text)

    assert names("?search=ana") == ["Anabel", "ana"] or names("?search=ana") == ["ana", "Anabel"]
    assert names("?search=b%25b") == ["b%b"]
    assert names("?search=c_d") == ["c_d"]
    assert names("?state=disabled") == ["bxb"]
    assert names("?role=admin") == ["admin"]
    assert names("?sort=0&desc=1") == list(reversed(names("?sort=0")))
    assert len(names("?page_size=20")) == 8
    assert "Nothing matches" in page("/admin/users/?search=nobody").text


def test_books_agree_after_all_that(panel_admin: Browser) -> None:
    number = add_user(panel_admin.app, "ana")
    add_budget(panel_admin.app, "user", number)
    panel_admin.post("/admin/users/delete/", {"id": number})
    assert_books_agree(panel_admin.gateway.engine)
    assert ledger.verify(panel_admin.gateway.engine).differences == ()


def test_a_user_with_everything(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    team = add_team(app, "research")
    rules = {"scope": "some", "allowed_models": ["echo"], "allowed_paths": "POST /v1/chat/completions", "ttl": "30d"}
    answer = make(panel_anywhere_admin, password_mode="none", team=str(team), tags="pilot, eu", **rules)
    assert answer.status_code == 200
    made = user_of(app, "ana")
    assert made is not None
    assert (made.team_id, made.tags, made.allowed_models) == (team, ["pilot", "eu"], ["echo"])
    assert made.allowed_paths == [{"path": "/v1/chat/completions", "method": "POST"}]
    assert made.ttl == "30d"
    assert made.expires_at is not None
    assert abs(made.expires_at - made.created_at - timedelta(days=30)) < timedelta(seconds=5)
    page = panel_anywhere_admin.get(f"/admin/users/details/?id={made.id}").text
    for text in ("research", "pilot", "echo", "POST /v1/chat/completions", "30d"):
        assert text in page, text
    entry = [row for row in rows_of(app, AuditEntry) if row.action == "user_create"][-1]
    assert entry.details["after"]["team_id"] == team


def test_what_a_user_may_do_changes_and_can_be_taken_away(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    number = add_user(app, "ana", team_id=add_team(app, "research"), tags=["a"], allowed_models=["echo"], ttl="2d")
    page = panel_anywhere_admin.get(f"/admin/users/edit/?id={number}").text
    for text in ('value="a"', 'value="2d"', "selected"):
        assert text in page, text
    form = {"role": "user", "is_active": "y", "team": "", "scope": "all", "tags": "", "ttl": "", "expires_at": ""}
    assert panel_anywhere_admin.post(f"/admin/users/edit/?id={number}", form).status_code == 303
    row = row_of(app, User, number)
    assert (row.team_id, row.tags, row.allowed_models, row.ttl, row.expires_at) == (None,) * 5
    for bad in (
        {"team": "999"},
        {"team": "x"},
        {"allowed_paths": "nowhere"},
        {"ttl": "2d", "expires_at": "2999-01-01T00:00"},
    ):
        assert panel_anywhere_admin.post(f"/admin/users/edit/?id={number}", {**form, **bad}).status_code == 422, bad


def test_whoever_uses_a_disabled_user_s_key_reads_why(panel_anywhere_admin: Browser) -> None:
    app, here = panel_anywhere_admin.app, panel_anywhere_admin.gateway
    number = add_user(app, "ana")
    with Session(here.engine) as session, session.begin():
        secret = here.keys.issue(session, number, "prod").secret
    form = {"role": "user", "scope": "all", "disabled_reason": "left the company"}
    assert panel_anywhere_admin.post(f"/admin/users/edit/?id={number}", form).status_code == 303
    answer = app.test_client().get("/v1/models", headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, "left the company" in answer.get_data(as_text=True)) == (401, True)
    assert "left the company" in panel_anywhere_admin.get(f"/admin/users/details/?id={number}").text
    panel_anywhere_admin.post(f"/admin/users/edit/?id={number}", {**form, "is_active": "y"})
    assert row_of(app, User, number).disabled_reason is None


def test_the_list_narrows_by_team_tag_and_state(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana = add_user(app, "ana", tags=["pilot"])
    add_team(app, "research", (ana,))
    add_user(app, "bo", expires_at=datetime.now(UTC) - timedelta(days=1))
    add_user(app, "eva", is_active=False)

    def names(query: str) -> set[str]:
        page = panel_anywhere_admin.get(f"/admin/users/?{query}").text
        return {name for name in ("ana", "bo", "eva") if f">{name}</a>" in page}

    assert names("team=research") == names("tag=pilot") == names("state=active") == {"ana"}
    assert (names("state=expired"), names("state=disabled")) == ({"bo"}, {"eva"})


def test_the_limits_of_a_deleted_user_and_its_keys_go_with_it(panel_anywhere_admin: Browser) -> None:
    app, here = panel_anywhere_admin.app, panel_anywhere_admin.gateway
    number = add_user(app, "ana")
    key = add_key(app, number)
    with Session(here.engine) as session, session.begin():
        here.keys.rotate(session, session.get_one(ApiKey, key), timedelta(days=1))
    for scope, of in (("user", number), ("key", key), ("user", 1)):
        add_limit(app, scope, of)
    assert panel_anywhere_admin.post("/admin/users/delete/", {"id": number}).status_code == 303
    assert [(row.scope, row.scope_id) for row in rows_of(app, Limit)] == [("user", 1)]
    with Session(here.engine) as session:
        assert session.scalars(select(RetiredSecret)).all() == []
