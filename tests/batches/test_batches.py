"""Batches from the file to the results: every endpoint, the order of things, what is stored and what is booked."""

from datetime import timedelta

import pytest

from models_batches import Batch
from tests.batches.helpers import begin, change, jsonl, line, lines, results, run, show
from tests.helpers import AUTH, assert_books_agree, rows, with_upstream
from utils import clock

BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "one two"}]},
    "/v1/completions": {"prompt": "one two"},
    "/v1/embeddings": {"input": "one two"},
    "/v1/moderations": {"input": "one two"},
    "/v1/responses": {"input": "one two"},
    "/v1/messages": {"messages": [{"role": "user", "content": "one two"}], "max_tokens": 20},
}


def test_a_batch_from_its_file_to_its_results(app, client, upstream):
    with_upstream(app, upstream)
    bad = line(3, "{{" + '"status": 400, "body": "{}"' + "}}")
    name = begin(client, jsonl(line(1), line(2, "two"), bad))
    made = show(client, name)
    assert (made["status"], made["object"], made["completion_window"]) == ("validating", "batch", "24h")
    assert made["expires_at"] - made["created_at"] == 86_400

    run(app)
    done = show(client, name)
    assert (done["status"], done["model"], done["errors"]) == ("completed", "fast", None)
    assert done["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert done["created_at"] <= done["in_progress_at"] <= done["finalizing_at"] <= done["completed_at"]
    good, wrong = (results(client, done[file]) for file in ("output_file_id", "error_file_id"))
    assert [one["custom_id"] for one in good] == ["line 1", "line 2"]
    assert {one["response"]["status_code"] for one in good} == {200}
    assert good[0]["response"]["body"]["choices"][0]["message"]["content"] == "word0 word1 word2 word3 word4 "
    assert [(one["custom_id"], one["response"]["status_code"], one["error"]) for one in wrong] == [
        ("line 3", 400, None)
    ]
    assert set(wrong[0]["response"]["body"]["error"]) == {"message", "type", "param", "code"}

    booked = {row.request_id: row for row in rows(app.extensions["gateway"].engine)}
    assert {one["response"]["request_id"] for one in (*good, *wrong)} == set(booked)
    assert {row.batch_id for row in booked.values()} == {1}
    assert {row.custom_id for row in booked.values()} == {"line 1", "line 2", "line 3"}
    assert {row.path for row in booked.values()} == {"/v1/chat/completions"}
    assert_books_agree(app.extensions["gateway"].engine)
    assert b"word0" not in b"".join(one.sealed for one in lines(app)), "what was said is sealed"


def test_lines_are_made_from_stored_prompts(app, client, upstream):
    with_upstream(app, upstream)
    made = {"name": "greeting", "model": "fast", "messages": [{"role": "user", "content": "Greet {{name}}."}]}
    told = made | {"variables": [{"name": "name", "type": "string"}]}
    assert client.post("/api/v1/prompts", json=told, headers=AUTH).status_code == 201

    def with_prompt(custom_id, **body):
        return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}

    good = [with_prompt(name, prompt_id="greeting@1", variables={"name": name}) for name in ("Ana", "Rui")]
    name = begin(client, jsonl(*good))
    run(app)
    done = show(client, name)
    assert (done["status"], done["model"], done["request_counts"]["completed"]) == ("completed", "fast", 2)
    said = sorted(one.body["messages"][0]["content"] for one in upstream.served)
    assert said == ["Greet Ana.", "Greet Rui."]
    assert {row.prompt_version_id for row in rows(app.extensions["gateway"].engine)} == {1}

    wrong = [with_prompt("a", prompt_id="nothing"), with_prompt("b", prompt_id="greeting@1", variables={})]
    name = begin(client, jsonl(*wrong))
    run(app)
    refused = show(client, name)
    assert (refused["status"], len(upstream.served)) == ("failed", 2)
    assert [(one["line"], one["param"]) for one in refused["errors"]["data"]] == [
        (1, "body.prompt_id"),
        (2, "body.variables.name"),
    ]


@pytest.mark.parametrize("endpoint", BODIES)
def test_every_endpoint(lite, upstream, endpoint):
    with_upstream(lite, upstream)
    client = lite.test_client()
    one = {"custom_id": "a", "method": "POST", "url": endpoint, "body": {"model": "fast", **BODIES[endpoint]}}
    name = begin(client, jsonl(one), endpoint=endpoint)
    run(lite)
    (found,) = results(client, show(client, name)["output_file_id"])
    direct = client.post(endpoint, json=one["body"], headers=AUTH).json
    assert found["response"]["body"].keys() == direct.keys()
    assert len({row.state for row in rows(lite.extensions["gateway"].engine)}) == 1, "booked like a direct one"


def test_many_lines_are_called_once_each_and_come_in_the_order_of_the_file(app, client, upstream):
    with_upstream(app, upstream)
    name = begin(client, jsonl(*(line(number) for number in range(300))))
    run(app)
    done = show(client, name)
    assert done["request_counts"] == {"total": 300, "completed": 300, "failed": 0}
    assert done["error_file_id"] is None
    assert [one["custom_id"] for one in results(client, done["output_file_id"])] == [f"line {n}" for n in range(300)]
    assert len(upstream.served) == 300
    assert len(rows(app.extensions["gateway"].engine)) == 300


def test_a_batch_is_listed_page_by_page(client, app):
    names = [begin(client, jsonl(line(1))) for _ in range(5)]
    first = client.get("/v1/batches?limit=2", headers=AUTH).json
    assert [one["id"] for one in first["data"]] == [names[4], names[3]]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, names[4], names[3])
    rest = client.get(f"/v1/batches?limit=3&after={names[3]}", headers=AUTH).json
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([names[2], names[1], names[0]], False)
    assert client.get("/v1/batches?after=batch_x", headers=AUTH).status_code == 400


def test_a_cancelled_batch_keeps_what_is_done(app, client, upstream):
    with_upstream(app, upstream)
    here = app.extensions["gateway"]
    name = begin(client, jsonl(*(line(number) for number in range(40))))
    here.batch_runner.look()
    here.batch_runner.wait(60)  # its file is checked
    (batch,) = here.batch_runner._ends.open()
    claimed = here.batch_runner._lines.claim(batch.id, "tests")
    here.batch_runner._make(batch, claimed)
    asked = client.post(f"/v1/batches/{name}/cancel", headers=AUTH)
    assert (asked.status_code, asked.json["status"]) == (200, "cancelling")
    assert here.batch_runner._lines.claim(batch.id, "tests") is None, "nothing more is begun"
    run(app)
    done = show(client, name)
    assert (done["status"], done["request_counts"]) == ("cancelled", {"total": 40, "completed": 1, "failed": 39})
    assert len(results(client, done["output_file_id"])) == len(upstream.served) == 1
    told = results(client, done["error_file_id"])
    assert {(one["response"], one["error"]["code"]) for one in told} == {(None, "batch_cancelled")}
    again = client.post(f"/v1/batches/{name}/cancel", headers=AUTH)
    assert (again.status_code, again.json["error"]["code"]) == (409, "batch_ended")


def test_a_batch_expires(app, client, upstream):
    with_upstream(app, upstream)
    name = begin(client, jsonl(line(1), line(2)))
    here = app.extensions["gateway"]
    here.batch_runner.look()
    here.batch_runner.wait(60)
    change(app, Batch, expires_at=clock.now() - timedelta(seconds=1))
    run(app)
    done = show(client, name)
    assert (done["status"], done["expired_at"] is not None) == ("expired", True)
    assert {one["error"]["code"] for one in results(client, done["error_file_id"])} == {"batch_expired"}
    assert upstream.served == []
