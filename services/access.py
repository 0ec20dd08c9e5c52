"""What a caller may reach and from where: the lists of paths of its key and user, the list of addresses of its key.

A list only allows; a caller without lists may use every path from every address. Whoever has several lists of paths
needs a rule in each of them. A rule ending in `/*` is for every path below, any other for exactly that path; a rule
without a method is for all of them. Methods, queries and budgets are the affair of others.
"""

import ipaddress
from typing import Final

from services.addresses import Address
from services.errors import PermissionDenied
from services.types import Caller, Network, PathRule

BELOW: Final = "/*"


def check(caller: Caller, method: str, path: str, address: str) -> None:
    """Whether the caller may send this request from that client address.

    Raises:
        PermissionDenied: naming the list that does not have it.
    """
    if caller.allowed_ips is not None and not _has(caller.allowed_ips, address):
        raise PermissionDenied(
            f"The key `{caller.key_hint}` may not be used from the address `{address}`: "
            "its list of allowed addresses does not have it.",
            code="address_not_allowed",
        )
    for whose, rules in caller.allowed_paths:
        if not any(_allows(rule, method, path) for rule in rules):
            allowed = ", ".join(f"`{rule.method} {rule.path}`" if rule.method else f"`{rule.path}`" for rule in rules)
            raise PermissionDenied(
                f"The {whose} may not use `{method} {path}`; allowed: {allowed or 'none'}.", code="path_not_allowed"
            )


def _allows(rule: PathRule, method: str, path: str) -> bool:
    if rule.method not in ("", "GET" if method == "HEAD" else method):  # HEAD is a GET whose body is left out
        return False
    return path.startswith(rule.path[:-1]) if rule.path.endswith(BELOW) else path == rule.path


def _has(networks: tuple[Network, ...], address: str) -> bool:
    try:
        plain = _plain(ipaddress.ip_address(address))
    except ValueError:
        return False  # a socket of the file system has none
    return any(plain in network for network in networks)


def _plain(address: Address) -> Address:
    """IPv4 as such where a socket of both families says it as IPv6. Other ways to embed it can be forged."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
