"""The first steps and the making of a key: what is done is what is there, and nothing that was typed is lost."""

import re

import pytest
from flask import Flask
from sqlalchemy import update
from sqlalchemy.orm import Session

from models import ApiKey, Provider
from services import firststeps
from services.audit import Actor
from tests.admin.conftest import (
    Browser,
    add_calls,
    add_key,
    add_model,
    add_provider,
    add_team,
    add_user,
    rows_of,
    statements,
)
from tests.conftest import PASSWORD

SECTION = 'id="steps"'


def steps_done(browser: Browser) -> int:
    found: dict[str, int] = browser.get("/admin/steps/state").json
    return found["done"]


def test_progress_is_what_is_there(panel_anywhere_admin: Browser) -> None:
    app, browser = panel_anywhere_admin.app, panel_anywhere_admin
    assert steps_done(browser) == 1, "the key of a setting is nobody's first key"
    provider = add_provider(app)
    assert steps_done(browser) == 2
    add_model(app, [provider])
    assert steps_done(browser) == 3
    key = add_key(app, add_user(app, "ana"))
    assert steps_done(browser) == 4
    add_calls(app, 1)
    assert steps_done(browser) == 5
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.execute(update(Provider).where(Provider.id == provider).values(is_enabled=False))
        app.extensions["gateway"].keys.revoke(session, key, "")
    assert steps_done(browser) == 2, "what is taken away is not done any more"
    with statements(app) as seen:
        firststeps.progress(app.extensions["gateway"].engine)
    assert len(seen) == 1


def test_a_password_that_was_printed_is_to_be_changed(panel_admin: Browser) -> None:
    app = panel_admin.app
    engine = app.extensions["gateway"].engine
    assert firststeps.progress(engine).password, "whoever started it chose the password"
    assert not firststeps.progress(engine, "admin").password
    old, new = PASSWORD, "a better one than before"
    panel_admin.post("/admin/password", {"current": old, "new": new, "again": new})
    assert firststeps.progress(engine, "admin").password
    assert not firststeps.progress(engine, "somebody else").password


def test_the_steps_can_be_hidden_and_found_again(panel_admin: Browser) -> None:
    assert SECTION in panel_admin.get("/admin/").text
    assert panel_admin.post("/admin/steps/hide").location.endswith("/admin/")
    assert SECTION not in panel_admin.get("/admin/").text
    page = panel_admin.get("/admin/steps/").text
    assert SECTION in page
    assert "Show on the overview" in page
    panel_admin.post("/admin/steps/hide", {"show": "yes"})
    assert SECTION in panel_admin.get("/admin/").text


def test_an_auditor_sees_no_steps_to_take(panel_app: Flask) -> None:
    add_user(panel_app, "audrey", role="auditor")
    browser = Browser(panel_app, "audrey")
    assert SECTION not in browser.get("/admin/").text
    page = browser.get("/admin/steps/").text
    assert "/admin/steps/go" not in page
    assert "/admin/steps/hide" not in page


def test_each_step_leads_to_its_form_and_back(panel_admin: Browser) -> None:
    number = add_provider(panel_admin.app)
    ways = {
        "provider": "/admin/providers/new/",
        "model": f"/admin/models/offers/?provider={number}",
        "model_by_hand": "/admin/models/new/",
        "key": "/admin/keys/new/",
    }
    assert "Back to the first steps" not in panel_admin.get("/admin/keys/new/").text
    for step, place in ways.items():
        assert panel_admin.get(f"/admin/steps/go?step={step}").location == place
    assert "Back to the first steps" in panel_admin.get("/admin/keys/new/").text
    assert "Back to the first steps" not in panel_admin.get("/admin/steps/").text
    assert panel_admin.get("/admin/steps/go?step=//evil.test").status_code == 404
    panel_admin.post("/admin/steps/hide")
    assert "Back to the first steps" not in panel_admin.get("/admin/keys/new/").text


def new_key(app: Flask) -> ApiKey:
    return rows_of(app, ApiKey)[-1]


def test_a_key_with_defaults_takes_one_click(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    form = panel_anywhere_admin.get("/admin/keys/new/").text
    assert 'value="admin"' in form, "the owner is whoever makes it, unless somebody else is named"
    sent = {"name": "New key", "owner": "admin", "budget": "not asked", "requests": "-5", "with": "defaults"}
    made = panel_anywhere_admin.post("/admin/keys/new/", sent)
    assert made.status_code == 303
    row = new_key(app)
    assert (row.name, row.allowed_models, row.expires_at) == ("New key", None, None)


def test_a_summary_is_shown_before_anything_is_made(panel_admin: Browser) -> None:
    app = panel_admin.app
    before = len(rows_of(app, ApiKey))
    sent = {"name": "<b>app</b>", "owner": "admin", "scope": "some", "allowed_models": ["echo"], "budget": "12.50"}
    sent |= {"period": "month", "requests": "60", "requests_period": "minute", "ttl": "30d"}
    page = panel_admin.post("/admin/keys/new/", sent | {"with": "review"})
    assert page.status_code == 200
    assert len(rows_of(app, ApiKey)) == before
    said = re.findall(r"<dd data-of[^>]*>([^<]*)</dd>", page.text)
    assert said == [
        "&lt;b&gt;app&lt;/b&gt;",
        "admin",
        "echo",
        "60 Per minute",
        "no limit",
        "$12.50 Per month",
        "none",
        "30d",
    ]
    wrong = panel_admin.post("/admin/keys/new/", sent | {"with": "review", "budget": "much"})
    assert wrong.status_code == 422
    assert 'value="much"' in wrong.text
    assert 'value="30d"' in wrong.text
    assert panel_admin.post("/admin/keys/new/", sent).status_code == 303


@pytest.mark.parametrize(
    ("key", "user", "team", "expected"),
    [
        (None, None, None, "fast"),
        (["echo"], None, None, "echo"),
        (None, ["echo", "fast"], ["echo"], "echo"),
        (["fast"], ["echo"], None, "MODEL"),
    ],
)
def test_the_examples_name_a_model_that_the_key_may_use(
    panel_admin: Browser, key: list[str] | None, user: list[str] | None, team: list[str] | None, expected: str
) -> None:
    app = panel_admin.app
    add_model(app, [add_provider(app)], "fast")
    add_team(app, "crew", (add_user(app, "ana", allowed_models=user),), allowed_models=team)
    app.extensions["gateway"].catalog.refresh()
    chosen = {"scope": "all" if key is None else "some", "allowed_models": key or []}
    page = panel_admin.post("/admin/keys/new/", {"name": "k", "owner": "ana", **chosen}, follow_redirects=True).text
    text = page.replace("&#34;", '"')
    assert text.count(f'"model": "{expected}"') == 1
    assert text.count(f'    model="{expected}"') == 2, "OpenAI's and Anthropic's client"
    assert 'Anthropic(base_url="http://localhost"' in text
    assert ("data-try" in text) is (expected != "MODEL")
    assert 'data-try="http://localhost/v1/chat/completions"' in text or expected == "MODEL"


def test_the_audit_log_is_found_by_action_and_resource(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    for action, resource, number in (
        ("cat_feed", "cat", "tom"),
        ("dog_walk", "dog", "rex"),
        ("cat_pet", "cat", "100%"),
    ):
        app.extensions["gateway"].audit.note(Actor("ana"), action, resource, number)

    def actions(query: str) -> list[str]:
        page = panel_anywhere_admin.get(f"/admin/audit/{query}").text
        return re.findall(r'data-label="Action"><span class="badge[^>]*>([^<]*)<', page)

    assert actions("?search=CAT") == ["cat_pet", "cat_feed"]
    assert actions("?search=walk") == ["dog_walk"]
    assert actions("?search=100%25") == ["cat_pet"]
    assert actions("?resource_type=dog") == ["dog_walk"]
    assert actions("?resource_type=cat&search=feed") == ["cat_feed"]
