"""Which addresses a provider may have."""

import ipaddress

import pytest

from services.addresses import AddressRules, embedded

EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
NEVER = [
    *("169.254.169.254", "169.254.1.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200"),
    *("fe80::1", "fe80::1%eth0", "::", "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
    *("2002:a9fe:a9fe::1", "2001::1", "240.0.0.1", "192.0.0.192"),
    *("fd20:ce::254", "::a9fe:a9fe", "::ffff:0:a9fe:a9fe"),
]
PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fc00::1"),
    *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1"),
    *("::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::1"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", NEVER)
def test_never_whatever_is_allowed(address):
    assert AddressRules(allow_private=True, allowed=EVERYTHING).refusal(address, is_tls=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_by_permission_only(address):
    assert "ALLOW_PRIVATE_UPSTREAMS" in (AddressRules(allow_private=False).refusal(address, is_tls=True) or "")
    assert AddressRules(allow_private=True).refusal(address, is_tls=False) is None
    network = ipaddress.ip_network(embedded(ipaddress.ip_address(address)))
    assert AddressRules(allow_private=False, allowed=(network,)).refusal(address, is_tls=False) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ones_by_tls_only_in_production(address):
    strict = AddressRules(allow_private=False)
    assert strict.refusal(address, is_tls=True) is None
    assert "https" in (strict.refusal(address, is_tls=False) or "")
    assert AddressRules(allow_private=True).refusal(address, is_tls=False) is None
