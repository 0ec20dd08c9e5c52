"""Which deployment comes next: the corners that no route shows."""

import pytest

from services import attempts as under_test
from services.attempts import Attempts
from services.errors import CallerGone, UpstreamRefused
from services.health import Health
from tests.calls import DEPLOYMENT, make_call

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
