"""Workers killed with SIGKILL under load: every call that reached an upstream has one usage row."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from sqlalchemy.orm import Session

from models import ApiKey
from services import budgets
from services.audit import Actor
from tests.conftest import SECRETS
from tests.fakes.served import ROOT
from tests.helpers import chat, rows, with_upstream
from tests.races.conftest import SOAK, ask, count_leases, crowd, wait_until_clean

KILLS, CALLS = (50, 2000) if SOAK else (5, 200)
WORKERS, CALLERS = 4, 24
HOT = {False: {"LEASE_CALLS_PER_S": "0"}, True: {"LEASE_CALLS_PER_S": "1"}}
CLEAN_S = 30  # from the end of the load until the books agree


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gevent"])
@pytest.mark.parametrize("is_hot", [False, True], ids=["exact", "leased"])
def test_every_call_that_reached_an_upstream_is_booked_once(app, database, serve, upstream, worker_class, is_hot):
    """Each call has a key of its own, so its row can be told from all others."""
    engine = app.extensions["gateway"].engine
    if is_hot and engine.dialect.name == "sqlite":
        return  # there it is never leased
    with_upstream(app, upstream)
    budgets.put(engine, Actor("tests"), scope="user", owner="api-tokens", unit="usd", limit="1000", period="day")
    secrets = _keys(app, engine, CALLS * 2)
    served = serve(DATABASE_URL=database, WORKER_CLASS=worker_class, WEB_CONCURRENCY=str(WORKERS), **HOT[is_hot])
    killer = _Killer(served, upstream, engine)
    killer.start()

    def call(number):
        if len(upstream.served) < CALLS:
            plan = '{{"words": 12, "every_s": 0.01}}' if number % 3 else '{{"first_s": 0.1}}'
            ask(served, chat(f"call {number} {plan}", stream=bool(number % 3), max_tokens=20), secrets[number])

    crowd(CALLERS, range(len(secrets)), call)
    killer.join()
    assert (killer.kills, len(upstream.served) >= CALLS) == (KILLS, True)
    assert (killer.leases > 0) == is_hot

    clean_after_s = wait_until_clean(engine, CLEAN_S)
    reached = {int(request.body["messages"][0]["content"].split()[1]) for request in upstream.served}
    assert len(reached) == len(upstream.served), "no call went out twice"
    numbers = _numbers(engine)
    booked = Counter(numbers[row.key_id] for row in rows(engine) if row.state != "void")
    assert {number: count for number, count in booked.items() if count != 1} == {}, "booked more than once"
    lost = reached - booked.keys()
    told = [(row.outcome, row.status, row.error) for row in rows(engine) if numbers[row.key_id] in lost]
    assert lost == set(), f"reached an upstream and was not booked: {told}"
    assert len(booked.keys() - reached) <= KILLS * CALLERS, "noted as sent by a worker that died before it sent"
    states = Counter(row.state for row in rows(engine))
    assert states["measured"] > CALLS / 2
    assert states["estimated"] > 0, "no call was under way when its worker died"
    print(f"{KILLS} kills, {len(reached)} calls reached an upstream, {dict(states)}, clean after {clean_after_s:.1f} s")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "ledger", "verify"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENVIRONMENT": "test", "DATABASE_URL": database, **SECRETS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differences" in done.stdout


class _Killer(threading.Thread):
    """Kills a worker each time so many more calls have reached the upstream."""

    def __init__(self, served, upstream, engine):
        super().__init__()
        self.served, self.upstream, self.engine = served, upstream, engine
        self.kills = self.leases = 0
        self.random = random.Random(7)

    def run(self):
        end = time.monotonic() + (600 if SOAK else 60)
        while self.kills < KILLS and time.monotonic() < end:
            if len(self.upstream.served) > (self.kills + 1) * CALLS * 0.9 / KILLS:
                self.leases += count_leases(self.engine)
                os.kill(self.random.choice(self.served.workers()), signal.SIGKILL)
                self.kills += 1
            time.sleep(0.01)


def _keys(app, engine, count):
    """The secrets of so many keys of the user with the budget, by number."""
    keys = app.extensions["gateway"].keys
    with Session(engine) as session, session.begin():
        return [keys.issue(session, user_id=1, name=f"call {number}").secret for number in range(count)]


def _numbers(engine):
    """The number of a call by the id of its key."""
    with Session(engine) as session:
        return {key.id: int(key.name.split()[1]) for key in session.query(ApiKey) if key.name.startswith("call ")}
