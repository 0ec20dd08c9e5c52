"""What gunicorn does with less work says the same."""

from types import SimpleNamespace

import pytest
from gunicorn import config, util
from gunicorn.http import wsgi

from utils import frugal


class Line:
    """A connection that keeps what was sent, by packet."""

    def __init__(self):
        self.sent = []

    def sendall(self, data):
        self.sent.append(bytes(data))


def answered(kind, pieces, *, method="POST", status="200 OK", headers=(("x-one", "1"),)):
    line = Line()
    asked = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
    response = kind(asked, line, config.Config())
    response.start_response(status, list(headers))
    for piece in pieces:
        response.write(piece)
    response.close()
    return line.sent


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    monkeypatch.setattr(util, "http_date", lambda _timestamp=None: "Mon, 23 Nov 2026 08:00:00 GMT")


LENGTH = (("content-length", "4"),)
ANSWERS = {
    "whole": {"pieces": [b"body"], "headers": LENGTH},
    "in chunks": {"pieces": [b"one", b"two"]},
    "begins with nothing": {"pieces": [b"", b"one"]},
    "nothing at all": {"pieces": []},
    "longer than it says": {"pieces": [b"body and more"], "headers": LENGTH},
    "only the head is wanted": {"pieces": [b"body"], "method": "HEAD", "headers": LENGTH},
    "has no body": {"pieces": [b""], "status": "204 NO CONTENT"},
    "large": {"pieces": [b"x" * (frugal.MOST + 1)]},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_bytes_are_gunicorns(name):
    assert b"".join(answered(frugal.Response, **ANSWERS[name])) == b"".join(answered(wsgi.Response, **ANSWERS[name]))


def test_a_short_answer_is_one_packet():
    assert len(answered(frugal.Response, [b"body"], headers=LENGTH)) == 1
    head, rest, _end = answered(frugal.Response, [b"one", b"two"])
    assert b"one" in head
    assert rest == b"3\r\ntwo\r\n"
    assert len(answered(frugal.Response, [b"x" * (frugal.MOST + 1)], headers=())) == 3


def test_what_cannot_be_sent_leaves_the_connection_as_it_was():
    line = Line()
    response = frugal.Response(SimpleNamespace(method="GET", version=(1, 1), should_close=lambda: False), line, None)
    response.start_response("200 OK", [])
    with pytest.raises(TypeError):
        response.write("text")
    assert response.sock is line


def test_the_date_is_that_of_the_second(monkeypatch):
    monkeypatch.setattr("utils.clock.now_s", lambda: 1_790_000_000.9)
    assert frugal._http_date() == frugal._date(1_790_000_000) == "Mon, 21 Sep 2026 14:13:20 GMT"
    assert frugal._http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_settings_stay_what_they_are():
    plain, flat = config.Config(), config.Config()
    frugal.flatten(flat)
    for name in plain.settings:
        assert getattr(flat, name) == getattr(plain, name), name
    assert "keepalive" in vars(flat)
