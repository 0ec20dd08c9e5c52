"""Circuits and the budget for repeated attempts, on a clock that the test moves."""

from dataclasses import replace

import pytest

from services import health as under_test
from services.errors import CredentialRefused, UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from services.health import ACCOUNT, DEPLOYMENT, IN_A_ROW, LAST_IN_A_ROW, MOST, PAUSE_S, PROBE_S, Health
from tests.calls import DEPLOYMENT as FIRST
from tests.calls import UPSTREAM

SECOND = replace(FIRST, id=2, model="other")  # the same account
ELSEWHERE = replace(FIRST, id=3, upstream=replace(UPSTREAM, id=2))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic_s(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(under_test, "clock", found)
    return found


@pytest.fixture
def health(clock):
    return Health()


def fail(health, deployment, times, exc=None):
    for _ in range(times):
        health.begin(deployment)
        health.failed(deployment, exc or UpstreamTimeout("slow"))


def test_what_fails_in_a_row_is_passed_over_while_something_else_is_left(health):
    fail(health, FIRST, IN_A_ROW - 1)
    assert health.usable([FIRST, ELSEWHERE]) == (FIRST, ELSEWHERE)
    fail(health, FIRST, 1)
    assert health.usable([FIRST, ELSEWHERE]) == (ELSEWHERE,)
    assert health.usable([FIRST]) == (FIRST,), "nothing else is left"


def test_a_success_in_between_keeps_it(health):
    fail(health, FIRST, IN_A_ROW - 1)
    health.succeeded(FIRST)
    fail(health, FIRST, IN_A_ROW - 1)
    assert health.usable([FIRST, ELSEWHERE]) == (FIRST, ELSEWHERE)


def test_half_of_many_failing_is_enough_but_not_for_the_last_one(health):
    for _ in range(10):
        fail(health, FIRST, 1)
        health.succeeded(FIRST)
    fail(health, FIRST, 1)
    assert health.usable([FIRST, ELSEWHERE]) == (ELSEWHERE,)
    assert health.usable([FIRST]) == (FIRST,)


def test_what_failed_long_ago_counts_no_more(health, clock):
    for _ in range(10):
        fail(health, FIRST, 1)
        health.succeeded(FIRST)
    clock.now += 3 * under_test.SPAN_S
    fail(health, FIRST, 1)
    assert health.usable([FIRST, ELSEWHERE]) == (FIRST, ELSEWHERE)


def test_the_last_one_is_shut_after_more_failures_and_says_when(health, clock):
    fail(health, FIRST, LAST_IN_A_ROW)
    assert health.usable([FIRST]) == ()
    told = health.refusal([FIRST])
    assert (told.status, told.code, told.retry_after_s) == (503, "upstream_unavailable", 1)
    assert "slow" in str(told)
    clock.now += PAUSE_S
    assert health.usable([FIRST]) == (FIRST,)


def test_one_probe_at_a_time(health, clock):
    fail(health, FIRST, LAST_IN_A_ROW)
    clock.now += PAUSE_S
    health.begin(FIRST)
    assert health.usable([FIRST]) == (), "the probe is under way"
    health.released(FIRST)
    assert health.usable([FIRST]) == (FIRST,), "its caller left"
    health.begin(FIRST)
    clock.now += PROBE_S
    assert health.usable([FIRST]) == (FIRST,), "it never came back"
    health.begin(FIRST)
    health.failed(FIRST, UpstreamTimeout("slow"))
    clock.now += PAUSE_S
    assert health.usable([FIRST]) == (), "the second pause is longer"
    clock.now += PAUSE_S
    health.begin(FIRST)
    health.succeeded(FIRST)
    assert health.usable([FIRST, ELSEWHERE]) == (FIRST, ELSEWHERE)


@pytest.mark.parametrize(
    ("exc", "befalls_all"),
    [
        pytest.param(CredentialRefused("no"), True, id="credential"),
        pytest.param(UpstreamUnreachable("no"), True, id="unreachable"),
        pytest.param(UpstreamRefused("busy", status=429), True, id="busy"),
        pytest.param(UpstreamRefused("failed", status=502), False, id="failed"),
        pytest.param(UpstreamError("what?"), False, id="nonsense"),
    ],
)
def test_what_befalls_every_model_of_an_account(health, exc, befalls_all):
    fail(health, FIRST, IN_A_ROW, exc)
    assert health.usable([FIRST, SECOND, ELSEWHERE]) == ((ELSEWHERE,) if befalls_all else (SECOND, ELSEWHERE))


def test_a_provider_that_says_when_is_not_asked_before(health, clock):
    health.failed(FIRST, UpstreamRefused("busy", status=429, retry_after_s=17))
    assert health.usable([FIRST, SECOND]) == ()
    told = health.refusal([FIRST, SECOND])
    assert (told.status, told.retry_after_s) == (429, 17)
    clock.now += 16.9
    assert health.usable([FIRST]) == ()
    clock.now += 0.1
    assert health.usable([FIRST]) == (FIRST,)


def test_the_requests_own_fault_opens_nothing(health):
    fail(health, FIRST, 20, UpstreamRefused("bad", status=400))
    assert health.usable([FIRST, ELSEWHERE]) == (FIRST, ELSEWHERE)


def test_the_mean_delay(health):
    assert health.delay_s(FIRST) is None
    health.succeeded(FIRST, 1.0)
    health.succeeded(FIRST, 2.0)
    assert health.delay_s(FIRST) == pytest.approx(1.2)
    assert health.delay_s(SECOND) is None, "an account has no delay"


def test_repeats_are_a_share_of_calls(health):
    while health.may_repeat():
        pass
    for _ in range(100):
        health.called()
    assert sum(health.may_repeat() for _ in range(100)) == MOST, "saved up, but not for ever"
    for _ in range(11):
        health.called()
    assert [health.may_repeat() for _ in range(3)] == [True, True, False]


def test_a_quiet_gateway_has_some_too(health, clock):
    while health.may_repeat():
        pass
    clock.now += 2
    health.called()
    assert [health.may_repeat() for _ in range(3)] == [True, True, False]


def test_the_report(health, clock):
    assert health.report() == {}
    health.succeeded(ELSEWHERE, 0.25)
    fail(health, FIRST, IN_A_ROW, UpstreamUnreachable("no connection to 10.0.0.1"))
    found = health.report()
    assert found[DEPLOYMENT, 3]["state"] == "healthy"
    assert found[DEPLOYMENT, 3]["first_byte_ms"] == 250
    assert found[ACCOUNT, 1] == {
        "state": "open",
        "failures_in_a_row": IN_A_ROW,
        "retry_in_s": PAUSE_S,
        "first_byte_ms": None,
        "error": "it cannot be reached",
    }
    clock.now += PAUSE_S
    assert health.report()[ACCOUNT, 1]["state"] == "half_open"


def test_going_on_is_free_where_the_last_call_went_well(health):
    while health.may_repeat():
        pass
    assert health.may_go_on(ELSEWHERE)
    fail(health, ELSEWHERE, 1)
    assert not health.may_go_on(ELSEWHERE)
    health.succeeded(ELSEWHERE)
    assert health.may_go_on(ELSEWHERE)


def test_a_refusal_that_comes_when_the_pause_is_just_over(health, clock):
    fail(health, FIRST, LAST_IN_A_ROW)
    clock.now += PAUSE_S
    told = health.refusal([FIRST])
    assert (told.status, told.retry_after_s) == (503, 1)
