"""The first steps of BricksLLM's README, with `curl`, on two ports, on a fresh install."""

import json
import re
import shutil
import subprocess

import pytest

from tests.served.test_ports import free_ports

JSON = "-H 'Content-Type: application/json'"
SETTING = f"""curl -s -X PUT http://localhost:8001/api/provider-settings {JSON} -d '
  {{"provider": "openai", "setting": {{"apikey": "sk-of-a-customer"}}}}'"""
KEY = f"""curl -s -X PUT http://localhost:8001/api/key-management/keys {JSON} -d '
  {{"name": "Trial", "key": "first-try", "tags": ["trial"],
   "settingIds": ["ID"],
   "rateLimitOverTime": 2, "rateLimitUnit": "m", "costLimitInUsd": 0.25}}'"""
CHAT = f"""curl -s -X POST http://localhost:8002/api/providers/openai/v1/chat/completions {JSON} \\
  -H "Authorization: Bearer first-try" -d '
  {{"model": "gpt-3.5-turbo", "messages": [{{"role": "system", "content": "hi"}}]}}'"""
LIST = "curl -s http://localhost:8001/api/key-management/keys?tag=trial"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("is_older", [False, True], ids=["with a setting", "with the server's own key"])
def test_its_first_steps_work(serve, upstream, is_older):
    upstream.models = ["gpt-3.5-turbo"]
    admin, proxy = free_ports(2)
    own = {"OPENAI_API_KEY": "sk-of-the-server-0123456789"} if is_older else {}
    running = serve(ADMIN_PORT=str(admin), PROXY_PORT=str(proxy), OPENAI_BASE_URL=upstream.base_url, **own)

    def shell(command):
        command = command.replace(":8001/", f":{admin}/").replace(":8002/", f":{proxy}/")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True)
        return json.loads(done.stdout)

    if is_older:  # before there were settings, its README had no such member
        key = shell(re.sub(r" *\"settingIds\".*\n", "", KEY))
    else:
        setting = shell(SETTING)
        key = shell(KEY.replace("ID", setting["id"]))
        assert key["settingIds"] == [setting["id"]]
    assert (key["name"], key["tags"], key["costLimitInUsd"], key["rateLimitOverTime"]) == ("Trial", ["trial"], 0.25, 2)
    answers = [shell(CHAT) for _ in range(3)]
    assert [answer.get("object") for answer in answers[:2]] == ["chat.completion"] * 2, running.output()
    assert answers[2]["error"]["message"] == "[BricksLLM] too many requests"
    sent = "sk-of-the-server-0123456789" if is_older else "sk-of-a-customer"
    assert upstream.served[-1].headers["authorization"] == f"Bearer {sent}"
    listed = shell(LIST)
    assert [one["keyId"] for one in listed] == [key["keyId"]]
