"""Lists of paths, addresses and models, and accounts that end: on every route that takes an API key."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from models import ApiKey, Route, Team, User
from tests.callers import add_user, bearer, change, find, issue
from tests.helpers import chat, rows, with_upstream

EVERYTHING = [{"path": "/*", "method": ""}]
OTHER = ("moderations", "images/generations", "images/edits", "images/variations")
OTHER += ("audio/speech", "audio/transcriptions", "audio/translations", "rerank")
ROUTES = [  # every route that takes an API key, with a body that works
    ("POST", "/v1/chat/completions", chat(model="echo")),
    ("POST", "/v1/completions", {"model": "echo", "prompt": "one"}),
    ("POST", "/v1/embeddings", {"model": "echo-embedding", "input": "one"}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/files", None),
    ("GET", "/v1/batches", None),
    ("GET", "/api/v1/prompts", None),
    ("GET", "/v1/models/echo", None),
    *(
        (method, f"/api/providers/openai{version}{path}", body)
        for version in ("/v1", "")
        for method, path, body in (
            ("POST", "/chat/completions", chat(model="echo")),
            ("POST", "/completions", {"model": "echo", "prompt": "one"}),
            ("POST", "/embeddings", {"model": "echo-embedding", "input": "one"}),
            ("GET", "/models", None),
            ("GET", "/models/echo", None),
        )
    ),
    ("GET", "/user/usage", None),
    ("GET", "/api/v1/users/me/tokens", None),
    ("GET", "/users/me", None),
    ("GET", "/usage/ana", None),
    ("GET", "/models/all", None),
    ("GET", "/api/v1/models", None),
    ("GET", "/api/v1/models/echo", None),
    ("POST", "/api/v1/models/echo/estimate", {"prompt_tokens": 5}),
    ("GET", "/api/v1/agents", None),
    ("GET", "/api/v1/agents/default", None),
    ("GET", "/api/v1/dialogs", None),
    ("GET", "/api/v1/export", None),
    ("POST", "/api/v1/export/import", {"dialogs": []}),
    ("POST", "/v1/explain", chat(model="echo")),
    *(  # without a body, which comes after the lists
        ("POST", f"{root}/{path}", None)
        for root in ("/v1", "/api/providers/openai/v1", "/api/providers/openai")
        for path in OTHER
    ),
    ("POST", "/api/call", {"model_name": "echo", "prompt": "one"}),
    ("POST", "/api/routes/any/path", chat()),
    ("GET", "/health/providers", None),
    ("POST", "/v1/messages", chat(model="echo", max_tokens=5)),
    ("POST", "/v1/messages/count_tokens", chat(model="echo")),
    ("POST", "/v1/responses", {"model": "echo", "input": "one"}),
    ("POST", "/v1/responses/input_tokens", {"model": "echo", "input": "one"}),
]
OTHERWISE = [  # … those that make something, or refuse a body that says nothing
    ("POST", "/api/v1/dialogs", {"model_name": "echo"}, 201),
    ("POST", "/api/v1/agents", {}, 400),
    ("POST", "/api/v1/prompts", {}, 400),
    ("GET", "/api/v1/prompts/x/diff", None, 400),
    ("POST", "/v1/files", None, 400),
    ("POST", "/v1/batches", {}, 400),
]
MISSING = [  # … and those about an answer or a dialog that was kept, of which there is none
    ("PATCH", "/api/v1/agents/x", {"name": "y"}),
    ("DELETE", "/api/v1/agents/x", None),
    ("GET", "/api/v1/dialogs/x", None),
    ("PATCH", "/api/v1/dialogs/x", {"title": "y"}),
    ("DELETE", "/api/v1/dialogs/x", None),
    ("GET", "/api/v1/dialogs/x/messages", None),
    ("POST", "/api/v1/dialogs/x/messages", {"content": "y"}),
    ("POST", "/api/v1/dialogs/x/messages/sync", {"content": "y"}),
    ("GET", "/api/v1/usage/req_1/content", None),
    ("DELETE", "/api/v1/usage/req_1/content", None),
    ("GET", "/v1/responses/resp_1", None),
    ("DELETE", "/v1/responses/resp_1", None),
    ("GET", "/v1/responses/resp_1/input_items", None),
    ("POST", "/v1/responses/resp_1/cancel", None),
    ("GET", "/v1/files/x", None),
    ("GET", "/v1/files/x/content", None),
    ("DELETE", "/v1/files/x", None),
    ("GET", "/v1/batches/x", None),
    ("POST", "/v1/batches/x/cancel", None),
    ("GET", "/api/v1/prompts/x", None),
    ("PATCH", "/api/v1/prompts/x", {"description": "y"}),
    ("DELETE", "/api/v1/prompts/x", None),
    ("GET", "/api/v1/prompts/x/versions", None),
    ("POST", "/api/v1/prompts/x/versions", {"messages": [{"role": "user", "content": "y"}]}),
    ("GET", "/api/v1/prompts/x/versions/1", None),
    ("PUT", "/api/v1/prompts/x/labels/y", {"version": 1}),
    ("DELETE", "/api/v1/prompts/x/labels/y", None),
    ("POST", "/api/v1/prompts/x/render", {"variables": {}}),
    ("GET", "/api/v1/prompts/x/usage", None),
]
LOGIN = {"username": "maria", "password": "senha-da-maria"}


def ask(app, key, method="POST", path="/v1/chat/completions", body=None, **more):
    headers = bearer(key if isinstance(key, str) else key.secret) | more.pop("headers", {})
    return app.test_client().open(path, method=method, json=body, headers=headers, buffered=True, **more)


def echo(app, key, model="echo", **more):
    return ask(app, key, body=chat(model=model), **more)


def said(response):
    """Status, and whatever the surface calls its explanation."""
    found = response.json.get("error")
    holder = found if isinstance(found, dict) else response.json
    text = holder.get("detail") or holder["message"]
    return response.status_code, text


def add_route(app, key, path):
    here = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.add(Route(name="any", path=path, key_ids=[key.id], steps=[{"provider": "echo", "model": "echo"}]))
    here.catalog.refresh()


def test_the_routes_named_here_are_all_that_take_a_key(lite):
    guarded = {
        endpoint
        for endpoint, view in lite.view_functions.items()
        if view.__code__.co_qualname.startswith("require_api_key.")
    }
    adapter = lite.url_map.bind("localhost")
    assert {adapter.match(path, method)[0] for method, path, *_ in (*ROUTES, *OTHERWISE, *MISSING)} == guarded


@pytest.mark.parametrize(
    ("method", "path", "body", "good"),
    [*((*route, 200) for route in ROUTES), *OTHERWISE, *((*route, 404) for route in MISSING)],
)
def test_every_route_asks_the_lists(lite, method, path, body, good):
    key = issue(lite, allowed_paths=EVERYTHING, allowed_ips=["127.0.0.1/32"])
    add_route(lite, key, "/any/path")
    good = good if body or method == "GET" or good != 200 else 400
    assert ask(lite, key, method, path, body).status_code == good
    change(lite, ApiKey, key.id, allowed_ips=["10.0.0.0/8"])
    status, text = said(ask(lite, key, method, path, body))
    assert (status, f"key `{key.hint}` may not be used from the address `127.0.0.1`" in text) == (403, True)
    change(lite, ApiKey, key.id, allowed_ips=None, allowed_paths=[{"path": "/elsewhere", "method": method}])
    assert said(ask(lite, key, method, path, body)) == (
        403,
        f"The key `{key.hint}` may not use `{method} {path}`; allowed: `{method} /elsewhere`.",
    )
    change(lite, ApiKey, key.id, allowed_paths=[{"path": path, "method": method}])
    assert ask(lite, key, method, path, body).status_code == good


def test_a_refusal_costs_nothing_and_has_a_code(app):
    key = issue(app, allowed_paths=[{"path": "/v1/models"}])  # a rule without a method, as clients may send it
    assert echo(app, key).json["error"]["code"] == "path_not_allowed"
    change(app, ApiKey, key.id, allowed_paths=None, allowed_ips=[])
    assert echo(app, key).json["error"]["code"] == "address_not_allowed"
    assert rows(app.extensions["gateway"].engine) == []


def test_an_address_written_as_ipv6_is_the_ipv4_address(lite):
    answer = lite.test_client().put(
        "/api/key-management/keys",
        json={"name": "k", "key": "a-secret-of-this-test", "allowedIps": ["::ffff:127.0.0.1"]},
    )
    assert answer.get_json()["allowedIps"] == ["127.0.0.1/32"]
    headers = {"Authorization": "Bearer a-secret-of-this-test"}
    assert lite.test_client().get("/v1/models", headers=headers).status_code == 200


def test_key_and_user_must_both_allow_the_path(app):
    user = add_user(app, allowed_paths=[{"path": "/v1/*", "method": "POST"}])
    key = issue(app, user, allowed_paths=[{"path": "/v1/models", "method": ""}, {"path": "/v1/chat/*", "method": ""}])
    assert echo(app, key).status_code == 200
    status, text = said(ask(app, key, "GET", "/v1/models"))
    assert (status, text) == (403, "The user `ana` may not use `GET /v1/models`; allowed: `POST /v1/*`.")
    status, text = said(ask(app, key, "POST", "/v1/embeddings", {"model": "echo-embedding", "input": "x"}))
    assert (status, f"The key `{key.hint}` may not use" in text) == (403, True)


def test_a_token_has_the_lists_of_its_user(app):
    client = app.test_client()
    client.post("/register", json=LOGIN)
    token = client.post("/login", json=LOGIN).json["access_token"]
    assert echo(app, token).status_code == 200
    maria = app.extensions["gateway"].callers.of(token).user_id
    change(app, User, maria, allowed_paths=[{"path": "/user/usage", "method": "GET"}])
    assert said(echo(app, token))[0] == 403
    assert ask(app, token, "GET", "/user/usage").status_code == 200


def test_the_address_is_the_one_that_trusted_proxies_report(make_app, sqlite_database):
    forwarded = {"headers": {"X-Forwarded-For": "10.1.2.3, 192.0.2.9"}}
    plain = make_app(sqlite_database)
    key = issue(plain, allowed_ips=["192.0.2.0/24"])
    assert said(echo(plain, key, **forwarded))[0] == 403, "nobody vouches for that header"
    behind = make_app(sqlite_database, TRUSTED_PROXIES="1")
    assert echo(behind, key, **forwarded).status_code == 200
    assert said(echo(behind, key, headers={"X-Forwarded-For": "192.0.2.9, 10.1.2.3"}))[0] == 403
    mapped = {"environ_overrides": {"REMOTE_ADDR": "::ffff:192.0.2.7"}}
    assert echo(plain, key, **mapped).status_code == 200


# Models


def test_only_allowed_models_are_listed(app):
    user = add_user(app, allowed_models=["echo", "echo-slow"], team={"allowed_models": ["echo", "echo-json"]})
    key = issue(app, user, allowed_models=["echo", "echo-slow", "echo-json", "echo-500"])
    for place in ("/v1", "/api/providers/openai/v1", "/api/providers/openai"):
        listed = ask(app, key, "GET", f"{place}/models").json["data"]
        assert [model["id"] for model in listed] == ["echo"]
        assert ask(app, key, "GET", f"{place}/models/echo").status_code == 200
        assert ask(app, key, "GET", f"{place}/models/echo-slow").status_code == 404


@pytest.mark.parametrize("owner", ["key", "user", "team"])
def test_a_list_of_models_of_each_owner(app, owner):
    given = {"allowed_models": ["echo", "echo-json"]}
    user = add_user(app, team=given if owner == "team" else {}, **(given if owner == "user" else {}))
    key = issue(app, user, **(given if owner == "key" else {}))
    assert echo(app, key).status_code == 200
    assert said(echo(app, key, "echo-slow")) == (
        403,
        f"The key `{key.hint}` may not use model `echo-slow`; allowed: `echo`, `echo-json`.",
    )


def test_a_model_must_be_on_every_list(app):
    user = add_user(app, allowed_models=["echo", "echo-slow"], team={"allowed_models": ["echo-slow", "echo-json"]})
    key = issue(app, user, allowed_models=["echo", "echo-slow", "echo-json"])
    assert said(echo(app, key)) == (403, f"The key `{key.hint}` may not use model `echo`; allowed: `echo-slow`.")
    change(app, ApiKey, key.id, allowed_models=["echo"])
    assert said(echo(app, key))[1].endswith("may not use model `echo`; allowed: none.")
    change(app, ApiKey, key.id, allowed_models=None)
    change(app, Team, find(app, User, user).team_id, allowed_models=None)
    assert echo(app, key).status_code == 200, "an admin's change counts at once"


def test_a_token_is_told_about_its_user(app):
    client = app.test_client()
    client.post("/register", json=LOGIN)
    token = client.post("/login", json=LOGIN).json["access_token"]
    change(app, User, app.extensions["gateway"].callers.of(token).user_id, allowed_models=["echo"])
    assert said(echo(app, token, "echo-slow")) == (
        403,
        "The user `maria` may not use model `echo-slow`; allowed: `echo`.",
    )


def test_a_fallback_is_the_models_own_affair(app, upstream):
    """Who may use a model may be served by its fallbacks, as its owner decided."""
    with_upstream(app, upstream)
    key = issue(app, allowed_models=["fast"])
    assert ask(app, key, body=chat()).status_code == 200


# Accounts that end


def test_an_account_that_ended_opens_nothing(app):
    client = app.test_client()
    client.post("/register", json=LOGIN)
    signed_in = client.post("/login", json=LOGIN).json
    maria = app.extensions["gateway"].callers.of(signed_in["access_token"]).user_id
    key = issue(app, maria, expires_at=datetime.now(UTC) + timedelta(days=9))
    change(app, User, maria, expires_at=datetime.now(UTC) + timedelta(seconds=60))
    for credential in (signed_in["access_token"], signed_in["api_key"], key.secret):
        assert echo(app, credential).status_code == 200
    change(app, User, maria, expires_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    ended = "is not valid: it expired on 2026-01-02 03:04 UTC."
    for credential, what in ((signed_in["access_token"], "account `maria`"), (key.secret, "API key")):
        response = echo(app, credential)
        assert said(response) == (401, f"The {what} {ended}")
        assert response.json["error"]["code"] == "key_expired"
        proxied = ask(app, credential, path="/api/providers/openai/v1/chat/completions", body=chat(model="echo"))
        assert proxied.json["error"]["message"] == "[BricksLLM] key has expired"


def test_an_account_ends_while_its_worker_looks_at_nothing_new(app, monkeypatch):
    """The moment is in the snapshot, so no look at the database is needed to see that it has come."""
    key = issue(app, add_user(app, expires_at=datetime.now(UTC) + timedelta(seconds=1000)))
    assert echo(app, key).status_code == 200
    now = __import__("time").time()
    monkeypatch.setattr("utils.clock.now_s", lambda: now + 1001)
    assert echo(app, key).json["error"]["code"] == "key_expired"


def test_a_disabled_user_has_revoked_keys(app):
    key = issue(app)
    change(app, User, find(app, ApiKey, key.id).user_id, is_active=False)
    response = echo(app, key)
    assert (said(response), response.json["error"]["code"]) == (
        (401, "The API key is not valid: the user of this key is disabled."),
        "key_revoked",
    )
