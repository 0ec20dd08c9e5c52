"""A Valkey that is dead, mute or was emptied: who waits, for how long, what is logged, and what is made good later."""

import logging
import subprocess
import sys
import threading
import time

import pytest

from services import remote as remotes
from services.books.base import HoldRefused
from services.counters import RemoteAway
from services.remote import Remote
from tests.books.test_remote import HOLD_S, count, limit, settle, used
from tests.fakes.ports import free_port
from tests.fakes.served import ROOT
from tests.fakes.valkey import Mute
from utils import clock

TIMEOUT_S = 0.1


@pytest.fixture
def open_remote():
    opened = []

    def make(url, timeout_s=TIMEOUT_S):
        opened.append(Remote(url, space="tests", timeout_s=timeout_s))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def monotonic(monkeypatch):
    """A clock that the test moves on."""
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic_s", lambda: now[0])
    return now


def away(work):
    with pytest.raises(RemoteAway):
        work()


def take(remote, number, *counts):
    return remote.take(f"req_{number}", counts or [count(limit(amount=100))], HOLD_S)


def test_a_mute_server_is_asked_once_in_five_seconds(open_remote, mute, monotonic, caplog):
    remote = open_remote(mute.url)
    for number in range(20):
        away(lambda number=number: take(remote, number))
    assert len(mute.asked_at) == 1
    monotonic[0] += remotes.RETRY_S - 0.01
    away(lambda: take(remote, 20))
    assert len(mute.asked_at) == 1
    monotonic[0] += 0.02
    for number in range(20):
        away(lambda number=number: take(remote, number))
    remote.catch_up()
    remote.settle("req_0", ())
    assert len(mute.asked_at) == 2
    assert [record.message.partition(":")[0] for record in caplog.records] == ["limits are counted in the database"]


def test_who_asks_at_the_same_moment_waits_together_and_nobody_twice(open_remote, mute):
    """Also those for whom there was no connection left."""
    remote, waited = open_remote(mute.url), []

    def ask(number):
        begun = time.monotonic()
        away(lambda: take(remote, number))
        waited.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3 * remotes.LINES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waited) == 3 * remotes.LINES
    assert len(mute.asked_at) <= remotes.LINES
    assert max(waited) < 10 * TIMEOUT_S


def test_of_a_crowd_at_the_next_try_one_asks_and_nobody_else_waits(open_remote, mute):
    remote = open_remote(mute.url)
    away(lambda: take(remote, 0))
    remote._retry_at_s, start = 0.0, threading.Barrier(10)

    def ask(number):
        start.wait()
        away(lambda: take(remote, number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mute.asked_at) == 2


def test_a_dead_server_and_its_return_are_logged_once_each(open_remote, mortal_valkey, monotonic, caplog):
    remote = open_remote(mortal_valkey.url)
    take(remote, 0)
    mortal_valkey.kill()
    for number in range(5):
        away(lambda number=number: take(remote, number))
        monotonic[0] += remotes.RETRY_S + 1
    mortal_valkey.start()
    for number in range(5):
        take(remote, number)
    told = [record.message.partition(":")[0] for record in caplog.records]
    assert told == ["limits are counted in the database", "limits are counted in Valkey or Redis again"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_server_that_was_started_again_is_no_failure_for_an_idle_worker(open_remote, mortal_valkey, caplog):
    remote = open_remote(mortal_valkey.url)
    take(remote, 0)
    mortal_valkey.kill()
    mortal_valkey.start()
    assert take(remote, 1).counters == {"1": (1, 0)}
    assert caplog.records == []


def test_calls_that_end_while_it_is_away_are_given_back_when_it_returns(open_remote, mortal_valkey, monotonic):
    remote = open_remote(mortal_valkey.url)
    calls, tokens = count(limit("c", 3, "concurrent")), count(limit("t", 1000, "tokens"), 300)
    for number in range(3):
        take(remote, number, calls, tokens)
    mortal_valkey.freeze()
    settle(remote, 0, [calls, tokens], 100)
    settle(remote, 1, [calls, tokens], 100)
    remote.release("req_2", [calls, tokens])
    remote.catch_up()
    mortal_valkey.thaw()
    monotonic[0] += remotes.RETRY_S + 1
    with pytest.raises(HoldRefused):
        take(remote, 3, calls, tokens)
    remote.catch_up()
    assert used(remote, calls, tokens) == [0, 200]
    remote.catch_up()
    assert used(remote, calls, tokens) == [0, 200], "and only once"


def test_a_call_that_was_counted_unheard_is_given_back(open_remote, mortal_valkey, monotonic):
    """It went out, no answer came, and the database counted it instead: here it must not stay."""
    remote = open_remote(mortal_valkey.url)
    calls, tokens = count(limit("c", 2, "concurrent")), count(limit("t", 1000, "tokens"), 300)
    take(remote, 0, calls, tokens)
    mortal_valkey.freeze()
    away(lambda: take(remote, 1, calls, tokens))
    mortal_valkey.thaw()
    while used(other := open_remote(mortal_valkey.url, 2.0), calls) != [2]:
        other.close()
        time.sleep(0.01)
    monotonic[0] += remotes.RETRY_S + 1
    remote.catch_up()
    assert used(remote, calls, tokens) == [1, 300]


def test_a_server_that_goes_again_is_brought_the_rest_the_next_time(open_remote, mortal_valkey, monotonic):
    remote, calls = open_remote(mortal_valkey.url), count(limit("c", 3, "concurrent"))
    for number in range(3):
        take(remote, number, calls)
    mortal_valkey.freeze()
    for number in range(3):
        settle(remote, number, [calls])
    remote._retry_at_s = None
    remote.catch_up()
    mortal_valkey.thaw()
    monotonic[0] += remotes.RETRY_S + 1
    remote.catch_up()
    assert used(remote, calls) == [0]


def test_requests_that_cannot_be_given_back_stay_counted(open_remote, mortal_valkey, monotonic):
    """Nobody could tell a second time from the first, and too few calls are better than too many."""
    remote, one = open_remote(mortal_valkey.url), count(limit(amount=10))
    take(remote, 0, one)
    mortal_valkey.kill()
    remote.release("req_0", [one])
    assert not remote._late


def test_what_waits_is_bounded_and_an_answer_lost_under_way_is_not_given_back_twice(
    open_remote, mortal_valkey, monotonic, monkeypatch
):
    monkeypatch.setattr(remotes, "LATE_MAX", 3)
    remote, tokens = open_remote(mortal_valkey.url), count(limit("t", 10_000, "tokens"), 100)
    for number in range(6):
        take(remote, number, tokens)
    mortal_valkey.freeze()
    for number in range(6):
        settle(remote, number, [tokens], 0)
    mortal_valkey.thaw()
    monotonic[0] += remotes.RETRY_S + 1
    remote.catch_up()
    left = used(remote, tokens)[0]
    assert left in (200, 300), "three of the last, and the first if its message arrived"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param("CONFIG SET requirepass another-secret", "invalid username-password", id="wrong password"),
        pytest.param("CONFIG SET maxmemory 1", "maxmemory", id="no memory left"),
        pytest.param("REPLICAOF 127.0.0.1 1", "read only", id="a replica"),
    ],
)
def test_a_server_that_refuses_is_away_too(mortal_valkey, open_remote, caplog, command, said):
    mortal_valkey.client.execute_command(*command.split())
    remote = open_remote(mortal_valkey.url.replace("//", "//:my-wrong-password@" if "password" in said else "//"))
    away(lambda: take(remote, 0))
    assert said in caplog.text.lower()
    assert "my-wrong-password" not in caplog.text


def test_something_else_that_listens_there_is_away_too(open_remote, caplog):
    server = Mute(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    remote = open_remote(server.url)
    away(lambda: take(remote, 0))
    assert "does not answer" in caplog.text
    server.stop()


def test_nobody_listens(open_remote, caplog):
    remote = open_remote(f"redis://127.0.0.1:{free_port()}/0")
    away(remote.check)
    away(lambda: remote.look([count(limit())]))
    assert len(caplog.records) == 1


GEVENT = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent, time
from services.counters import RemoteAway
from services.remote import Remote
from tests.books.test_remote import HOLD_S, count, limit
good, mute = (Remote(url, space="tests", timeout_s=0.3) for url in sys.argv[1:])
one, seen = count(limit(amount=1000)), []
crowd = [gevent.spawn(good.take, f"req_{number}", [one], HOLD_S) for number in range(500)]
gevent.joinall(crowd, raise_error=True)
assert max(greenlet.value.counters["1"][0] for greenlet in crowd) == 500
ticker = gevent.spawn(lambda: [seen.append(gevent.sleep(0.01)) for _ in range(10)])
try:
    mute.take("req_1", [one], HOLD_S)
except RemoteAway:
    assert len(seen) >= 9, "the event loop stood still"
else:
    raise AssertionError
good.close()
mute.close()
print("good")
"""


def test_under_gevent_a_crowd_is_served_and_a_mute_server_holds_up_nobody(valkey, mute):
    done = subprocess.run(
        [sys.executable, "-c", GEVENT, valkey.url, mute.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr
