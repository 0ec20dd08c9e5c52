"""Which paths answer on ADMIN_PORT and PROXY_PORT. What gunicorn says of its ports: tests/served/test_ports.py."""

import pytest

from routes import screen
from routes.ports import ADMIN, BOTH, PROXY, surfaces_of
from services import bootstrap
from tests.conftest import make_config
from tests.helpers import AUTH, chat

PORTS = {"PORT": "8000", "ADMIN_PORT": "8001", "PROXY_PORT": "8002"}
CHAT = "/v1/chat/completions"


@pytest.fixture
def guarded(make_app, sqlite_database):
    return make_app(sqlite_database, **PORTS)


def ask(app, port, path, method="GET", **more):
    return app.test_client().open(path, method=method, environ_overrides={"SERVER_PORT": str(port)}, **more)


@pytest.mark.parametrize(
    ("path", "surfaces"),
    [
        ("/", ADMIN),
        ("/admin", ADMIN),
        ("/admin/users/", ADMIN),
        ("/static/app.css", ADMIN),
        ("/bootstrap/static/css/bootstrap.min.css", ADMIN),
        ("/login", ADMIN),
        ("/register", ADMIN),
        ("/api/key-management/keys", ADMIN),
        ("/api/v2/key-management/keys", ADMIN),
        ("/api/users", ADMIN),
        ("/api/provider-settings", ADMIN),
        ("/api/call", PROXY),
        ("/api/routes", ADMIN),
        ("/api/routes/x", ADMIN),
        ("/api/providers", PROXY),
        ("/api/providers/openai/v1/models", PROXY),
        ("/v1", PROXY),
        ("/v1/chat/completions", PROXY),
        ("/v1/messages/count_tokens", PROXY),
        ("/v1/../admin/users/", PROXY),  # no route is reached by that
        ("/user/usage", PROXY),
        ("/health", BOTH),
        ("/healthy", frozenset()),
        ("/users/create", ADMIN),
        ("/users/ana", ADMIN),
        ("/users/me", BOTH),
        ("/users/usage/ana", BOTH),
        ("/usage/ana", BOTH),
        ("/models/create", ADMIN),
        ("/models/fast", ADMIN),
        ("/models/all", BOTH),
        ("/api/v1/models/fast", BOTH),
        ("/api/v1/admin/invitations", ADMIN),
        ("/me/tokens", frozenset()),
        ("/administrator", frozenset()),
        ("/ADMIN", frozenset()),
        ("//admin/users/", frozenset()),
        ("", frozenset()),
    ],
)
def test_a_path_belongs_to_a_surface(path, surfaces):
    assert surfaces_of(path) == surfaces


def test_routes_are_called_on_one_port_and_managed_on_the_other():
    assert surfaces_of("/api/routes", "POST") == ADMIN
    assert surfaces_of("/api/routes/x/y", "POST") == PROXY
    assert surfaces_of("/api/routes/x/y", "OPTIONS") == PROXY
    assert surfaces_of("/api/routes/x", "DELETE") == ADMIN


def test_every_route_is_on_one_of_the_ports(lite):
    assert [rule.rule for rule in lite.url_map.iter_rules() if not surfaces_of(rule.rule)] == []


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/health", (200, 200, 200)),
        ("/v1/health", (200, 404, 200)),
        ("/v1/models", (200, 404, 200)),
        ("/api/providers/openai/v1/models", (200, 404, 200)),
        ("/user/usage", (200, 404, 200)),
        ("/admin/login", (200, 200, 404)),
        ("/login", (405, 405, 404)),
        ("/", (200, 200, 404)),
        ("/nothing", (404, 404, 404)),
    ],
)
def test_each_port_serves_its_surface(guarded, path, statuses):
    assert tuple(ask(guarded, port, path, headers=AUTH).status_code for port in (8000, 8001, 8002)) == statuses


def test_a_closed_path_says_no_more_than_one_that_is_not_there(guarded):
    """In the form of its surface, and before anybody's key is looked at."""
    for closed, gone in ((CHAT, "/v1/nothing"), ("/api/providers/openai/v1/completions", "/api/providers/nothing")):
        answers = [ask(guarded, 8001, closed, "POST", json=chat(), headers={"Authorization": "Bearer sk-wrong"})]
        answers.append(ask(guarded, 8000, gone, "POST", json=chat(), headers=AUTH))
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json == answers[1].json
        assert answers[0].headers["x-request-id"].startswith("req_")
    assert ask(guarded, 8001, CHAT, "POST").json["error"]["code"] == "not_found"
    assert ask(guarded, 8001, "/api/providers/openai/models").json["error"]["code"] == 404
    assert set(ask(guarded, 8002, "/login", "POST").json) == {"detail", "error", "code", "request_id"}
    assert "<h1>Not Found</h1>" in ask(guarded, 8002, "/admin/users/").text


def test_no_header_moves_a_request_to_another_port(make_app, sqlite_database):
    app = make_app(sqlite_database, TRUSTED_PROXIES="1", **PORTS)
    for name in ("Host", "X-Forwarded-Host"):
        assert ask(app, 8002, "/admin/login", headers={name: "gateway.test:8000"}).status_code == 404
    for headers in ({"X-Forwarded-Port": "8000"}, {"Server-Port": "8000"}, {"X-Original-URL": "/v1/models"}):
        assert ask(app, 8002, "/admin/login", headers=headers).status_code == 404


def test_without_the_settings_nothing_is_closed(lite):
    for port in (8001, 8002):
        assert ask(lite, port, "/v1/health").status_code == 200
        assert ask(lite, port, "/admin/login").status_code == 200


def test_one_of_the_two_may_be_set_alone(make_app, sqlite_database):
    app = make_app(sqlite_database, PROXY_PORT="8002")
    assert [ask(app, port, "/admin/login").status_code for port in (8001, 8002)] == [200, 404]


def test_the_first_screen_names_the_ports(tmp_path):
    report = bootstrap.Report()
    shown = screen.started(make_config(tmp_path, **PORTS), report, "")
    assert "Admin only    http://127.0.0.1:8001\n" in shown
    assert "Proxy only    http://127.0.0.1:8002\n" in shown
    shown = screen.started(make_config(tmp_path, ADMIN_PORT="8001"), report, "")
    assert ("8001" in shown, "Proxy only" in shown) == (True, False)
