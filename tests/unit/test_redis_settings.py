"""How Valkey or Redis is named, and what a mistake in it is told without."""

import pytest
from redis.connection import parse_url

from utils import settings


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param({"url": "redis://h"}, {"host": "h"}, id="a host"),
        pytest.param(
            {"url": "redis://u:p%2Fw@h:6380/3"},
            {"username": "u", "password": "p/w", "host": "h", "port": 6380, "db": 3},
            id="everything",
        ),
        pytest.param({"url": "VALKEY://h?db=2"}, {"host": "h", "db": 2}, id="valkey"),
        pytest.param(
            {"url": "valkeys://h?ssl_cert_reqs=none&ssl_ca_certs=/ca"},
            {"host": "h", "ssl_cert_reqs": "none", "ssl_ca_certs": "/ca"},
            id="TLS",
        ),
        pytest.param({"url": "unix:///run/valkey.sock?db=1"}, {"path": "/run/valkey.sock", "db": 1}, id="a socket"),
        pytest.param({"hosts": ("h",), "port": 6380}, {"host": "h", "port": 6380, "db": 0}, id="parts"),
        pytest.param(
            {"hosts": ("::1",), "password": "p@/#?%w"},
            {"host": "::1", "port": 6379, "db": 0, "password": "p@/#?%w"},
            id="parts with a password",
        ),
        pytest.param({"url": "redis://a", "hosts": ("b", "c")}, {"host": "a"}, id="the address before the parts"),
    ],
)
def test_it_may_be_named_in_several_ways(given, found):
    parts = {"url": "", "hosts": (), "port": 6379, "password": ""} | given
    assert settings.redis_problems(parts["url"], parts["hosts"]) == []
    options = parse_url(settings.redis_url(**parts))
    options.pop("connection_class", None)
    assert options == found


def test_by_default_there_is_none():
    assert settings.redis_url("", (), 6379, "a-password-alone") == ""
    assert settings.redis_problems("", ()) == []


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://secret@h",
        "redis://",
        "redis:h",
        "redis://:secret/x@h",
        "redis://:secret#x@h",
        "redis://:secret@h:0",
        "redis://:secret@h:66000",
        "redis://:secret@h/zero",
        "redis://:secret@h?db=one",
        "redis://:secret@h?socket_timeout=30",
        "redis://:secret@h?ssl_ca_certs=/ca",
        "redis://:secret@h?db",
        "redis://:secret@h /0",
        "redis://:secret@[::1",
        "unix://",
    ],
)
def test_a_mistake_in_the_address_is_told_in_a_line_without_it(url):
    problems = settings.redis_problems(url, ())
    assert len(problems) == 1
    assert problems[0].startswith("REDIS_URL: not an address")
    assert "secret" not in problems[0]


@pytest.mark.parametrize(
    ("hosts", "said"), [(("a", "b"), "several hosts"), (("h:6379",), "not a host name"), (("h/0",), "not a host name")]
)
def test_a_mistake_in_the_parts_is_told_in_a_line(hosts, said):
    problems = settings.redis_problems("", hosts)
    assert len(problems) == 1
    assert said in problems[0]
