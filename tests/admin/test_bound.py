"""The policy of a key, user, team or model, chosen on its own page."""

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import ApiKey, AuditEntry, Model, Team, User
from models_policies import Policy, PolicyBinding
from routes.admin import bound
from tests.admin.conftest import Browser, rows_of
from tests.admin.test_policy_pages import FIELDS as POLICY
from tests.helpers import AUTH, add_model, add_provider, chat, with_upstream

CARD = "4111 1111 1111 1111"
PLACES = {"model": ("models", Model), "team": ("teams", Team), "user": ("users", User), "key": ("keys", ApiKey)}
NEW = {
    "team": {"name": "blue"},
    "user": {"username": "ana", "role": "user", "password_mode": "none"},
    "key": {"name": "mine", "owner": "admin"},
}
FORMS = {
    "model": {"name": "fast", "is_enabled": "y", "price_kind": "free"},
    "team": NEW["team"],
    "user": {"role": "user", "is_active": "y"},
    "key": {"name": "mine"},
}


def policy_of(app: Flask) -> Policy:
    (row,) = rows_of(app, Policy)
    return row


def bindings(app: Flask) -> list[tuple[str, int, int]]:
    with Session(app.extensions["gateway"].engine) as session:
        return [(row.scope, row.scope_id, row.policy_id) for row in session.scalars(select(PolicyBinding))]


@pytest.fixture
def browser(panel_anywhere_admin: Browser) -> Browser:
    """An admin beside a policy that refuses cards, and applies to nothing yet."""
    fields = {name: value for name, value in POLICY.items() if name != "everyone"}
    panel_anywhere_admin.post("/admin/policies/new/", fields)
    return panel_anywhere_admin


@pytest.mark.parametrize("scope", list(NEW))
def test_a_new_one_has_the_policy_that_was_chosen(browser: Browser, scope: str) -> None:
    pages, table = PLACES[scope]
    assert "no cards" in browser.get(f"/admin/{pages}/new/").text
    policy = policy_of(browser.app)
    browser.post(f"/admin/{pages}/new/", NEW[scope] | {"scope": "all", "policy": policy.uuid})
    newest = max(row.id for row in rows_of(browser.app, table))
    assert bindings(browser.app) == [(scope, newest, policy.id)]
    page = browser.get(f"/admin/{pages}/details/?id={newest}")
    assert f'href="/admin/policies/details/?id={policy.id}"' in page.text
    told = [one.details.get("after", {}) for one in rows_of(browser.app, AuditEntry) if one.action == f"{scope}_create"]
    assert told[-1]["policy"] == policy.uuid


@pytest.mark.parametrize("scope", list(FORMS))
def test_one_that_is_there_is_given_a_policy_and_loses_it(browser: Browser, upstream, scope: str) -> None:
    app = browser.app
    provider = add_provider(app, upstream)
    add_model(app, provider)
    pages, table = PLACES[scope]
    if scope in NEW:
        browser.post(f"/admin/{pages}/new/", NEW[scope] | {"scope": "all"})
    number, policy = max(row.id for row in rows_of(app, table)), policy_of(app)
    edit = f"/admin/{pages}/edit/?id={number}"
    form = FORMS[scope] | {"scope": "all"}
    if scope == "model":
        form |= {"deployments-0-provider_id": str(provider), "deployments-0-upstream_model": "m"}
    for chosen, wanted in ((policy.uuid, [(scope, number, policy.id)]), (None, [(scope, number, policy.id)]), ("", [])):
        answer = browser.post(edit, form | ({} if chosen is None else {"policy": chosen}))
        assert answer.status_code == 303
        assert bindings(app) == wanted
        shown = browser.get(edit).text.partition('id="policy"')[2].partition("no cards")[0]
        assert ("selected" in shown.rpartition("<option")[2]) == bool(wanted)
    changes = [one.details for one in rows_of(app, AuditEntry) if one.action == f"{scope}_update"]
    told = [(one["before"]["policy"], one["after"]["policy"]) for one in changes if "policy" in one["after"]]
    assert told == [("", policy.uuid), (policy.uuid, "")]


def test_it_applies_at_once(browser: Browser, upstream) -> None:
    app = browser.app
    with_upstream(app, upstream)
    browser.post("/admin/teams/new/", {"name": "blue", "scope": "all"})
    asked = {"json": chat(CARD), "headers": AUTH}
    assert app.test_client().post("/v1/chat/completions", **asked).status_code == 200
    (team,) = rows_of(app, Team)
    owner = next(row.username for row in rows_of(app, User) if row.id == next(iter(rows_of(app, ApiKey))).user_id)
    fields = {"name": "blue", "members": owner, "scope": "all", "policy": policy_of(app).uuid}
    assert browser.post(f"/admin/teams/edit/?id={team.id}", fields).status_code == 303
    assert app.test_client().post("/v1/chat/completions", **asked).status_code == 403


def test_one_of_very_many_can_be_kept_and_chosen(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "MOST_OFFERED", 1)
    policy = policy_of(browser.app)
    fields = {name: value for name, value in POLICY.items() if name != "everyone"}
    browser.post("/admin/policies/new/", fields | {"name": "another, which comes before it"})
    form = {"name": "blue", "scope": "all", "policy": policy.uuid}
    assert browser.post("/admin/teams/new/", form).status_code == 303
    (team,) = rows_of(browser.app, Team)
    edit = f"/admin/teams/edit/?id={team.id}"
    assert policy.uuid in browser.get(edit).text
    assert browser.post(edit, form | {"name": "red"}).status_code == 303
    assert bindings(browser.app) == [("team", team.id, policy.id)]


def test_one_that_is_not_there_is_refused(browser: Browser) -> None:
    answer = browser.post("/admin/teams/new/", {"name": "blue", "scope": "all", "policy": "no such"})
    assert answer.status_code == 422
    assert rows_of(browser.app, Team) == []
    assert bindings(browser.app) == []


def test_the_policy_that_loses_it_is_told(browser: Browser) -> None:
    app = browser.app
    fields = {name: value for name, value in POLICY.items() if name != "everyone"}
    browser.post("/admin/policies/new/", fields | {"name": "another one"})
    browser.post("/admin/teams/new/", {"name": "blue", "scope": "all"})
    (team,) = rows_of(app, Team)
    first, second = sorted(rows_of(app, Policy), key=lambda row: row.id)
    edit = f"/admin/teams/edit/?id={team.id}"
    browser.post(edit, {"name": "blue", "scope": "all", "policy": first.uuid})
    assert "was taken from" not in browser.get("/admin/").text
    browser.post(edit, {"name": "blue", "scope": "all", "policy": second.uuid})
    assert "was taken from: no cards." in browser.get("/admin/").text
    browser.post(f"/admin/policies/edit/?id={first.id}", fields | {"teams": "blue"})
    assert "was taken from: another one." in browser.get("/admin/").text
    assert bindings(app) == [("team", team.id, first.id)]
    told = [one for one in rows_of(app, AuditEntry) if one.resource_id == second.uuid and one.action == "policy_update"]
    assert [one.details["after"]["boundTo"]["teams"] for one in told] == [["blue"], []]
