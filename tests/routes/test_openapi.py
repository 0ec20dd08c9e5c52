"""The OpenAPI document: valid, complete, its examples and real answers fit; its pages, and where they are served."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from routes import openapi, ports, render
from routes.openapi import refusals
from tests.callers import add_user, bearer
from tests.conftest import PASSWORD, TOKEN
from tests.helpers import AUTH, chat
from tests.openapi import check, documented, operations, problems, said

STRICT = {
    "ENVIRONMENT": "production",
    "HOST": "127.0.0.1",
    "PORT": "8000",
    "LOG_LEVEL": "INFO",
    "RATE_LIMIT_PER_MINUTE": "1000",
    "SECRET_KEY": "Zq7nB2xV9mK4tL8wR3yH6pD1sF5gJ0cA",
    "KEY_PEPPER": "Wd8vM3kT6yQ1nX5bR9hL2pZ7sJ4gF0cE",
    "API_AUTH_TOKENS": "tk-Hn4Vb8Kq2Zx6Lw9Tr3Yd7Pm1",
}
PAGES = ("/openapi.json", "/docs", "/redoc", "/docs/assets/swagger.js")
MESSAGE = {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def test_the_document_is_valid(lite):
    document = documented(lite)
    assert document["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_it_with_its_methods_and_no_other(lite):
    wanted = {
        (openapi._path(rule), method.lower())
        for rule in openapi.documented(lite)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert undescribed(lite) == []
    assert {(path, method) for path, method, _said in operations(documented(lite))} == wanted
    endpoints = {rule.endpoint for rule in openapi.documented(lite)}
    assert set(openapi.described()) - endpoints == set(), "described, and not there any more"


def undescribed(app: Flask) -> list[str]:
    """Routes without an entry, and where one belongs: to the others of their blueprint, if it has any."""
    places = {
        name.partition(".")[0]: table.__name__.replace(".", "/") + ".py"
        for table in openapi.TABLES
        for name in table.OPERATIONS
    }
    return [
        f"{rule.rule} has no entry: add `{rule.endpoint}` to OPERATIONS of "
        + places.get(rule.endpoint.partition(".")[0], "a table in routes/openapi/, see docs/openapi.md")
        for rule in openapi.documented(app)
        if rule.endpoint not in openapi.described()
    ]


@pytest.mark.parametrize(
    ("endpoint", "place"), [("new", "a table in routes/openapi/"), ("agents.new", "routes/openapi/dialogs.py")]
)
def test_a_route_that_nobody_described_is_missed(lite, endpoint, place):
    lite.add_url_rule("/new", endpoint, lambda: "new")
    with pytest.raises(AssertionError) as failure:
        test_every_route_is_in_it_with_its_methods_and_no_other(lite)
    assert f"/new has no entry: add `{endpoint}` to OPERATIONS of {place}" in str(failure.value)


def test_every_operation_says_what_it_is_for_and_where_it_belongs(lite):
    for path, method, operation in operations(documented(lite)):
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)
        assert {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"} == {
            part.strip("{}") for part in path.split("/") if part.startswith("{")
        }


def test_examples_fit_their_schemas(lite):
    document = documented(lite)
    seen = 0
    for path, method, operation in operations(document):
        bodies = [
            operation.get("requestBody", {}),
            *(one for one in operation["responses"].values() if "content" in one),
        ]
        for media in (media for body in bodies for media in body.get("content", {}).values() if "example" in media):
            assert problems(document, media["schema"], media["example"]) == [], (method, path)
            seen += 1
    assert seen > 20


def test_every_schema_is_used_and_every_reference_leads_somewhere(lite):
    document = documented(lite)
    text = json.dumps(document)
    for kind in ("schemas", "responses", "headers", "securitySchemes"):
        for name in document["components"][kind]:
            assert f"#/components/{kind}/{name}" in text or kind == "securitySchemes", name
    used = {name for _path, _method, one in operations(document) for scheme in one["security"] for name in scheme}
    assert used == set(document["components"]["securitySchemes"])


def test_every_surface_with_errors_of_its_own_has_their_form(lite):
    assert list(refusals.FORMS) == list(render.BODIES)


def test_real_answers_are_what_it_says(lite):
    client = lite.test_client()
    ana = add_user(lite)
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        ("GET", "/", "/", {}),
        ("GET", "/health", "/health", {}),
        ("GET", "/health/providers", "/health/providers", {"headers": AUTH}),
        ("GET", "/v1/", "/v1/", {}),
        ("GET", "/v1/models", "/v1/models", {"headers": AUTH}),
        ("GET", "/v1/models", "/v1/models", {"headers": AUTH | {"anthropic-version": "2023-06-01"}}),
        ("GET", "/v1/models/{name}", "/v1/models/echo", {"headers": AUTH}),
        ("POST", "/v1/chat/completions", "/v1/chat/completions", {"headers": AUTH, "json": chat(model="echo")}),
        (
            "POST",
            "/v1/chat/completions",
            "/v1/chat/completions",
            {"headers": AUTH, "json": chat(model="echo", stream=True)},
        ),
        ("POST", "/v1/completions", "/v1/completions", {"headers": AUTH, "json": {"model": "echo", "prompt": "hi"}}),
        ("POST", "/v1/embeddings", "/v1/embeddings", {"headers": AUTH, "json": {"model": "echo", "input": "hi"}}),
        ("POST", "/v1/explain", "/v1/explain", {"headers": AUTH, "json": chat(model="echo")}),
        ("POST", "/v1/messages", "/v1/messages", {"headers": AUTH, "json": MESSAGE}),
        ("POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", {"headers": AUTH, "json": MESSAGE}),
        ("POST", "/v1/responses", "/v1/responses", {"headers": AUTH, "json": {"model": "echo", "input": "hi"}}),
        ("POST", "/api/call", "/api/call", {"headers": AUTH, "json": {"model_name": "echo", "prompt": "hi"}}),
        ("GET", "/user/usage", "/user/usage", {"headers": AUTH}),
        ("GET", "/api/v1/users/me/tokens", "/api/v1/users/me/tokens", {"headers": AUTH}),
        ("GET", "/api/users", "/api/users", {}),
        ("GET", "/api/users/{user_id}", f"/api/users/{ana}", {}),
        ("GET", "/api/provider-settings", "/api/provider-settings", {}),
        ("GET", "/api/routes", "/api/routes", {}),
        ("GET", "/openapi.json", "/openapi.json", {}),
        ("GET", "/docs", "/docs", {}),
        ("GET", "/redoc", "/redoc", {}),
    ]
    for method, path, address, options in asked:
        answer = client.open(address, method=method, **options)
        assert answer.status_code == 200, (address, answer.text)
        check(lite, path, answer)


def test_real_answers_of_those_who_manage(lite):
    client = lite.test_client()
    keys, one = "/api/key-management/keys", "/api/key-management/keys/{key_id}"
    made = client.post(keys, json={"name": "one", "tags": ["a"], "ttl": "1d", "costLimitInUsd": "0.25"})
    key_id = made.json["keyId"]
    check(lite, keys, made)
    check(lite, keys, client.get(keys, query_string={"tag": "a"}))
    check(lite, one, client.patch(f"{keys}/{key_id}", json={"allowedPaths": [{"path": "/v1/*", "method": "POST"}]}))
    check(lite, one, client.get(f"{keys}/{key_id}"))
    check(lite, f"{one}/rotate", client.post(f"{keys}/{key_id}/rotate"))
    check(lite, "/api/v2/key-management/keys", client.post("/api/v2/key-management/keys", json={"tags": ["a"]}))
    step = {"provider": "echo", "model": "echo", "retries": 2, "timeout": "10s", "requestParams": {"seed": 1}}
    route = client.post("/api/routes", json={"name": "r", "path": "/r", "keyIds": [key_id], "steps": [step]})
    assert route.status_code == 200, route.text
    check(lite, "/api/routes", route)
    check(lite, "/api/routes/{route_id}", client.get(f"/api/routes/{route.json['id']}"))
    check(lite, "/api/routes/{route_id}", client.post("/api/routes/r", json=chat(), headers=AUTH))
    check(lite, "/api/routes/{route_id}", client.delete(f"/api/routes/{route.json['id']}"))
    policy = client.post("/api/policies", json={"name": "p", "config": {"rules": {"email": "block"}}})
    check(lite, "/api/policies", policy)
    check(lite, "/api/policies", client.get("/api/policies"))
    check(lite, "/api/policies/{policy_id}", client.get(f"/api/policies/{policy.json['id']}"))
    check(lite, "/api/policies/{policy_id}", client.patch(f"/api/policies/{policy.json['id']}", json={"dryRun": True}))
    check(lite, "/api/policies/{policy_id}", client.delete(f"/api/policies/{policy.json['id']}"))
    check(lite, one, client.delete(f"{keys}/{key_id}"))
    check(
        lite,
        "/api/users",
        client.post("/api/users", json={"name": "Ana", "rateLimitOverTime": 2, "rateLimitUnit": "m"}),
    )


def test_real_answers_of_people(lite):
    client = lite.test_client()
    registered = client.post("/register", json={"username": "maria", "password": PASSWORD})
    assert registered.status_code == 201
    check(lite, "/register", registered)
    signed_in = client.post("/login", json={"username": "admin", "password": PASSWORD})
    check(lite, "/login", signed_in)
    admin = bearer(signed_in.json["access_token"])
    user_id = add_user(lite)
    tokens, start = "/tokens", f"/api/v1/admin/users/{user_id}"
    described = "/api/v1/admin/users/{user_id}"
    check(lite, described + tokens, client.post(start + tokens, json={"amount": 500, "reason": "July"}, headers=admin))
    check(lite, f"{described}/limits", client.patch(f"{start}/limits", json={"limit": 7}, headers=admin))
    history = client.get(f"{start}/tokens/history", headers=admin)
    assert history.json
    check(lite, f"{described}/tokens/history", history)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat/completions", 401),
        ("POST", "/v1/messages", 401),
        ("POST", "/api/providers/openai/v1/chat/completions", 401),
        ("GET", "/api/key-management/keys", 400),
        ("DELETE", "/api/key-management/keys/", 400),
        ("GET", "/api/v1/users/me/tokens", 401),
        ("GET", "/user/usage", 401),
        ("POST", "/api/call", 401),
        ("POST", "/login", 400),
        ("POST", "/api/routes/{route_id}", 401),
    ],
)
def test_refusals_have_the_form_of_their_surface(lite, method, path, status):
    answer = lite.test_client().open(path.replace("{route_id}", "r"), method=method)
    assert answer.status_code == status
    check(lite, path, answer)


def test_a_schema_is_strict_where_the_answer_is_ours(lite):
    document = documented(lite)
    schema = said(document, document["paths"]["/user/usage"]["get"], 200)["content"]["application/json"]["schema"]
    assert problems(document, schema, {"username": "ana", "tokens_used": 1}) == []
    assert problems(document, schema, {"username": "ana", "tokens_used": 1, "password": "x"})
    assert problems(document, schema, {"username": "ana"})


@pytest.mark.parametrize(
    ("environ", "status"),
    [({}, 200), ({"DOCS_ENABLED": "false"}, 404), (STRICT, 404), (STRICT | {"DOCS_ENABLED": "true"}, 200)],
    ids=["test", "switched off", "production", "production, switched on"],
)
def test_where_the_pages_are_served(sqlite_database, make_app, environ, status):
    client = make_app(sqlite_database, **environ).test_client()
    assert {path: status_of(client, path) for path in PAGES} == dict.fromkeys(PAGES, status)


def test_the_document_can_be_printed_where_it_is_not_served(sqlite_database, make_app):
    app = make_app(sqlite_database, DOCS_ENABLED="false")
    printed = json.loads(app.test_cli_runner().invoke(args=["openapi"]).stdout)
    assert "/v1/chat/completions" in printed["paths"]
    assert not {"/docs", "/openapi.json"} & printed["paths"].keys()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_load_from_here_only_and_have_no_script(lite, path):
    answer = lite.test_client().get(path, headers={"Accept-Language": "pt-BR"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "//" not in answer.text
    assert answer.text.count("<script") == answer.text.count("<script ") > 0
    assert "Esta página precisa de JavaScript" in answer.text


def status_of(client: FlaskClient, path: str) -> int:
    """The status of an answer whose body may be a file, which is closed."""
    with client.get(path) as answer:
        return answer.status_code


def test_only_the_files_of_the_pages_are_served(lite):
    client = lite.test_client()
    for name in ("url.json", "__init__.py", "scalar.js", "..%2f__init__.py", "%00"):
        assert status_of(client, f"/docs/assets/{name}") == 404
    with client.get("/docs/assets/redoc.js") as answer:
        assert answer.mimetype == "text/javascript"
        seen = {"If-None-Match": answer.headers["etag"]}
    with client.get("/docs/assets/redoc.js", headers=seen) as answer:
        assert answer.status_code == 304


def test_the_pages_belong_to_the_admin_port():
    assert {ports.surfaces_of(path) for path in PAGES} == {ports.ADMIN}


def test_no_secret_is_in_it(lite: Flask):
    assert TOKEN not in json.dumps(documented(lite))
