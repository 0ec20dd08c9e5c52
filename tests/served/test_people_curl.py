"""Users and models with `curl`, step by step as people of another gateway do it; the end of access in all workers."""

import json
import shutil
import subprocess
import time

import pytest
import requests

from tests.conftest import PASSWORD
from tests.helpers import chat

PROMISED_S = 2.0
ROUNDS = 24  # new connections, which the workers share out among themselves
JSON = "-H 'Content-Type: application/json'"
LOGIN = "curl -s -X POST {url}/login -d 'username={name}' -d 'password={password}'"
AS = "-H 'Authorization: Bearer {token}'"
CREATE = f"""curl -s -X POST {{url}}/users/create {AS} {JSON} -d '
  {{{{"username": "newuser", "password": "password123", "is_admin": false}}}}'"""
PASSWORDS = f"""curl -s -X POST {{url}}/users/password {AS} {JSON} -d '
  {{{{"current_password": "password123", "new_password": "newpassword123"}}}}'"""
MODEL = f"""curl -s -X POST {{url}}/models/create {AS} {JSON} -d '
  {{{{"model_name": "gpt-4", "model_type": "OPENAI",
     "model_endpoint": "{{endpoint}}", "model_api_key": "sk-of-a-team"}}}}'"""
CALL = f"""curl -s -X POST {{url}}/api/call {JSON} -d '
  {{{{"model_name": "gpt-4", "prompt": "Hello", "max_tokens": 100, "temperature": 0.7, "user_api_key": "{{key}}"}}}}'"""
GET = f"curl -s '{{url}}{{path}}' {AS}"
DELETE = f"curl -s -X DELETE '{{url}}{{path}}' {AS}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_steps_of_the_other_gateway(serve, upstream):
    served = serve()

    def shell(command, **values):
        line = command.format(url=served.url, endpoint=upstream.base_url, **values)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
        return json.loads(done.stdout)

    admin = shell(LOGIN, name="admin", password=PASSWORD.replace(" ", "%20"))
    assert (admin["token_type"], admin["expires_in"]) == ("bearer", 1800)
    root = admin["access_token"]
    assert shell(CREATE, token=root) == {"message": "User newuser created successfully"}
    assert shell(MODEL, token=root) == {"message": "Model gpt-4 created successfully"}
    user = shell(LOGIN, name="newuser", password="password123")
    token, key = user["access_token"], user["api_key"]
    me = shell(GET, token=token, path="/users/me")
    assert (me["username"], me["is_admin"], me["api_key"] == key) == ("newuser", False, False)
    assert [one["model_name"] for one in shell(GET, token=token, path="/models/all") if one["model_name"] == "gpt-4"]
    assert shell(CALL, key=key)["response"]
    assert upstream.served[-1].headers["authorization"] == "Bearer sk-of-a-team"
    for path in ("/users/usage/newuser", "/usage/newuser?start_date=2020-01-01&end_date=2099-12-31"):
        used = shell(GET, token=token, path=path)
        assert used["current_usage"]["PROMPT"] > 0
        assert used["current_usage"].keys() == {"PROMPT", "COMPLETION", "CACHED"}
    assert shell(CREATE, token=token)["detail"] == "Not enough permissions"
    assert shell(PASSWORDS, token=token) == {"message": "Password updated successfully"}
    assert shell(GET, token=token, path="/users/me")["detail"] == "Could not validate credentials"
    assert len(shell(GET, token=root, path="/users/all")) == 3
    assert shell(DELETE, token=root, path="/models/gpt-4") == {"message": "Model gpt-4 deleted successfully"}
    assert shell(DELETE, token=root, path="/users/newuser") == {"message": "User newuser deleted successfully"}
    assert "newpassword123" not in served.output()
    assert "sk-of-a-team" not in served.output()


def test_every_worker_forgets_somebody_within_two_seconds(serve):
    served = serve(WEB_CONCURRENCY="3")

    def ask(method, path, token=None, **more):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, served.url + path, headers=headers, timeout=30, **more)

    def login(name, password):
        return ask("POST", "/login", json={"username": name, "password": password}).json()

    def seen(token):
        return {ask("GET", "/users/me", token).status_code for _ in range(ROUNDS)}

    root = login("admin", PASSWORD)["access_token"]
    new = {"username": "maria", "password": "senha-da-maria"}
    assert ask("POST", "/users/create", root, json=new).status_code == 200
    first = login(name="maria", password=new["password"])
    assert seen(first["access_token"]) == seen(first["api_key"]) == {200}
    passwords = {"current_password": new["password"], "new_password": "uma senha nova"}
    assert ask("POST", "/users/password", first["access_token"], json=passwords).status_code == 200
    time.sleep(PROMISED_S)
    assert seen(first["access_token"]) == {401}
    assert seen(first["api_key"]) == {200}, "a key is no password"
    second = login("maria", "uma senha nova")["access_token"]
    assert seen(second) == {200}
    assert ask("PATCH", "/users/maria", root, json={"is_active": False}).status_code == 200
    time.sleep(PROMISED_S)
    assert seen(second) == seen(first["api_key"]) == {401}
    assert ask("PATCH", "/users/maria", root, json={"is_active": True}).status_code == 200
    time.sleep(PROMISED_S)
    assert (seen(second), seen(first["api_key"])) == ({401}, {200})
    assert ask("DELETE", "/users/maria", root).status_code == 200
    time.sleep(PROMISED_S)
    assert seen(first["api_key"]) == {401}
    called = ask("POST", "/v1/chat/completions", first["api_key"], json=chat(model="echo"))
    assert called.status_code == 401
