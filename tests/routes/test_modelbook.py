"""`/models` and `/api/v1/models`: made with a provider, listed without secrets, priced, removed."""

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model, Price, Provider
from services.audit import Actor
from services.errors import GatewayError
from tests.callers import bearer, issue
from tests.helpers import AUTH, add_model, add_provider, chat
from tests.people import ask, engine, said, token
from tests.races.conftest import crowd

CREDENTIAL = "sk-canary-0123456789abcdef"
KNOWN = {
    "gpt-4-turbo": ("openai", 128_000, 0.01, 0.03),
    "gpt-3.5-turbo": ("openai", 16_385, 0.0005, 0.0015),
    "claude-3-opus": ("anthropic", 200_000, 0.015, 0.075),
    "claude-3-sonnet": ("anthropic", 200_000, 0.003, 0.015),
}


@pytest.fixture
def admin(app):
    return token(app)


def body_of(upstream, **more):
    return {
        "model_name": "house/gpt",
        "model_type": "OPENAI",
        "model_endpoint": upstream if isinstance(upstream, str) else upstream.base_url,
        "model_api_key": CREDENTIAL,
        **more,
    }


def counts(app):
    with Session(engine(app)) as session:
        return tuple(session.query(table).count() for table in (Provider, Model, Deployment, Price))


def test_a_model_is_made_called_listed_and_removed(app, admin, upstream):
    before = counts(app)
    more = {"model_deployment_name": "gpt-4o-mini", "model_description": "Para a equipe"}
    made = ask(app, "POST", "/models/create", admin, json=body_of(upstream, **more))
    assert (made.status_code, made.json) == (200, {"message": "Model house/gpt created successfully"})
    assert ask(app, "POST", "/v1/chat/completions", AUTH, json=chat(model="house/gpt")).status_code == 200
    assert upstream.served[-1].headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert upstream.served[-1].body["model"] == "gpt-4o-mini"
    listed = ask(app, "GET", "/models/all", AUTH)
    (found,) = [one for one in listed.json if one["model_name"] == "house/gpt"]
    assert found.pop("created_at")
    assert found == {
        "model_name": "house/gpt",
        "model_type": "OPENAI",
        "model_deployment_name": "gpt-4o-mini",
        "model_description": "Para a equipe",
        "model_endpoint": upstream.base_url,
    }
    for path in ("/models/all", "/api/v1/models", "/v1/models", "/admin/provider/"):
        assert CREDENTIAL not in ask(app, "GET", path, admin).text
    removed = ask(app, "DELETE", "/models/house/gpt", admin)
    assert (removed.status_code, removed.json) == (200, {"message": "Model house/gpt deleted successfully"})
    assert counts(app) == before, "its provider goes with it"
    assert said(ask(app, "DELETE", "/models/house/gpt", admin)) == (404, "Model not found")
    assert ask(app, "POST", "/v1/chat/completions", AUTH, json=chat(model="house/gpt")).status_code == 400
    with Session(engine(app)) as session:
        entries = session.query(AuditEntry).filter(AuditEntry.resource_type == "model").all()
        assert [entry.action for entry in entries] == ["model_create", "model_delete"]
        assert CREDENTIAL not in str([entry.details for entry in entries])


def test_the_credential_is_sealed(lite, upstream):
    ask(lite, "POST", "/models/create", token(lite), json=body_of(upstream))
    with Session(engine(lite)) as session:
        row = session.query(Provider).filter_by(name="house-gpt").one()
        assert CREDENTIAL.encode() not in row.credential
        assert lite.extensions["gateway"].sealer.open(row.credential) == CREDENTIAL


@pytest.mark.parametrize(
    ("type_", "kind", "endpoint"),
    [
        ("OPENAI", "openai", "https://api.openai.com/v1"),
        ("AZURE_OPENAI", "azure", None),
        ("ANTHROPIC", "anthropic", "https://api.anthropic.com"),
        ("GEMINI", "gemini", "https://generativelanguage.googleapis.com"),
        ("GCP_GEMINI", "gemini", "https://generativelanguage.googleapis.com"),
    ],
)
def test_every_type_has_its_kind_and_its_usual_address(lite, type_, kind, endpoint):
    admin, body = token(lite), {"model_name": "one", "model_type": type_, "model_api_key": CREDENTIAL}
    made = ask(lite, "POST", "/models/create", admin, json=body)
    if endpoint is None:
        assert said(made) == (400, "`model_endpoint` is required for this `model_type`.")
        endpoint = "https://example.openai.azure.com"
        made = ask(lite, "POST", "/models/create", admin, json=body | {"model_endpoint": f"{endpoint}/"})
    assert made.status_code == 200
    (found,) = [one for one in ask(lite, "GET", "/models/all", admin).json if one["model_name"] == "one"]
    assert (found["model_type"], found["model_endpoint"], found["model_deployment_name"]) == (type_, endpoint, "one")
    with Session(engine(lite)) as session:
        assert session.query(Provider).filter_by(name="one").one().kind == kind


def test_a_model_that_the_catalogue_knows_has_its_price_at_once(lite):
    admin = token(lite)
    body = {"model_name": "mine", "model_type": "OPENAI", "model_deployment_name": "gpt-4o-mini"}
    assert ask(lite, "POST", "/models/create", admin, json=body).status_code == 200
    found = ask(lite, "GET", "/api/v1/models/mine", admin).json
    assert (found["cost_per_1k_prompt_tokens"], found["cost_per_1k_completion_tokens"]) == (0.00015, 0.0006)
    assert found["context_window"] == 128_000


def test_a_name_is_given_once(app, admin, upstream):
    assert ask(app, "POST", "/models/create", admin, json=body_of(upstream)).status_code == 200
    again = ask(app, "POST", "/models/create", admin, json=body_of(upstream))
    assert said(again) == (400, "Model house/gpt already exists")
    assert again.json["code"] == "model_exists"
    assert ask(app, "POST", "/models/create", admin, json=body_of(upstream, model_name="echo")).status_code == 400
    other = ask(app, "POST", "/models/create", admin, json=body_of(upstream, model_name="house-gpt"))
    assert other.status_code == 200, "its provider's name is taken, so it gets another"
    with Session(engine(app)) as session:
        names = {row.name for row in session.query(Provider).filter(Provider.name.startswith("house"))}
    assert names == {"house-gpt", "house-gpt-2"}


@pytest.mark.parametrize(
    ("more", "member"),
    [
        ({"model_name": None}, "model_name"),
        ({"model_name": ""}, "model_name"),
        ({"model_name": " x"}, "model_name"),
        ({"model_name": "a\u202eb"}, "model_name"),
        ({"model_name": "a\0b"}, "model_name"),
        ({"model_name": "x" * 201}, "model_name"),
        ({"model_name": 7}, "model_name"),
        ({"model_type": "openai"}, "model_type"),
        ({"model_type": ["OPENAI"]}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"model_endpoint": "ftp://x"}, "model_endpoint"),
        ({"model_endpoint": "https://user:pw@x/"}, "model_endpoint"),
        ({"model_endpoint": "http://169.254.169.254/latest"}, "model_endpoint"),
        ({"model_endpoint": {"a": 1}}, "model_endpoint"),
        ({"model_api_key": "ключ"}, "model_api_key"),
        ({"model_api_key": "a\r\nb: c"}, "model_api_key"),
        ({"model_api_key": "x" * 4097}, "model_api_key"),
        ({"model_deployment_name": 5}, "model_deployment_name"),
        ({"model_description": "x" * 501}, "model_description"),
    ],
)
def test_models_that_cannot_be(lite, more, member):
    before = counts(lite)
    answer = ask(lite, "POST", "/models/create", token(lite), json=body_of("http://127.0.0.1:1/v1", **more))
    assert answer.status_code == 400
    assert member in answer.json["details"]
    assert CREDENTIAL not in answer.text
    assert counts(lite) == before


def test_what_a_file_or_the_environment_manages_stays(lite, upstream):
    admin = token(lite)
    number = add_provider(lite, upstream, managed_by="file")
    add_model(lite, number, "from-file", managed_by="file")
    add_model(lite, number, "found", managed_by="discovery")
    for name, why in (
        ("from-file", "comes from the configuration file"),
        ("echo", "comes from the environment"),
        ("found", "would come back"),
    ):
        answer = ask(lite, "DELETE", f"/models/{name}", admin)
        assert (answer.status_code, why in answer.json["detail"]) == (400, True)
        assert ask(lite, "GET", f"/api/v1/models/{name}", admin).status_code == 200
        assert ask(lite, "POST", "/models/create", admin, json=body_of(upstream, model_name=name)).status_code == 400


def test_a_provider_that_serves_another_model_or_was_there_before_stays(lite, upstream):
    admin = token(lite)
    ask(lite, "POST", "/models/create", admin, json=body_of(upstream))
    with Session(engine(lite)) as session:
        shared = session.query(Provider.id).filter_by(name="house-gpt").scalar()
    add_model(lite, shared, "second")
    add_model(lite, add_provider(lite, upstream, name="older"), "third")
    for name in ("house/gpt", "third"):
        assert ask(lite, "DELETE", f"/models/{name}", admin).status_code == 200
    with Session(engine(lite)) as session:
        assert session.query(Provider).filter(Provider.name.in_(["house-gpt", "older"])).count() == 2
    assert ask(lite, "DELETE", "/models/second", admin).status_code == 200
    with Session(engine(lite)) as session:
        assert session.query(Provider).filter_by(name="house-gpt").count() == 0


def test_of_many_at_once_one_makes_the_model_and_one_removes_it(app, admin, upstream):
    book = app.extensions["gateway"].models
    before = counts(app)

    def outcome(work):
        try:
            work()
        except GatewayError as exc:
            return exc.code
        return "done"

    body = body_of(upstream)
    made = crowd(6, range(6), lambda _n: outcome(lambda: book.create(Actor("t"), body)))
    assert sorted(made) == ["done", *["model_exists"] * 5]
    after = counts(app)
    assert (after[0], after[1], after[2]) == (before[0] + 1, before[1] + 1, before[2] + 1)
    gone = crowd(6, range(6), lambda _n: outcome(lambda: book.delete(Actor("t"), "house/gpt")))
    assert sorted(gone) == ["done", *["model_not_found"] * 5]
    assert counts(app) == before


def test_models_that_are_known_from_the_start(app):
    found = {one["name"]: one for one in ask(app, "GET", "/api/v1/models", AUTH).json}
    for name, (provider, window, prompt, completion) in KNOWN.items():
        assert found[name] == {
            "name": name,
            "provider": provider,
            "cost_per_1k_prompt_tokens": prompt,
            "cost_per_1k_completion_tokens": completion,
            "context_window": window,
            "enabled": False,
        }
    assert found["echo"]["enabled"] is True
    assert not KNOWN.keys() & {one["id"] for one in ask(app, "GET", "/v1/models", AUTH).json["data"]}
    called = ask(app, "POST", "/v1/chat/completions", AUTH, json=chat(model="gpt-4-turbo"))
    assert (called.status_code, called.json["error"]["code"]) == (400, "model_not_found")


def test_a_known_model_is_filled_by_who_makes_it(app, admin, upstream):
    made = ask(app, "POST", "/models/create", admin, json=body_of(upstream, model_name="gpt-4-turbo"))
    assert made.status_code == 200
    found = ask(app, "GET", "/api/v1/models/gpt-4-turbo", admin).json
    assert (found["enabled"], found["cost_per_1k_prompt_tokens"], found["provider"]) == (True, 0.01, "gpt-4-turbo")
    assert ask(app, "POST", "/v1/chat/completions", AUTH, json=chat(model="gpt-4-turbo")).status_code == 200


def test_a_known_model_joins_the_provider_that_lists_it(app, upstream):
    upstream.models = ["gpt-3.5-turbo"]
    number = add_provider(app, upstream, discover=True)
    assert app.extensions["gateway"].discovery.ask(number) is None
    app.extensions["gateway"].catalog.refresh()
    assert ask(app, "POST", "/v1/chat/completions", AUTH, json=chat(model="gpt-3.5-turbo")).status_code == 200
    assert ask(app, "GET", "/api/v1/models/gpt-3.5-turbo", AUTH).json["enabled"] is True


def test_one_model_and_none(app):
    assert ask(app, "GET", "/api/v1/models/echo", AUTH).json["provider"] == "echo"
    for name in ("nothing", "a%00b", "x" * 300):
        answer = ask(app, "GET", f"/api/v1/models/{name}", AUTH)
        assert (answer.status_code, answer.json["code"]) == (404, "NOT_FOUND")
        assert ask(app, "POST", f"/api/v1/models/{name}/estimate", AUTH, json={}).status_code == 404


def test_a_user_sees_the_models_it_may_use(lite):
    key = issue(lite, allowed_models=["echo"])
    assert [one["name"] for one in ask(lite, "GET", "/api/v1/models", bearer(key.secret)).json] == ["echo"]
    assert [one["model_name"] for one in ask(lite, "GET", "/models/all", bearer(key.secret)).json] == ["echo"]
    assert ask(lite, "GET", "/api/v1/models/echo-slow", bearer(key.secret)).status_code == 404


def test_an_estimate_is_exact(app):
    body = {"prompt_tokens": 1234, "completion_tokens": 567}
    answer = ask(app, "POST", "/api/v1/models/gpt-4-turbo/estimate", AUTH, json=body)
    assert answer.status_code == 200
    expected = '{"model_name":"gpt-4-turbo","prompt_tokens":1234,"completion_tokens":567,'
    assert answer.text == expected + '"prompt_cost":0.01234,"completion_cost":0.01701,"total_cost":0.02935}'
    assert ask(app, "POST", "/api/v1/models/echo/estimate", AUTH, json={}).json["total_cost"] == 0


@pytest.mark.parametrize("tokens", [-1, 2**31 + 1, 1.5, "5", True, [1]])
def test_tokens_that_no_call_has(lite, tokens):
    answer = ask(lite, "POST", "/api/v1/models/echo/estimate", AUTH, json={"prompt_tokens": tokens})
    assert (answer.status_code, answer.json["code"]) == (400, "VALIDATION_ERROR")
    assert "prompt_tokens" in answer.json["details"]


def test_a_model_without_a_price(lite, upstream):
    add_model(lite, add_provider(lite, upstream), "unknown", price=None)
    found = ask(lite, "GET", "/api/v1/models/unknown", AUTH).json
    assert (found["cost_per_1k_prompt_tokens"], found["cost_per_1k_completion_tokens"]) == (None, None)
    assert ask(lite, "POST", "/api/v1/models/unknown/estimate", AUTH, json={}).status_code == 402
