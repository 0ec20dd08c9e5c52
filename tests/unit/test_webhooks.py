"""Webhooks: what is sent, signed and in order; what a receiver may do wrong; and that no call waits for it."""

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import config
from services import webhooks
from services.addresses import AddressRules
from services.webhooks import Webhooks
from tests.fakes.scripted import Scripted

SECRET = "a secret of the receiver"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"
HERE = AddressRules(allow_private=True, allowed=())


class Receiver(Scripted):
    """Answers each event with the next of some scripts, then with 204; keeps what came, with its headers."""

    def __init__(self, *scripts: Callable[[socket.socket], bool] | bytes) -> None:
        self.scripts = list(scripts)
        super().__init__(self._answer_next)

    def _answer_next(self, _asked, line):
        script = self.scripts.pop(0) if self.scripts else OK
        if isinstance(script, bytes):
            line.sendall(script)
            return True
        return script(line)

    @property
    def told(self):
        return [json.loads(asked.body) for asked in self.asked]


def status(code: int) -> bytes:
    return f"HTTP/1.1 {code} Whatever\r\ncontent-length: 2\r\n\r\nno".encode()


@pytest.fixture
def receive():
    made = []

    def make(*scripts, **rules):
        receiver = Receiver(*scripts)
        sender = Webhooks(rules.get("rules", HERE), rules.get("urls", (receiver.url,)), SECRET)
        made.append((receiver, sender))
        return receiver, sender

    yield make
    for receiver, sender in made:
        sender.close()
        receiver.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(webhooks, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 0.5)


def until(condition, longest_s=5.0):
    end = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def lost(sender):
    return [line.lost for line in sender._lines]


def test_events_come_in_order_and_once(receive):
    receiver, sender = receive()
    for number in range(50):
        sender.take("message_sent", {"user_id": number})
    until(lambda: len(receiver.asked) == 50)
    assert [told["data"]["user_id"] for told in receiver.told] == list(range(50))
    assert len({told["id"] for told in receiver.told}) == 50
    assert receiver.told[0].keys() == {"id", "type", "created_at", "data"}
    assert (receiver.told[0]["type"], lost(sender)) == ("message_sent", [0])


def test_a_signature_is_of_the_moment_and_the_body():
    event = webhooks.Event("evt_1", b'{"id":"evt_1"}')
    headers = webhooks.headers_of(event, SECRET)
    moment, _, given = headers["tollhouse-signature"].removeprefix("t=").partition(",v1=")
    wanted = hmac.new(SECRET.encode(), moment.encode() + b'.{"id":"evt_1"}', hashlib.sha256).hexdigest()
    assert given == wanted
    assert abs(int(moment) - time.time()) < 5
    assert headers["tollhouse-event-id"] == "evt_1"
    assert webhooks.sign("another secret", int(moment), event.body) != wanted


@pytest.mark.parametrize("code", [500, 502, 503, 408, 409, 425, 429])
def test_what_may_pass_is_sent_again_with_the_same_id(receive, code):
    receiver, sender = receive(status(code), status(code))
    sender.take("message_sent", {"user_id": 1})
    sender.take("message_sent", {"user_id": 2})
    until(lambda: len(receiver.asked) == 4)
    assert [told["data"]["user_id"] for told in receiver.told] == [1, 1, 1, 2]
    assert len({told["id"] for told in receiver.told[:3]}) == 1
    assert lost(sender) == [0]


@pytest.mark.parametrize("code", [301, 307, 400, 401, 404, 410, 422])
def test_what_is_refused_for_good_is_not_sent_again(receive, code, caplog):
    receiver, sender = receive(status(code))
    sender.take("message_sent", {"user_id": 1})
    sender.take("message_sent", {"user_id": 2})
    until(lambda: len(receiver.asked) == 2)
    until(lambda: lost(sender) == [1])
    assert f"lost=1: the answer was {code}" in caplog.text


def hang_up(line):
    line.close()
    return False


def silence(line):
    time.sleep(1.0)
    return False


def slowly(line):
    """A byte at a time: a timeout of silence alone would never end it."""
    for byte in b"HTTP/1.1 200 OK\r\n" * 20:
        try:
            line.sendall(bytes([byte]))
        except OSError:
            return False
        time.sleep(0.05)
    return False


def garbage(line):
    line.sendall(b"\x00\x01 this is no HTTP\r\n\r\n")
    return False


@pytest.mark.parametrize("fault", [hang_up, silence, slowly, garbage])
def test_a_broken_receiver_gets_it_when_it_works_again(receive, fault):
    receiver, sender = receive(fault, fault)
    sender.take("message_sent", {"user_id": 1})
    until(lambda: len(receiver.asked) >= 3, 10)
    assert {told["data"]["user_id"] for told in receiver.told} == {1}
    assert lost(sender) == [0]


def test_what_nobody_takes_is_counted_and_the_next_one_goes_on(receive, caplog):
    receiver, sender = receive(*[status(500)] * 4)
    sender.take("message_sent", {"user_id": 1})
    sender.take("message_sent", {"user_id": 2})
    until(lambda: len(receiver.asked) == 5)
    assert [told["data"]["user_id"] for told in receiver.told] == [1, 1, 1, 1, 2]
    assert lost(sender) == [1]
    assert "events were not delivered" in caplog.text


def test_nobody_waits_and_too_many_are_dropped_with_one_warning(receive, monkeypatch, caplog):
    release = threading.Event()
    receiver, sender = receive(lambda _line: release.wait(60) and False)
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 60.0)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for number in range(webhooks.MOST_WAITING + 500):
            sender.take("message_sent", {"user_id": number})
    assert time.monotonic() - began < 30.0
    assert 498 <= lost(sender)[0] <= 500
    assert caplog.text.count("events were not delivered") == 1
    release.set()
    assert receiver.connections <= 1


def test_one_receiver_that_hangs_does_not_keep_another_waiting(receive):
    hanging, good = Receiver(silence), Receiver()
    _receiver, sender = receive(urls=(hanging.url, good.url))
    for number in range(5):
        sender.take("message_sent", {"user_id": number})
    until(lambda: len(good.asked) == 5, 0.9)
    hanging.stop()
    good.stop()


@pytest.mark.parametrize("url", ["http://169.254.169.254/secret-of-the-path", "http://127.0.0.1:1/secret-of-the-path"])
def test_addresses_are_judged_like_those_of_providers(receive, url, caplog):
    _receiver, sender = receive(urls=(url,), rules=AddressRules(allow_private=False, allowed=()))
    sender.take("message_sent", {"user_id": 1})
    until(lambda: "address" in caplog.text)  # counted before it is said
    assert lost(sender) == [1]
    assert "secret-of-the-path" not in caplog.text


def test_ending_sends_what_waits_and_does_not_stay(receive):
    receiver, sender = receive(status(500))
    for number in range(3):
        sender.take("message_sent", {"user_id": number})
    began = time.monotonic()
    sender.close()
    assert time.monotonic() - began < webhooks.GOODBYE_S + 1
    assert [told["data"]["user_id"] for told in receiver.told][-2:] == [1, 2]


def test_without_events_there_is_no_thread(receive):
    before = threading.active_count()
    _receiver, sender = receive()
    assert threading.active_count() <= before + 1, "the receiver's own"
    assert all(line._thread is None for line in sender._lines)
    sender.close()


def test_a_refused_connection_is_logged_without_the_path(receive, caplog):
    _receiver, sender = receive(urls=("http://127.0.0.1:1/secret-of-the-path",))
    sender.take("message_sent", {"user_id": 1})
    until(lambda: "to=127.0.0.1 lost=1" in caplog.text)
    assert lost(sender) == [1]
    assert "secret-of-the-path" not in caplog.text


def test_the_check_that_the_page_shows_is_right():
    page = (Path(__file__).resolve().parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
    names = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    event = webhooks.Event("evt_1", b"{}")
    header = webhooks.headers_of(event, SECRET)["tollhouse-signature"]
    assert names["is_ours"](SECRET, header, b"{}")
    assert not names["is_ours"](SECRET, header, b"{ }")
    assert not names["is_ours"]("another", header, b"{}")
    assert not names["is_ours"](SECRET, f"t=1,v1={webhooks.sign(SECRET, 1, b'{}')}", b"{}"), "old"


def test_they_need_a_secret_and_plain_addresses(tmp_path):
    def load(urls, secret="0123456789abcdef"):
        return config.load({"WEBHOOK_URLS": urls, "WEBHOOK_SECRET": secret}, root=tmp_path)

    assert load("https://a.example/x, https://b.example").webhook_urls == ("https://a.example/x", "https://b.example")
    with pytest.raises(config.ConfigError, match="WEBHOOK_SECRET: 16 characters or more"):
        load("https://a.example/x", "short")
    for bad in ("ftp://a.example", "https://me:word@a.example", "house"):
        with pytest.raises(config.ConfigError, match="WEBHOOK_URLS: not http"):
            load(bad)
