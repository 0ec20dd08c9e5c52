"""Framing: whatever way the network cuts a stream, the events are the same."""

import pytest

from utils import sse

STREAMS = {
    "newlines": b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    "carriage returns and newlines": b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\n',
    "a mixture": b'data: {"a":1}\n\r\ndata: {"b":2}\r\n\ndata: x\n\n',
    "carriage returns alone": b"data: a\r\rdata: b\r\r",
    "several data lines": b"data: one\ndata: two\n\ndata:three\n\n",
    "comments and names": b": ping\n\nevent: x\nid: 7\ndata: y\n\n",
    "other line ends are text": 'data: {"t":"a\u2028b\u0085c"}\n\n'.encode(),
    "characters of four bytes": 'data: {"t":"😀é漢"}\n\n'.encode(),
    "no blank line at the end": b'data: {"a":1}\n\ndata: {"b":2}',
    "blank lines too many": b"data: a\n\n\n\n\ndata: b\n\n",
}


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = sse.EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)] + list(splitter.end())


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_cut_at_any_bytes_has_the_same_events(stream):
    whole = [sse.data_of(event) for event in split([stream])]
    assert any(data for data in whole)
    for first in range(len(stream) + 1):
        for second in range(first, min(first + 3, len(stream)) + 1):
            pieces = [stream[:first], stream[first:second], stream[second:]]
            assert [sse.data_of(event) for event in split(pieces)] == whole


@pytest.mark.parametrize("stream", [stream for stream in STREAMS.values() if stream.endswith(b"\n\n")])
def test_not_a_byte_is_lost(stream):
    for cut in range(len(stream)):
        assert b"".join(split([stream[:cut], stream[cut:]])) == stream


@pytest.mark.parametrize(
    ("event", "data"),
    [
        pytest.param(b'data: {"a":1}\n\n', b'{"a":1}', id="the usual form"),
        pytest.param(b'data:{"a":1}\n\n', b'{"a":1}', id="no space after the colon"),
        pytest.param(b"data: a\ndata: b\n\n", b"a\nb", id="two lines are joined"),
        pytest.param(b"event: x\r\ndata: a\r\n\r\n", b"a", id="other fields are left out"),
        pytest.param(b": only a comment\n\n", None, id="a comment has no data"),
        pytest.param(b"\n\n", None, id="a blank line has no data"),
        pytest.param(b"data:\n\n", b"", id="empty data"),
        pytest.param(b'data: {"a":1}\ndata: }\n\n', b'{"a":1}\n}', id="braces at both ends of two lines"),
        pytest.param(b'data: {"a":1}\r\n\r\n', b'{"a":1}', id="carriage returns"),
        pytest.param(b'data: {"a":1}\r\ndata: }\r\n\r\n', b'{"a":1}\n}', id="carriage returns and two lines"),
    ],
)
def test_data_of_an_event(event, data):
    assert sse.data_of(event) == data


def test_a_byte_order_mark_is_no_part_of_the_first_event():
    stream = sse.BOM + b"data: a\n\n"
    for cut in range(len(stream)):
        assert split([stream[:cut], stream[cut:]]) == [b"data: a\n\n"]


def test_an_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = sse.EventSplitter()
    assert list(splitter.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(sse.OversizedEvent):
        list(splitter.feed(b"y" * 20))
