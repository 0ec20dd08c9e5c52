"""What users and keys can be restricted to, as people write it: paths, networks, and for how long."""

import ipaddress
import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

from services.errors import InvalidRequest

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
LONGEST_PATH: Final = 255
LONGEST_TTL: Final = timedelta(days=36_500)
_SECONDS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_TTL: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,6})?[dhms])+", re.ASCII)
_PART: Final = re.compile(r"([\d.]+)([dhms])", re.ASCII)


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
    return str(found)


def ttl(text: str) -> timedelta:
    """How long: `2d`, `36h30m`, `1.5h`.

    Raises:
        InvalidRequest: not like that, nothing at all, or longer than a century.
    """
    given = text.strip().lower()
    if not _TTL.fullmatch(given):
        raise InvalidRequest(f"`{text[:60]}` is not a time such as 30d or 36h30m.", param="ttl")
    seconds = sum(Decimal(number) * _SECONDS[unit] for number, unit in _PART.findall(given))
    if not 1 <= seconds <= LONGEST_TTL.total_seconds():
        raise InvalidRequest(f"`{text[:60]}` is not between a second and a hundred years.", param="ttl")
    return timedelta(milliseconds=int(seconds * 1000))
