"""Calls as events: the lists and the stream, against the rows they are made of; on both databases."""

import base64
import csv
import io
import json
import time

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from models import AuditEntry, Refusal, StoredBody, UsageRecord
from services import callevents, eventrows, matching
from services.callevents import MEMBERS
from tests.admin.conftest import CHEAP_HASH
from tests.callers import add_user
from tests.guard.world import CARD, kinds, policy, post
from tests.helpers import AUTH, chat, with_upstream
from tests.management import ask, make, refused
from tests.people import token
from tests.routes.test_reporting import DAY, World

SEARCH = "/api/v2/events"
VALIDATION = "/errors/validation"


def search(app, **members):
    answer = ask(app, "POST", SEARCH, members)
    assert answer.status_code == 200, answer.text
    assert answer.json.keys() == {"events", "count"}
    return answer.json


def ids(found):
    return [event["id"] for event in found["events"]]


def wanted(world, keep=lambda row: True, order=lambda row: row["request_id"], *, is_rising=False):
    """The ids of these rows, the latest first."""
    return [row["request_id"] for row in sorted(filter(keep, world.rows), key=order, reverse=not is_rising)]


@pytest.fixture
def world(app):
    made = World(app, rows=150)
    made.fold()
    return made


def whole(world, **more):
    return {"start": world.now - 13 * DAY, "end": world.now + DAY, **more}


def plain(text):
    return base64.b64decode(text).decode()


def test_every_filter(world):
    first, second = world.numbers[:2]
    cases = [
        ({}, lambda row: True),
        ({"keyIds": [world.uuids[first]]}, lambda row: row["key_id"] == first),
        ({"tags": ["x"]}, lambda row: row["key_id"] in (first, second)),
        ({"userIds": ["ana"]}, lambda row: row["user_id"] == world.ana),
        ({"customIds": ["c-1", "c-2"]}, lambda row: row["custom_id"] in ("c-1", "c-2")),
        ({"customIds": ["c-1"], "tags": ["y"]}, lambda row: (row["custom_id"], row["key_id"]) == ("c-1", second)),
        ({"status": 200, "actions": ["allowed"]}, lambda row: True),
        ({"status": 404}, lambda row: False),
        ({"actions": ["blocked", "warned", "redacted"]}, lambda row: False),
        ({"policyIds": ["00000000-0000-0000-0000-000000000000"]}, lambda row: False),
        ({"keyIds": ["nothing"]}, lambda row: False),
        ({"userIds": ["nobody"], "customIds": ["c-1"]}, lambda row: False),
    ]
    for asked, keep in cases:
        found = search(world.app, **whole(world, returnCount=True, **asked))
        assert ids(found) == wanted(world, keep), asked
        assert found["count"] == len(wanted(world, keep))
    start, end = world.now - 5 * DAY, world.now - 2 * DAY
    found = search(world.app, start=start, end=end)
    assert ids(found) == wanted(world, lambda row: start <= row["created_at"].timestamp() < end)
    assert found["count"] == 0, "nobody asked"


def test_orders_and_pages(world):
    app, every = world.app, whole(world)
    assert ids(search(app, **every, dateOrder="ASC")) == wanted(world, is_rising=True)
    assert ids(search(app, **every, dateOrder="desc")) == wanted(world)
    by_cost = wanted(world, order=lambda row: (row["cost_nanousd"], row["request_id"]))
    assert ids(search(app, **every, costOrder="desc")) == by_cost
    assert ids(search(app, **every, costOrder="Asc", limit=7, offset=3)) == by_cost[::-1][3:10]
    walked = []
    for offset in range(0, 160, 40):
        walked += ids(search(app, **every, limit=40, offset=offset))
    assert walked == wanted(world)
    assert ids(search(app, **every, offset=10**9)) == []
    mine = wanted(world, lambda row: row["key_id"] == world.numbers[0])
    assert ids(search(app, **every, keyIds=[world.uuids[world.numbers[0]]], limit=5, offset=2)) == mine[2:7]


def test_a_call_and_its_event(app, upstream):
    with_upstream(app, upstream)
    key = make(app, name="kept", tags=["t"], shouldLogRequest=True, shouldLogResponse=True)
    headers = {"Authorization": f"Bearer {key['key']}", "X-CUSTOM-EVENT-ID": "e-1", "X-METADATA": '{"a": 1}'}
    answer = app.test_client().post("/v1/chat/completions", json=chat("tell me of owls"), headers=headers)
    assert answer.status_code == 200
    app.extensions["gateway"].bodies.flush()
    [event] = ask(app, "GET", "/api/events?customId=e-1").json
    assert tuple(event) == MEMBERS
    with Session(app.extensions["gateway"].engine) as session:
        row = session.scalars(select(UsageRecord)).one()
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "content_read")).one()
    assert (entry.resource_type, entry.details["calls"]) == ("usage", 1)
    assert round(event["cost_in_usd"] * 10**9) == row.cost_nanousd > 0
    assert event == event | {
        "id": answer.headers["x-request-id"],
        "correlationId": answer.headers["x-request-id"],
        "created_at": int(row.created_at.timestamp()),
        "tags": ["t"],
        "key_id": key["keyId"],
        "provider": "fake",
        "model": "fast",
        "status": 200,
        "prompt_token_count": row.input_tokens,
        "completion_token_count": row.output_tokens,
        "latency_in_ms": row.duration_ms,
        "path": "/v1/chat/completions",
        "method": "POST",
        "custom_id": "e-1",
        "userId": "key-management",
        "action": "allowed",
        "policyId": "",
        "routeId": "",
    }
    assert plain(event["metadata"]) == '{"a": 1}'
    assert "tell me of owls" in plain(event["request"])
    assert json.loads(plain(event["response"]))["choices"]
    span = {"start": event["created_at"] - 60, "end": event["created_at"] + 60}
    for asked, count in (
        ({"requestContent": "of owls"}, 1),
        ({"requestContent": "of bats"}, 0),
        ({"responseContent": "choices"}, 1),
        ({"requestContent": "owls", "responseContent": "nothing of this"}, 0),
    ):
        found = search(app, **span, **asked, returnCount=True)
        assert (len(found["events"]), found["count"]) == (count, count), asked


def test_an_auditor_reads_events_without_their_texts(app, upstream):
    test_a_call_and_its_event(app, upstream)
    add_user(app, "vera", role="auditor", password_hash=CHEAP_HASH)
    headers = token(app, "vera")
    [event] = app.test_client().get("/api/events?customId=e-1", headers=headers).json
    assert (event["request"], event["response"], event["custom_id"]) == (None, None, "e-1")
    assert app.test_client().post(SEARCH, json={"start": 1, "end": 2}, headers=headers).status_code == 403


def test_texts_that_expired_or_are_too_many_are_left_out(app, upstream, monkeypatch):
    with_upstream(app, upstream)
    key = make(app, name="kept", shouldLogRequest=True)
    for _time in range(3):
        headers = {"Authorization": f"Bearer {key['key']}", "X-CUSTOM-EVENT-ID": "e-1"}
        app.test_client().post("/v1/chat/completions", json=chat("owls"), headers=headers)
    app.extensions["gateway"].bodies.flush()
    shown = [event["request"] for event in ask(app, "GET", "/api/events?customId=e-1").json]
    assert all(shown)
    monkeypatch.setattr(
        callevents.Reader.__init__, "__defaults__", (len(shown[0]) + 1, *callevents.Reader.__init__.__defaults__[1:])
    )
    shown = [event["request"] for event in ask(app, "GET", "/api/events?customId=e-1").json]
    assert [bool(one) for one in shown] == [True, False, False]
    monkeypatch.undo()
    monkeypatch.setattr(callevents, "MOST_SEARCHED", 2)
    span = {"start": 1, "end": 4_000_000_000}
    cut = ask(app, "POST", SEARCH, span | {"requestContent": "owls"})
    assert (len(cut.json["events"]), cut.headers["x-gateway-cut"]) == (2, "true")
    with app.extensions["gateway"].engine.begin() as connection:
        connection.execute(delete(StoredBody))
    assert search(app, **span, requestContent="owls")["events"] == []
    assert [event["request"] for event in ask(app, "GET", "/api/events?customId=e-1").json] == [None] * 3


def test_blocked_requests_are_events_too(world):
    rows = [
        {
            "request_id": row["request_id"][:-1] + ("0" if row["request_id"][-1] != "0" else "1"),
            "created_at": row["created_at"],
            "user_id": world.ana,
            "key_id": world.numbers[1],
            "model": "m1",
            "kind": kind,
            "status": 403,
            "message": "no",
        }
        for row, kind in zip(
            world.rows[:4], [eventrows.POLICIES, eventrows.POLICIES, "budget", eventrows.POLICIES], strict=True
        )
    ]
    rows[3]["request_id"] = world.rows[3]["request_id"]  # its answer was blocked: it was booked
    with world.engine.begin() as connection:
        connection.execute(insert(Refusal), rows)
        connection.execute(
            UsageRecord.__table__.update()
            .where(UsageRecord.request_id == rows[3]["request_id"])
            .values(action="blocked")
        )
    blocked = sorted((rows[place]["request_id"] for place in (0, 1, 3)), reverse=True)
    found = search(world.app, **whole(world, actions=["blocked"], returnCount=True))
    assert (ids(found), found["count"]) == (blocked, 3)
    assert {event["action"] for event in found["events"]} == {"blocked"}
    refused_ones = [event for event in found["events"] if event["status"] == 403]
    assert {(event["cost_in_usd"], event["userId"], event["prompt_token_count"]) for event in refused_ones} == {
        (0, "ana", 0)
    }
    every = search(world.app, **whole(world, returnCount=True))
    assert (len(every["events"]), every["count"]) == (152, 152)
    assert ids(every) == sorted(ids(every), reverse=True)
    assert [event["cost_in_usd"] for event in search(world.app, **whole(world, costOrder="asc"))["events"]][:2] == [
        0,
        0,
    ]
    mine = search(
        world.app,
        **whole(world, actions=["blocked"], userIds=["ana"], keyIds=[world.uuids[world.numbers[1]]], status=403),
    )
    assert len(mine["events"]) == 2
    lines = stream(world, "application/x-ndjson")
    assert [json.loads(line)["id"] for line in lines] == ids(every)


def test_a_blocked_request_keeps_what_its_caller_calls_it(app, upstream):
    with_upstream(app, upstream)
    policy(app, **kinds(credit_debit_number="block"))
    named = AUTH | {"X-CUSTOM-EVENT-ID": "order 1", "X-METADATA": "a note"}
    assert post(app, "/v1/chat/completions", chat(CARD), named).status_code == 403
    app.extensions["gateway"].refusals.flush()
    now = int(time.time())
    span = {"start": now - 100, "end": now + 100}
    (event,) = search(app, customIds=["order 1"], **span)["events"]
    assert (event["action"], event["custom_id"], event["path"]) == ("blocked", "order 1", "/v1/chat/completions")
    assert plain(event["metadata"]) == "a note"
    assert search(app, customIds=["order 2"], **span)["events"] == []


@pytest.mark.parametrize("path", [SEARCH, "/api/reporting/top-keys", "/api/reporting/events-by-day"])
def test_a_filter_that_is_misspelt_is_named(app, path):
    answer = ask(app, "POST", path, {"start": 1, "end": 2, "keyId": ["x"], "keyIDs": []})
    assert (answer.status_code, answer.headers["x-gateway-ignored-members"]) == (200, "keyId")
    assert "x-gateway-ignored-members" not in ask(app, "POST", path, {"start": 1, "end": 2}).headers


def stream(world, kind, **more):
    answer = world.app.test_client().post(SEARCH, json=whole(world, **more), headers={"accept": kind})
    assert (answer.status_code, answer.mimetype) == (200, kind), answer.text
    return answer.text.splitlines()


def test_a_stream_has_every_event(world, monkeypatch):
    monkeypatch.setattr(eventrows, "CHUNK", 7)
    lines = stream(world, "application/x-ndjson")
    assert [json.loads(line)["id"] for line in lines] == wanted(world)
    assert [json.loads(line) for line in lines] == search(world.app, **whole(world))["events"]
    assert [
        json.loads(line)["id"] for line in stream(world, "application/x-ndjson", dateOrder="asc", offset=10, limit=15)
    ] == wanted(world, is_rising=True)[10:25]
    rows = list(csv.DictReader(io.StringIO("\n".join(stream(world, "text/csv", userIds=["ana"])))))
    assert [row["id"] for row in rows] == wanted(world, lambda row: row["user_id"] == world.ana)
    assert {row["model"] for row in rows} <= {"m1", "m2", "'=1+1", "\U0001f642"}
    assert stream(world, "text/csv", keyIds=["nothing"]) == [",".join(MEMBERS)]
    for member in ({"costOrder": "asc"}, {"requestContent": "x"}):
        answer = world.app.test_client().post(SEARCH, json=whole(world, **member), headers={"accept": "text/csv"})
        refused(answer, 400, VALIDATION)


def test_the_older_list(world, monkeypatch):
    key = world.numbers[0]
    query = f"keyIds={world.uuids[key]}&keyIds=x&start={world.now - 13 * DAY}&end={world.now}"
    found = ask(world.app, "GET", f"/api/events?{query}").json
    assert [event["id"] for event in found] == wanted(world, lambda row: row["key_id"] == key)
    assert {event["id"] for event in ask(world.app, "GET", "/api/events?userId=ana").json} == set(
        wanted(world, lambda row: row["user_id"] == world.ana)
    )
    row = world.rows[5]
    second = int(row["created_at"].timestamp())
    ending = ask(world.app, "GET", f"/api/events?userId={world.names[row['user_id']]}&start=1&end={second}").json
    assert ending[0]["id"] >= row["request_id"], "the end is included"
    for query, kind in (
        ("", "no-filters-empty"),
        ("userId=", "no-filters-empty"),
        ("customId=&userId=&start=1&end=2", "no-filters-empty"),
        ("start=1&end=2", "no-filters-empty"),
        ("keyIds=a", "query-param-start-missing"),
        ("keyIds=a&start=1", "query-param-end-missing"),
        ("keyIds=a&start=x&end=2", "bad-start-query-param"),
        ("keyIds=a&start=1&end=-1", "bad-end-query-param"),
        ("userId=%00", "validation"),
        ("customId=" + "x" * 256, "validation"),
        ("userId=a&start=5&end=3", "validation"),
        ("userId=a&start=0&end=3", "validation"),
    ):
        refused(ask(world.app, "GET", f"/api/events?{query}"), 400, f"/errors/{kind}")
    monkeypatch.setattr(callevents, "MOST_AT_ONCE", 3)
    assert "more than 3 events" in refused(ask(world.app, "GET", "/api/events?userId=ana"), 422, "/errors/too-much")


def test_too_much_is_refused(world, monkeypatch):
    monkeypatch.setattr(eventrows, "MOST_SORTED", 50)
    for member in ({"costOrder": "asc"}, {"returnCount": True}):
        answer = ask(world.app, "POST", SEARCH, whole(world, **member))
        assert "too many to count or sort" in refused(answer, 422, "/errors/too-much")
        assert search(world.app, **whole(world, **member, keyIds=[world.uuids[world.numbers[0]]]))
    assert len(search(world.app, **whole(world))["events"]) == 150
    monkeypatch.setattr(matching, "MOST_READ", 20)
    refused(ask(world.app, "POST", SEARCH, whole(world, status=404)), 422, "/errors/too-much")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("start", 0),
        ("start", "1"),
        ("end", 1),
        ("end", 10**30),
        ("userIds", [""]),
        ("customIds", "c"),
        ("keyIds", [None]),
        ("tags", ["\x00"]),
        ("policyIds", [7]),
        ("actions", ["deleted"]),
        ("actions", [["blocked"]]),
        ("limit", 1001),
        ("limit", -1),
        ("offset", 10**10),
        ("requestContent", 5),
        ("responseContent", "x" * 1001),
        ("costOrder", "up"),
        ("dateOrder", []),
        ("returnCount", "yes"),
        ("status", 600),
        ("status", True),
    ],
)
def test_members_that_cannot_be(lite, member, value):
    answer = ask(lite, "POST", SEARCH, {"start": 5, "end": 10, member: value})
    refused(answer, 400, VALIDATION)
    assert list(answer.json["errors"]) == [member]


def test_two_orders_are_one_too_many(lite):
    answer = ask(lite, "POST", SEARCH, {"start": 5, "end": 10, "costOrder": "asc", "dateOrder": "asc"})
    assert refused(answer, 400, VALIDATION) == "cost order and date order cannot be both present"
    answer = ask(lite, "POST", SEARCH, {"start": 5, "end": 10, "costOrder": "asc", "requestContent": "x"})
    refused(answer, 400, VALIDATION)
