"""Reading settings from text: durations, lists, networks, secrets, database addresses. No product knowledge."""

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GUNICORN_PORT: Final = 8000  # when PORT is unset
TOKEN: Final = re.compile(r"[A-Za-z0-9_\-.]+")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", re.ASCII)
MIN_SECRET: Final = 32
MOST_PATTERNS, LONGEST_PATTERN = 50, 500
COMMON_SECRETS: Final = frozenset(
    """admin administrator password passwort senha changeme change-me change_me secret letmein welcome tollhouse
    your-secret-key your_secret_key dev-secret test_key test-key supersecret qwerty 12345678 123456789""".split()  # noqa: SIM905 - a list of them would be as long as this file
)
STATSD_PORT: Final = 8125
_STATISTICS: Final = re.compile(
    r"(?:(?P<form>datadog|statsd)(?:://| +|$))?(?:(?P<host>\[[0-9a-f:.]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?)?",
    re.ASCII | re.IGNORECASE,
)
_REDIS_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
# Others of the client's options, such as its timeouts, are not for an address to set.
_REDIS_OPTIONS: Final = {
    "rediss": {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
}
_DRIVERS: Final = {"sqlite": "sqlite", "postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def seconds(value: object) -> object:
    """`500ms`, `2s`, `1.5m`, `2` -> seconds; anything else is left for the type check to refuse."""
    match = _DURATION.fullmatch(str(value).strip())
    return float(match[1]) * _UNITS[match[2]] if match else value


def commas(value: object) -> object:
    """`a, b,,c` -> ("a", "b", "c")."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def pairs(value: object) -> object:
    """`a=x, b=y` -> (("a", "x"), ("b", "y")); the last `=` counts.

    Raises:
        ValueError: a part has no `=`, or nothing before it.
    """
    if not isinstance(value, str):
        return value
    found = [part.rpartition("=") for part in value.split(",") if part.strip()]
    if not all(name.strip() and sign for name, sign, _text in found):
        raise ValueError("must read name=value,name=value")
    return tuple((name.strip(), text.strip()) for name, _sign, text in found)


def members(text: str) -> list[tuple[str, str, str]]:
    """`a=x=,b` -> (("a", "=", "x="), ("b", "", "")); the first `=` counts."""
    return [part.strip().partition("=") for part in text.split(",") if part.strip()]


def networks(value: object) -> object:
    """Comma list of CIDR networks; a bare address is a network of one.

    Raises:
        ValueError: one part is no network.
    """
    parts = commas(value)
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts) if isinstance(parts, tuple) else value


def patterns(value: object) -> object:
    """Regular expressions, one a line or with `;;` between them.

    Raises:
        ValueError: one is none, is too long, or matches the empty text.
    """
    if not isinstance(value, str):
        return value
    found = tuple(part.strip() for part in value.replace(";;", "\n").splitlines() if part.strip())
    if len(found) > MOST_PATTERNS or any(len(pattern) > LONGEST_PATTERN for pattern in found):
        raise ValueError(f"has more than {MOST_PATTERNS} patterns, or one of more than {LONGEST_PATTERN} characters")
    compiled(found)
    return found


def compiled(given: Sequence[str]) -> list[Any]:
    """The same, ready for use. Their methods take a `timeout`, so that no pattern takes for ever.

    Raises:
        ValueError: one is no regular expression, or matches the empty text.
    """
    if not given:
        return []
    import regex  # noqa: PLC0415 - only who has patterns pays for it

    made = []
    for pattern in given:
        try:
            made.append(regex.compile(pattern))
        except regex.error as exc:
            raise ValueError(f"`{pattern}` is no regular expression: {exc}") from exc
        if made[-1].search("") is not None:
            raise ValueError(f"`{pattern}` matches the empty text, so it would blot out everything")
    return made


def statistics(value: object) -> object:
    """`datadog`, `statsd`, either with `://host:port` (or a space) behind it, `host:port` -> (form, host, port).

    Raises:
        ValueError: it is none of these.
    """
    if not isinstance(value, str):
        return value
    found = _STATISTICS.fullmatch(value.strip())
    if found is None or not (found["form"] or found["port"]):
        raise ValueError("must read datadog, statsd, datadog://host:port, statsd://host:port or host:port")
    host, port = (found["host"] or "127.0.0.1").strip("[]"), int(found["port"] or STATSD_PORT)
    return (found["form"] or "statsd").lower(), host, port


def none_if_empty(value: object) -> object:
    """The empty text as "not set"."""
    return None if value == "" else value


def is_weak(secret: str, shortest: int = MIN_SECRET) -> bool:
    """Whether a secret is a well-known default, too short, or all one character."""
    return len(secret) < shortest or secret.lower() in COMMON_SECRETS or len(set(secret)) == 1


def weak_secrets(
    secrets_: Mapping[str, str],
    tokens: tuple[str, ...],
    passwords: Mapping[str, str],
    shortest_token: int,
    shortest_password: int,
) -> list[str]:
    """What staging and production refuse to start with, one line each; an empty password is none."""
    found = [
        f"{name}: missing, well-known or shorter than {MIN_SECRET}. Fix: `flask config new-key`"
        for name, value in secrets_.items()
        if is_weak(value)
    ]
    if any(is_weak(token, shortest_token) for token in tokens):
        found.append(
            f"API_AUTH_TOKENS: each token needs {shortest_token} characters or more. Fix: lengthen the short ones"
        )
    return found + [
        f"{name}: well-known or shorter than {shortest_password}. Fix: choose a better one, or leave it empty"
        for name, value in passwords.items()
        if value and is_weak(value, shortest_password)
    ]


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect there."""
    return host in ("localhost", "::1") or host.startswith("127.")


def database_url(url: str) -> str:
    """The address with the driver this product uses, whatever driver suffix it came with.

    Raises:
        ValueError: neither SQLite nor Postgres.
    """
    scheme, separator, rest = url.partition("://")
    driver = _DRIVERS.get(scheme.partition("+")[0].lower())
    if driver is None or not separator:
        raise ValueError("must start with sqlite:/// or postgresql://")
    return f"{driver}://{rest}"


def postgres_url(hosts: tuple[str, ...], port: int, user: str, password: str, name: str) -> str:
    """A Postgres address from its parts; several hosts are tried in order."""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    first, *others = [f"{host}:{port}" for host in hosts]
    more = "?" + "&".join(f"host={host}" for host in [first, *others]) if others else ""
    place = "" if others else first
    return f"postgresql+psycopg://{login + '@' if login else ''}{place}/{quote(name, safe='')}{more}"


def redis_url(url: str, hosts: tuple[str, ...], port: int, password: str) -> str:
    """The address of Valkey or Redis as its client reads it, from an address or from parts; empty = none is named."""
    if url:
        scheme, _, rest = url.partition("://")
        return f"{_REDIS_SCHEMES[scheme.lower()]}://{rest}"
    if not hosts:
        return ""
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{f'[{hosts[0]}]' if ':' in hosts[0] else hosts[0]}:{port}/0"


def redis_problems(url: str, hosts: tuple[str, ...]) -> list[str]:
    """What is wrong with these two settings, one line each, without the address: it may hold a password."""
    if url:
        fix = "as redis://:password@host:port/number, with `/`, `#`, `?` and `%` of the password written as %xx"
        return [] if _is_redis_url(url) else [f"REDIS_URL: not an address of Valkey or Redis. Fix: {fix}"]
    if len(hosts) > 1:
        return ["REDIS_HOSTS: several hosts, which would each keep counts of their own. Fix: name one"]
    return (
        [] if all(_is_host(host) for host in hosts) else ["REDIS_HOSTS: not a host name. Fix: the port has REDIS_PORT"]
    )


def _is_redis_url(text: str) -> bool:
    """Whether the client will read the address as it is meant; it ignores or crashes at some that are wrong."""
    try:
        url = urlsplit(text)
        port, options = url.port, parse_qs(url.query, strict_parsing=True) if url.query else {}
    except ValueError:
        return False
    scheme = _REDIS_SCHEMES.get(url.scheme, "")
    path = "" if scheme == "unix" else url.path.removeprefix("/")
    return (
        bool(scheme and (url.path if scheme == "unix" else url.hostname))
        and port != 0
        and all(number.isascii() and number.isdigit() for number in [*options.get("db", []), path or "0"])
        and options.keys() <= _REDIS_OPTIONS.get(scheme, {"db"})
        and not (url.fragment or any(char <= " " for char in text))
    )


def _is_host(text: str) -> bool:
    if ":" not in text:
        return re.fullmatch(r"[\w.-]+", text) is not None
    try:
        return ipaddress.ip_address(text).version == 6  # noqa: PLR2004 - an IPv6 address
    except ValueError:
        return False


def read_secret_files(merged: dict[str, str], names: list[str]) -> list[str]:
    """Replace `NAME_FILE=path` by `NAME=content` in place; returns what could not be read, one line each."""
    problems = []
    for name in names:
        path = merged.get(f"{name}_FILE")
        if path and name not in merged:
            try:
                merged[name] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
                problems.append(f"{name}_FILE: `{path}` cannot be read ({reason}). Fix the path or set {name}.")
    return problems


def keep_secrets(path: Path, made: Mapping[str, str]) -> None:
    """Write the secrets to a file that only its owner reads, unless somebody was faster.

    Raises:
        OSError: the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write("# Made at the first start; keep it with the database, which is worth little without it.\n")
        file.writelines(f"{name}='{value}'\n" for name, value in made.items())
    try:
        os.link(fresh, path)  # whoever comes first has made them
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def url_problems(**urls: str) -> list[str]:
    """One line for each of these settings that is set and is no plain base URL. The URL may hold a password."""
    problems = []
    for name, text in urls.items():
        try:
            url = urlsplit(text)
            is_plain = (
                url.scheme in ("http", "https") and url.hostname and not (url.query or url.fragment or " " in text)
            )
            is_good = is_plain and url.username is None and url.port != 0
        except ValueError:
            is_good = False
        if text and not is_good:
            problems.append(f"{name}: not http(s)://host[:port][/path]. Fix: no user name, query or spaces in it")
    return problems


def fits_header(text: str) -> bool:
    """Whether a header can carry the text: visible ASCII and spaces, whatever the client that sends it."""
    return text.isascii() and text.isprintable()


def header_problems(texts: Mapping[str, str]) -> list[str]:
    """One line for each of these settings that no header can carry. Their values are secrets."""
    fix = "copy it again; a `…` in an example stands for what was left out"
    return [
        f"{name}: has characters other than ASCII, which no header can carry. Fix: {fix}"
        for name, text in texts.items()
        if not fits_header(text)
    ]


def port_problems(*ports: int | None) -> list[str]:
    """One line if two of PORT, ADMIN_PORT and PROXY_PORT are the same."""
    given = [port for port in ports if port is not None]
    if len(set(given)) == len(given):
        return []
    return [f"PORT, ADMIN_PORT, PROXY_PORT: {given} has one of them twice. Fix: a port of its own for each"]


def explain(error: ValidationError, fields: Mapping[str, FieldInfo]) -> list[str]:
    """One line for each mistake: the variable, what is wrong with it, what it means."""
    names = {_env(field): field for field in fields.values()}
    lines = []
    for mistake in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(mistake["loc"][0]) if mistake["loc"] else "settings"
        field = names.get(name)
        default = f" (default: {field.default})" if field and not _marks(field).get("secret") and field.default else ""
        lines.append(
            f"{name}: {mistake['msg'].removeprefix('Value error, ')}. "
            f"Fix: {field.description if field else 'see docs/configuration.md'}{default}"
        )
    return lines


def _marks(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _env(field: FieldInfo) -> str:
    return str(_marks(field).get("env", ""))
