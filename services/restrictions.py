"""What users and keys can be restricted to, as people write it: paths, networks, and for how long."""

import ipaddress
from datetime import timedelta
from typing import Final

from services import durations
from services.errors import InvalidRequest

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
LONGEST_PATH: Final = 255
MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # IPv4 as IPv6 writes it


def path_rule(text: str) -> dict[str, str]:
    """`POST /v1/chat/completions`, or a path alone for every method, as it is stored.

    Raises:
        InvalidRequest: it is neither.
    """
    method, _, path = text.strip().rpartition(" ")
    method = method.strip().upper()
    is_path = path.startswith("/") and path.isprintable() and len(path) <= LONGEST_PATH
    if not is_path or (method and method not in METHODS):
        raise InvalidRequest(f"`{text[:60]}` is not a path such as POST /v1/chat/completions.", param="allowed_paths")
    return {"path": path, "method": method}


def show_path(rule: dict[str, str]) -> str:
    """The same as text."""
    return f"{rule.get('method', '')} {rule['path']}".strip()


def network(text: str) -> str:
    """An address or a network in CIDR notation, as it is stored.

    Raises:
        InvalidRequest: it is neither.
    """
    try:
        found = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        found = None
    if found is None or "%" in text:  # a zone means something on one machine only
        raise InvalidRequest(f"`{text[:60]}` is not a network such as 10.0.0.0/8.", param="allowed_ips")
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(MAPPED):  # clients are known by their IPv4 address
        plain = int(found.network_address) - int(MAPPED.network_address)
        return str(ipaddress.IPv4Network((plain, found.prefixlen - MAPPED.prefixlen)))
    return str(found)


def ttl(text: str) -> timedelta:
    """How long something lives: `2d`, `36h30m`, `1.5h`.

    Raises:
        InvalidRequest: not like that, nothing at all, or longer than durations.LONGEST.
    """
    try:
        found = durations.parse(text.strip())
    except ValueError as exc:
        raise InvalidRequest(f"{exc}.", param="ttl") from exc
    if not found:
        raise InvalidRequest("What lives for no time is dead.", param="ttl")
    return found
