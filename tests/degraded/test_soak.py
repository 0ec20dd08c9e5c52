"""Hours of a mixed life with faults: memory, files and sockets stay as they are, and every error has its reason.

Short in the suite; `make soak` runs SOAK_MINUTES of it (30), past the ends of everything that is kept for a while.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import TOKEN
from tests.degraded.conftest import SOAK, figure, part_of
from tests.helpers import chat, rows
from tests.races.conftest import ask, wait_until_clean

MINUTES = float(os.environ.get("SOAK_MINUTES", "30")) if SOAK else 0.4
WARM = 1 / 3  # of the time, in which caches fill
WORKERS, CALLERS, PER_S = 2, 16, 20.0 if SOAK else 12.0
FAULTY = 0.05
MIB = 2**20
pytestmark = pytest.mark.timeout(MINUTES * 60 + 300)

GOOD = [  # plan of the provider, whether it streams, what the caller must get
    ({"words": 20, "every_s": 0.01}, True, "whole"),
    ({"words": 5}, False, "200"),
    ({"words": 200}, True, "whole"),
    ({"words": 3, "first_s": 0.2}, False, "200"),
]
FAULTS = [
    ({"status": 500}, False, "502"),
    ({"status": 429}, True, "429"),
    ({"status": 0}, False, "502"),
    ({"status": 0, "reset": True}, True, "502"),
    ({"words": 20, "cut_after": 3}, True, "error event"),
    ({"words": 20, "cut_after": 3, "reset": True}, True, "error event"),
    ({"words": 20, "mute_after": 3}, True, "error event"),
    ({"first_s": 20}, False, "504"),
    ({"body": "<html>"}, False, "502"),
]
RESET = ("error event", "502")  # a reset that comes before anybody read the words takes them away
PAUSED = ("503", "429")  # a provider that failed several times in a row is left alone for a moment, and says so


def kind_of(status, text):
    """What a caller got, in a word."""
    if status == 200 and text.startswith("data:"):
        return "whole" if text.endswith("data: [DONE]\n\n") else "error event" if '"error"' in text else "broken"
    return str(status)


class Life:
    """Callers at a steady pace; what they got that nothing explains."""

    def __init__(self, served, seconds):
        self.served, self.end, self.random = served, time.monotonic() + seconds, random.Random(44)
        self.guard, self.next_s = threading.Lock(), time.monotonic()
        self.got, self.unexplained, self.injected, self.took = Counter(), [], 0, []

    def plan(self):
        with self.guard:
            self.next_s = max(self.next_s, time.monotonic() - 1.0) + 1 / PER_S
            is_fault = self.random.random() < FAULTY
            self.injected += is_fault
            return self.next_s, is_fault, self.random.choice(FAULTS if is_fault else GOOD)

    def run(self):
        while time.monotonic() < self.end:
            at, is_fault, (plan, is_stream, wanted) = self.plan()
            time.sleep(max(0.0, at - time.monotonic()))
            began = time.monotonic()
            model = "faulty" if is_fault else "fast"
            said = "one two {" + json.dumps(plan) + "}"
            status, text = ask(self.served, chat(said, model, stream=is_stream, max_tokens=300), TOKEN)
            got = kind_of(status, text)
            with self.guard:
                self.got[got] += 1
                is_paused = is_fault and got in PAUSED and "upstream" in text
                if got != wanted and not is_paused and not ("reset" in plan and got in RESET):
                    self.unexplained.append((plan, wanted, got, text[-300:]))
                if not is_fault:
                    self.took.append(time.monotonic() - began)


def state_of(pid):
    """Memory of its own in bytes, open files, threads, and half-closed connections of a worker."""
    place = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text(encoding="ascii").splitlines())
    rss = int(status["RssAnon"].split()[0]) * 1024
    waiting = sum(line.split()[3] == "08" for line in (place / "net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return rss, sum(1 for _ in (place / "fd").iterdir()), int(status["Threads"]), waiting


def slope(points):
    """Of a line through these (seconds, value): value an hour, by least squares."""
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    over = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return over / sum((x - mean_x) ** 2 for x, _y in points) * 3600


def watched(served, life, seconds):
    """Live it; (second, state) of each worker, as often as gives 60 to 600 points."""
    threads = [threading.Thread(target=life.run) for _ in range(CALLERS)]
    began, seen = time.monotonic(), {pid: [] for pid in served.workers()}
    for thread in threads:
        thread.start()
    while time.monotonic() < began + seconds:
        time.sleep(max(0.25, seconds / 600))
        for pid, points in seen.items():
            points.append((time.monotonic() - began, state_of(pid)))
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gevent"])
def test_nothing_grows_and_every_error_has_its_reason(serve, books_of, sqlite_database, upstream, worker_class):
    engine = books_of(sqlite_database)
    faulty(engine, books_of)
    seconds = MINUTES * 60
    served = serve(WEB_CONCURRENCY=str(WORKERS), WORKER_CLASS=worker_class, LLM_TIMEOUT="5s", LLM_MAX_RETRIES="0")
    workers = served.workers()
    life = Life(served, seconds)
    seen = watched(served, life, seconds)
    told = memory_of(seen, seconds)
    figure(f"F44 {worker_class}", minutes=MINUTES, calls=sum(life.got.values()), injected=life.injected,
           got=dict(life.got), unexplained=len(life.unexplained), p50_s=f"{part_of(life.took, 0.5):.3f}",
           p99_s=f"{part_of(life.took, 0.99):.3f}", **told)  # fmt: skip
    assert life.unexplained == []
    assert served.workers() == workers, "no worker died"
    wait_until_clean(engine, 60)
    assert len([row for row in rows(engine) if row.state != "void"]) <= len(upstream.served)
    assert sum(life.got.values()) > seconds * PER_S / 4
    for points in seen.values():
        late = [state for at, state in points if at > seconds * WARM]
        grown = late[-1][0] - late[0][0]
        assert grown < (32 if SOAK else 128) * MIB, told  # a short run has the vocabularies of the token counter in it
        assert late[-1][1] < 400, told


def memory_of(seen, seconds):
    """What each worker held after the first part of the time, in words."""
    told = {}
    for number, points in enumerate(seen.values()):
        late = [(at, state) for at, state in points if at > seconds * WARM]
        told[f"worker {number} MiB an hour"] = f"{slope([(at, state[0]) for at, state in late]) / MIB:.2f}"
        told[f"worker {number} MiB"] = f"{late[0][1][0] / MIB:.1f} to {late[-1][1][0] / MIB:.1f}"
        for place, name in ((1, "files"), (2, "threads"), (3, "half closed")):
            values = [state[place] for _at, state in late]
            told[f"worker {number} {name}"] = f"{min(values)} to {max(values)}"
    return told


def faulty(engine, books_of):
    """Model `faulty` has a provider account of its own, so that its pauses are not those of `fast`."""
    from sqlalchemy.orm import Session

    from models import Deployment, Model, Price, Provider

    with Session(engine) as session, session.begin():
        first = session.query(Provider).filter_by(name="fake").one()
        other = Provider(
            name="shaky", kind=first.kind, base_url=first.base_url, credential=first.credential, settings={}
        )
        session.add(other)
        session.flush()
        row = Model(name="faulty", fallbacks=[])
        row.deployments.append(Deployment(provider_id=other.id, upstream_model="gpt-4o-mini"))
        row.prices.append(Price(source="test", is_free=False, input_rate=150_000_000, output_rate=600_000_000))
        session.add(row)


def test_failing_providers_beside_a_mute_valkey(serve, books_of, sqlite_database, upstream, mute):
    """F45: neither memory nor the log nor the time of good calls grows with what fails."""
    engine = books_of(sqlite_database)
    faulty(engine, books_of)
    seconds = 120 if SOAK else 8
    served = serve(WEB_CONCURRENCY="1", REDIS_URL=mute.url, RATE_LIMIT_PER_MINUTE="1000000")
    (pid,) = served.workers()
    calm = Life(served, 3)
    watched(served, calm, 3)
    before, log_before = state_of(pid)[0], served.log.stat().st_size
    end, failed = time.monotonic() + seconds, Counter()

    def fail():
        while time.monotonic() < end:
            failed[ask(served, chat('one {{"status": 500}}', "faulty"), TOKEN)[0]] += 1

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    stressed = Life(served, seconds)
    watched(served, stressed, seconds)
    for thread in threads:
        thread.join()
    grown, lines = state_of(pid)[0] - before, served.log.stat().st_size - log_before
    asked = sum(failed.values()) + sum(stressed.got.values())
    assert set(failed) <= {502, 503}, failed
    assert [one for one in stressed.unexplained if one[1] in {"whole", "200"}] == []
    assert grown < 64 * MIB
    assert lines < 2000 * asked, "a bounded amount of log for each request"
    wait_until_clean(engine, 60)
    p50_s = f"{part_of(calm.took, 0.5):.3f} to {part_of(stressed.took, 0.5):.3f}"
    figure("F45", failed=dict(failed), grown_mib=f"{grown / MIB:.1f}", log_bytes_a_request=lines // asked,
           p50_s=p50_s, valkey_asked=len(mute.asked_at))  # fmt: skip
