"""What every start makes sure of: the first makes an admin and a key and shows them once, the next change nothing."""

import pytest
from sqlalchemy import select, text

from app import create_app
from models import ApiKey, AuditEntry, Model, Provider, User
from routes import screen
from services import bootstrap
from services.configfile import ConfigFileError
from services.providers.echo import SCENARIOS
from tests.conftest import PASSWORD, SECRETS, make_config
from tests.helpers import AUTH, add_provider, chat
from utils.extensions import db

STRICT = {"ENVIRONMENT": "production", "HOST": "127.0.0.1", "PORT": "8000", "LOG_LEVEL": "INFO"}
STRICT |= {"RATE_LIMIT_PER_MINUTE": "60", "API_AUTH_TOKENS": SECRETS["API_AUTH_TOKENS"]}


@pytest.fixture
def start(database, tmp_path):
    """Start an app with these settings on the same database; gives the app and what its start reported."""
    apps = []

    def once(**environ):
        app = create_app(make_config(tmp_path, DATABASE_URL=database, **environ))
        apps.append(app)
        return app, run(app)

    yield once
    for app in apps:
        app.extensions["gateway"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def empty(start, session):
    """The same before anybody ever started."""
    with session.begin():
        for kind in (ApiKey, User, Model, Provider):
            for row in session.scalars(select(kind)):
                session.delete(row)
    return start


def run(app):
    here = app.extensions["gateway"]
    return bootstrap.run(here.engine, here.config, here.accounts, here.keys, here.sealer, here.discovery)


def find(session, kind, **columns):
    session.rollback()
    session.expire_all()
    return session.scalar(select(kind).filter_by(**columns))


def test_the_first_start_makes_an_admin_and_a_key_and_shows_both_once(empty, session):
    app, report = empty()
    client = app.test_client()
    answer = client.post("/login", json={"username": report.admin_name, "password": report.admin_password})
    assert answer.status_code == 200
    head = {"Authorization": f"Bearer {report.api_key}"}
    assert client.post("/v1/chat/completions", json=chat(model="echo"), headers=head).status_code == 200
    shown = screen.started(app.extensions["gateway"].config, report, "")
    assert shown.count(report.admin_password) == 1
    assert shown.count(report.api_key) == 2, "in its own line and in the call to try"
    assert find(session, User, username="admin").role == "admin"
    entry = find(session, AuditEntry, action="user_create", resource_id="admin", actor="system")
    assert entry.details == {"role": "admin"}

    app, again = empty()
    assert (again.admin_password, again.api_key) == ("", "")
    shown = screen.started(app.extensions["gateway"].config, again, "")
    assert "shown when they are made and never again" in shown
    assert "flask create-admin" in shown
    assert "Bearer YOUR_API_KEY" in shown


def test_a_start_that_fails_keeps_nothing_that_is_shown_only_once(empty, session, tmp_path):
    file = tmp_path / "house.yaml"
    file.write_text("servers: []\n", encoding="utf-8")
    with pytest.raises(ConfigFileError, match="servers"):
        empty(TOLLHOUSE_CONFIG=str(file))
    assert find(session, User, username="admin") is None
    file.write_text("providers: []\n", encoding="utf-8")
    app, report = empty(TOLLHOUSE_CONFIG=str(file))
    answer = app.test_client().post("/login", json={"username": report.admin_name, "password": report.admin_password})
    assert answer.status_code == 200
    assert report.api_key


def test_a_second_start_changes_no_row(start, session):
    start()
    tables = ["users", "api_keys", "providers", "models", "deployments", "prices", "audit_log"]

    def content():
        session.rollback()
        return [session.execute(text(f"SELECT * FROM {name} ORDER BY id")).all() for name in tables]

    before = content(), session.execute(text("SELECT version FROM catalog_version")).scalar_one()
    _app, report = start()
    assert (content(), session.execute(text("SELECT version FROM catalog_version")).scalar_one()) == before
    assert report == bootstrap.Report(admin_name="admin")


def test_a_password_that_was_given_is_not_shown(empty, session):
    app, report = empty(DEFAULT_ADMIN_USERNAME="root", DEFAULT_ADMIN_PASSWORD=PASSWORD)
    assert (report.admin_name, report.admin_password) == ("root", "")
    assert report.api_key
    assert PASSWORD not in screen.started(app.extensions["gateway"].config, report, "")
    assert not find(session, User, username="root").must_change_password


def test_a_weak_password_must_be_changed(empty, session):
    empty(DEFAULT_ADMIN_PASSWORD="changeme")
    assert find(session, User, username="admin").must_change_password


@pytest.mark.parametrize(("given", "is_made"), [("", False), ("a good one of length", True)])
def test_strict_environments_make_an_admin_only_with_a_password_given(empty, session, given, is_made):
    app, report = empty(**STRICT, DEFAULT_ADMIN_PASSWORD=given)
    assert (find(session, User, username="admin") is not None) == is_made
    assert report.api_key == "", "what a start prints is in the journal for good"
    assert report.admin_password == ""
    assert not find(session, Provider, name="echo").is_enabled
    assert '"model": "MODEL"' in screen.started(app.extensions["gateway"].config, report, "https://llm.example.com")


def test_the_echo_models_are_there_and_can_be_switched_off(start, session):
    names = {*SCENARIOS, "echo-embedding"}
    assert names <= set(session.scalars(select(Model.name)))
    app, _report = start(ECHO_PROVIDER="false")
    app.extensions["gateway"].catalog.refresh()
    answer = app.test_client().get("/v1/models", headers=AUTH)
    assert answer.json["data"] == []
    app, _report = start()
    assert names <= {model["id"] for model in app.test_client().get("/v1/models", headers=AUTH).json["data"]}


def test_providers_of_the_environment_follow_it(start, session, upstream):
    upstream.models = ["gpt-x"]
    given = {"OPENAI_API_KEY": "sk-one", "OPENAI_BASE_URL": upstream.base_url, "OPENAI_ORG_ID": "org-1"}
    app, report = start(**given)
    row = find(session, Provider, name="openai")
    here = app.extensions["gateway"]
    assert (row.kind, row.settings, row.managed_by) == ("openai", {"organization": "org-1"}, "environment")
    assert here.sealer.open(row.credential) == "sk-one"
    assert report.discovery == ()

    sealed = row.credential
    start(**given)
    assert find(session, Provider, name="openai").credential == sealed, "not sealed anew"
    start(**given | {"OPENAI_API_KEY": "sk-two", "OPENAI_ORG_ID": ""})
    row = find(session, Provider, name="openai")
    assert (here.sealer.open(row.credential), row.settings) == ("sk-two", {})
    start()
    assert not find(session, Provider, name="openai").is_enabled
    start(**given)
    assert find(session, Provider, name="openai").is_enabled


def test_a_key_of_anthropic_is_all_it_needs(start, session, upstream):
    upstream.models = ["claude-opus-5"]
    app, report = start(ANTHROPIC_API_KEY="sk-ant", ANTHROPIC_BASE_URL=f"http://127.0.0.1:{upstream.port}")
    row = find(session, Provider, name="anthropic")
    assert (row.kind, row.discover, row.managed_by, report.discovery) == ("anthropic", True, "environment", ())
    assert upstream.served[-1].headers["x-api-key"] == "sk-ant"
    app.extensions["gateway"].catalog.refresh()
    answer = app.test_client().get("/v1/models", headers=AUTH)
    assert "claude-opus-5" in {model["id"] for model in answer.json["data"]}


def test_a_provider_that_does_not_answer_is_named_and_holds_nothing_up(start):
    app, report = start(OLLAMA_BASE_URL="http://127.0.0.1:1")
    (problem,) = report.discovery
    assert problem.startswith("ollama: ")
    assert f"Note: Models not listed by {problem}" in screen.started(app.extensions["gateway"].config, report, "")


def test_a_credential_that_no_header_can_carry_is_named_and_holds_nothing_up(app, start, session, upstream):
    upstream.models = ["gpt-x"]
    add_provider(app, upstream, "bad", credential="sk-\u2026", discover=True)
    add_provider(app, upstream, "good", discover=True)
    _app, report = start()
    (problem,) = report.discovery
    assert problem.startswith("bad: its credential")
    assert find(session, Model, name="gpt-x") is not None


def test_a_name_that_people_took_stays_theirs(app, start, session, upstream):
    add_provider(app, upstream, "openai")
    start(OPENAI_API_KEY="sk-environment", OPENAI_BASE_URL="http://127.0.0.1:2/v1")
    row = find(session, Provider, name="openai")
    assert (row.managed_by, row.base_url) == ("admin", upstream.base_url)
    assert app.extensions["gateway"].sealer.open(row.credential) == "sk-upstream-secret"


def test_fixed_keys_come_and_go_with_the_setting(start):
    def status(app, token):
        app.extensions["gateway"].catalog.refresh()
        head = {"Authorization": f"Bearer {token}"}
        return app.test_client().get("/v1/models", headers=head).status_code

    app, _report = start(API_AUTH_TOKENS="first-token-of-two,second-token-of-two")
    assert (status(app, "first-token-of-two"), status(app, "second-token-of-two")) == (200, 200)
    app, _report = start(API_AUTH_TOKENS="second-token-of-two")
    assert (status(app, "first-token-of-two"), status(app, "second-token-of-two")) == (401, 200)
    app, _report = start(API_AUTH_TOKENS="first-token-of-two")
    assert (status(app, "first-token-of-two"), status(app, "second-token-of-two")) == (200, 401)


def test_the_configuration_file_is_applied_at_every_start(start, tmp_path, session):
    file = tmp_path / "house.yaml"
    file.write_text("providers: [{name: mine, kind: echo}]\n", encoding="utf-8")
    app, report = start(TOLLHOUSE_CONFIG=str(file))
    assert report.changes.added == ["provider mine"]
    assert "added: provider mine" in screen.started(app.extensions["gateway"].config, report, "")
    file.write_text("providers: [{name: mine}]\n", encoding="utf-8")
    with pytest.raises(ConfigFileError, match="line 1"):
        start(TOLLHOUSE_CONFIG=str(file))
    assert find(session, Provider, name="mine").is_enabled
