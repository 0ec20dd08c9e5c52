"""Agents and routes in the panel: presets for everybody, agents of one user, and paths with their places."""

import json
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from models import Agent, ApiKey, AuditEntry, Route
from services import agents
from services.errors import Conflict, InvalidRequest
from tests.admin.conftest import Browser, add_key, add_model, add_provider, add_user, row_of, rows_of

NEW = "/admin/agents/new/"
FIELDS = {"name": "terse", "description": "Short answers", "system_prompt": "Be terse.", "temperature": "0.1"}


def agent_of(app: Flask, name: str) -> Agent:
    return next(row for row in rows_of(app, Agent) if row.name == name)


def test_a_preset_for_everybody_is_made_and_everybody_may_name_it(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, engine = add_user(app, "ana"), app.extensions["gateway"].engine
    data = FIELDS | {"stop_sequences": "END\nSTOP", "max_tokens": "50", "model_name": "echo"}
    assert panel_anywhere_admin.post(NEW, data).status_code == 303
    row = agent_of(app, "terse")
    assert (row.user_id, row.model_name) == (0, "echo")
    assert row.config == {"temperature": 0.1, "max_tokens": 50, "stop_sequences": ["END", "STOP"]}
    listed = {one["name"]: one["is_preset"] for one in agents.list_all(engine, ana)}
    assert listed["terse"] is True
    with Session(engine) as session:
        assert agents.named(session, ana, {"agent_type": "terse"}).system_prompt == "Be terse."
    for change in (
        lambda: agents.remove(engine, ana, row.id),
        lambda: agents.change(engine, ana, row.id, {"name": "x"}),
    ):
        with pytest.raises(Conflict, match="preset"):
            change()


def test_ones_own_agent_goes_before_a_preset_of_its_name(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    ana, bea = add_user(app, "ana"), add_user(app, "bea")
    panel_anywhere_admin.post(NEW, FIELDS)
    assert panel_anywhere_admin.post(NEW, FIELDS | {"owner": "ana", "system_prompt": "Mine."}).status_code == 303
    with Session(app.extensions["gateway"].engine) as session:
        found = [agents.named(session, user, {"agent_type": "terse"}).system_prompt for user in (ana, bea)]
        assert found == ["Mine.", "Be terse."]
        with pytest.raises(InvalidRequest, match=r"creative_writer, terse$"):
            agents.named(session, ana, {"agent_type": "nothing"})


def test_an_agent_changes_and_goes(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    panel_anywhere_admin.post(NEW, FIELDS)
    number = agent_of(app, "terse").id
    path = f"/admin/agents/edit/?id={number}"
    assert "Be terse." in panel_anywhere_admin.get(path).text
    assert panel_anywhere_admin.post(path, FIELDS | {"system_prompt": "Be kind.", "temperature": ""}).status_code == 303
    row = agent_of(app, "terse")
    assert (row.system_prompt, row.config) == ("Be kind.", {})
    entry = next(entry for entry in rows_of(app, AuditEntry) if entry.action == "agent_update")
    assert "Be kind" not in json.dumps(entry.details), "the log has no text"
    assert entry.details["system_prompt"] == "changed"
    assert "everybody" in panel_anywhere_admin.get("/admin/agents/?kind=everybody").text
    assert number not in panel_anywhere_admin.get("/admin/agents/?kind=own").text
    assert panel_anywhere_admin.post(f"/admin/agents/delete/?id={number}").status_code == 303
    assert rows_of(app, Agent) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": ""}, "This field is required."),
        ({"name": "default"}, "There is an agent of this name already."),
        ({"name": "taken"}, "There is an agent of this name already."),
        ({"owner": "nobody"}, "There is no user of that name."),
        ({"model_name": "nothing"}, "There is no model of that name."),
        ({"temperature": "1.5"}, "Number must be between"),
        ({"temperature": "nan"}, "Number must be between"),
        ({"system_prompt": "a\0b"}, "NUL"),
        ({"stop_sequences": "\n".join("abcdefghijklmnopqrst")}, "too many lines"),
    ],
)
def test_an_agent_is_not_made(panel_admin: Browser, data: dict[str, str], said: str) -> None:
    panel_admin.post(NEW, FIELDS | {"name": "taken"})
    answer = panel_admin.post(NEW, FIELDS | data)
    assert answer.status_code == 422
    assert said in answer.text
    assert "Short answers" in answer.text, "what was typed stays"
    assert len(rows_of(panel_admin.app, Agent)) == 1


def route_data(app: Flask, **more: str) -> dict[str, Any]:
    user = add_user(app, "ana")
    number = add_key(app, user, "app")
    add_model(app, [add_provider(app)], "fast")
    key = next(row for row in rows_of(app, ApiKey) if row.id == number)
    step = {"steps-0-provider": "acme", "steps-0-model": "fast", "steps-0-retries": "2", "steps-0-timeout": "30s"}
    again = {
        "steps-1-provider": "echo",
        "steps-1-model": "echo",
        "steps-1-more": '{"requestParams": {"temperature": 0.2}}',
    }
    return {
        "name": "Support",
        "path": "/support/chat",
        "keys": [key.uuid],
        "strategy": "constant",
        **step,
        **again,
        **more,
    }


def test_a_route_is_made_changed_and_deleted(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    data = route_data(app)
    assert "acme" in panel_anywhere_admin.get("/admin/routes/new/").text
    made = panel_anywhere_admin.post("/admin/routes/new/", data)
    assert made.status_code == 303
    (row,) = rows_of(app, Route)
    assert [step["provider"] for step in row.steps] == ["acme", "echo"]
    assert (row.steps[0]["retries"], row.steps[0]["timeout_s"]) == (2, 30.0)
    assert row.steps[1]["request_params"] == {"temperature": 0.2}
    page = panel_anywhere_admin.get(made.location).text
    assert "/api/routes/support/chat" in page
    assert "2 repeats" in page
    path = f"/admin/routes/edit/?id={row.id}"
    form = panel_anywhere_admin.get(path).text
    assert "requestParams" in form
    assert "checked" in form
    changed = {"path": "/support", "steps-1-model": "", "has_cache": "y", "ttl": "5m"}
    assert panel_anywhere_admin.post(path, data | changed).status_code == 303
    row = row_of(app, Route, row.id)
    assert (row.path, len(row.steps), row.cache) == ("/support", 1, {"enabled": True, "ttl": "5m"})
    assert panel_anywhere_admin.post(f"/admin/routes/delete/?id={row.id}").status_code == 303
    assert rows_of(app, Route) == []
    actions = [entry.action for entry in rows_of(app, AuditEntry) if entry.action.startswith("route")]
    assert actions == ["route_create", "route_update", "route_delete"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"path": "support"}, "must begin with a slash"),
        ({"path": "/taken"}, "A route with this path exists already."),
        ({"keys": []}, "Choose at least one key."),
        ({"keys": ["00000000-0000-4000-8000-000000000000"]}, "One of these keys does not exist."),
        ({"steps-0-model": "", "steps-1-model": ""}, "A route needs a step."),
        ({"steps-0-model": "nothing"}, "is not offered at"),
        ({"steps-0-timeout": "soon"}, "steps.0.timeout"),
        ({"steps-1-more": "{"}, "This is not JSON."),
        ({"steps-1-more": "[]"}, "This must be an object."),
        ({"steps-1-more": '{"requestParams": {"max_tokens": 5}}'}, "cannot be set by a route"),
        ({"has_cache": "y", "ttl": "for ever"}, "cacheConfig.ttl"),
    ],
)
def test_a_route_is_not_made(panel_admin: Browser, more: dict[str, Any], said: str) -> None:
    app = panel_admin.app
    data = route_data(app)
    assert panel_admin.post("/admin/routes/new/", data | {"path": "/taken"}).status_code == 303
    answer = panel_admin.post("/admin/routes/new/", data | more)
    assert answer.status_code == 422
    assert said in answer.text.replace("&#39;", "'")
    assert 'value="Support"' in answer.text, "what was typed stays"
    assert len(rows_of(app, Route)) == 1


def test_an_edit_keeps_keys_and_providers_that_are_gone_from_the_lists(panel_admin: Browser) -> None:
    app = panel_admin.app
    panel_admin.post("/admin/routes/new/", route_data(app))
    (row,) = rows_of(app, Route)
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        app.extensions["gateway"].keys.revoke(session, row.key_ids[0], "gone")
    form = panel_admin.get(f"/admin/routes/edit/?id={row.id}").text
    assert form.split('name="keys"')[1].split(">")[0].endswith("checked"), "a revoked key stays chosen"
