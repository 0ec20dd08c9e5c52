"""A stream from an answer that was written beforehand: however it ends, it is booked once and says how it ended."""

import pytest

from services import stream as under_test
from services.dialects.openai import error_event
from services.errors import CallerGone, Draining
from services.exchange import Patience
from services.local import LocalExchange
from services.providers import WIRES
from services.providers.echo import CUT, Script
from services.stream import Stream
from tests.calls import attempted, make_call
from utils import sse


def word(text, finish=None):
    return sse.format_event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


WHOLE = [word("one "), word("two"), word("", "stop"), sse.DONE]


PATIENCE = Patience(1.0, 5.0, 5.0)


class Played:
    """A stream, its call, and what it told the others."""

    def __init__(self, steps, *, beat_s=0.0, reads_on=False, patience=PATIENCE):
        self.call = attempted(make_call(is_stream=True, is_answered=True))
        self.answer = LocalExchange(Script(200, {}, iter(steps)), patience)
        self.call.exchange = self.answer
        self.progress, self.booked = [], []
        self.stream = Stream(
            self.call,
            self.answer,
            WIRES["openai"].stream(self.call),
            beat_s=beat_s,
            progress=lambda request_id, tokens: self.progress.append(tokens),
            finish=lambda call: self.booked.append(call.outcome),
            leave=lambda _call: reads_on,
            render_error=error_event,
        )

    def read(self):
        return b"".join(self.stream)


def test_a_whole_stream_is_booked_before_its_end_is_handed_over():
    played = Played(WHOLE)
    *before, last = list(played.stream)
    assert b"".join([*before, last]) == b"".join(WHOLE)
    assert last.endswith(sse.DONE)
    assert played.booked == ["ok"]
    played.stream.close()
    played.stream.close()
    assert played.booked == ["ok", "ok"], "booking twice is the books' to refuse, closing twice does nothing"


def test_a_stream_that_nobody_read_is_booked_as_left():
    played = Played(WHOLE)
    played.stream.close()
    assert played.booked == ["client_gone"]


@pytest.mark.parametrize("reads", [0, 1, 2, 3])
def test_what_its_caller_does_not_take_is_read_on_and_measured(reads):
    usage = sse.format_event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    played = Played([*WHOLE[:-1], usage, WHOLE[-1]], reads_on=True)
    events = iter(played.stream)
    for _ in range(reads):
        next(events)
    events.close()
    played.stream.close()
    assert (played.booked, played.call.is_read_out, played.call.error) == (["client_gone"], True, None)
    assert (played.call.usage.input_tokens, played.call.usage.output_tokens) == (3, 2)


def test_a_stream_whose_caller_left_while_it_was_silent_says_no_more():
    played = Played(WHOLE, reads_on=True)
    events = iter(played.stream)
    assert next(events) == word("one ")
    played.call.drain_until_s = 1.0
    assert list(events) == []
    played.stream.close()
    assert (played.booked, played.call.pieces) == (["client_gone"], ["one ", "two"])


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        pytest.param([word("one "), CUT], "ended its answer early", id="cut"),
        pytest.param([word("one "), 9.0], "silent", id="silent"),
        pytest.param([word("one "), b"data: {nonsense\n\n", *WHOLE], "malformed", id="garbage"),
        pytest.param([word("one ")], "end", id="no end"),
    ],
)
def test_what_breaks_while_it_is_read_on_was_not_read_out(steps, error):
    played = Played(steps, reads_on=True, patience=Patience(1.0, 0.01, 5.0))
    played.stream.close()
    assert (played.booked, played.call.is_read_out) == (["client_gone"], False)
    assert error in played.call.error


def test_a_failure_that_was_read_before_its_caller_left_stays_one():
    played = Played([word("one ") + b"data: {nonsense\n\n", *WHOLE], reads_on=True)
    played.stream.prime()
    played.stream.close()
    assert (played.booked, played.call.is_read_out, played.call.pieces) == (["client_gone"], False, ["one "])


def test_a_fault_of_our_own_while_it_is_read_on_leaves_the_call_booked(caplog):
    played = Played(WHOLE, reads_on=True)

    def feed(_data):
        raise AttributeError("of ours")

    played.stream._decoder.feed = feed
    played.stream.close()
    assert (played.booked, played.call.error, played.call.is_read_out) == (["client_gone"], "AttributeError", False)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("steps", "outcome", "code"),
    [
        pytest.param([word("one "), CUT], "upstream_cut", b"upstream_error", id="cut"),
        pytest.param([word("one "), 9.0], "upstream_timeout", b"upstream_timeout", id="silent"),
        pytest.param([word("one "), b"data: {nonsense\n\n"], "upstream_cut", b"upstream_error", id="garbage"),
    ],
)
def test_a_failure_is_the_last_event(steps, outcome, code):
    played = Played(steps, patience=Patience(1.0, 0.01, 5.0))
    said = played.read()
    assert said.startswith(word("one "))
    assert code in said
    assert sse.DONE not in said
    assert played.booked == [outcome]


def test_an_answer_that_takes_too_long_in_all_is_ended():
    played = Played([word("one "), 0.02, word("two")], patience=Patience(1.0, 5.0, 0.01))
    assert b"upstream_timeout" in played.read()


def test_a_fault_of_our_own_is_an_error_without_its_inside(caplog):
    played = Played(WHOLE)

    def feed(_data):
        raise AttributeError("of ours")

    played.stream._decoder.feed = feed
    said = played.read()
    assert b"internal_server_error" in said
    assert b"AttributeError" not in said
    assert (played.booked, played.call.error) == (["internal_error"], "AttributeError")
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("reason", "outcome", "is_told"), [(Draining, "drained", True), (CallerGone, "client_gone", False)]
)
def test_a_call_that_is_ended_from_outside_stops_at_its_next_event(reason, outcome, is_told):
    played = Played(WHOLE)
    events = iter(played.stream)
    assert next(events) == word("one ")
    played.call.abort(reason("enough"))
    rest = b"".join(events)
    assert (b'"error"' in rest, word("two") in rest) == (is_told, False)
    assert played.booked == [outcome]


def test_an_end_that_comes_with_other_bytes_is_seen_before_they_are_used():
    played = Played(WHOLE)

    def chunks(_beat_s):
        yield WHOLE[0]
        played.call.abort_reason = Draining("enough")
        yield WHOLE[1]

    played.answer.chunks = chunks
    said = played.read()
    assert WHOLE[1] not in said
    assert played.booked == ["drained"]


def test_silence_is_filled_with_comments():
    played = Played([word("one "), 0.05, *WHOLE[1:]], beat_s=0.01)
    assert sse.PING in played.read()
    assert played.booked == ["ok"]


def test_progress_is_noted_for_those_who_come_after_a_death(monkeypatch):
    monkeypatch.setattr(under_test, "PROGRESS_S", 0.0)
    played = Played([word("x" * 40), word("y" * 40), *WHOLE[2:]])
    played.read()
    assert played.progress[:2] == [10, 20], "a token is four characters"
    assert played.call.first_byte_s is not None


def test_progress_is_noted_once_a_second_at_most():
    played = Played(WHOLE)
    played.read()
    assert played.progress == []


def test_a_local_answer_is_read_up_to_the_limit():
    answer = LocalExchange(Script(200, {}, iter([b"hello", 0.0, b" world"])), Patience(1.0, 1.0, 1.0))
    assert answer.read(7) == b"hello w"
