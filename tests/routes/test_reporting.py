"""Reports of the key management API against sums made here from the rows; on both databases, folded or not."""

import random
from collections import defaultdict
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from models import ApiKey, UsageRecord, User
from services import datapoints, matching, reporting, rollups
from services.rollups import Rollups
from tests.management import ask, make, refused
from utils import clock

DAY, HOUR = 86_400, 3_600
BAD = "/errors/invalid-reporting-request"
PATHS = {"events": "/api/reporting/events", "days": "/api/reporting/events-by-day", "top": "/api/reporting/top-keys"}


class World:
    """Calls of the last twelve days by three keys of two users, and what is known of them."""

    def __init__(self, app, rows=400):
        self.app, self.engine = app, app.extensions["gateway"].engine
        self.ana = self.user("ana")
        self.keys = [
            make(app, name="a", tags=["x"]),
            make(app, name="b", tags=["x", "y"], userId="ana"),
            make(app, name="c"),
        ]
        with Session(self.engine) as session:
            found = dict(session.execute(select(ApiKey.uuid, ApiKey.id)).tuples().all())
            self.names = dict(session.execute(select(User.id, User.username)).tuples().all())
            owners = dict(session.execute(select(ApiKey.id, ApiKey.user_id)).tuples().all())
        self.numbers = [found[key["keyId"]] for key in self.keys]
        self.uuids = {number: key["keyId"] for number, key in zip(self.numbers, self.keys, strict=True)}
        self.now = int(clock.now_s())
        dice = random.Random(7)
        self.rows = [self.row(dice, owners) for _place in range(rows)]
        with self.engine.begin() as connection:
            connection.execute(insert(UsageRecord), self.rows)

    def user(self, name):
        with Session(self.engine) as session, session.begin():
            session.add(row := User(username=name))
            session.flush()
            return row.id

    def row(self, dice, owners):
        began_ms = self.now * 1000 - dice.randrange(12 * DAY * 1000)
        key = dice.choice([*self.numbers, None])
        return {
            "request_id": f"req_{began_ms + dice.randrange(-2000, 2000):012x}{dice.randrange(16**20):020x}",
            "created_at": datetime.fromtimestamp(began_ms / 1000, UTC),
            "user_id": owners.get(key, self.ana),
            "key_id": key,
            "model": dice.choice(["m1", "m2", "=1+1", "\U0001f642"]),
            "provider": "acme",
            "operation": "chat",
            "is_stream": False,
            "status": 200,
            "outcome": dice.choice(["ok", "ok", "ok", "client_gone", "upstream_error"]),
            "state": "measured",
            "is_overrun": False,
            "input_tokens": dice.choice([None, 0, 100, 2**33]),
            "output_tokens": dice.choice([None, 5]),
            "cost_nanousd": dice.randrange(10**10),
            "duration_ms": dice.randrange(100_000),
            "custom_id": dice.choice([None, None, "c-1", "c-2", "\u65e5\u672c"]),
        }

    def fold(self):
        while Rollups(self.engine).fold():
            pass

    def post(self, which, **members):
        answer = ask(self.app, "POST", PATHS[which], members)
        assert answer.status_code == 200, answer.text
        return answer.json

    def expected(self, start, end, step, by=(), keep=lambda row: True):
        """Sums by start and names."""
        found = defaultdict(lambda: [0] * 6)
        for row in self.rows:
            began_s = row["created_at"].timestamp()
            if not (start <= began_s < end and keep(row)):
                continue
            named = {
                "model": row["model"],
                "keyId": self.uuids.get(row["key_id"], ""),
                "userId": self.names[row["user_id"]],
                "customId": row["custom_id"] or "",
            }
            sums = found[start + int(began_s - start) // step * step, *(named[one] for one in by)]
            is_fine = row["outcome"] in ("ok", "client_gone")
            more = (
                1,
                row["cost_nanousd"],
                row["duration_ms"],
                row["input_tokens"] or 0,
                row["output_tokens"] or 0,
                is_fine,
            )
            for place, amount in enumerate(more):
                sums[place] += amount
        return {key: tuple(sums) for key, sums in found.items()}


FIGURES = ("numberOfRequests", "costInUsd", "latencyInMs", "promptTokenCount", "completionTokenCount", "successCount")


def seen(answer, by=()):
    """Data points with calls, as `expected` has them."""
    found = {}
    for point in answer["dataPoints"]:
        if not point["numberOfRequests"]:
            continue
        figures = [point[name] for name in FIGURES]
        figures[1] = round(figures[1] * 10**9)
        key = (point["timeStamp"], *(point[one] for one in by))
        assert key not in found
        found[key] = tuple(figures)
        assert all(point[one] == "" for one in {"model", "keyId", "userId", "customId"} - set(by))
    return found


@pytest.fixture(params=["folded", "fresh", "half"])
def world(app, request, monkeypatch):
    monkeypatch.setattr(rollups, "PAUSE_S", 0)
    made = World(app)
    if request.param == "folded":
        made.fold()
    elif request.param == "half":
        with made.engine.begin() as connection:
            connection.execute(UsageRecord.__table__.delete().where(UsageRecord.id > 200))
        made.fold()
        with made.engine.begin() as connection:
            connection.execute(insert(UsageRecord), made.rows[200:])
    return made


BYS = [
    (),
    ("model",),
    ("keyId",),
    ("userId",),
    ("keyId", "userId"),
    ("customId",),
    ("model", "keyId"),
    ("model", "userId", "customId"),
]


def test_events_are_what_the_rows_add_up_to(world):
    today = world.now // DAY * DAY
    spans = [
        (today - 10 * DAY, today + DAY, DAY),
        (today - 10 * DAY, today + DAY, HOUR),
        (today - 9 * DAY + 7 * HOUR, today + 5 * HOUR, 5 * HOUR),
        (world.now - 8 * DAY - 17, world.now - 11, DAY),
        (world.now - 8 * DAY - 17, world.now - 11, 3 * DAY + 5),
        (world.now - 2 * DAY - 17, world.now, 601),
        (world.now - 11 * DAY, world.now + 1, 12 * DAY),
    ]
    for start, end, step in spans:
        for by in BYS:
            answer = world.post("events", start=start, end=end, increment=step, filters=list(by))
            assert seen(answer, by) == world.expected(start, end, step, by), (start, end, step, by)
            starts = [point["timeStamp"] for point in answer["dataPoints"]]
            assert starts == sorted(starts)
            assert set(starts) == set(range(start, end, step)), "spans without calls are there too"


def test_events_of_some(world):
    start, end = world.now - 9 * DAY - 31, world.now
    first, second = world.numbers[:2]
    cases = [
        ({"keyIds": [world.uuids[first].upper()]}, lambda row: row["key_id"] == first),
        ({"tags": ["x"]}, lambda row: row["key_id"] in (first, second)),
        ({"tags": ["x", "y"]}, lambda row: row["key_id"] == second),
        ({"tags": ["nobody's"]}, lambda row: False),
        ({"tags": ["x"], "keyIds": [world.uuids[world.numbers[2]]]}, lambda row: False),
        ({"userIds": ["ana"]}, lambda row: row["user_id"] == world.ana),
        ({"userIds": ["nobody"]}, lambda row: False),
        ({"customIds": ["c-1", "\u65e5\u672c"]}, lambda row: row["custom_id"] in ("c-1", "\u65e5\u672c")),
        (
            {"customIds": ["c-1"], "userIds": ["ana"], "keyIds": [world.uuids[second]]},
            lambda row: (row["custom_id"], row["user_id"], row["key_id"]) == ("c-1", world.ana, second),
        ),
    ]
    for asked, keep in cases:
        for by in ((), ("keyId",), ("model", "customId")):
            for step in (DAY, 9 * DAY + 31):
                answer = world.post("events", start=start, end=end, increment=step, filters=list(by), **asked)
                assert seen(answer, by) == world.expected(start, end, step, by, keep), (asked, by, step)


def test_percentiles_are_near_those_of_the_rows(world):
    for start, end in (
        (world.now - 8 * DAY - 17, world.now - 11),
        (world.now // DAY * DAY - 8 * DAY, world.now // DAY * DAY),
    ):
        for asked, keep in (({}, None), ({"keyIds": [world.uuids[world.numbers[0]]]}, world.numbers[0])):
            answer = world.post("events", start=start, end=end, increment=DAY, **asked)
            delays = sorted(
                row["duration_ms"]
                for row in world.rows
                if start <= row["created_at"].timestamp() < end
                and row["outcome"] in ("ok", "client_gone")
                and keep in (None, row["key_id"])
            )
            for part, name in ((0.5, "latencyInMsMedian"), (0.99, "latencyInMs99th")):
                exact = delays[-(-int(part * 100) * len(delays) // 100) - 1]
                assert answer[name] == pytest.approx(exact, rel=0.033, abs=1), (start, asked, name)


def test_days_have_a_point_for_each_key(world):
    start, end = world.now - 6 * DAY, world.now
    first = -(-start // DAY) * DAY
    last = -(-end // DAY) * DAY
    answer = world.post("days", start=start, end=end)
    assert seen(answer, ("keyId",)) == world.expected(first, last, DAY, ("keyId",))
    assert all(point["numberOfRequests"] for point in answer["dataPoints"])
    key = world.numbers[1]
    answer = world.post("days", start=start, end=end, keyIds=[world.uuids[key]])
    assert seen(answer, ("keyId",)) == world.expected(first, last, DAY, ("keyId",), lambda row: row["key_id"] == key)
    noon = world.now // DAY * DAY - DAY // 2
    assert world.post("days", start=noon, end=noon + 60)["dataPoints"] == []


def test_the_dearest_keys(world):
    start, end = world.now - 7 * DAY, world.now + 60
    costs = {}
    for row in world.rows:
        if row["key_id"] and start <= row["created_at"].timestamp() < end:
            name = world.uuids[row["key_id"]]
            costs[name] = costs.get(name, 0) + row["cost_nanousd"]
    ranked = sorted(costs, key=lambda name: -costs[name])

    def told(**asked):
        points = world.post("top", start=start, end=end, **asked)["dataPoints"]
        return [(point["keyId"], round(point["costInUsd"] * 10**9)) for point in points]

    assert told()[:3] == [(name, costs[name]) for name in ranked]
    assert told(order="asc")[-3:] == [(name, costs[name]) for name in reversed(ranked)]
    assert told(limit=1, offset=1) == [(ranked[1], costs[ranked[1]])]
    assert [name for name, _cost in told(tags=["x"])] == [name for name in ranked if name != world.keys[2]["keyId"]]
    assert [name for name, _cost in told(name="B")] == [world.keys[1]["keyId"]]
    assert told(revoked=True) == []
    fresh = make(world.app, name="unused")["keyId"]
    assert told(name="unused") == [(fresh, 0)], "made in that time, and not used"
    assert world.post("top", start=start, end=end - 3600, name="unused")["dataPoints"] == []


def test_one_key(world):
    for number, uuid in world.uuids.items():
        rows = [row for row in world.rows if row["key_id"] == number]
        cost = sum(row["cost_nanousd"] for row in rows)
        told = ask(world.app, "GET", f"/api/reporting/keys/{uuid}").json
        assert told == {"id": uuid, "costInMicroDollars": (cost + 500) // 1000}
        users = ask(world.app, "GET", f"/api/reporting/user-ids?keyId={uuid}").json
        assert users == sorted({world.names[row["user_id"]] for row in rows})
        names = ask(world.app, "GET", f"/api/reporting/custom-ids?keyId={uuid}").json
        assert set(names) == {row["custom_id"] for row in rows if row["custom_id"]}


def test_what_was_deleted_is_called_by_its_number(app):
    world = World(app, rows=60)
    number, uuid = next(iter(world.uuids.items()))
    assert ask(app, "DELETE", f"/api/key-management/keys/{uuid}").status_code == 200
    answer = world.post("events", start=world.now - 12 * DAY, end=world.now, increment=12 * DAY, filters=["keyId"])
    assert f"#{number}" in {point["keyId"] for point in answer["dataPoints"]}
    refused(ask(app, "GET", f"/api/reporting/keys/{uuid}"), 404, "/errors/key-not-found")


@pytest.mark.parametrize("member", ["start", "end", "increment"])
@pytest.mark.parametrize("value", [None, 0, -1, "1", 1.5, True, [], {}, 10**30])
def test_numbers_that_cannot_be(lite, member, value):
    body = {"start": 1_700_000_000, "end": 1_700_086_400, "increment": 3600} | {member: value}
    answer = ask(lite, "POST", PATHS["events"], body)
    refused(answer, 400, BAD)
    assert list(answer.json["errors"]) == [member]


@pytest.mark.parametrize("name", list(PATHS))
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("start", 1_700_086_400),
        ("keyIds", "a"),
        ("keyIds", [1]),
        ("keyIds", [""]),
        ("keyIds", ["a\x00b"]),
        ("keyIds", ["k"] * 1001),
        ("tags", {"a": 1}),
        ("tags", ["x" * 256]),
        ("tags", [None]),
    ],
)
def test_members_that_cannot_be(lite, name, member, value):
    body = {"start": 1_700_000_000, "end": 1_700_086_400, "increment": 3600} | {member: value}
    if name == "events" and member == "keyIds" and len(value) > 1000:
        body[member] = [f"k{place}" for place in range(1001)]
    refused(ask(lite, "POST", PATHS[name], body), 400, BAD)


@pytest.mark.parametrize(
    ("name", "member", "value"),
    [
        ("events", "filters", "model"),
        ("events", "filters", ["colour"]),
        ("events", "filters", [["model"]]),
        ("events", "customIds", [7]),
        ("events", "userIds", ["\n"]),
        ("top", "order", "up"),
        ("top", "order", 1),
        ("top", "limit", -1),
        ("top", "limit", 10_001),
        ("top", "offset", 10**12),
        ("top", "name", 5),
        ("top", "revoked", "yes"),
    ],
)
def test_other_members_that_cannot_be(lite, name, member, value):
    body = {"start": 1_700_000_000, "end": 1_700_086_400, "increment": 3600} | {member: value}
    answer = ask(lite, "POST", PATHS[name], body)
    refused(answer, 400, BAD)
    assert member in answer.json["errors"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"start": 1, "start": 2}', b"\xff"])
@pytest.mark.parametrize("path", PATHS.values())
def test_bodies_that_are_none(lite, path, body):
    answer = lite.test_client().post(path, data=body, content_type="application/json")
    refused(answer, 400, "/errors/json-unmarshal")


def test_too_much_is_refused_with_what_to_do(app, monkeypatch):
    world = World(app, rows=60)
    whole = {"start": world.now - 12 * DAY, "end": world.now + 1}
    many = ask(app, "POST", PATHS["events"], whole | {"increment": 60})
    assert "17,281 data points" in refused(many, 422, "/errors/too-much")
    monkeypatch.setattr(datapoints, "MOST_POINTS", 3)
    answer = ask(app, "POST", PATHS["events"], whole | {"increment": 6 * DAY, "filters": ["model", "keyId"]})
    assert "more than 3 data points" in refused(answer, 422, "/errors/too-much")
    monkeypatch.undo()
    world.fold()
    monkeypatch.setattr(matching, "MOST_READ", 20)
    answer = ask(app, "POST", PATHS["events"], whole | {"increment": DAY, "filters": ["customId"]})
    assert "may read 20; ask for a shorter time" in refused(answer, 422, "/errors/too-much")
    assert world.post("events", **whole, increment=12 * DAY, filters=["keyId"]), "sums know it"
    monkeypatch.setattr(matching, "MOST_KEYS", 1)
    answer = ask(app, "POST", PATHS["events"], whole | {"increment": DAY, "tags": ["x"]})
    assert "more than 1 keys" in refused(answer, 422, "/errors/too-much")


def test_sums_that_are_far_behind_are_not_waited_for(app, monkeypatch):
    world = World(app, rows=20)
    monkeypatch.setattr(datapoints, "MOST_BEHIND", 10)
    today = world.now // DAY * DAY
    body = {"start": today - 9 * DAY, "end": today + DAY, "increment": DAY}
    answer = ask(app, "POST", PATHS["events"], body)
    assert refused(answer, 503, "/errors/event-reporting-manager").startswith("The sums behind reports")


def test_what_is_missing_in_the_address(lite):
    for name in ("user-ids", "custom-ids"):
        refused(ask(lite, "GET", f"/api/reporting/{name}"), 400, "/errors/missing-key-id")
        for bad in ("x", "%00", "00000000-0000-0000-0000-000000000000", "\u65e5", "'--"):
            refused(ask(lite, "GET", f"/api/reporting/{name}?keyId={bad}"), 404, "/errors/key-not-found")
    refused(ask(lite, "GET", "/api/reporting/keys/%00"), 404, "/errors/key-not-found")


def test_custom_ids_are_bounded(app, monkeypatch):
    world = World(app, rows=60)
    monkeypatch.setattr(reporting, "MOST_NAMES", 1)
    for uuid in world.uuids.values():
        assert len(ask(app, "GET", f"/api/reporting/custom-ids?keyId={uuid}").json) == 1
