"""Files and batches through gunicorn: the official openai SDK, curl, and a worker that is told to end."""

import json
import signal
import subprocess
import time

import openai
import pytest

from app import create_app
from tests.batches.helpers import jsonl, line
from tests.conftest import TOKEN, make_config
from tests.helpers import assert_books_agree, rows, with_upstream


@pytest.fixture
def served(serve, sqlite_database, tmp_path, upstream):
    app = with_upstream(create_app(make_config(tmp_path, DATABASE_URL=sqlite_database)), upstream)
    running = serve(GRACEFUL_TIMEOUT="10")
    running.engine = app.extensions["gateway"].engine
    yield running
    app.extensions["gateway"].close()
    running.engine.dispose()


def wait(client, batch):
    end = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < end:
        time.sleep(0.2)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_the_official_sdk(served):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as client:
        content = jsonl(*(line(number) for number in range(30)), line(30, '{{"status": 400, "body": "{}"}}'))
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        assert (file.bytes, client.files.retrieve(file.id).filename) == (len(content), "in.jsonl")
        assert client.files.content(file.id).content == content
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "nightly"}
        )
        assert batch.status in ("validating", "in_progress")
        batch = wait(client, batch)
        assert (batch.status, batch.metadata) == ("completed", {"job": "nightly"})
        assert batch.request_counts.to_dict() == {"total": 31, "completed": 30, "failed": 1}
        found = [json.loads(one) for one in client.files.content(batch.output_file_id).text.splitlines()]
        assert [one["custom_id"] for one in found] == [f"line {number}" for number in range(30)]
        (wrong,) = client.files.content(batch.error_file_id).text.splitlines()
        assert json.loads(wrong)["response"]["status_code"] == 400
        assert [one.id for one in client.batches.list(limit=5)] == [batch.id]
        files = {batch.output_file_id, batch.error_file_id, file.id}
        assert {one.id for one in client.files.list(limit=2)} == files, "the SDK asks for page after page"
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(batch.id)
        for name in files:
            assert client.files.delete(name).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.content(file.id)
    assert_books_agree(served.engine)


def test_curl(served, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(jsonl(line(1)))
    curl = ["curl", "-sS", "-H", f"Authorization: Bearer {TOKEN}"]
    upload = [*curl, f"{served.base_url}/files", "-F", "purpose=batch", "-F", f"file=@{path}"]
    file = json.loads(subprocess.run(upload, capture_output=True, check=True).stdout)
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    make = [*curl, f"{served.base_url}/batches", "-H", "content-type: application/json", "-d", json.dumps(asked)]
    batch = json.loads(subprocess.run(make, capture_output=True, check=True).stdout)
    assert (batch["object"], batch["input_file_id"]) == ("batch", file["id"])
    path.write_bytes(b"x" * 300 * 1024 * 1024)
    refused = json.loads(subprocess.run(upload, capture_output=True, check=True).stdout)
    assert refused["error"]["code"] == "request_too_large"


def test_a_worker_that_is_told_to_end_ends_its_lines_and_another_one_goes_on(served, serve, upstream):
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=0) as client:
        content = jsonl(*(line(number, '{{"first_s": 0.2}}') for number in range(60)))
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        upstream.wait_for(10, 30)
    assert served.stop(signal.SIGTERM) == 0
    assert len(upstream.served) < 60
    assert len(rows(served.engine)) == len(upstream.served), "those under way ended and were booked"
    again = serve()
    with openai.OpenAI(base_url=again.base_url, api_key=TOKEN, max_retries=0) as client:
        batch = wait(client, client.batches.retrieve(batch.id))
    assert (batch.status, batch.request_counts.completed) == ("completed", 60)
    assert (len(upstream.served), len(rows(served.engine))) == (60, 60)
