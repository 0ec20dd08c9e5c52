"""Many workers on two hosts with one Postgres are one gateway: limits and budgets exact, changes heard within 2 s."""

import re
import threading
import time
from collections import Counter

from sqlalchemy import text
from sqlalchemy.orm import Session

from services import budgets, limits, pricebook
from services.audit import Actor
from services.types import Price
from tests.helpers import add_model, add_provider, chat
from tests.races.conftest import SOAK, ask, crowd, is_busy, wait_until_clean

ME = Actor("tests")
CALLERS, CALLS, LIMIT = (100, 5000, 500) if SOAK else (24, 300, 60)
COST = 3 * 150 + 5 * 600  # nano-USD of a call: 3 words in, 5 out
BODY = chat("one two three", max_tokens=20)
PROMISED_S = 2.0
ROUNDS = 20  # new connections to each host, which its workers share out among themselves
CLEAN_S = 20


def calls_on_all(world, key, count=CALLS):
    """So many calls of a crowd, host by host in turn; their statuses."""

    def call(number):
        host = world.hosts[number % len(world.hosts)]
        body = BODY | {"stream": number % 3 == 0}
        while is_busy(answer := ask(host.served, body, key.secret)):
            pass
        return answer[0]

    return Counter(crowd(CALLERS, range(count), call))


def test_a_limit_is_taken_exactly_by_all_hosts_together(world):
    key = world.key("limited")
    limits.put(world.engine, ME, scope="key", owner=str(key.id), unit="requests", limit=LIMIT, period="day")
    found = calls_on_all(world, key)
    assert found == {200: LIMIT, 429: CALLS - LIMIT}
    print(f"{world.kind}: {CALLS} calls, {found[200]} admitted, the limit is {LIMIT}")


def test_the_last_dollar_is_spent_once(world):
    key, afforded = world.key("last dollar"), LIMIT
    limit = f"{afforded * COST / 10**9:.9f}"
    budgets.put(world.engine, ME, scope="key", owner=str(key.id), unit="usd", limit=limit, period="total")
    found = calls_on_all(world, key)
    while (more := calls_on_all(world, key, 1))[200]:  # what is left when nobody holds anything any more
        found += more
    wait_until_clean(world.engine, CLEAN_S)
    query = text("""
        SELECT w.spent_amount, w.held_amount FROM budget_windows w JOIN budgets b ON b.id = w.budget_id
        WHERE b.scope = 'key' AND b.scope_id = :key""")
    booked = text("SELECT COUNT(*), SUM(cost_nanousd) FROM usage WHERE key_id = :key")
    with world.engine.connect() as connection:
        spent, held = connection.execute(query, {"key": key.id}).one()
        rows = tuple(connection.execute(booked, {"key": key.id}).one())
    assert rows == (found[200], spent) == (found[200], found[200] * COST)
    assert held == 0
    assert afforded * COST - 2 * (20 * 600 + 100 * 150) < spent <= afforded * COST, "to the end, and not beyond it"
    assert set(found) <= {200, 402, 429}
    overspend = max(0, spent - afforded * COST)
    print(f"{world.kind}: {found[200]} admitted, spent {spent} of {afforded * COST} nano-USD, overspend {overspend}")


class Asking:
    """Callers who ask on every host all the time; what they saw, by the time at which they asked."""

    def __init__(self, world, secret, body):
        self.seen, self.is_over = [], threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(one.served, secret, body)) for one in world.hosts]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_error):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, served, secret, body):
        while not self.is_over.is_set():
            at = time.monotonic()
            self.seen.append((at, *ask(served, body, secret)))
            time.sleep(0.01)

    def last(self, before, is_old):
        """How long after a moment somebody was answered in the old way; those who asked later were not."""
        return max([at - before for at, status, said in self.seen if is_old(status, said)], default=0.0)


def test_a_revoked_key_is_refused_on_every_host_within_two_seconds(world):
    key = world.key("leaving")
    with Asking(world, key.secret, chat(model="echo")) as asking:
        revoked = time.monotonic()
        with Session(world.engine) as session, session.begin():
            world.here.keys.revoke(session, key.id, "left the company")
        time.sleep(PROMISED_S + 0.5)
    assert asking.seen[0][1] == 200
    after = asking.last(revoked, lambda status, _said: status != 401)
    assert after <= PROMISED_S
    assert {ask(host.served, BODY, key.secret)[0] for host in world.hosts for _ in range(ROUNDS)} == {401}
    print(f"{world.kind}: the last of {len(asking.seen)} calls that a revoked key made came {after:.2f} s after")


def test_a_new_key_a_new_model_and_a_new_price_are_known_on_every_host_within_two_seconds(world):
    provider = add_provider(world.app, world.upstream, "second")
    with Asking(world, world.key("early").secret, chat(model="fresh")) as asking:
        made = time.monotonic()
        add_model(world.app, provider, "fresh")
        time.sleep(PROMISED_S + 0.5)
    assert asking.seen[0][1] == 400
    model_s = asking.last(made, lambda status, _said: status != 200)
    key = world.key("new")
    issued = time.monotonic()
    statuses = [ask(host.served, chat(model="fresh"), key.secret)[0] for host in world.hosts for _ in range(ROUNDS)]
    assert set(statuses) == {200}, "a key that nobody has seen before is looked up"
    key_s = time.monotonic() - issued
    with Asking(world, key.secret, chat(model="fresh")):
        changed_ms = round(time.time() * 1000)
        pricebook.put(world.engine, ME, "fresh", Price(1_000_000_000, 2_000_000_000))
        time.sleep(PROMISED_S + 0.5)
    wait_until_clean(world.engine, CLEAN_S)
    with world.engine.connect() as connection:
        query = text("SELECT created_at, input_rate FROM usage WHERE key_id = :key ORDER BY id")
        rows = connection.execute(query, {"key": key.id}).all()
    assert rows[-1].input_rate == 1_000_000_000
    price_s = max([row.created_at - changed_ms for row in rows if row.input_rate != 1_000_000_000], default=0) / 1000
    assert max(model_s, price_s) <= PROMISED_S
    print(f"{world.kind}: a model after {model_s:.2f} s, a price after {price_s:.2f} s, a key at once ({key_s:.2f} s)")


def test_the_log_of_no_host_has_a_trace(world):
    for host in world.hosts:
        assert not re.search(r"Traceback|prepared statement|deadlock", host.served.output())
