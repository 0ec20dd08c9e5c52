"""Which network addresses a provider may have. Judged on the address that is connected to, not on its name."""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never, whatever is allowed: link-local (cloud metadata lives there), this-network, multicast, reserved.
FORBIDDEN: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "168.63.129.16/32",  # Azure's host agent, an ordinary public address by its number
        "100.100.100.200/32",  # Alibaba Cloud's metadata service
        "192.0.0.192/32",  # Oracle Cloud's metadata service
        "::/128",
        "fe80::/10",
        "ff00::/8",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",  # Google Cloud's metadata service
        "2001::/32",
        "100::/64",
    )
)
PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "::1/128",
        "64:ff9b:1::/48",
        "fc00::/7",
        "fec0::/10",
        "2001:db8::/32",
    )
)
CARRIERS: Final = tuple(  # an IPv4 address in their last 32 bits: NAT64, IPv4-compatible, IPv4-translated
    ipaddress.IPv6Network(network) for network in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")
)
LOOPBACK: Final = ipaddress.IPv6Address("::1")
SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")


class AddressRules:
    """Decides by CIDR networks. `allow_private` opens all private ones (development, test)."""

    def __init__(self, *, allow_private: bool, allowed: tuple[Network, ...] = ()) -> None:
        self._allow_private, self._allowed = allow_private, allowed

    def refusal(self, address: str, *, is_tls: bool) -> str | None:
        """Why the address must not be connected to; None = it may."""
        plain = embedded(ipaddress.ip_address(address.partition("%")[0]))
        if _in(plain, FORBIDDEN):
            return f"`{plain}` is a link-local, metadata or reserved address"
        is_open = _in(plain, self._allowed) or (self._allow_private and _in(plain, PRIVATE))
        if is_open:
            return None
        if _in(plain, PRIVATE):
            return f"`{plain}` is a private address; add its network to ALLOW_PRIVATE_UPSTREAMS"
        if not is_tls and not self._allow_private:
            return f"`{plain}` is reached by plain http; use https, or add its network to ALLOW_PRIVATE_UPSTREAMS"
        return None


def is_forbidden(host: str) -> bool:
    """Whether the host is written as an address that is never called; names are judged by where they lead."""
    try:
        return _in(embedded(ipaddress.ip_address(host.partition("%")[0])), FORBIDDEN)
    except ValueError:
        return False


def embedded(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, NAT64, 6to4 and the like), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address) or address == LOOPBACK:
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in carrier for carrier in CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
