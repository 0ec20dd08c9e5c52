"""Files and batches of tests, and a worker that makes their calls when a test says so."""

import json
import time
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from models_batches import Batch, BatchLine
from services import Gateway
from tests.helpers import AUTH

CHAT = "/v1/chat/completions"


def line(number: int, text: str = "Hello there", url: str = CHAT, **more: Any) -> dict[str, Any]:
    """A good line of a file."""
    body = {"model": "fast", "messages": [{"role": "user", "content": text}], "max_tokens": 20, **more}
    return {"custom_id": f"line {number}", "method": "POST", "url": url, "body": body}


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def upload(client: FlaskClient, content: bytes, headers: dict[str, str] = AUTH, **fields: str) -> Any:
    """The answer to an upload. Written by hand: of a large form the test client leaves a file open."""
    parts = [b'form-data; name="%s"\r\n\r\n%s' % (one.encode(), value.encode()) for one, value in fields.items()]
    if "purpose" not in fields:
        parts.append(b'form-data; name="purpose"\r\n\r\nbatch')
    head = b'form-data; name="file"; filename="in.jsonl"\r\ncontent-type: application/jsonl\r\n\r\n'
    whole = [b"--xyz\r\ncontent-disposition: %s\r\n" % part for part in (*parts, head + content)]
    kind = "multipart/form-data; boundary=xyz"
    return client.post("/v1/files", data=b"".join(whole) + b"--xyz--\r\n", content_type=kind, headers=headers)


def begin(client: FlaskClient, content: bytes, headers: dict[str, str] = AUTH, endpoint: str = CHAT) -> str:
    """The id of a new batch of such a file."""
    file_id = upload(client, content, headers).json["id"]
    asked = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"}
    made = client.post("/v1/batches", json=asked, headers=headers)
    assert made.status_code == 200, made.text
    return str(made.json["id"])


def run(app: Flask, looks: int = 1000) -> None:
    """What a worker does until no batch is open."""
    here: Gateway = app.extensions["gateway"]
    for _ in range(looks):
        here.batch_runner.look()
        here.batch_runner.wait(60)
        with Session(here.engine) as session:
            if not session.query(Batch).filter(Batch.status.in_(("validating", "in_progress", "cancelling"))).count():
                return
        time.sleep(0.02)
    raise AssertionError("the batches do not end")


def show(client: FlaskClient, name: str, headers: dict[str, str] = AUTH) -> Any:
    """A batch as its caller sees it."""
    return client.get(f"/v1/batches/{name}", headers=headers).json


def results(client: FlaskClient, file_id: str | None, headers: dict[str, str] = AUTH) -> list[Any]:
    """The lines of a file of results."""
    if file_id is None:
        return []
    found = client.get(f"/v1/files/{file_id}/content", headers=headers)
    assert found.status_code == 200
    assert int(found.headers["content-length"]) == len(found.data)
    return [json.loads(one) for one in found.data.splitlines()]


def lines(app: Flask) -> list[BatchLine]:
    with Session(app.extensions["gateway"].engine) as session:
        return session.query(BatchLine).order_by(BatchLine.batch_id, BatchLine.number).all()


def change(app: Flask, table: type[Any], **columns: Any) -> None:
    """All rows of a table as a test wants them."""
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        session.query(table).update(columns)
