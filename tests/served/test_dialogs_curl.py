"""Dialogs, balances, models and reloads with `curl`, as people of a gateway for dialogs send them, through gunicorn."""

import json
import shutil
import subprocess
import time

import jwt
import pytest

from tests.conftest import PASSWORD

SHARED = "a-secret-that-a-back-end-and-we-share-0123456789"
JSON = "-H 'Content-Type: application/json'"
AS = '-H "Authorization: Bearer $JWT_TOKEN"'

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture
def shell(serve):
    """Runs a line of a shell with the variables, gives what it printed."""
    served = serve(
        DJANGO_SECRET_KEY=SHARED, OUTSIDE_CREATE_USERS="true", DEFAULT_ADMIN_PASSWORD=PASSWORD, LLM_DEFAULT_MODEL="echo"
    )

    def run(line, **variables):
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "URL": served.url, **variables}
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True, env=environ)
        return done.stdout

    return run


@pytest.fixture
def root(shell):
    said = json.loads(
        shell(f"""curl -sS -X POST $URL/login {JSON} -d '{{"username": "admin", "password": "{PASSWORD}"}}'""")
    )
    return said["access_token"]


def of_back_end(number, **claims):
    """The token that the back end gives to one of its users."""
    now = int(time.time())
    return jwt.encode({"user_id": number, "iat": now, "exp": now + 600, **claims}, SHARED, "HS256")


def test_models_are_reloaded_and_the_pages_about_the_api_are_there(shell, root):
    line = f"curl -sS -X POST $URL/api/v1/admin/models/reload \\\n  {AS}"
    said = json.loads(shell(line, JWT_TOKEN=root))
    assert said["status"] == "ok"
    assert said["message"] == f"Reloaded {len(said['models'])} models"
    assert "echo" in said["models"]
    assert json.loads(shell(line, JWT_TOKEN=of_back_end(7)))["code"] == "FORBIDDEN"
    for page in ("docs", "redoc"):
        assert "<!doctype html>" in shell(f"curl -sSf $URL/{page}").lower()
    assert json.loads(shell("curl -sSf $URL/openapi.json"))["openapi"].startswith("3.1")


def test_a_dialog_of_somebody_whom_the_back_end_sent(shell, root):
    token = of_back_end(42)

    def ask(line, who=token):
        return json.loads(shell(line, JWT_TOKEN=who))

    made = ask(
        f"""curl -sS -X POST $URL/api/v1/dialogs {AS} {JSON} -d '{{"title": "First", "system_prompt": "Brief."}}'"""
    )
    assert (made["title"], made["model_name"]) == ("First", "echo")
    path = f"$URL/api/v1/dialogs/{made['id']}/messages"
    streamed = shell(f"""curl -sSN -X POST {path} {AS} {JSON} -d '{{"content": "Hello there"}}'""", JWT_TOKEN=token)
    events = [json.loads(line.removeprefix("data: ")) for line in streamed.splitlines() if line]
    assert "".join(event["content"] for event in events).strip()
    assert [event["done"] for event in events] == [*[False] * (len(events) - 1), True]
    answered = ask(f"""curl -sS -X POST {path}/sync {AS} {JSON} -d '{{"content": "And again"}}'""")
    assert answered["role"] == "assistant"
    said = ask(f'curl -sS "{path}?skip=0&limit=100" {AS}')
    assert [one["role"] for one in said] == ["user", "assistant"] * 2
    listed = ask(f'curl -sS "$URL/api/v1/dialogs?page=1&page_size=20" {AS}')
    assert (listed["total"], listed["has_next"], listed["items"][0]["id"]) == (1, False, made["id"])
    used = events[-1]["prompt_tokens"] + events[-1]["completion_tokens"]
    used += answered["prompt_tokens"] + answered["completion_tokens"]
    balance = ask(f"curl -sS $URL/api/v1/users/me/tokens {AS}")
    assert (balance["total_used"], balance["limit"]) == (used, None)
    exported = ask(f"curl -sS $URL/api/v1/export {AS}")
    assert (exported["version"], exported["dialog_count"], exported["message_count"]) == ("1.0", 1, 4)
    user = f"$URL/api/v1/admin/users/{made['user_id']}"
    topped = ask(f"""curl -sS -X POST {user}/tokens {AS} {JSON} -d '{{"amount": 500}}'""", root)
    assert topped["balance"] == balance["balance"] + 500 == 10_500, "echo is free"
    history = ask(f'curl -sS "{user}/tokens/history?skip=0&limit=100" {AS}', root)
    assert [(one["amount"], one["reason"]) for one in history] == [(500, "admin_top_up"), (10_000, "admin_top_up")]
    stats = ask(f"curl -sS $URL/api/v1/admin/stats {AS}", root)
    assert (stats["total_tokens"], stats["top_models"]) == (used, [{"model": "echo", "usage": used}])
    noted = ask(f'curl -sS "$URL/api/v1/admin/audit?user_id={made["user_id"]}&limit=100" {AS}', root)
    assert {"dialog_create", "message_send", "export_dialogs"} <= {one["action"] for one in noted}
    assert ask(f"curl -sS $URL/api/v1/dialogs/{made['id']} {AS}", of_back_end(43))["code"] == "NOT_FOUND"
