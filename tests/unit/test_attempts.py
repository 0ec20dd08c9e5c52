"""Which deployment comes next: the corners that no route shows."""

import threading
from dataclasses import replace

import pytest

from services import attempts as under_test
from services.attempts import Attempts
from services.errors import CallerGone, UpstreamRefused
from services.health import Health
from services.steps import Route, Step
from tests.calls import DEPLOYMENT, UPSTREAM, make_call

FAILED = UpstreamRefused("failed", status=500)


def failing(tries):
    """How often something was tried that always fails."""
    made = 0
    for deployment in tries:
        made += 1
        tries.failed(deployment, FAILED)
    return made


def test_a_caller_who_left_during_a_pause_ends_it(monkeypatch):
    call = make_call()
    monkeypatch.setattr(under_test.clock, "sleep", lambda _seconds: call.abort_gone())
    with pytest.raises(CallerGone):
        failing(Attempts(call, Health(), 3))


def test_a_caller_who_left_is_not_served_elsewhere():
    call = make_call(candidates=(DEPLOYMENT, DEPLOYMENT))
    tries = Attempts(call, Health(), 0)
    coming = iter(tries)
    tries.failed(next(coming), FAILED)
    call.abort_gone()
    with pytest.raises(CallerGone):
        next(coming)


def test_there_is_an_end(monkeypatch):
    monkeypatch.setattr(under_test.clock, "sleep", lambda _seconds: None)
    assert failing(Attempts(make_call(), Health(), 2)) == 3


def test_what_could_not_take_the_call_is_not_asked_again():
    assert len(list(Attempts(make_call(), Health(), 3))) == 1


def test_who_wants_more_time_than_callers_have_is_left_alone():
    tries = Attempts(make_call(), Health(), 3)
    for deployment in tries:
        tries.failed(deployment, UpstreamRefused("busy", status=503, retry_after_s=60))
    assert tries.failure.retry_after_s == 60


def test_repeats_end_with_their_budget(monkeypatch):
    monkeypatch.setattr(under_test.clock, "sleep", lambda _seconds: None)
    health = Health()
    while health.may_repeat():
        pass
    assert failing(Attempts(make_call(), health, 3)) == 1


def along(*steps):
    return make_call(route=Route("/p", frozenset(), steps))


def test_a_step_is_repeated_with_its_own_pauses(monkeypatch):
    slept, mine, sleep = [], threading.get_ident(), under_test.clock.sleep

    def note(seconds):
        (slept.append if threading.get_ident() == mine else sleep)(seconds)  # threads of earlier apps sleep as ever

    monkeypatch.setattr(under_test.clock, "sleep", note)
    monkeypatch.setattr(under_test.clock, "monotonic_s", lambda: 100.0 + sum(slept))
    monkeypatch.setattr(under_test.random, "random", lambda: 1.0)
    for is_constant, waited_s in ((True, 0.3), (False, 0.7)):
        slept.clear()
        step = Step((("fast", DEPLOYMENT),), retries=3, pause_s=0.1, is_constant=is_constant)
        assert failing(Attempts(along(step), Health(), 0)) == 4
        assert sum(slept) == pytest.approx(waited_s)


def test_steps_end_with_the_budget_for_repeats():
    health = Health()
    while health.may_repeat():
        pass
    step = Step((("fast", DEPLOYMENT),))
    assert failing(Attempts(along(step, step), health, 0)) == 1


def test_a_step_that_is_shut_out_is_passed_over():
    health, other = Health(), replace(DEPLOYMENT, id=2, upstream=replace(UPSTREAM, id=2))
    health.failed(DEPLOYMENT, UpstreamRefused("busy", status=429, retry_after_s=60))
    call = along(Step((("fast", DEPLOYMENT),), retries=2), Step((("slow", other),)))
    call.candidates = (DEPLOYMENT, other)
    assert [one.id for one in Attempts(call, health, 0)] == [2]
    call.candidates = (DEPLOYMENT,)
    tries = Attempts(call, health, 0)
    assert list(tries) == []
    assert (tries.failure.status, tries.failure.retry_after_s) == (429, 60)


def test_what_waits_for_a_reason_is_tried_where_nothing_else_is_left():
    """A budget has left out the model itself."""
    call = make_call(detours={DEPLOYMENT.id: "context"})
    assert list(Attempts(call, Health(), 0)) == [DEPLOYMENT]
