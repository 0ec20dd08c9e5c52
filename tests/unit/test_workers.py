"""What goes on beside the calls of a worker: watching its callers, keeping house, leaving the event loop free."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from services import watch as watching
from services.errors import CallerGone, Draining
from services.exchange import Patience
from services.housekeeping import Housekeeper, Job
from services.local import LocalExchange
from services.providers.echo import Script
from services.types import Upstream
from services.watch import Watch
from tests.calls import DEPLOYMENT, attempted, make_call
from tests.fakes.served import ROOT
from utils import clock, native


def until(condition, within_s=5.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def line():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_call_whose_caller_leaves_is_ended_and_others_go_on(line, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    ours, theirs = line
    watch, call, other = Watch(60), make_call(), make_call(id="req_other")
    watch.add(call, ours.fileno())
    watch.add(other, None)
    theirs.close()
    until(lambda: call.abort_reason is not None)
    assert isinstance(call.abort_reason, CallerGone)
    assert other.abort_reason is None
    watch.remove(call)
    watch.remove(call)
    watch.remove(other)


def test_a_caller_who_stays_or_sends_more_is_left_alone(line):
    ours, theirs = line
    watch, call = Watch(60), make_call()
    watch.add(call, ours.fileno())
    theirs.sendall(b"GET / HTTP/1.1\r\n")
    watch.look()
    assert call.abort_reason is None
    watch.remove(call)
    theirs.close()
    watch.look()
    assert call.abort_reason is None, "after its end a connection is not looked at any more"


def test_a_socket_that_serves_the_next_call_is_not_forgotten_with_the_first(line):
    ours, theirs = line
    watch, first, second = Watch(60), make_call(), make_call(id="req_second")
    watch.add(first, ours.fileno())
    watch.add(second, ours.fileno())
    watch.remove(first)
    theirs.close()
    watch.look()
    assert (first.abort_reason, type(second.abort_reason)) == (None, CallerGone)
    watch.remove(second)


def test_a_caller_who_takes_no_more_is_hung_up_on(line):
    ours, theirs = line
    watch, call, fresh = Watch(60), make_call(started_s=clock.monotonic_s() - 66), make_call(id="req_fresh")
    watch.add(call, ours.fileno())
    watch.add(fresh, None)
    watch.look()
    assert (type(call.abort_reason), fresh.abort_reason) == (CallerGone, None)
    assert theirs.recv(10) == b"", "the line is closed"
    watch.remove(call)
    assert ours.fileno() > 0, "the number still belongs to the server"


def asked(settings, number=1, **fields):
    """A call that a provider with these settings is at work on."""
    upstream = Upstream(number, "fake", "openai", "http://127.0.0.1:1/v1", settings=settings)
    exchange = LocalExchange(Script(200, {}, iter(())), Patience(1.0, 1.0, 1.0))
    return attempted(make_call(exchange=exchange, **fields), replace(DEPLOYMENT, upstream=upstream))


DRAIN = {"on_disconnect": "drain"}


@pytest.mark.parametrize(
    ("settings", "reads_on"),
    [({}, False), ({"on_disconnect": "cancel"}, False), (DRAIN, True), (DRAIN | {"drain_max_s": 5}, True)],
)
def test_a_call_whose_caller_leaves_goes_on_as_its_provider_says(line, settings, reads_on):
    ours, theirs = line
    watch, call = Watch(60), asked(settings)
    watch.add(call, ours.fileno())
    theirs.close()
    watch.look()
    assert ((call.abort_reason is None), (call.drain_until_s is not None)) == (reads_on, reads_on)
    if reads_on:
        left_s = call.drain_until_s - clock.monotonic_s()
        assert left_s == pytest.approx(settings.get("drain_max_s", 60), abs=1)
        call.drain_until_s = 0.0
        watch.look()
        assert isinstance(call.abort_reason, CallerGone)
    watch.remove(call)


def test_so_many_answers_of_each_account_are_read_on_at_once():
    watch, settings = Watch(60), DRAIN | {"drain_max_streams": 2}
    calls = [asked(settings, number, id=f"req_{number}_{nth}") for number in (1, 2) for nth in range(3)]
    for call in calls:
        watch.add(call, None)
    assert [watch.leave(call) for call in calls] == [True, True, False] * 2
    assert watch.leave(calls[0]), "it is being read on already"
    watch.remove(calls[0])
    assert [watch.leave(call) for call in calls[1:3]] == [True, True], "there is a place again"


def test_nothing_is_read_on_that_no_provider_is_at_work_on():
    watch = Watch(60)
    waiting, unknown, ended = asked(DRAIN, id="req_a"), asked(DRAIN, id="req_b"), asked(DRAIN, id="req_c")
    waiting.exchange = None
    watch.add(waiting, None)
    watch.add(ended, None)
    ended.abort_draining()
    assert [watch.leave(call) for call in (waiting, unknown, ended)] == [False] * 3


def test_what_is_read_on_ends_with_the_worker_and_says_that_its_caller_left():
    watch, call, late = Watch(60), asked(DRAIN), asked(DRAIN, id="req_late")
    watch.add(call, None)
    assert watch.leave(call)
    watch.drain(-1)
    watch.look()
    watch.add(late, None)
    assert isinstance(call.abort_reason, CallerGone)
    assert not watch.leave(late)


def test_when_the_worker_must_go_every_call_ends(line):
    watch, call, late = Watch(60), make_call(), make_call(id="req_late")
    watch.add(call, None)
    watch.drain(60)
    watch.look()
    assert call.abort_reason is None
    watch.drain(-1)
    watch.look()
    watch.add(late, None)
    assert (type(call.abort_reason), type(late.abort_reason)) == (Draining, Draining)
    call.abort_gone()
    assert isinstance(call.abort_reason, Draining), "the first reason stays"


def test_watching_survives_its_own_faults(monkeypatch, caplog):
    monkeypatch.setattr(watching, "LOOK_S", 0.01)
    watch, looks = Watch(60), []

    def look():
        looks.append(1)
        if len(looks) == 1:
            raise OSError("odd")

    monkeypatch.setattr(watch, "look", look)
    watch.add(make_call(), None)
    until(lambda: len(looks) > 1)
    assert "looking at the callers' connections failed" in caplog.text


def test_two_first_calls_start_one_watcher(monkeypatch):
    """Both see that nobody watches yet; the second finds it done."""
    watch = Watch(60)
    before = threading.active_count()
    watch._start()
    watch._start()
    assert threading.active_count() == before + 1


def test_jobs_are_done_when_due_and_a_failure_stops_none(caplog):
    done = []

    def fail():
        done.append("fail")
        raise OSError("away")

    keeper = Housekeeper(
        [Job("fail", 60, fail), Job("often", 0, lambda: done.append("often")), Job("late", 1, done.clear, due_s=1e12)]
    )
    keeper.do_due()
    keeper.do_due()
    assert done == ["fail", "often", "often"]
    assert "job fail failed: OSError: away" in caplog.text
    keeper.stop()
    keeper.do_due()
    assert len(done) == 3


def test_the_thread_of_jobs_runs_until_it_is_stopped(monkeypatch):
    monkeypatch.setattr("services.housekeeping.TICK_S", 0.01)
    done = []
    keeper = Housekeeper([Job("often", 0, lambda: done.append(1))])
    keeper.start()
    until(lambda: len(done) > 2)
    keeper.stop()
    until(lambda: not any(thread.name == "housekeeper" for thread in threading.enumerate()))


def test_a_job_that_waits_for_somebody_else_holds_up_no_other(monkeypatch):
    monkeypatch.setattr("services.housekeeping.TICK_S", 0.01)
    answered, begun, done = threading.Event(), threading.Event(), []

    def ask():
        begun.set()
        answered.wait(30)

    keeper = Housekeeper([Job("ask", 0, ask, is_slow=True), Job("often", 0, lambda: done.append(1))])
    keeper.start()
    assert begun.wait(60)
    so_far = len(done)
    until(lambda: len(done) > so_far + 2)
    assert not answered.is_set()
    keeper.stop()
    answered.set()
    until(lambda: not any(thread.name == "housekeeper" for thread in threading.enumerate()))


def test_what_waits_for_providers_or_has_much_to_do_is_a_slow_job(lite):
    slow = {job.name for job in lite.extensions["gateway"].housekeeper._jobs if job.is_slow}
    calls_others = {"discovery", "alerts noticed", "alerts sent", "batches"}
    assert slow == calls_others | {"texts", "retention", "erased", "refusals", "roll-ups", "room"}


def test_without_gevent_work_is_done_right_here():
    assert not native.is_cooperative()
    assert native.run(threading.get_ident) == threading.get_ident()
    native.give_way()


GEVENT = """
from gevent import monkey
monkey.patch_all()
import threading, time
from utils import clock, native
import gevent
seen = []
ticker = gevent.spawn(lambda: [seen.append(gevent.sleep(0.005)) for _ in range(20)])
plain = monkey.get_original("time", "sleep")
assert native.is_cooperative()
assert native.run(lambda number: plain(0.2) or number, 7) == 7
assert len(seen) > 10, "the event loop stood still"
try:
    native.run(int, "x")
except ValueError:
    pass
else:
    raise AssertionError
gate = monkey.get_original("_thread", "allocate_lock")()
gate.acquire()
resolvers = gevent.get_hub().threadpool
for _ in range(resolvers.maxsize):
    resolvers.spawn(lambda: gate.acquire() and gate.release())
with gevent.Timeout(20):
    assert native.run(int, "7") == 7, "it waited with those who wait for a name server"
gate.release()
count = len(seen)
native.give_way()
assert native.poll().poll(0) == [] and type(native.poll()).__module__ == "select"
print("good")
"""


def test_under_gevent_work_leaves_the_event_loop_free():
    done = subprocess.run([sys.executable, "-c", GEVENT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr
