"""Which requests the lists of a caller allow."""

import ipaddress

import pytest

from services import access
from services.errors import PermissionDenied
from services.types import Caller, PathRule

CHAT = "/v1/chat/completions"


def caller(*paths, ips=None):
    lists = [tuple(PathRule(*rule) for rule in rules) for rules in paths]
    return Caller(
        1,
        "ana",
        "user",
        1,
        "sk-th-AbCd…wxyz",
        allowed_paths=tuple((f"list {number}", rules) for number, rules in enumerate(lists)),
        allowed_ips=None if ips is None else tuple(ipaddress.ip_network(text) for text in ips),
    )


@pytest.mark.parametrize(
    ("rules", "method", "path", "is_allowed"),
    [
        pytest.param([(CHAT,)], "POST", CHAT, True, id="exactly"),
        pytest.param([(CHAT,)], "GET", CHAT, True, id="no method is every method"),
        pytest.param([(CHAT, "POST")], "POST", CHAT, True, id="with its method"),
        pytest.param([(CHAT, "POST")], "GET", CHAT, False, id="another method"),
        pytest.param([("/v1/models", "GET")], "HEAD", "/v1/models", True, id="HEAD is a GET"),
        pytest.param([("/v1/models", "POST")], "HEAD", "/v1/models", False, id="HEAD is no POST"),
        pytest.param([(CHAT,)], "POST", "/v1/chat/completions/", False, id="a slash too many"),
        pytest.param([(CHAT,)], "POST", "/v1/chat/completionsx", False, id="a longer name"),
        pytest.param([(CHAT,)], "POST", "/V1/chat/completions", False, id="another case"),
        pytest.param([("/v1/chat",)], "POST", CHAT, False, id="no prefix without a star"),
        pytest.param([("/v1/chat/*",)], "POST", CHAT, True, id="below"),
        pytest.param([("/v1/chat/*",)], "POST", "/v1/chat", False, id="below is not itself"),
        pytest.param([("/v1/chat/*",)], "POST", "/v1/chatter/x", False, id="whole segments"),
        pytest.param([("/v1/chat*",)], "POST", CHAT, False, id="a star elsewhere is a star"),
        pytest.param([("*",)], "POST", CHAT, False, id="a lone star too"),
        pytest.param([("/*",)], "POST", CHAT, True, id="everything"),
        pytest.param([("/v1/models",), (CHAT, "POST")], "POST", CHAT, True, id="one of several"),
        pytest.param([], "POST", CHAT, False, id="an empty list"),
        pytest.param([("",)], "POST", CHAT, False, id="an empty rule"),
    ],
)
def test_a_path(rules, method, path, is_allowed):
    if is_allowed:
        access.check(caller(rules), method, path, "")
        return
    with pytest.raises(PermissionDenied) as refused:
        access.check(caller(rules), method, path, "")
    assert refused.value.code == "path_not_allowed"


def test_a_refusal_names_the_list_the_request_and_the_rules():
    with pytest.raises(PermissionDenied) as refused:
        access.check(caller([("/v1/models", "GET"), ("/user/*",)]), "POST", CHAT, "")
    assert str(refused.value) == (
        "The list 0 may not use `POST /v1/chat/completions`; allowed: `GET /v1/models`, `/user/*`."
    )
    with pytest.raises(PermissionDenied, match="allowed: none"):
        access.check(caller([]), "POST", CHAT, "")


def test_every_list_must_allow():
    key, user = [("/v1/*",)], [(CHAT, "POST")]
    access.check(caller(key, user), "POST", CHAT, "")
    for lists in ((key, user), (user, key)):
        with pytest.raises(PermissionDenied):
            access.check(caller(*lists), "GET", "/v1/models", "")


@pytest.mark.parametrize(
    ("networks", "address", "is_allowed"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["192.0.2.7/32"], "192.0.2.7", True),
        (["192.0.2.7/32", "10.0.0.0/8"], "10.0.0.1", True),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", True),  # as a socket of both families says it
        (["10.0.0.0/8"], "2002:a00:1::", False),  # 6to4: anybody may write such an address
        (["10.0.0.0/8"], "64:ff9b::a00:1", False),
        (["10.0.0.0/8"], "::a00:1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["0.0.0.0/0", "::/0"], "2001:db8::1", True),
        (["0.0.0.0/0", "::/0"], "", False),
        (["0.0.0.0/0"], "10.0.0.1, 10.0.0.2", False),
        ([], "127.0.0.1", False),
    ],
)
def test_an_address(networks, address, is_allowed):
    if is_allowed:
        access.check(caller(ips=networks), "POST", CHAT, address)
        return
    with pytest.raises(PermissionDenied) as refused:
        access.check(caller(ips=networks), "POST", CHAT, address)
    assert refused.value.code == "address_not_allowed"
    assert f"key `sk-th-AbCd…wxyz` may not be used from the address `{address}`" in str(refused.value)
    assert not any(network in str(refused.value) for network in networks), "a thief need not know where to come from"


def test_without_lists_everything_is_allowed():
    access.check(caller(), "DELETE", "/anything", "")
