"""`flask providers|models create|change|delete`: the panel's work without it, by the same rules, audited."""

import json

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

import config as settings
from models import AuditEntry, Model, Provider
from tests.helpers import AUTH, add_model, add_provider, chat, squeezed

CREDENTIAL = "sk-hidden-1234567890"


@pytest.fixture
def command(app: Flask):
    """Gives exit status, what was printed, and what was said of mistakes."""

    def run(*arguments, given=None):
        done = app.test_cli_runner().invoke(args=list(map(str, arguments)), input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def call(app, model):
    return app.test_client().post("/v1/chat/completions", json=chat(model=model), headers=AUTH)


def entries(app, kind):
    with Session(app.extensions["gateway"].engine) as session:
        query = select(AuditEntry).where(AuditEntry.resource_type == kind, AuditEntry.actor == "operator")
        return [(entry.action, entry.details) for entry in session.scalars(query.order_by(AuditEntry.id))]


def test_a_provider_and_its_model_are_made_used_changed_and_removed(app, command, upstream):
    made = command(
        "providers", "create", "acme", "--kind", "openai", "--url", upstream.base_url, "--setting", "organization=org",
        given=f"{CREDENTIAL}\nnot read\n",
    )  # fmt: skip
    assert made == (0, "Provider `acme` made.\n", "")
    assert command("models", "create", "quick", "--at", "acme", "tiny", "--then", "echo", "echo")[0] == 0
    assert command("prices", "set", "quick", "--input", "1", "--output", "2", "--provider", "acme")[0] == 0
    assert call(app, "quick").status_code == 200
    sent = upstream.served[-1]
    assert (sent.headers["authorization"], sent.headers["openai-organization"]) == (f"Bearer {CREDENTIAL}", "org")
    assert sent.body["model"] == "tiny"
    change = ["models", "change", "quick", "--rename", "swift", "--alias", "quick", "--fallback", "echo"]
    assert command(*change) == (0, "Model `swift` saved.\n", "")
    assert call(app, "quick").status_code == 200
    assert command("models", "change", "swift", "--none", "aliases", "--disabled")[0] == 0
    assert [call(app, name).status_code for name in ("quick", "swift")] == [400, 400]
    assert command("models", "delete", "swift", given="n\n")[0] == 1
    assert command("models", "delete", "swift", given="y\n")[1].endswith("Model `swift` removed.\n")
    assert command("providers", "delete", "acme", "--yes") == (0, "Provider `acme` removed.\n", "")
    with Session(app.extensions["gateway"].engine) as session:
        assert session.scalars(select(Provider.id).where(Provider.name == "acme")).all() == []
        assert session.scalars(select(Model.id).where(Model.name.in_(["quick", "swift"]))).all() == []
    assert [action for action, _details in entries(app, "provider")] == ["provider_create", "provider_delete"]
    models = entries(app, "model")
    assert [action for action, _details in models] == [
        "model_create", "price_set", "model_update", "model_update", "model_delete",
    ]  # fmt: skip
    assert models[3][1]["after"] == {"enabled": False}
    assert CREDENTIAL not in json.dumps([*models, *entries(app, "provider")])


def test_credentials_are_changed_and_forgotten_and_never_shown(app, command, upstream):
    add_provider(app, upstream, "acme", credential=CREDENTIAL)
    told = json.loads(command("providers", "show", "acme", "--json")[1])
    assert (told["has_key"], told["managed_by"], CREDENTIAL in str(told)) == (True, "admin", False)
    assert command("providers", "change", "acme", "--key", given="sk-other\n")[0] == 0
    add_model(app, 2, "fast")
    call(app, "fast")
    assert upstream.served[-1].headers["authorization"] == "Bearer sk-other"
    assert command("providers", "change", "acme", "--key", "--url", "http://127.0.0.1:1", given="sk-other\n")[0] == 0
    assert command("providers", "change", "acme", "--no-key")[0] == 0
    assert json.loads(command("providers", "show", "acme", "--json")[1])["has_key"] is False
    assert [details.get("credential") for _action, details in entries(app, "provider")] == ["changed", None, "removed"]
    status, _out, said = command("providers", "change", "acme", "--key", given="")
    assert (status, said) == (78, "API key of the provider: nothing was given. Type it, or pipe it in.\n")


def test_what_a_provider_lists_is_offered_where_that_is_wanted(app, command, upstream):
    upstream.models = ["one", "two"]
    command("providers", "create", "acme", "--kind", "openai", "--url", upstream.base_url, "--no-key", "--discover")
    listed = json.loads(command("models", "list", "--json")[1])
    found = {one["name"]: one["managed_by"] for one in listed if one["deployments"][:1] == [at("acme", one["name"])]}
    assert found == {"one": "discovery", "two": "discovery"}
    status, _out, said = command("models", "delete", "one", "--yes")
    assert (status, said.startswith("The provider of model `one` lists it, so it would come back")) == (78, True)
    assert command("models", "change", "one", "--disabled")[0] == 0
    assert "one  acme/one  disabled  -  admin  unknown" in squeezed(command("models", "list")[1])
    status, _out, said = command("providers", "change", "acme", "--url", "http://127.0.0.1:1/v1")
    assert (status, said.startswith("Its models could not be listed: ")) == (0, True)


def at(provider, model):
    return {"provider": provider, "model": model}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["providers", "create", "acme", "--kind", "openai", "--no-key"], "There is a provider of that name already."),
        (["providers", "create", "x", "--no-key"], "Name one of --kind ("),
        (["providers", "create", "x", "--kind", "azure", "--no-key"], "base_url: "),
        (
            ["providers", "create", "x", "--kind", "openai", "--url", "http://169.254.169.254/v1", "--no-key"],
            "link-local",
        ),
        (["providers", "change", "acme", "--url", "ftp://x"], "base_url: "),
        (["providers", "change", "acme", "--setting", "drop"], "--setting takes NAME=VALUE"),
        (["providers", "change", "acme", "--setting", "on_disconnect=wait"], "settings: "),
        (["providers", "change", "gone", "--disabled"], "There is no provider `gone`."),
        (["providers", "change", "echo", "--disabled"], "Provider `echo` comes from the environment of the gateway"),
        (["providers", "delete", "echo", "--yes"], "Provider `echo` comes from the environment of the gateway"),
        (["providers", "show", "gone"], "There is no provider `gone`."),
        (["models", "create", "fast", "--at", "acme", "x"], "There is a model of that name already."),
        (["models", "create", "x"], "deployments Field required"),
        (["models", "create", "x", "--at", "gone", "x"], "there is no such provider"),
        (["models", "create", "also", "--at", "acme", "x"], "Another model has this name as an alias"),
        (["models", "create", "x", "--at", "acme", "x", "--alias", "echo"], "There is a model of that name already."),
        (["models", "create", "x", "--at", "acme", "x", "--fallback", "x"], "A fallback must be the name of another"),
        (["models", "create", "x", "--at", "acme", "x", "--context", "wide"], "context_window"),
        (["models", "change", "fast", "--max-output", "-1"], "max_output_tokens"),
        (["models", "change", "fast", "--rename", "echo"], "There is a model of that name already."),
        (["models", "change", "echo", "--disabled"], "Model `echo` comes from the environment of the gateway"),
        (["models", "change", "gone", "--disabled"], "There is no model `gone`."),
        (["models", "delete", "gone", "--yes"], "There is no model `gone`."),
        (["models", "show", "gone"], "There is no model `gone`."),
        (["users", "show", "gone"], "User not found"),
        (["prices", "show", "gone", "--json"], "There is no model `gone`."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_in_a_line_and_changes_nothing(app, command, arguments, said):
    number = add_provider(app, "http://127.0.0.1:1/v1", "acme")
    add_model(app, number, "fast")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.scalars(select(Model).where(Model.name == "fast")).one().aliases = ["also"]
    before = [command(kind, "list", "--json") for kind in ("providers", "models")]
    status, printed, wrong = command(*arguments)
    assert (status, printed, wrong.count("\n"), said in wrong) == (settings.EXIT_BAD_CONFIG, "", 1, True), wrong
    assert [command(kind, "list", "--json") for kind in ("providers", "models")] == before
    assert entries(app, "provider") == entries(app, "model") == []


def test_a_change_leaves_prices_and_what_was_not_named(app, command):
    add_model(
        app, add_provider(app, "http://127.0.0.1:1/v1", "acme"), "fast", price={"input_rate": 7, "output_rate": 8}
    )
    kept = json.loads(command("prices", "show", "fast", "--json")[1])
    assert [(one["source"], one["until"]) for one in kept] == [("test", None)]
    for options in (["--max-output", "9"], ["--description", "quick"], ["--context", "1000"], ["--context", "unknown"]):
        assert command("models", "change", "fast", *options)[0] == 0
    told = json.loads(command("models", "show", "fast", "--json")[1])
    wanted = {"max_output_tokens": 9, "description": "quick", "context_window": "unknown", "enabled": True}
    assert told.items() >= wanted.items()
    assert json.loads(command("prices", "show", "fast", "--json")[1]) == kept
    assert command("models", "change", "fast", "--at", "acme", "other", "--at", "echo", "echo")[0] == 0
    now = json.loads(command("prices", "show", "fast", "--json")[1])
    assert (now[0]["source"], now[0]["until"]) == ("test", None)


def test_a_vendor_is_known_by_its_address_or_by_name(command):
    command("providers", "create", "there", "--vendor", "groq", "--no-key")
    command("providers", "create", "here", "--vendor", "groq", "--url", "http://127.0.0.1:1/v1", "--no-key")
    told = [json.loads(command("providers", "show", name, "--json")[1]) for name in ("there", "here")]
    assert [one.get("settings") for one in told] == [None, {"vendor": "groq"}]
    assert told[0]["base_url"] == "https://api.groq.com/openai/v1"
    assert command("providers", "change", "here", "--setting", "vendor=")[0] == 0
    assert "settings" not in json.loads(command("providers", "show", "here", "--json")[1])
