"""A message of a dialog as its webhook tells it."""

import json
import time

import pytest

from tests.callers import bearer
from tests.conftest import TOKEN
from tests.fakes.scripted import Scripted

SECRET = "0123456789abcdef"


@pytest.fixture
def receiver():
    def answer(_asked, line):
        line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True

    found = Scripted(answer)
    yield found
    found.stop()


def test_a_message_is_told_without_its_text(make_app, sqlite_database, receiver):
    app = make_app(sqlite_database, WEBHOOK_URLS=receiver.url, WEBHOOK_SECRET=SECRET)
    client, headers = app.test_client(), bearer(TOKEN)
    dialog = client.post("/api/v1/dialogs", json={"model_name": "echo"}, headers=headers).json["id"]
    said = {"content": "a secret word"}
    answer = client.post(f"/api/v1/dialogs/{dialog}/messages/sync", json=said, headers=headers).json
    end = time.monotonic() + 60
    while len(receiver.asked) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    told = [json.loads(asked.body) for asked in receiver.asked]
    assert [one["type"] for one in told] == ["message_sent", "llm_response_received", "tokens_deducted"]
    sent, received, deducted = (one["data"] for one in told)
    assert sent.keys() == {"user_id", "request_id", "dialog_id", "message_id"}
    assert received.keys() == {*sent, "model", "prompt_tokens", "completion_tokens", "latency_ms"}
    assert (received["model"], received["message_id"]) == ("echo", answer["id"])
    assert deducted == {
        "user_id": sent["user_id"],
        "request_id": sent["request_id"],
        "tokens": answer["prompt_tokens"] + answer["completion_tokens"],
    }
    assert b"secret word" not in b"".join(asked.body for asked in receiver.asked)
