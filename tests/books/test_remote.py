"""Limits in a real Valkey: the arithmetic is that of the database, a call is counted whole or not, nothing is kept."""

import os
import time

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from services import counting
from services.bookings import Recount
from services.books.base import HoldRefused, _recount
from services.remote import Remote
from services.remote_scripts import MOST, TAKE
from services.settlement import _recounts
from services.types import LimitRef
from tests.fakes.ports import free_port
from tests.fakes.valkey import Valkey

NOW = 1_790_000_010.0  # half a minute into its minute, and at no end of a day
HOLD_S = 720.0


@pytest.fixture
def remote(valkey):
    opened = Remote(valkey.url, space="tests", timeout_s=2.0)
    yield opened
    opened.close()


def limit(subject="1", amount=5, unit="requests", period="minute", **more):
    return LimitRef(subject, "key", unit, amount, "none" if unit == "concurrent" else period, **more)


def count(limit_, amount=1, now_s=NOW):
    return counting.count(limit_, amount, now_s)


def used(remote, *counts):
    """What counts as used of each, as refusals say it."""
    return [counting.used(one, window) for one, window in zip(counts, remote.look(counts).windows, strict=True)]


def settle(remote, number, counts, tokens=0):
    records = [(c.limit.subject, c.limit.unit, c.start, c.end, c.amount, True) for c in counts]
    remote.settle(f"req_{number}", _recounts(records, tokens))


def test_a_limit_takes_its_amount_and_not_one_more(remote):
    one = count(limit(amount=5))
    taken = [remote.take(f"req_{number}", [one], HOLD_S).counters for number in range(5)]
    assert taken == [{"1": (number, 0)} for number in range(1, 6)]
    with pytest.raises(HoldRefused):
        remote.take("req_5", [one], HOLD_S)
    assert used(remote, one) == [5]
    later = count(limit(amount=5), now_s=NOW + 60)
    assert remote.take("req_6", [later], HOLD_S).counters == {"1": (1, 5)}, "half of the minute before still counts"
    assert used(remote, later) == [4]


@pytest.mark.parametrize("full", [0, 1, 2])
def test_several_limits_are_taken_all_or_nothing(remote, full):
    counts = [
        count(limit("requests")),
        count(limit("tokens", 100, "tokens", "day"), 40),
        count(limit("calls", 3, "concurrent")),
    ]
    wanted = [5, 2, 3]
    alone = counts[full]
    for number in range(wanted[full]):
        remote.take(f"req_{number}", [alone], HOLD_S)
    before = used(remote, *counts)
    with pytest.raises(HoldRefused):
        remote.take("req_x", counts, HOLD_S)
    assert used(remote, *counts) == before
    remote.settle("req_x", [Recount("tokens", "tokens", counts[1].start, counts[1].end, -40, is_remote=True)])
    assert used(remote, *counts) == before, "a refused call has nothing to give back"


def test_an_amount_above_the_limit_is_refused_however_large(remote):
    for amount in (101, 2**62):
        with pytest.raises(HoldRefused):
            remote.take("req_1", [count(limit("t", 100, "tokens"), amount)], HOLD_S)


def test_calls_under_way_come_free_at_their_end_and_only_once(remote):
    calls = count(limit(amount=2, unit="concurrent"))
    assert remote.take("req_1", [calls], HOLD_S).counters == {"1": (1, 0)}
    assert remote.take("req_2", [calls], HOLD_S).counters == {"1": (2, 0)}
    with pytest.raises(HoldRefused):
        remote.take("req_3", [calls], HOLD_S)
    for _ in range(2):
        settle(remote, 1, [calls])
    assert used(remote, calls) == [1]
    remote.take("req_3", [calls], HOLD_S)
    remote.release("req_3", [calls])
    assert used(remote, calls) == [1]


def test_a_call_that_nobody_ends_is_given_up_after_its_time(remote, valkey):
    calls = count(limit(amount=1, unit="concurrent"))
    remote.take("req_1", [calls], 0.2)
    with pytest.raises(HoldRefused):
        remote.take("req_2", [calls], HOLD_S)
    time.sleep(0.25)
    assert used(remote, calls) == [0]
    remote.take("req_2", [calls], HOLD_S)
    settle(remote, 1, [calls])
    assert used(remote, calls) == [1], "its late end takes nothing from others"


def test_tokens_are_corrected_once_in_the_period_of_the_call(remote):
    tokens = count(limit(amount=1000, unit="tokens"), 400)
    for number in range(2):
        remote.take(f"req_{number}", [tokens], HOLD_S)
    for _ in range(3):
        settle(remote, 0, [tokens], 150)
    assert used(remote, tokens) == [550]
    settle(remote, 1, [tokens], 900)
    assert used(remote, tokens) == [1050], "more than was held is counted too"
    later = count(limit(amount=10_000, unit="tokens"), 10, NOW + 60)
    remote.take("req_2", [tokens_of_before := count(limit(amount=10_000, unit="tokens"), 1000, NOW)], HOLD_S)
    remote.take("req_3", [later], HOLD_S)
    settle(remote, 2, [tokens_of_before], 0)
    assert remote.look([later]).windows[0].previous_amount == 1050


def test_after_everything_was_forgotten_nothing_is_given_back(remote, valkey):
    tokens, calls = count(limit("t", 1000, "tokens"), 400), count(limit("c", 2, "concurrent"))
    remote.take("req_1", [tokens, calls], HOLD_S)
    valkey.client.flushall()
    remote.take("req_2", [tokens, calls], HOLD_S)
    settle(remote, 1, [tokens, calls], 10)
    assert used(remote, tokens, calls) == [400, 1]


def test_requests_need_no_second_message(remote, valkey):
    one = count(limit())
    remote.take("req_1", [one], HOLD_S)
    before = valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    settle(remote, 1, [one])
    assert valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"] == before
    remote.release("req_1", [one])
    assert used(remote, one) == [0]


def test_every_key_goes_by_itself_and_all_are_on_one_node(remote, valkey):
    counts = [count(limit("r")), count(limit("d", 9, "tokens", "month"), 3), count(limit("c", 2, "concurrent"))]
    remote.take("req_1", counts, HOLD_S)
    left = {key: valkey.client.ttl(key) for key in valkey.client.scan_iter()}
    assert left.pop("{tollhouse-tests}:since") == -1
    assert {key.split(":", 1)[0] for key in left} == {"{tollhouse-tests}"}
    assert left.pop("{tollhouse-tests}:window:d") > 56 * 86_400
    assert {key: ttl > 0 for key, ttl in left.items()} == dict.fromkeys(left, True)
    assert len(left) == 3
    settle(remote, 1, counts)
    left = {key: valkey.client.ttl(key) for key in valkey.client.scan_iter()}
    assert left.pop("{tollhouse-tests}:since") == -1
    assert min(left.values()) > 0


def test_a_server_that_forgot_the_scripts_is_given_them_again(remote, valkey):
    one = count(limit())
    remote.take("req_1", [one], HOLD_S)
    valkey.client.script_flush()
    assert valkey.client.script_exists(TAKE.sha) == [False]
    assert remote.take("req_2", [one], HOLD_S).counters == {"1": (2, 0)}
    assert valkey.client.script_exists(TAKE.sha) == [True]


def test_installations_on_one_server_count_apart(remote, valkey):
    other = Remote(valkey.url, space="other", timeout_s=2.0)
    one = count(limit(amount=1))
    remote.take("req_1", [one], HOLD_S)
    assert other.take("req_1", [one], HOLD_S).counters == {"1": (1, 0)}
    other.close()


def test_a_cluster_takes_the_script(tmp_path):
    server = Valkey(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    while server.client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
        time.sleep(0.05)
    remote = Remote(server.url, space="tests", timeout_s=2.0)
    counts = [count(limit("r")), count(limit("c", 2, "concurrent"))]
    assert remote.take("req_1", counts, HOLD_S).counters == {"r": (1, 0), "c": (1, 0)}
    settle(remote, 1, counts)
    assert used(remote, *counts) == [1, 0]
    remote.close()
    server.stop()


def test_a_forked_process_has_connections_of_its_own(remote, valkey):
    one = count(limit(amount=100))
    remote.take("req_0", [one], HOLD_S)
    child = os.fork()
    if not child:
        try:
            for number in range(50):
                remote.take(f"req_child_{number}", [one], HOLD_S)
        finally:
            os._exit(0)
    for number in range(49):
        remote.take(f"req_{number}", [one], HOLD_S)
    os.waitpid(child, 0)
    assert used(remote, one) == [100]


# The same numbers as in the database, whatever the clocks say.

AMOUNTS = st.one_of(st.integers(0, 20), st.integers(0, 10**12))
MOMENTS = st.one_of(  # clocks that go on, stand still, jump back and ahead
    st.floats(0, 200, allow_nan=False, width=32), st.sampled_from([-7200.0, -61.0, -60.0, 0.0, 60.0, 3600.0, 7200.0])
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), MOMENTS, AMOUNTS, st.one_of(st.integers(1, 60), st.integers(0, 10**12))),
        st.tuples(st.just("change"), MOMENTS, st.integers(-(10**12), 10**12), st.just(0)),
    ),
    min_size=1,
    max_size=12,
)
PERIODS = st.sampled_from([("second", 0), ("minute", 0), ("hour", 0), ("day", 0), ("month", 0), ("", 7)])


@given(steps=STEPS, period=PERIODS)
@effort(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_arithmetic_is_that_of_the_database(gateway, remote, valkey, steps, period):
    subject = os.urandom(8).hex()
    for number, (what, moment, amount, most) in enumerate(steps):
        ref = limit(subject, most, "tokens", period[0], seconds=period[1])
        one = count(ref, amount, NOW + moment)
        if what == "take":
            assert outcome(lambda one=one: gateway.books.count([one])) == outcome(
                lambda one=one, number=number: remote.take(f"req_{number}", [one], HOLD_S)
            )
        else:
            change = Recount(subject, "tokens", one.start, one.end, amount)
            gateway.books.transact(lambda books, change=change: _recount(books, change))
            remote._return("req_x", ((subject, one.start, one.end, amount),), is_marked=False)
        assert gateway.books.window(subject) == remote.look([one]).windows[0]


def outcome(take):
    try:
        return dict(take().counters)
    except HoldRefused:
        return "refused"


# Such a share times 10**6 is one more than a whole number, which a double of that size cannot tell from it.
AWKWARD = st.builds(
    lambda high, ppm: (high * 10**6 + pow(ppm, -1, 10**6), ppm),
    st.integers(0, 10**6 - 1),
    st.integers(0, 99_999).flatmap(lambda tens: st.sampled_from([10 * tens + last for last in (1, 3, 7, 9)])),
)
PLAIN = st.tuples(st.integers(0, 10**12), st.integers(1, 10**6))


@given(before=st.one_of(AWKWARD, PLAIN), current=st.integers(0, 10**12), amount=AMOUNTS)
@effort(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_share_of_the_period_before_is_exact_to_the_last_unit(remote, valkey, before, current, amount):
    start, (previous, ppm) = 1_790_000_000, before
    valkey.client.set("{tollhouse-tests}:window:1", f"{start} {start + 60} {current} {previous}")
    fits = current - (-previous * ppm // 10**6) + amount
    for room, is_taken in ((fits - 1, False), (fits, True)):
        one = counting.Count(limit("1", room, "tokens"), amount, start, start + 60, ppm)
        assert (outcome(lambda one=one: remote.take("req_1", [one], HOLD_S)) != "refused") == (is_taken and room >= 0)


@pytest.mark.parametrize(("before", "change", "after"), [(5, 2**62, MOST), (MOST, 1, MOST), (5, -(2**62), 0)])
def test_a_counter_stops_where_numbers_would_become_inexact(remote, valkey, before, change, after):
    start = 1_790_000_000
    valkey.client.set("{tollhouse-tests}:window:1", f"{start} {start + 60} {before} {MOST}", ex=60)
    remote._return("req_x", (("1", start, start + 60, change),), is_marked=False)
    assert valkey.client.get("{tollhouse-tests}:window:1") == f"{start} {start + 60} {after} {MOST}"
    one = counting.Count(limit("1", MOST), 1, start, start + 60, 10**6)
    assert outcome(lambda: remote.take("req_1", [one], HOLD_S)) == "refused"
