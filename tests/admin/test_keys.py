"""The pages about API keys: the secret on one page only, what a key may do, revoking."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import MetaData, select
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Budget, User
from tests.admin.conftest import (
    Browser,
    add_budget,
    add_key,
    add_provider,
    add_user,
    columns_of,
    key_row,
    row_of,
    rows_of,
)
from tests.helpers import assert_books_agree

FIELDS = {"allowed_paths", "allowed_ips", "tags", "ttl", "should_log_request", "should_log_response", "timeouts"}
SECRET = re.compile(r"sk-th-[0-9A-Za-z]{49}")


def make(browser: Browser, **data: Any) -> Any:
    """The page that a browser ends up with."""
    sent = {"name": "prod", "owner": "ana", "scope": "all", "period": "month", **data}
    answer = browser.post("/admin/keys/new/", sent)
    return browser.get(answer.location) if answer.status_code == 303 else answer


def use(app: Flask, secret: str, model: str = "echo") -> Any:
    app.extensions["gateway"].catalog.refresh()
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return app.test_client().post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {secret}"})


def everything_stored(app: Flask) -> str:
    """All rows of all tables as text."""
    engine = app.extensions["gateway"].engine
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        return "".join(repr(connection.execute(select(table)).all()) for table in metadata.sorted_tables)


def test_the_secret_is_on_one_answer_only(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "ana")
    browser = Browser(panel_anywhere, "admin")
    answer = make(browser)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    secrets = set(SECRET.findall(answer.text))
    assert len(secrets) == 1
    secret = secrets.pop()
    assert answer.text.count(secret) == 1
    assert use(panel_anywhere, secret).status_code == 200
    number = key_row(panel_anywhere, "prod").id
    for path in ("/admin/", "/admin/keys/", f"/admin/keys/details/?id={number}", f"/admin/keys/edit/?id={number}",
                 "/admin/audit/", "/admin/users/details/?id=1"):  # fmt: skip
        assert secret not in browser.get(path).text, path
    assert secret not in everything_stored(panel_anywhere)
    with browser.client.session_transaction("/admin/") as cookie:
        assert secret not in repr(dict(cookie))


def test_reloading_the_page_of_a_new_key_makes_no_second_one(panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    browser = Browser(panel_app, "admin")
    assert SECRET.search(make(browser).text)
    number = key_row(panel_app, "prod").id
    again = browser.get(f"/admin/keys/created/?id={number}")
    assert (again.status_code, again.location) == (303, f"/admin/keys/details/?id={number}")
    make(browser, name="other")
    assert browser.get(f"/admin/keys/created/?id={number}").status_code == 303, "the page of one key shows no other"
    assert [row.name for row in rows_of(panel_app, ApiKey) if row.user_id != 1][-2:] == ["prod", "other"]


def test_the_answer_has_snippets_that_name_no_secret(panel_app: Flask) -> None:
    add_user(panel_app, "ana")
    text = make(Browser(panel_app, "admin"), scope="some", allowed_models=["echo-slow"]).text
    assert "http://localhost/v1" in text
    for piece in ("curl http://localhost/v1/chat/completions", "from openai import OpenAI", "import OpenAI from"):
        assert piece in text.replace("&#34;", '"')
    assert text.count("echo-slow") >= 3


def test_a_key_with_models_expiry_and_budget(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "ana")
    later = datetime.now(UTC) + timedelta(days=30)
    answer = make(
        Browser(panel_anywhere, "admin"),
        scope="some",
        allowed_models=["echo-slow", "echo"],
        expires_at=f"{later:%Y-%m-%dT%H:%M}",
        budget="12.50",
        period="day",
    )
    assert answer.status_code == 200
    row = key_row(panel_anywhere, "prod")
    assert row.allowed_models == ["echo", "echo-slow"]
    assert row.expires_at == later.replace(second=0, microsecond=0)
    (budget,) = rows_of(panel_anywhere, Budget)
    assert (budget.scope, budget.scope_id, budget.unit, budget.period) == ("key", row.id, "usd", "day")
    assert budget.limit_amount == 12_500_000_000
    actions = [entry.action for entry in rows_of(panel_anywhere, AuditEntry)]
    assert actions.count("key_create") == actions.count("limit_set") == 1
    secret = SECRET.search(answer.text)
    assert secret is not None
    assert use(panel_anywhere, secret[0], "echo-json").status_code == 403


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"owner": "nobody"}, id="no such owner"),
        pytest.param({"scope": "some", "allowed_models": ["no-such-model"]}, id="a model there is not"),
        pytest.param({"scope": "some"}, id="no model at all"),
        pytest.param({"scope": "none"}, id="a scope there is not"),
        pytest.param({"expires_at": "2020-01-01T00:00"}, id="dead at birth"),
        pytest.param({"expires_at": "tomorrow"}, id="no date"),
        pytest.param({"budget": "a lot"}, id="no amount"),
        pytest.param({"budget": "-1"}, id="a negative amount"),
        pytest.param({"budget": "NaN"}, id="not a number"),
        pytest.param({"budget": "1e30"}, id="more than there is"),
        pytest.param({"budget": "0.0000000001"}, id="finer than what is counted"),
        pytest.param({"budget": "5", "period": "fortnight"}, id="a period there is not"),
    ],
)
def test_a_key_is_not_made(panel_app: Flask, data: dict[str, Any]) -> None:
    add_user(panel_app, "ana")
    before = len(rows_of(panel_app, ApiKey)), len(rows_of(panel_app, Budget))
    answer = make(Browser(panel_app, "admin"), **data)
    assert answer.status_code == 422
    assert not SECRET.search(answer.text)
    assert (len(rows_of(panel_app, ApiKey)), len(rows_of(panel_app, Budget))) == before


def test_name_models_and_expiry_change_and_nothing_else(panel_anywhere: Flask) -> None:
    number = add_key(panel_anywhere, add_user(panel_anywhere, "ana"), allowed_models=["gone-model", "echo"])
    browser = Browser(panel_anywhere, "admin")
    before = row_of(panel_anywhere, ApiKey, number)
    every = dict.fromkeys(columns_of(ApiKey) - FIELDS, "7") | {"id": str(number), "expires_at": ""}
    form = {**every, "name": "renamed", "scope": "some", "allowed_models": ["gone-model"]}
    assert browser.post(f"/admin/keys/edit/?id={number}", form).status_code == 303
    after = row_of(panel_anywhere, ApiKey, number)
    assert (after.name, after.allowed_models) == ("renamed", ["gone-model"])
    for column in columns_of(ApiKey) - {"name", "allowed_models", "updated_at"}:
        assert getattr(after, column) == getattr(before, column), column
    entry = rows_of(panel_anywhere, AuditEntry)[-1]
    assert entry.action == "key_update"
    assert entry.details["before"] == {"name": "prod", "allowed_models": ["gone-model", "echo"]}


def test_revoking_asks_for_a_reason_and_stops_the_key(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "ana")
    browser = Browser(panel_anywhere, "admin")
    secret = SECRET.search(make(browser).text)
    assert secret is not None
    number = key_row(panel_anywhere, "prod").id
    assert "until somebody lifts that" in browser.get(f"/admin/keys/revoke/?id={number}").text
    assert use(panel_anywhere, secret[0]).status_code == 200
    answer = browser.post("/admin/keys/revoke/", {"id": number, "reason": "left the team"})
    assert answer.status_code == 303
    refused = use(panel_anywhere, secret[0])
    assert refused.status_code == 401
    assert "left the team" in refused.text
    for path in ("revoke", "edit"):
        assert browser.post(f"/admin/keys/{path}/?id={number}", {"id": number, "name": "x"}).status_code == 403
    assert rows_of(panel_anywhere, AuditEntry)[-1].details["after"]["revoked_reason"] == "left the team"


def test_keys_of_the_setting_follow_the_setting(panel_app: Flask) -> None:
    number = next(row.id for row in rows_of(panel_app, ApiKey) if row.kind == "environment")
    browser = Browser(panel_app, "admin")
    for path in (f"/admin/keys/edit/?id={number}", "/admin/keys/revoke/"):
        assert browser.post(path, {"id": number, "name": "mine", "scope": "all"}).status_code == 403
    row = row_of(panel_app, ApiKey, number)
    assert (row.name, row.revoked_at) == ("API_AUTH_TOKENS", None)
    assert "API_AUTH_TOKENS" in browser.get(f"/admin/keys/details/?id={number}").text


def test_a_key_is_deleted_after_asking_and_its_usage_stays(panel_anywhere: Flask) -> None:
    add_user(panel_anywhere, "ana")
    browser = Browser(panel_anywhere, "admin")
    secret = SECRET.search(make(browser).text)
    assert secret is not None
    assert use(panel_anywhere, secret[0]).status_code == 200
    number = key_row(panel_anywhere, "prod").id
    assert f"/admin/keys/delete/?id={number}" in browser.get(f"/admin/keys/details/?id={number}").text
    assert "Its usage stays, under the number of the key." in browser.get(f"/admin/keys/delete/?id={number}").text
    assert row_of(panel_anywhere, ApiKey, number) is not None
    answer = browser.post("/admin/keys/delete/", {"id": number})
    assert answer.status_code == 303
    assert "prod was deleted." in browser.get(answer.location).text
    assert row_of(panel_anywhere, ApiKey, number) is None
    assert [row for row in rows_of(panel_anywhere, Budget) if row.scope == "key"] == []
    assert use(panel_anywhere, secret[0]).status_code == 401
    entry = rows_of(panel_anywhere, AuditEntry)[-1]
    assert (entry.action, entry.resource_id, entry.details["before"]["name"]) == ("key_delete", str(number), "prod")
    assert_books_agree(panel_anywhere.extensions["gateway"].engine)


def test_keys_of_the_setting_are_not_deleted(panel_app: Flask) -> None:
    number = next(row.id for row in rows_of(panel_app, ApiKey) if row.kind == "environment")
    browser = Browser(panel_app, "admin")
    assert "keys/delete" not in browser.get(f"/admin/keys/details/?id={number}").text
    assert browser.post("/admin/keys/delete/", {"id": number}).status_code == 403
    assert row_of(panel_app, ApiKey, number) is not None


def test_the_providers_that_a_key_is_bound_to_are_shown(panel_app: Flask) -> None:
    one, browser = add_provider(panel_app, "house"), Browser(panel_app, "admin")
    bound, free = add_key(panel_app, 1, "bound"), add_key(panel_app, 1, "free")
    with Session(panel_app.extensions["gateway"].engine) as session, session.begin():
        session.get_one(ApiKey, bound).provider_ids = [one]
    page = browser.get(f"/admin/keys/details/?id={bound}").text
    assert f'<dd><a href="/admin/providers/details/?id={one}">house</a></dd>' in page
    assert "providers/details" not in browser.get(f"/admin/keys/details/?id={free}").text


def test_revoking_and_lifting_are_called_so(panel_app: Flask) -> None:
    number, browser = add_key(panel_app, 1, "prod"), Browser(panel_app, "admin")
    answer = browser.post("/admin/keys/revoke/", {"id": number, "reason": ""})
    assert "prod was revoked." in browser.get(answer.location).text
    answer = browser.post("/admin/keys/lift/", {"id": number})
    assert "prod works again." in browser.get(answer.location).text


def test_a_page_beyond_the_end_does_not_say_that_there_is_nothing(panel_app: Flask) -> None:
    add_key(panel_app, 1, "prod")
    browser = Browser(panel_app, "admin")
    for query in ("page=99999", "page=7&search=prod"):
        page = browser.get(f"/admin/keys/?{query}").text
        assert "No API key yet" not in page
        assert "Nothing on this page" in page


def test_the_list_shows_state_owner_and_budget(panel_anywhere: Flask) -> None:
    user = add_user(panel_anywhere, "ana")
    past = datetime.now(UTC) - timedelta(days=1)
    old, new = add_key(panel_anywhere, user, "old", expires_at=past), add_key(panel_anywhere, user, "new")
    add_budget(panel_anywhere, "key", new)
    with Session(panel_anywhere.extensions["gateway"].engine) as session, session.begin():
        panel_anywhere.extensions["gateway"].keys.revoke(session, add_key(panel_anywhere, user, "void"), "")
    add_key(panel_anywhere, add_user(panel_anywhere, "leo", is_active=False), "idle")
    add_key(panel_anywhere, add_user(panel_anywhere, "guest", expires_at=past), "late")
    browser = Browser(panel_anywhere, "admin")

    def names(state: str) -> set[str]:
        page = browser.get(f"/admin/keys/?state={state}").text
        return {name for name in ("old", "new", "void", "idle", "late") if f">{name}</a>" in page}

    assert [names(state) for state in ("", "active", "expired", "disabled", "revoked")] == [
        {"old", "new", "void", "idle", "late"},
        {"new"},
        {"old"},
        {"idle", "late"},
        {"void"},
    ]
    page = browser.get("/admin/keys/").text
    assert page.count('">Owner inactive</span>') == 2
    assert "$20.00" in page
    assert row_of(panel_anywhere, User, user).username in page
    assert row_of(panel_anywhere, ApiKey, old).hint in page


def test_a_key_without_a_budget_is_not_called_unlimited_when_its_owner_has_one(panel_app: Flask) -> None:
    user = add_user(panel_app, "ana")
    number, browser = add_key(panel_app, user), Browser(panel_app, "admin")
    for path in ("/admin/keys/", f"/admin/keys/details/?id={number}"):
        assert "as its owner" not in browser.get(path).text, path
    add_budget(panel_app, "user", user)
    assert "as its owner" in browser.get("/admin/keys/").text
    assert "$20.00" in browser.get(f"/admin/keys/details/?id={number}").text
