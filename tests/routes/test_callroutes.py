"""Routes: made, changed and removed by admins, called by their paths, with steps that are tried in order."""

import json

import pytest
from sqlalchemy.orm import Session

from models import Model, Provider
from services import attempts, budgets
from services.audit import Actor
from tests.callers import bearer
from tests.fakes.upstream import Upstream
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, last, rows
from tests.management import ask, audited, make, refused

PATH = "/test/chat/completion"
CALL = f"/api/routes{PATH}"
MESSAGES = {"messages": [{"role": "user", "content": "one two"}]}
STEPS = [
    {"provider": "first", "model": "gpt-4o-mini", "retries": 2, "timeout": "10s", "params": {}},
    {"provider": "second", "model": "slow", "retries": 1, "timeout": "10s"},
]
LATER = {"retryInterval": "10ms"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSE_S", 0.01)


@pytest.fixture
def second():
    server = Upstream().start()
    yield server
    server.stop()


def with_two(app, upstream, second):
    """Model `fast` at `first`, model `slow` at `second`."""
    add_model(app, add_provider(app, upstream, "first"))
    add_model(app, add_provider(app, second, "second"), "slow", upstream_model="gpt-4o")
    return app


@pytest.fixture
def two(lite, upstream, second):
    return with_two(lite, upstream, second)


def create(app, status=200, **members):
    key = members.pop("key", None) or make(app)
    body = {"name": "test", "path": PATH, "keyIds": [key["keyId"]], "steps": STEPS, **members}
    answer = ask(app, "POST", "/api/routes", body)
    assert answer.status_code == status, answer.text
    return answer.json, key


def call(app, key, body=None, path=CALL):
    headers = bearer(key["key"]) if "key" in key else key
    return app.test_client().post(path, json=body or MESSAGES, headers=headers, buffered=True)


def engine(app):
    return app.extensions["gateway"].engine


def tried(app):
    return [tuple(pair) for pair in json.loads(last(engine(app)).attempts)]


def test_the_failover_of_the_other_gateways_guide(app, upstream, second):
    with_two(app, upstream, second)
    cache = {"enabled": True, "ttl": "5s"}
    made, key = create(app, cacheConfig=cache)
    assert made == {
        "id": made["id"],
        "name": "test",
        "path": PATH,
        "keyIds": [key["keyId"]],
        "steps": [
            {**STEPS[0], "retryInterval": "", "requestParams": {}},
            {**STEPS[1], "retryInterval": "", "params": {}, "requestParams": {}},
        ],
        "cacheConfig": cache,
        "retryStrategy": "exponential",
        "createdAt": made["createdAt"],
        "updatedAt": made["updatedAt"],
    }
    answer = call(app, key)
    assert answer.status_code == 200, answer.text
    assert answer.json["choices"][0]["message"]["content"].startswith("word0")
    assert answer.headers["x-gateway-deployment"] == "first/gpt-4o-mini"
    upstream.default.status = 500
    answer = call(app, key, MESSAGES | {"model": "whatever the client says", "seed": 1})
    assert answer.status_code == 200, answer.text
    assert tried(app) == [("first", "upstream_error")] * 3 + [("second", "ok")]
    assert second.served[-1].body["model"] == "gpt-4o"
    row = last(engine(app))
    assert (row.model, row.provider, row.upstream_model) == ("fast", "second", "gpt-4o")
    assert [row.state for row in rows(engine(app))] == ["measured", "measured"]
    assert_books_agree(engine(app))


def test_streams_texts_and_embeddings(two, upstream):
    _made, key = create(two)
    stream = call(two, key, MESSAGES | {"stream": True})
    assert stream.text.endswith("data: [DONE]\n\n")
    assert call(two, key, {"prompt": "x"}).json["object"] == "text_completion"
    assert call(two, key, {"input": "x"}).json["data"][0]["embedding"] == [0.5, -0.25]
    assert {row.operation for row in rows(engine(two))} == {"chat", "completion", "embedding"}


def test_routes_are_listed_changed_and_removed(app, upstream, second):
    with_two(app, upstream, second)
    made, key = create(app)
    path = f"/api/routes/{made['id']}"
    assert ask(app, "GET", "/api/routes").json == [made]
    assert ask(app, "GET", path).json == made
    changed = ask(app, "PATCH", path, {"path": "/other", "steps": STEPS[1:], "retryStrategy": "constant", "color": 1})
    assert changed.headers["x-gateway-ignored-members"] == "color"
    assert (changed.json["path"], len(changed.json["steps"]), changed.json["name"]) == ("/other", 1, "test")
    assert call(app, key).status_code == 404
    assert call(app, key, path="/api/routes/other").headers["x-gateway-deployment"] == "second/gpt-4o"
    assert ask(app, "DELETE", path).status_code == 200
    assert call(app, key, path="/api/routes/other").status_code == 404
    for method in ("GET", "PATCH", "DELETE"):
        refused(ask(app, method, path, {}), 404, "/errors/route-not-found")
    refused(ask(app, "GET", "/api/routes/é"), 404, "/errors/route-not-found")
    assert [entry.action for entry in audited(app, "route")] == ["route_create", "route_update", "route_delete"]


def test_a_change_reaches_other_workers(app, make_app, database, upstream, second):
    """The triggers tell them, whoever changes the table."""
    with_two(app, upstream, second)
    other = make_app(database).extensions["gateway"].catalog
    assert other.refresh().routes == {}
    made, _key = create(app)
    assert other.refresh().routes.keys() == {PATH}
    ask(app, "PATCH", f"/api/routes/{made['id']}", {"path": "/b"})
    assert other.refresh().routes.keys() == {"/b"}
    ask(app, "DELETE", f"/api/routes/{made['id']}")
    assert other.refresh().routes == {}


STEP = {"provider": "first", "model": "fast"}


@pytest.mark.parametrize(
    ("members", "at"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"path": None}, "path"),
        ({"path": "no/slash"}, "path"),
        ({"path": "/"}, "path"),
        ({"path": "/a/"}, "path"),
        ({"path": "/a//b"}, "path"),
        ({"path": "/a/../b"}, "path"),
        ({"path": "/a b"}, "path"),
        ({"path": "/a?b=c"}, "path"),
        ({"path": "/" + "a" * 200}, "path"),
        ({"path": 7}, "path"),
        ({"keyIds": []}, "keyIds"),
        ({"keyIds": ["no-such-key"]}, "keyIds"),
        ({"keyIds": "all"}, "keyIds"),
        ({"steps": []}, "steps"),
        ({"steps": {}}, "steps"),
        ({"steps": [STEP] * 21}, "steps"),
        ({"steps": [STEP, 7]}, "steps.1"),
        ({"steps": [{"model": "fast"}]}, "steps.0.provider"),
        ({"steps": [{"provider": "first", "model": ""}]}, "steps.0.model"),
        ({"steps": [STEP | {"provider": "nobody"}]}, "steps.0.provider"),
        ({"steps": [STEP | {"model": "gpt-9"}]}, "steps.0.model"),
        ({"steps": [STEP, STEP | {"provider": "second"}]}, "steps.1.model"),
        ({"steps": [STEP | {"params": {"deploymentId": "gpt-9"}}]}, "steps.0.model"),
        ({"steps": [STEP | {"params": {"url": "x"}}]}, "steps.0.params.url"),
        ({"steps": [STEP | {"params": 7}]}, "steps.0.params"),
        ({"steps": [STEP | {"retries": -1}]}, "steps.0.retries"),
        ({"steps": [STEP | {"retries": 11}]}, "steps.0.retries"),
        ({"steps": [STEP | {"retries": 1.5}]}, "steps.0.retries"),
        ({"steps": [STEP | {"timeout": "soon"}]}, "steps.0.timeout"),
        ({"steps": [STEP | {"timeout": "0s"}]}, "steps.0.timeout"),
        ({"steps": [STEP | {"timeout": "61m"}]}, "steps.0.timeout"),
        ({"steps": [STEP | {"retryInterval": "2m"}]}, "steps.0.retryInterval"),
        ({"steps": [STEP | {"requestParams": 7}]}, "steps.0.requestParams"),
        ({"steps": [STEP | {"requestParams": {"max_tokens": 5}}]}, "steps.0.requestParams.max_tokens"),
        ({"steps": [STEP | {"requestParams": {"temperature": "x"}}]}, "steps.0.requestParams.temperature"),
        ({"steps": [STEP | {"weight": 2}]}, "steps.0.weight"),
        ({"retryStrategy": "random"}, "retryStrategy"),
        ({"retryStrategy": ["constant"]}, "retryStrategy"),
        ({"cacheConfig": 7}, "cacheConfig"),
        ({"cacheConfig": {"enabled": "yes"}}, "cacheConfig.enabled"),
        ({"cacheConfig": {"enabled": True, "ttl": "soon"}}, "cacheConfig.ttl"),
        ({"cacheConfig": {"ttl": "31d"}}, "cacheConfig.ttl"),
        ({"cacheConfig": {"ttl": 5}}, "cacheConfig.ttl"),
        ({"cacheConfig": {"size": 5}}, "cacheConfig.size"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(two, members, at):
    answer = ask(
        two, "POST", "/api/routes", {"name": "n", "path": "/p", "keyIds": ["x"], "steps": [STEP]} | keyed(two, members)
    )
    refused(answer, 400, "/errors/validation")
    assert list(answer.json["errors"]) == [at], answer.text
    assert answer.json["title"] == "route validation failed"
    assert ask(two, "GET", "/api/routes").json == []


def keyed(app, members):
    return {"keyIds": [make(app)["keyId"]]} | members


def test_a_path_is_taken_once(two):
    made, key = create(two)
    again = {"name": "b", "path": PATH, "keyIds": [key["keyId"]], "steps": STEPS}
    refused(ask(two, "POST", "/api/routes", again), 409, "/errors/duplicate-route")
    other = ask(two, "POST", "/api/routes", again | {"path": "/b"}).json
    refused(ask(two, "PATCH", f"/api/routes/{other['id']}", {"path": PATH}), 409, "/errors/duplicate-route")
    assert ask(two, "PATCH", f"/api/routes/{made['id']}", {"path": PATH}).status_code == 200


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, {"enabled": False, "ttl": ""}),
        ({}, {"enabled": False, "ttl": ""}),
        ({"enabled": True}, {"enabled": True, "ttl": "168h"}),
        ({"enabled": False, "ttl": "1h"}, {"enabled": False, "ttl": "1h"}),
        ({"ttl": "1h"}, {"enabled": False, "ttl": "1h"}),
    ],
)
def test_the_cache_is_stored(two, given, shown):
    made, _key = create(two, cacheConfig=given)
    assert made["cacheConfig"] == shown


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), *((m, "/x") for m in ("GET", "PATCH", "DELETE"))]
)
def test_routes_are_managed_by_admins_alone(make_app, sqlite_database, method, path):
    guarded = make_app(sqlite_database, ADMIN_PASS="the-pass-of-the-programs")
    for headers in ({}, AUTH):
        refused(ask(guarded, method, f"/api/routes{path}", {}, headers=headers), 401, "/errors/admin-required")


def error(answer, status, message=None):
    assert answer.status_code == status, answer.text
    assert answer.json["error"]["code"] == status
    if message:
        assert answer.json["error"]["message"] == f"[BricksLLM] {message}"
    return answer.json["error"]["detail"]


def test_who_may_call(two):
    _made, key = create(two)
    stranger = make(two)
    error(call(two, {}), 401, "bearer token is not present")
    error(call(two, stranger), 403, "path is not allowed")
    error(call(two, key, path="/api/routes/nothing"), 404, "route config not found")
    token = two.test_client().post("/login", json={"username": "admin", "password": "correct horse battery"}).json
    assert "tokens" in error(call(two, bearer(token["access_token"])), 403, "path is not allowed")
    assert rows(engine(two)) == []


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, None), ({"messages": []}, "messages"), ({"messages": "x"}, "messages"), ({"x": 1}, "messages")],
)
def test_bodies_that_cannot_be(two, body, param):
    _made, key = create(two)
    answer = two.test_client().post(CALL, json=body, headers=bearer(key["key"]))
    error(answer, 400)
    assert answer.json["error"]["param"] == (param or "messages")
    error(
        two.test_client().post(CALL, data=b"[", headers=bearer(key["key"])), 400, "error when parsing the request body"
    )


def test_an_upstreams_own_refusal_leads_to_the_next_step(two, upstream, second):
    _made, key = create(two)
    upstream.will(status=400)
    assert call(two, key).status_code == 200
    assert tried(two) == [("first", "fake"), ("second", "ok")]
    upstream.will(status=401)
    assert call(two, key).status_code == 200
    upstream.default.status = second.default.status = 400
    error(call(two, key), 400)


def test_a_step_that_takes_too_long_is_left(two, upstream, second):
    steps = [STEP | {"timeout": "200ms", "retries": 3}, STEPS[1]]
    _made, key = create(two, steps=steps)
    upstream.will(first_s=3.0)
    assert call(two, key).status_code == 200
    assert tried(two) == [("first", "upstream_timeout"), ("second", "ok")]
    upstream.will(first_s=3.0)
    assert "[DONE]" in call(two, key, MESSAGES | {"stream": True}).text
    assert tried(two) == [("first", "upstream_timeout"), ("second", "ok")]


def test_a_stream_may_take_longer_once_it_has_begun(two, upstream):
    _made, key = create(two, steps=[STEP | {"timeout": "300ms"}])
    upstream.will(every_s=0.1, words=5)
    assert "[DONE]" in call(two, key, MESSAGES | {"stream": True}).text


def test_a_step_tunes_its_own_requests(two, upstream, second):
    tuning = {"temperature": 0.25, "stop": ["x"], "logit_bias": {"50256": -100}}
    _made, key = create(two, steps=[STEP | {"requestParams": tuning}, STEPS[1]])
    upstream.will(status=500)
    assert call(two, key, MESSAGES | {"temperature": 1, "top_p": 0.5}).status_code == 200
    assert {name: upstream.served[-1].body[name] for name in tuning} == tuning
    sent = second.served[-1].body
    assert (sent["temperature"], sent["top_p"], "stop" in sent) == (1, 0.5, False)


def test_a_step_may_name_a_kind_of_provider(two, upstream):
    """As in the other gateway, where the key says which account it is."""
    step = {"provider": "openai", "model": "ignored", "params": {"deploymentId": "gpt-4o", "apiVersion": "v1"}}
    _made, key = create(two, steps=[step])
    assert call(two, key).headers["x-gateway-deployment"] == "second/gpt-4o"
    with Session(engine(two)) as session:
        uuid = session.query(Provider).filter_by(name="first").one().uuid
    create(two, path="/by-uuid", key=key, steps=[{"provider": uuid, "model": "fast"}])
    assert call(two, key, path="/api/routes/by-uuid").headers["x-gateway-deployment"] == "first/gpt-4o-mini"


def test_lists_of_models_and_providers_hold(two, upstream, second):
    only_slow = make(two, allowedModels=["slow"])
    _made, key = create(two, key=only_slow)
    assert call(two, key).headers["x-gateway-deployment"] == "second/gpt-4o"
    assert last(engine(two)).model == "slow"
    neither = make(two, allowedModels=["echo"])
    create(two, path="/b", key=neither)
    error(call(two, neither, path="/api/routes/b"), 403, "model is not allowed")
    assert upstream.served == []
    with Session(engine(two)) as session:
        uuid = session.query(Provider).filter_by(name="second").one().uuid
    bound = make(two, settingIds=[uuid])
    create(two, path="/c", key=bound)
    assert call(two, bound, path="/api/routes/c").headers["x-gateway-deployment"] == "second/gpt-4o"


def test_a_route_whose_models_are_gone(two, upstream):
    _made, key = create(two)
    here = two.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        session.query(Model).filter_by(name="fast").one().is_enabled = False
    here.catalog.refresh()
    assert call(two, key).headers["x-gateway-deployment"] == "second/gpt-4o"
    with Session(here.engine) as session, session.begin():
        session.query(Provider).filter_by(name="second").one().is_enabled = False
    here.catalog.refresh()
    assert "No step of the route" in error(call(two, key), 400)


def test_a_deleted_key_is_no_longer_shown(two):
    made, key = create(two)
    ask(two, "DELETE", f"/api/key-management/keys/{key['keyId']}")
    assert ask(two, "GET", f"/api/routes/{made['id']}").json["keyIds"] == []


def test_budgets_hold_and_revoke_as_on_the_surface(two):
    _made, key = create(two)
    budgets.put(engine(two), Actor("t"), scope="key", owner=key["keyId"], unit="usd", limit="0", period="total")
    two.extensions["gateway"].catalog.refresh()
    error(call(two, key), 401, "key has expired")


def test_nothing_is_left_to_try(two, upstream, second):
    """Both are shut out: nobody waits for them."""
    _made, key = create(two, steps=[step | LATER for step in STEPS], retryStrategy="constant")
    for server in (upstream, second):
        server.default.status, server.default.headers = 429, {"retry-after": "30"}
    error(call(two, key), 429)
    error(call(two, key), 429)
    assert (len(upstream.served), len(second.served)) == (1, 1)
