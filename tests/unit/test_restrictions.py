"""Paths, networks and times as people write them."""

from datetime import timedelta

import pytest

from services import restrictions
from services.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "method", "path"),
    [
        ("POST /v1/chat/completions", "POST", "/v1/chat/completions"),
        ("  get   /v1/models ", "GET", "/v1/models"),
        ("/v1/models", "", "/v1/models"),
        ("/", "", "/"),
        ("DELETE /v1/*", "DELETE", "/v1/*"),
    ],
)
def test_a_path_is_read_and_shown(text, method, path):
    rule = restrictions.path_rule(text)
    assert rule == {"path": path, "method": method}
    assert restrictions.path_rule(restrictions.show_path(rule)) == rule


@pytest.mark.parametrize("text", ["", " ", "POST", "v1/models", "FETCH /v1", "POST GET /v1", "/a b", "/" + "x" * 255])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(InvalidRequest) as caught:
        restrictions.path_rule(text)
    assert caught.value.param == "allowed_paths"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        (" 127.0.0.1 ", "127.0.0.1/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("::ffff:127.0.0.1", "127.0.0.1/32"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_a_network_is_stored_in_one_form(text, stored):
    assert restrictions.network(text) == stored


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.0/33", "::1/129", "host", "1", "fe80::1%eth0/64", "10.0.0.0/8/8"]
)
def test_what_is_no_network_is_refused(text):
    with pytest.raises(InvalidRequest):
        restrictions.network(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", timedelta(days=2)),
        ("36h30m", timedelta(hours=36, minutes=30)),
        ("1.5h", timedelta(minutes=90)),
        ("90s", timedelta(seconds=90)),
        ("1d1h1m1.25s", timedelta(days=1, hours=1, minutes=1, milliseconds=1250)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_time_is_read(text, expected):
    assert restrictions.ttl(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "d", "2 d", "-1d", "0s", "0", "36501d", "1w", "2d!", "٣d", "1e3s", "9" * 10 + "d", "1d " * 99]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidRequest) as caught:
        restrictions.ttl(text)
    assert caught.value.param == "ttl"
