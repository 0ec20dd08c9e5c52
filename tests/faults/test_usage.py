"""What is booked for streams whose usage comes early, late, twice or never: to the token where it is known."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from services import token_counter
from tests.faults.routes import CELLS, IDS
from tests.faults.streams import WIRES, Told
from tests.faults.test_within import CHAT_INPUT
from tests.faults.world import UPSTREAM_MODELS

STREAMS = [(route, wire) for route, wire in CELLS if route.is_stream and route.operation == "chat" and wire in WIRES]
FINAL = Told(70, 9, cached=40, thought=4)


@dataclass(frozen=True)
class Case:
    """A stream, and what its row says. A count of None is counted here."""

    events: Any  # of a wire: the list of what it sends
    state: str = "measured"
    told: Told | None = FINAL
    outcome: str = "ok"
    then: str = "end"
    given: Any = ...  # instead of the input that was told, by wire
    only: tuple[str, ...] = tuple(WIRES)


def words(wire, count=3):
    return [wire.word(number) for number in range(count)]


CASES = {
    "as usual": Case(lambda w: [w.opening(), *words(w), w.finish(FINAL), w.done()]),
    "with the finish": Case(lambda w: [w.opening(Told(70, 1, 40)), *words(w), w.finish(FINAL), w.done()]),
    "on its own after the finish": Case(lambda w: [w.opening(), *words(w), w.finish(), w.usage(FINAL), w.done()]),
    "with the last word": Case(lambda w: [w.opening(), *words(w), w.word(3, FINAL), w.finish(), w.done()]),
    "with the end mark": Case(lambda w: [w.opening(), *words(w), w.finish(), w.done(FINAL)], only=("anthropic",)),
    "before the finish": Case(lambda w: [w.opening(), *words(w), w.usage(FINAL), w.finish(), w.done()]),
    "twice, growing": Case(
        lambda w: [w.opening(Told(70, 1, 40)), w.word(0, Told(70, 3, 40)), *words(w), w.finish(FINAL), w.done()]
    ),
    "twice, the same": Case(lambda w: [w.opening(), *words(w), w.finish(FINAL), w.usage(FINAL), w.done()]),
    "explicit zeros": Case(lambda w: [w.opening(), *words(w), w.finish(Told(0, 0)), w.done()], told=Told(0, 0)),
    "never": Case(lambda w: [w.opening(), *words(w), w.finish(), w.done()], "estimated", None),
    "only at the start": Case(
        lambda w: [w.opening(Told(70, 1, 40)), *words(w), w.finish(), w.done()], "estimated", None, given=70
    ),
    "only with the first word": Case(
        lambda w: [w.opening(), w.word(0, Told(70, 1, 40)), *words(w), w.finish(), w.done()],
        "estimated",
        None,
        given=70,
    ),
    "cut in the middle": Case(
        lambda w: [w.opening(), *words(w)], "estimated", None, outcome="upstream_cut", then="cut"
    ),
    "cut in the middle, input known": Case(
        lambda w: [w.opening(Told(70, 1, 40)), *words(w)],
        "estimated",
        None,
        outcome="upstream_cut",
        then="reset",
        given=70,
    ),
    "cut after the finish, before the usage": Case(
        lambda w: [w.opening(), *words(w), w.finish()], "estimated", None, outcome="upstream_cut", then="cut"
    ),
    "cut after the usage": Case(
        lambda w: [w.opening(), *words(w), w.finish(), w.usage(FINAL)], outcome="upstream_cut", then="cut"
    ),
    "an error in the middle": Case(
        lambda w: [w.opening(), *words(w), w.error()], "estimated", None, outcome="upstream_cut"
    ),
    "an error after a report": Case(
        lambda w: [w.opening(), *words(w), w.usage(FINAL), w.error()], outcome="upstream_cut"
    ),
    "an error before the first word": Case(
        lambda w: [w.opening(Told(70, 1, 40)), w.error()], "void", Told(0, 0), outcome="upstream_error"
    ),
    "cut before the first word": Case(
        lambda w: [w.opening(Told(70, 1, 40))], "void", Told(0, 0), outcome="upstream_error", then="cut"
    ),
    "no text at all": Case(lambda w: [w.opening(), w.finish(FINAL), w.done()]),
}


def delivered(wire, events):
    """How many tokens the words of these events have, as they are counted here."""
    text = "".join(re.findall(r"word\d ", "".join(events)))
    return token_counter.count_tokens(text, UPSTREAM_MODELS.get(wire, "gpt-4o-mini"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("route", "wire"), STREAMS, ids=[IDS[route.name, wire] for route, wire in STREAMS])
def test_a_stream_is_booked(world, route, wire, case):
    if wire not in case.only:
        return
    events = case.events(WIRES[wire])
    world.upstream.will(script=[event for event in events if event], then=case.then)
    row = world.row(world.ask(route, wire, wire))
    assert (row.state, row.outcome) == (case.state, case.outcome)
    if case.told is None:
        assert row.output_tokens == delivered(wire, events) > 0
        assert row.input_tokens == (CHAT_INPUT if case.given is ... else case.given)
        return
    used = (row.input_tokens or 0, row.output_tokens or 0)
    parts = (row.cache_read_input_tokens or 0, row.reasoning_output_tokens or 0)
    assert used + parts == (case.told.given, case.told.output, case.told.cached, case.told.thought)
