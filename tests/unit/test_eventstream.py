"""AWS's event stream: whole messages, damaged ones, and headers of every type."""

import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer

from services.providers.eventstream import MAX_MESSAGE_BYTES, BadMessage, MessageSplitter
from tests.fakes.eventstream import message

TYPES = {  # a header of each type that is no text
    0: b"",
    1: b"",
    2: b"\x01",
    3: b"\x00\x01",
    4: b"\x00\x00\x00\x01",
    5: b"\x00" * 8,
    6: b"\x00\x03abc",
    8: b"\x00" * 8,
    9: b"\x00" * 16,
}
OTHERS = b"".join(bytes([2]) + b"h%d" % kind + bytes([kind]) + value for kind, value in TYPES.items())


def split(raw):
    return list(MessageSplitter().feed(raw))


def resigned(raw):
    """The message with checksums that fit."""
    head = raw[:8] + struct.pack(">I", zlib.crc32(raw[:8])) + raw[12:-4]
    return head + struct.pack(">I", zlib.crc32(head))


def test_headers_of_all_types_are_passed_over_and_texts_are_read():
    raw = message(b"payload", {":event-type": "é"}, OTHERS)
    assert split(raw) == [({":event-type": "é"}, b"payload")]
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    (theirs,) = list(buffer)
    assert (theirs.headers[":event-type"], theirs.payload) == ("é", b"payload")


def test_messages_cut_anywhere_are_the_same():
    raw = message(b"one", {"a": "b"}) + message(b"", {}) + message(b"three", {"c": ""}, OTHERS)
    whole = [({"a": "b"}, b"one"), ({}, b""), ({"c": ""}, b"three")]
    for cut in range(len(raw) + 1):
        splitter = MessageSplitter()
        assert [*splitter.feed(raw[:cut]), *splitter.feed(raw[cut:])] == whole
    assert split(raw[:-1]) == whole[:-1]


@pytest.mark.parametrize("at", range(len(message(b"payload", {"a": "b"}))))
def test_every_damaged_byte_is_noticed(at):
    raw = bytearray(message(b"payload", {"a": "b"}))
    raw[at] ^= 0x55
    with pytest.raises(BadMessage):
        split(bytes(raw))


@pytest.mark.parametrize("total", [0, 15, MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_lengths_that_cannot_be_are_refused_at_once(total):
    with pytest.raises(BadMessage, match="cannot have"):
        split(resigned(struct.pack(">II", total, 0) + b"\x00" * 8))


def test_headers_longer_than_their_message_are_refused():
    with pytest.raises(BadMessage, match="cannot have"):
        split(resigned(struct.pack(">II", 24, 20) + b"\x00" * 16))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (b"\x01a\x0a", "unknown type"),
        (b"\x01a\x07\x00", "cannot be read"),
        (b"\x05a", "cannot be read"),
        (b"\x01a\x07\x00\x01\xff", "cannot be read"),
        (b"\x01a\x07\x00\x09x", "do not end"),
        (b"\x01a\x05\x00", "do not end"),
    ],
)
def test_headers_that_are_none_are_refused(headers, said):
    with pytest.raises(BadMessage, match=said):
        split(message(b"{}", {}, headers))
