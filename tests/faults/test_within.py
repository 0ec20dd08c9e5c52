"""What fails after the first word of an answer, and what takes too long: told as an event, booked as delivered."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic, sleep

import pytest

from services import token_counter
from tests.fakes.upstream import Plan
from tests.faults.routes import CELLS, IDS, error_of, is_whole, last_error, text_of
from tests.faults.world import CUT, SECRET, UPSTREAM_MODELS, tried

ERROR = json.dumps(
    {"type": "error", "error": {"message": f"busy {SECRET}", "type": "fake", "code": "fake", "status": "FAKE"}}
)
BREAKS = {
    "closed": {"cut_after": 2},
    "reset": {"cut_after": 2, "reset": True},
    "ended early": {"end_after": 2},
    "an error event": {"raw_event": f"event: error\ndata: {ERROR}\n\n"},
    "an event that is no JSON": {"raw_event": "data: {oops\n\n"},
    "an event that is a number": {"raw_event": "data: 7\n\n"},
    "an event without an end": {"raw_event": "data: " + "y" * 300_000, "cut_after": 2},
}
STREAMS = [(route, wire) for route, wire in CELLS if route.is_stream and not route.is_binary]
NAMES = [IDS[route.name, wire] for route, wire in STREAMS]
SOUNDS = [route for route, _wire in CELLS if route.is_binary]
INPUTS = {"anthropic": 3, "gemini": 3}  # told with the first events; the others tell it at the end
CHAT_INPUT = 3 + 1 + 3 + 3  # three words, the role, and the overhead of a chat


def booked(world, route, wire, answer, outcome):
    """One row with the delivered text, counted, and the input, counted or as told by then."""
    row = world.row(answer)
    assert (row.outcome, row.state, row.status) == (outcome, "estimated", 200)
    model = UPSTREAM_MODELS.get(wire, "gpt-4o-mini")
    delivered = token_counter.count_tokens(text_of(route, answer.text), model)
    assert row.output_tokens == delivered > 0
    assert row.input_tokens == INPUTS.get(wire, 3 if route.operation == "completion" else CHAT_INPUT)
    assert row.cost_nanousd == row.input_tokens * 150 + row.output_tokens * 600
    assert SECRET not in (row.error or "")
    return row


def ended(route, answer, *said):
    """What came is there, then an error, and no end mark."""
    assert answer.status_code == 200, answer.text
    assert text_of(route, answer.text).startswith("word0 ")
    assert not is_whole(route, answer.text)
    message = last_error(route, answer.text)
    assert SECRET not in answer.text
    assert any(text in message for text in said) if said else message


@pytest.mark.parametrize("plan", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize(("route", "wire"), STREAMS, ids=NAMES)
def test_a_stream_that_breaks(world, monkeypatch, route, wire, plan):
    monkeypatch.setattr("utils.sse.MAX_EVENT_BYTES", 100_000)
    world.upstream.will(**plan)
    answer = world.ask(route, f"{wire}-spare", wire)
    ended(route, answer)
    row = booked(world, route, wire, answer, "upstream_cut")
    assert tried(row) == ["upstream_cut"]
    assert (len(world.upstream.served), world.spare.served) == (1, [])


@pytest.mark.parametrize("plan", [{"cut_after": 2}, {"cut_after": 2, "reset": True}], ids=["closed", "reset"])
@pytest.mark.parametrize("route", SOUNDS, ids=lambda route: route.name)
def test_a_sound_that_breaks_off_is_not_whole(world, route, plan):
    world.upstream.will(**plan)
    answer = world.ask(route, "openai", "openai")
    assert (answer.status_code, answer.data) == (200, CUT)
    row = world.row(answer)
    assert (row.outcome, row.state, row.input_tokens, row.output_tokens) == ("upstream_cut", "estimated", 3, 3)
    assert row.output_audio_tokens == 3


SLOW = {  # for a stream, for a whole answer, and how the row calls it after the first word
    "mute": ({"first_s": 5}, {"first_s": 5}),
    "mute in the middle": ({"mute_after": 2}, {"then": "mute"}),
    "a trickle": ({"words": 200, "every_s": 0.05}, {"piece": 1, "piece_s": 0.02}),
}
LIMITS = {"mute": (0.3, 1.0), "mute in the middle": (0.3, 1.2), "a trickle": (0.3, 1.8)}


@pytest.fixture(scope="module")
def slow(shared):
    """All of them at once: the answers, and how long they took."""
    done: dict = {}
    for model in ("gpt-4o-mini", *UPSTREAM_MODELS.values()):
        token_counter.count_tokens("x", model)  # it takes a while the first time

    def one(cell):
        (route, wire), started_s = cell, monotonic()
        answer = shared.ask(route, f"{wire}-brief", wire)
        return answer, monotonic() - started_s

    for name, plans in SLOW.items():
        for is_stream in (True, False):
            shared.forget()
            shared.upstream.default = Plan(**plans[0 if is_stream else 1])
            cells = [(route, wire) for route, wire in CELLS if route.is_stream == is_stream]
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(one, cells))
            for (route, wire), (answer, took_s) in zip(cells, found, strict=True):
                done[name, route.name, wire] = answer, took_s
            if "mute" in name:
                done[name, is_stream] = [served for served in shared.upstream.served if _has_left(served)]
                assert len(shared.upstream.served) == len(cells)
    return done


def _has_left(served):
    """Whether the gateway closes the connection soon."""
    end_s = monotonic() + 10
    while served.peer_left_at is None and monotonic() < end_s:
        sleep(0.01)
    return served.peer_left_at is not None


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize(("route", "wire"), CELLS, ids=IDS.values())
def test_who_takes_too_long_is_given_up(world, slow, route, wire, name):
    answer, took_s = slow[name, route.name, wire]
    least_s, most_s = LIMITS[name]
    assert least_s <= took_s < most_s
    if name == "mute" or not route.is_stream:
        assert answer.status_code == 504, answer.text
        assert error_of(route, answer)
        row = world.row(answer)
        assert (row.state, row.outcome, row.cost_nanousd) == ("void", "upstream_timeout", 0)
    elif route.is_binary:
        assert answer.data == CUT
        row = world.row(answer)
        assert (row.state, row.outcome) == ("estimated", "upstream_timeout")
        assert row.output_audio_tokens >= 3
    else:
        ended(route, answer)
        row = booked(world, route, wire, answer, "upstream_timeout")
    assert len(tried(row)) == 1


@pytest.mark.parametrize(("route", "wire"), STREAMS, ids=NAMES)
def test_a_stream_that_only_kept_alive_costs_nothing(world, monkeypatch, route, wire):
    """Its status went out with a comment, so it cannot go elsewhere; but nothing was generated either."""
    pipeline = world.here.pipeline
    monkeypatch.setattr(pipeline, "_policy", replace(pipeline._policy, beat_s=0.03))
    world.upstream.will(script=[": hello\n\n"], then="mute")
    answer = world.ask(route, f"{wire}-brief", wire)
    assert answer.status_code == 200
    assert ": ping\n\n" in answer.text
    assert last_error(route, answer.text)
    assert not is_whole(route, answer.text)
    row = world.row(answer)
    assert (row.state, row.outcome, row.cost_nanousd) == ("void", "upstream_timeout", 0)


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("name", ["mute", "mute in the middle"])
def test_the_connection_to_who_is_silent_is_closed(slow, name, is_stream):
    assert len(slow[name, is_stream]) == sum(route.is_stream == is_stream for route, _wire in CELLS)
