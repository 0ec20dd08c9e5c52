"""gunicorn on three ports: one for everything, one for admins, one for API clients, who may use `curl`."""

import http.client
import json
import shutil
import socket
import subprocess

import pytest
import requests

from app import create_app
from tests.conftest import TOKEN, make_config
from tests.helpers import assert_books_agree, chat, rows, with_upstream

AUTH = {"Authorization": f"Bearer {TOKEN}"}
CHAT = "/api/providers/openai/v1/chat/completions"
ALL = {
    "/health": (200, 200, 200),
    "/v1/models": (200, 404, 200),
    "/api/providers/openai/v1/models": (200, 404, 200),
    "/user/usage": (200, 404, 200),
    "/admin/login": (200, 200, 404),
    "/static/tollhouse.css": (200, 200, 404),
}


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(params=["gevent", "gthread"])
def served(request, serve, sqlite_database, tmp_path, upstream):
    """A gateway on three ports with a model `fast` on the fake upstream; `engine` looks at its books."""
    app = create_app(make_config(tmp_path, DATABASE_URL=sqlite_database))
    with_upstream(app, upstream)
    port, admin, proxy = free_ports(3)
    running = serve(
        WORKER_CLASS=request.param,
        WEB_CONCURRENCY="2",
        PORT=str(port),
        ADMIN_PORT=str(admin),
        PROXY_PORT=str(proxy),
        TRUSTED_PROXIES="1",
    )
    running.admin, running.proxy = admin, proxy
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


def test_each_port_serves_its_surface_and_no_other(served):
    ports = (served.port, served.admin, served.proxy)
    for path, statuses in ALL.items():
        found = tuple(
            requests.get(f"http://127.0.0.1:{port}{path}", headers=AUTH, timeout=30).status_code for port in ports
        )
        assert found == statuses, path
    closed = requests.post(f"http://127.0.0.1:{served.admin}{CHAT}", json=chat(), timeout=30)
    assert (closed.status_code, closed.json()["error"]["code"]) == (404, 404)
    assert rows(served.engine) == []
    elsewhere = {
        "Host": f"x:{served.port}",
        "X-Forwarded-Host": f"x:{served.port}",
        "X-Forwarded-Port": str(served.port),
    }
    for name, value in elsewhere.items():
        assert from_the_proxy_port(served, "/admin/login", {name: value}) == 404
    for target in (f"http://127.0.0.1:{served.port}/admin/login", "/v1/../admin/login", "//admin/login"):
        assert from_the_proxy_port(served, target) == 404
    assert f"Admin only    http://127.0.0.1:{served.admin}" in served.output()
    assert f"Proxy only    http://127.0.0.1:{served.proxy}" in served.output()


def from_the_proxy_port(served, target, headers=None):
    """The status of a request whose target and headers are sent as they are."""
    connection = http.client.HTTPConnection("127.0.0.1", served.proxy, timeout=30)
    connection.request("GET", target, headers=headers or {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_curl_on_the_proxy_port(served):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed on this machine")
    command = [curl, "-sS", "--max-time", "20", "-w", "\n%{http_code}", f"http://127.0.0.1:{served.proxy}{CHAT}"]
    command += ["-H", "Content-Type: application/json", "-H", "X-CUSTOM-EVENT-ID: event-1", "-d", json.dumps(chat())]

    def run(*more):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=30)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    status, answer = run("-H", f"Authorization: Bearer {TOKEN}")
    assert (status, answer["object"], answer["usage"]["completion_tokens"]) == (200, "chat.completion", 5)
    assert [(row.state, row.custom_id) for row in rows(served.engine)] == [("measured", "event-1")]
    status, answer = run("-H", "Authorization: Bearer nobody-knows-this-one")
    assert (status, answer["error"]["message"]) == (401, "[BricksLLM] api key is not registered")
    status, answer = run()
    assert (status, answer["error"]["message"]) == (401, "[BricksLLM] bearer token is not present")
    assert_books_agree(served.engine)
