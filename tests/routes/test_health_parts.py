"""Health checks: what they say of each part, and when they are no good news."""

import threading
from collections import namedtuple

import pytest
from sqlalchemy.exc import OperationalError

from services import components
from services.components import STATES
from services.errors import UpstreamUnreachable
from utils import clock

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def fresh(database, make_app):
    app = make_app(database)
    here = app.extensions["gateway"].components
    here.forget = lambda: setattr(here, "_until_s", 0.0)
    return app


def health(app, path="/health"):
    answer = app.test_client().get(path)
    return answer.status_code, answer.json


def part(report, name):
    return next(one for one in report["components"] if one["name"] == name)


def test_all_is_well(fresh):
    status, report = health(fresh)
    assert status == 200
    assert set(report) == {"status", "version", "timestamp", "components"}
    assert report["status"] == "healthy"
    assert [one["name"] for one in report["components"]] == ["database", "bookkeeping", "disk", "providers"]
    assert all(set(one) == {"name", "status", "latency_ms", "message", "details"} for one in report["components"])
    assert part(report, "database")["latency_ms"] > 0
    assert health(fresh, "/health/ready") == (200, {"status": "ready"})
    assert health(fresh, "/health/live") == (200, {"status": "ok"})


def test_a_database_that_is_away(fresh, monkeypatch):
    def away(*_args, **_options):
        raise OperationalError("SELECT 1", {}, Exception("host=10.1.2.3 password=hunter2 is away"))

    monkeypatch.setattr(fresh.extensions["gateway"].engine, "connect", away)
    status, report = health(fresh)
    assert (status, report["status"], part(report, "database")["status"]) == (503, "unhealthy", "unhealthy")
    assert "hunter2" not in str(report)
    status, ready = health(fresh, "/health/ready")
    assert (status, ready) == (503, {"status": "not ready", "reason": "the database does not answer"})
    assert health(fresh, "/health/live") == (200, {"status": "ok"})
    monkeypatch.undo()
    fresh.extensions["gateway"].components.forget()
    assert health(fresh, "/health/ready")[0] == 200


def test_a_database_that_says_nothing_keeps_nobody_waiting(fresh, monkeypatch):
    assert health(fresh)[0] == 200
    here, hangs, goes_on = fresh.extensions["gateway"].components, threading.Event(), threading.Event()
    connect = fresh.extensions["gateway"].engine.connect

    def mute():
        hangs.set()
        assert goes_on.wait(60)
        return connect()

    monkeypatch.setattr(fresh.extensions["gateway"].engine, "connect", mute)
    here.forget()
    asking = threading.Thread(target=health, args=(fresh,))
    asking.start()
    assert hangs.wait(60)
    here._until_s = clock.monotonic_s() - 1
    assert health(fresh, "/health/ready")[0] == 200, "as it was a moment ago"
    here._until_s = clock.monotonic_s() - components.MUTE_S - 1
    assert health(fresh, "/health/ready")[1]["reason"] == components.MUTE
    goes_on.set()
    asking.join(60)
    assert health(fresh, "/health/ready")[0] == 200


def test_a_provider_that_is_left_alone_is_a_count_and_no_name(fresh):
    here = fresh.extensions["gateway"]
    deployment = here.catalog.snapshot().model("echo").deployments[0]
    for _ in range(20):
        here.health.failed(deployment, UpstreamUnreachable("no connection"))
    _status, report = health(fresh)
    found = part(report, "providers")
    assert (report["status"], found["status"]) == ("degraded", "degraded")
    assert sum(found["details"].values()) >= 1
    assert "echo" not in str(report)


def test_calls_that_wait_to_be_booked(fresh):
    pending = fresh.extensions["gateway"].accounting._pending
    pending["req_1"] = None
    assert part(health(fresh)[1], "bookkeeping")["details"] == {"waiting": 1}
    pending.clear()
    fresh.extensions["gateway"].components.forget()
    assert health(fresh)[1]["status"] == "healthy"


def test_a_disk_that_is_nearly_full_or_not_there(fresh, monkeypatch):
    monkeypatch.setattr(components.shutil, "disk_usage", lambda _path: Usage(1, 1, 1000))
    assert part(health(fresh)[1], "disk")["status"] == "degraded"

    def gone(_path):
        raise FileNotFoundError

    monkeypatch.setattr(components.shutil, "disk_usage", gone)
    fresh.extensions["gateway"].components.forget()
    status, report = health(fresh)
    assert (status, part(report, "disk")["status"]) == (503, "unhealthy")


def test_a_flood_of_checks_asks_once_a_second(fresh, monkeypatch):
    health(fresh)
    asked = []
    engine = fresh.extensions["gateway"].engine
    connect = engine.connect
    monkeypatch.setattr(engine, "connect", lambda: asked.append(1) or connect())
    stamps = {health(fresh)[1]["timestamp"] for _ in range(50)}
    assert len(asked) <= len(stamps) <= 3


def test_a_worker_that_ends_is_not_ready(fresh):
    fresh.extensions["gateway"].watch.drain(0.0)
    assert health(fresh, "/health/ready")[1] == {"status": "not ready", "reason": "the server is ending"}


def test_limits_that_are_counted_elsewhere():
    def broken():
        raise ConnectionError("redis://:hunter2@10.1.2.3 is away")

    found = components.limits_elsewhere(broken)()
    assert (found.name, found.status) == ("redis", "degraded")
    assert "hunter2" not in found.message
    assert components.limits_elsewhere(lambda: None)().status == "healthy"


def test_the_worst_counts():
    assert max(("healthy", "unhealthy", "degraded"), key=STATES.index) == "unhealthy"
