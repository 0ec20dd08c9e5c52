"""The log of a gateway under gunicorn: every line in one form, who asked for what, and nothing that is secret."""

import json
import re
import socket
import time

import pytest
import requests

from tests.conftest import PASSWORD, SECRETS, TOKEN
from tests.helpers import chat
from tests.races.conftest import ask

KEYS = {"request_id", "user_id", "key_id", "method", "route", "status", "duration_ms"}
PLANTED = "planted-0123456789"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 [A-Z]+ +[\w.]+: ")
SCREEN = re.compile(r"^ *Tollhouse .*?^  Database: .*?$(?:\n  Note: .*$)*", re.MULTILINE | re.DOTALL)


def logged(served):
    """What it wrote after its screen for people."""
    return [line for line in SCREEN.sub("", served.output()).splitlines() if line.strip()]


def wait_for(served, text, within_s=10.0):
    end = time.monotonic() + within_s
    while text not in served.output():
        assert time.monotonic() < end, served.output()
        time.sleep(0.05)


def attack(served):
    """Requests with something that no log may have, and one that tries to write lines of its own."""
    address = f"{served.url}/v1/models/{PLANTED}?api_key={PLANTED}"
    headers = {"authorization": f"Bearer {TOKEN}", "user-agent": PLANTED, "x-request-id": PLANTED}
    requests.get(address, headers=headers, timeout=30)
    requests.get(f"{served.url}/{PLANTED}?password={PASSWORD}", timeout=30)
    body = chat(f"{PLANTED}", model='x\n{"level":"forged"}\r\n2026-01-01T00:00:00.000+00:00 INFO     forged: x')
    assert ask(served, body, TOKEN)[0] == 400
    assert ask(served, chat(PLANTED, model="echo"), f"sk-th-{PLANTED}{PLANTED}")[0] == 401
    with socket.create_connection(("127.0.0.1", served.port)) as line:
        line.sendall(f"GET /?key={PLANTED} HTTP/9.9\r\nHost: x\r\n\r\n".encode())
        line.settimeout(30)
        line.recv(1000)


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_every_line_is_an_object_and_requests_say_who_it_was(serve, worker_class):
    served = serve(LOG_FORMAT="json", WORKER_CLASS=worker_class, WEB_CONCURRENCY="2")
    assert ask(served, chat(PLANTED, model="echo"), TOKEN)[0] == 200
    assert ask(served, chat(PLANTED, model="echo", stream=True), TOKEN)[0] == 200
    attack(served)
    token = requests.post(f"{served.url}/login", json={"username": "admin", "password": PASSWORD}, timeout=30).json()
    bearer = {"authorization": f"Bearer {token['access_token']}"}
    assert requests.get(f"{served.url}/users/me", headers=bearer, timeout=30).ok
    wait_for(served, "/users/me")
    assert served.stop() == 0
    lines = [json.loads(line) for line in logged(served)]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert {"gunicorn.error", "tollhouse.access"} <= {line["logger"] for line in lines}
    assert any("Starting gunicorn" in line["message"] for line in lines)
    assert "forged" not in {line["level"] for line in lines} | {line["logger"] for line in lines}
    found = [line for line in lines if line["logger"] == "tollhouse.access"]
    assert all(line.keys() > KEYS for line in found)
    calls = [line for line in found if line["route"] == "/v1/chat/completions"]
    assert sorted(line["status"] for line in calls) == [200, 200, 400, 401]
    for line in calls:
        is_known = line["status"] != 401
        assert (isinstance(line["user_id"], int), isinstance(line["key_id"], int)) == (is_known, is_known)
        assert re.fullmatch(r"req_[0-9a-f]{32}", line["request_id"])
        assert isinstance(line["duration_ms"], float)
    (refused,) = [line for line in lines if line.get("code") == "model_not_found" and line["status"] == 400]
    assert refused["request_id"] == next(line["request_id"] for line in calls if line["status"] == 400)
    (me,) = [line for line in found if line["route"] == "/users/me"]
    assert (isinstance(me["user_id"], int), me["key_id"]) == (True, None)
    assert {line["route"] for line in found} >= {"/v1/models/<path:name>", "none", "/login"}
    assert "/health" not in {line["route"] for line in found}, "a machine asks that every few seconds"
    for secret in (PLANTED, PASSWORD, *SECRETS.values()):
        assert secret not in served.output() or secret == "0", secret


def test_lines_for_people_cannot_be_forged_either(serve):
    served = serve(ENVIRONMENT="test", LOG_LEVEL="DEBUG")
    attack(served)
    wait_for(served, "status=401")
    assert served.stop() == 0
    lines = logged(served)
    assert [line for line in lines if not LINE.match(line)] == []
    assert "forged" not in {line.split(": ")[0].split()[-1] for line in lines}
    assert any(" tollhouse.access: request method=GET route=/health " in line for line in lines), "at DEBUG it is there"
    assert PLANTED not in served.output()


def test_the_lines_of_requests_can_be_left_out(serve):
    served = serve(LOG_FORMAT="json", ACCESS_LOG="false")
    assert ask(served, chat(model="echo"), TOKEN)[0] == 200
    assert ask(served, chat(model="no-such"), TOKEN)[0] == 400
    assert served.stop() == 0
    assert "tollhouse.access" not in served.output()
    assert "model_not_found" in served.output(), "other lines are there"


def test_the_server_is_as_silent_as_it_is_told(serve):
    served = serve(LOG_LEVEL="ERROR")
    assert ask(served, chat(model="echo"), TOKEN)[0] == 200
    assert served.stop() == 0
    assert logged(served) == []
