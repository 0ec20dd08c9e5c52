"""`/v1/files` and `/v1/batches` with what nobody should send: wrong types, too much, other people's things."""

import io
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from models_batches import Batch, BatchChunk, BatchFile, BatchLine
from tests.batches.helpers import begin, change, jsonl, line, lines, results, run, show, upload
from tests.callers import add_user, bearer, issue
from tests.helpers import AUTH
from utils import clock

FILE = jsonl(line(1, model="echo"))
GIVEN = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
JUNK = [None, 5, -1, 1.5, True, "", "x" * 5000, [], {}, ["a"], {"a": 1}, "a\u0000b"]


def count(app, table):
    with Session(app.extensions["gateway"].engine) as session:
        return session.query(table).count()


def test_a_file_comes_back_as_it_was(app, client):
    content = bytes(range(256)) * 2000
    made = upload(client, content).json
    assert made["bytes"] == len(content)
    assert (made["object"], made["purpose"], made["filename"]) == ("file", "batch", "in.jsonl")
    assert made["expires_at"] - made["created_at"] == 30 * 86_400
    found = client.get(f"/v1/files/{made['id']}/content", headers=AUTH)
    assert found.data == content
    assert client.get(f"/v1/files/{made['id']}", headers=AUTH).json == made
    with Session(app.extensions["gateway"].engine) as session:
        assert not any(content[:100] in chunk.sealed for chunk in session.query(BatchChunk))
    assert client.delete(f"/v1/files/{made['id']}", headers=AUTH).json["deleted"] is True
    assert client.get(f"/v1/files/{made['id']}/content", headers=AUTH).status_code == 404
    assert (count(app, BatchFile), count(app, BatchChunk)) == (0, 0)


def test_files_are_listed_page_by_page(app, client):
    made = [upload(client, FILE).json["id"] for _ in range(5)]
    change(app, BatchFile, created_at=clock.now())  # of one moment
    for order, names in (("asc", sorted(made)), ("desc", sorted(made, reverse=True))):
        found, after = [], ""
        while True:
            page = client.get(f"/v1/files?limit=2&order={order}&after={after}", headers=AUTH).json
            found += [one["id"] for one in page["data"]]
            if not page["has_more"]:
                break
            after = page["last_id"]
        assert found == names
    assert client.get("/v1/files?purpose=batch_output", headers=AUTH).json["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=99999", "order=up", "after=file-x", "limit=²"])
def test_wrong_pages(client, query):
    assert client.get(f"/v1/files?{query}", headers=AUTH).status_code == 400


def test_uploads_that_are_refused(sqlite_database, make_app):
    app = make_app(sqlite_database, BATCH_FILE_BYTES="500000", BATCH_USER_BYTES="900000")
    client = app.test_client()
    large = upload(client, b"x" * 500_001)
    assert (large.status_code, large.json["error"]["code"]) == (413, "request_too_large")
    assert "500,000 bytes" in large.json["error"]["message"]
    huge = upload(client, b"x" * 5_000_000)
    assert huge.status_code == 413
    assert upload(client, b"x" * 500_000).status_code == 200
    full = upload(client, b"x" * 400_001)
    assert (full.status_code, full.json["error"]["code"]) == (413, "storage_limit_exceeded")
    assert count(app, BatchFile) == 1, "nothing is left of what was refused"
    refused = [
        client.post("/v1/files", data=b"x", headers=AUTH),
        client.post("/v1/files", json={"file": "x"}, headers=AUTH),
        client.post("/v1/files", data={"purpose": "batch"}, headers=AUTH, content_type="multipart/form-data"),
        client.post(
            "/v1/files", data={"purpose": "batch", "file": "text"}, headers=AUTH, content_type="multipart/form-data"
        ),
        upload(client, b""),
        upload(client, FILE, purpose="assistants"),
        upload(client, FILE, user_id="1"),
        upload(client, FILE, **{"expires_after[anchor]": "created_at"}),
        upload(client, FILE, **{"expires_after[anchor]": "now", "expires_after[seconds]": "4000"}),
        upload(client, FILE, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}),
        upload(client, FILE, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e5"}),
        client.post(
            "/v1/files",
            data={"purpose": "batch", "file": (io.BytesIO(FILE), "a"), "other": (io.BytesIO(FILE), "b")},
            headers=AUTH,
        ),
    ]
    assert [one.status_code for one in refused] == [400] * len(refused)
    assert count(app, BatchFile) == 1


def test_the_name_of_a_file_is_no_path(client):
    form = {"purpose": "batch", "file": (io.BytesIO(FILE), "../../etc/\u202epass\x07wd")}
    assert client.post("/v1/files", data=form, headers=AUTH).json["filename"] == "passwd"


def test_a_file_goes_when_it_was_said_to(app, client):
    made = upload(client, FILE, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json
    assert made["expires_at"] - made["created_at"] == 3600
    change(app, BatchFile, expires_at=clock.now() - timedelta(seconds=1))
    assert client.get(f"/v1/files/{made['id']}", headers=AUTH).status_code == 404
    app.extensions["gateway"].control.files.forget_ended()
    assert (count(app, BatchFile), count(app, BatchChunk)) == (0, 0)


@pytest.mark.parametrize(
    "member", ["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"]
)
def test_junk_in_every_member_of_a_batch(lite, member):
    client = lite.test_client()
    good = {**GIVEN, "input_file_id": upload(client, FILE).json["id"]}
    for junk in JUNK:
        answer = client.post("/v1/batches", json={**good, member: junk}, headers=AUTH)
        is_left_out = junk is None or (junk == {} and member == "metadata")
        if is_left_out and member in ("metadata", "output_expires_after"):
            assert answer.status_code == 200
            continue
        assert answer.status_code in (400, 404), (member, junk, answer.text)
        assert answer.json["error"]["param"] == member


def test_nobody_sets_what_is_not_theirs(lite):
    client = lite.test_client()
    good = {**GIVEN, "input_file_id": upload(client, FILE).json["id"]}
    for name in ("user_id", "key_id", "status", "id", "total", "owner", "expires_at", "name"):
        answer = client.post("/v1/batches", json={**good, name: 1}, headers=AUTH)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, name)
    kept = client.post("/v1/batches", json={**good, "metadata": {"a": "b"}}, headers=AUTH).json
    assert kept["metadata"] == {"a": "b"}
    for wrong in ({"a": 5}, {"a" * 65: "b"}, {"a": "b" * 513}, {str(n): "b" for n in range(17)}):
        assert client.post("/v1/batches", json={**good, "metadata": wrong}, headers=AUTH).status_code == 400


def test_others_find_nothing_and_other_keys_of_the_same_user_all(app, client):
    owner = add_user(app, "eve")
    mine, other, stranger = (bearer(issue(app, who).secret) for who in (owner, owner, None))
    name = begin(client, FILE, mine)
    run(app)
    done = show(client, name, other)
    assert done["status"] == "completed"
    assert len(results(client, done["output_file_id"], other)) == 1
    for file in (done["input_file_id"], done["output_file_id"]):
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = client.open(f"/v1/files/{file}{path}", method=method, headers=stranger)
            nothing = client.open(f"/v1/files/file-x{path}", method=method, headers=stranger)
            assert answer.status_code == nothing.status_code == 404
    assert client.get(f"/v1/batches/{name}", headers=stranger).status_code == 404
    assert client.post(f"/v1/batches/{name}/cancel", headers=stranger).status_code == 404
    assert (
        client.post("/v1/batches", json={**GIVEN, "input_file_id": done["input_file_id"]}, headers=stranger).status_code
        == 404
    )
    assert client.get("/v1/batches", headers=stranger).json["data"] == []
    assert client.get("/v1/files", headers=stranger).json["data"] == []


def test_a_file_that_a_batch_needs_stays_and_results_can_be_deleted(app, client):
    name = begin(client, FILE)
    file_id = show(client, name)["input_file_id"]
    answer = client.delete(f"/v1/files/{file_id}", headers=AUTH)
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "file_in_use")
    run(app)
    output = show(client, name)["output_file_id"]
    assert client.delete(f"/v1/files/{output}", headers=AUTH).status_code == 200
    assert [one.sealed for one in lines(app)] == [None]
    assert client.delete(f"/v1/files/{file_id}", headers=AUTH).status_code == 200


def test_what_a_person_said_goes_with_them_and_is_theirs_to_have(app, client):
    from services.audit import Actor

    here = app.extensions["gateway"]
    owner = add_user(app, "eve")
    name = begin(client, FILE, bearer(issue(app, owner).secret))
    run(app)
    told = b"".join(here.takeout.lines(owner))
    assert name.encode() in told
    assert b'"section":"files"' in told
    here.erasure.erase(Actor("tests"), owner, "eve")
    assert [count(app, table) for table in (Batch, BatchLine, BatchFile, BatchChunk)] == [0, 0, 0, 0]


def test_batches_go_after_their_days(app, client):
    begin(client, FILE)
    run(app)
    change(app, Batch, created_at=clock.now() - timedelta(days=31))
    assert app.extensions["gateway"].retention.run()["batches"] == 1
    assert [count(app, table) for table in (Batch, BatchLine)] == [0, 0]
