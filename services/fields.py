"""What clients of the key management API write into keys and users: each member read and checked once, at the edge.

Names are matched without regard to case, and `null` counts as not given, as in the gateway that this API comes from.
Members that nobody knows are left out and named, so that clients of other versions work and typing errors are seen.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from services import budgets, durations, keys, limits, restrictions
from services.callers import ALLOWED, MAX_CHARS, MIN_STRICT, is_token
from services.errors import FieldsInvalid, InvalidRequest

MAX_NAME: Final = 255
MAX_MODEL: Final = 200
MAX_PATH: Final = 500
MAX_ENTRIES: Final = 200  # of a list of tags, models, paths or networks
MAX_DIGITS: Final = 40
TIMEOUTS: Final = ("first_byte_s", "silence_s", "total_s")
SHORTEST_S: Final = Decimal("0.1")
LONGEST_S: Final = 86_400
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
UNITS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day", "mo": "month"}
OVER_TIME: Final = (  # an amount, its unit, and what the messages call them
    ("rateLimitOverTime", "rateLimitUnit", "rate limit"),
    ("costLimitInUsdOverTime", "costLimitInUsdUnit", "cost limit"),
)
_PLAIN: Final = re.compile(r"-?\d{1,30}(\.\d{1,30})?", re.ASCII)

Parse = Callable[[Any], Any]


class Unfit(ValueError):
    """Why a member cannot be taken; `at` leads to the part of it that is wrong."""

    def __init__(self, reason: str, at: str = "") -> None:
        super().__init__(reason)
        self.at = at


@dataclass(frozen=True, slots=True)
class Given:
    """What a body said: values as we store them, and the names of members that mean nothing here."""

    values: dict[str, Any]
    ignored: tuple[str, ...] = ()


def unknown(parsers: Mapping[str, Parse], body: Mapping[str, Any]) -> tuple[str, ...]:
    """The members of a body that mean nothing here, which `read` passes over."""
    names = {name.lower() for name in parsers}
    return tuple(member for member in body if member.lower() not in names)


def read(parsers: Mapping[str, Parse], body: Mapping[str, Any], required: Collection[str] = ()) -> Given:
    """The members of a body.

    Raises:
        FieldsInvalid: with all that is wrong.
        InvalidRequest: an amount over time and its unit do not go together.
    """
    names = {name.lower(): name for name in parsers}
    given: dict[str, Any] = {}
    twice = set()
    for member, value in body.items():
        name = names.get(member.lower())
        if name in given:
            twice.add(name)
        elif name is not None and value is not None:
            given[name] = value
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, parse in parsers.items():
        if name in twice:
            wrong[name] = "is given twice"
        elif name in given:
            _take(name, parse, given[name], values, wrong)
        elif name in required:
            wrong[name] = "is required"
    if wrong:
        # Beside other mistakes, what is wrong with a unit is one of them; what it belongs to may be the mistake itself.
        units = {member: why for pair, member, why in _unit_problems(values) if not wrong.keys() & set(pair)}
        raise FieldsInvalid(wrong | units)
    check_units(values)
    return Given(values, unknown(parsers, body))


def _take(name: str, parse: Parse, value: Any, values: dict[str, Any], wrong: dict[str, str]) -> None:
    try:
        values[name] = parse(value)
    except Unfit as exc:
        wrong[name + exc.at] = str(exc)
    except InvalidRequest as exc:
        wrong[name] = str(exc)


def check_units(values: Mapping[str, Any]) -> None:
    """Whether amounts over time come with the units they need.

    Raises:
        InvalidRequest: in the words that clients know.
    """
    for _pair, member, why in _unit_problems(values):
        raise InvalidRequest(why, param=member)


def _unit_problems(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """Amount and unit that do not go together, which of them is wrong, and why."""
    for amount, unit, what in OVER_TIME:
        if values.get(unit) and not values.get(amount):
            yield (amount, unit), amount, f"{what} over time can not be empty if {what} unit is specified"
    for amount, unit, what in OVER_TIME:
        if not values.get(amount):
            continue
        if not values.get(unit):
            yield (amount, unit), unit, f"{what} unit can not be empty if {what} over time is specified"
        elif values[unit] not in UNITS:
            yield (amount, unit), unit, f"{what} unit can not be identified"


def text(most: int, *, is_required: bool = False) -> Parse:
    """A line of text."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise Unfit("must be a text")
        if len(value) > most or not value.isprintable():
            raise Unfit(f"may have {most} printable characters")
        if is_required and not value.strip():
            raise Unfit("must not be empty")
        return value

    return parse


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Unfit("must be true or false")
    return value


def entries(parse: Parse, most: int = MAX_ENTRIES) -> Parse:
    """A list without what stands in it twice."""

    def parse_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Unfit("must be a list")
        if len(value) > most:
            raise Unfit(f"may have {most} entries")
        found: list[Any] = []
        for index, entry in enumerate(value):
            try:
                parsed = parse(entry)
            except Unfit as exc:
                raise Unfit(str(exc), f".{index}{exc.at}" if exc.at else "") from exc
            if parsed not in found:
                found.append(parsed)
        return found

    return parse_all


def some(parse: Parse) -> Parse:
    """A list that is stored as None when it is empty; of what is allowed, None means everything."""
    parse_all = entries(parse)
    return lambda value: parse_all(value) or None


def usd(value: Any) -> int:
    """An amount of money, in nano-USD."""
    return budgets.parse_limit("usd", _digits(value))


def count(value: Any) -> int:
    """A whole number."""
    digits = _digits(value)
    number = Decimal(digits)
    return limits.parse_amount(int(number) if number == number.to_integral_value() else digits)


def whole(least: int, most: int) -> Parse:
    """A JSON number without a fraction, within bounds."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != int(value):
            raise Unfit("must be a whole number")
        if not least <= value <= most:
            raise Unfit(f"must be from {least} to {most}")
        return int(value)

    return parse


def moment(value: Any) -> datetime | None:
    """Unix seconds; 0 = never."""
    seconds = whole(0, int(LATEST.timestamp()))(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def ttl(value: Any) -> str:
    """A life as text; the empty one is none. It is checked here and counted where the beginning is known."""
    if not isinstance(value, str):
        raise Unfit("must be a text such as 36h30m or 2d")
    if not value:
        return value
    if not duration(value):
        raise Unfit("must be longer than nothing; leave it empty for no end")
    return value


def duration(value: Any) -> timedelta:
    """A length of time, which may be none."""
    try:
        return durations.parse(value if isinstance(value, str) else "")
    except ValueError as exc:
        raise Unfit(str(exc)) from exc


def path(value: Any) -> dict[str, str]:
    """A path and the method for which it is allowed; no method means all."""
    if not isinstance(value, dict):
        raise Unfit("must be objects with path and method")
    where, how = value.get("path"), value.get("method") or ""
    if not isinstance(where, str) or len(where) > MAX_PATH or not where.isprintable() or not where.startswith("/"):
        raise Unfit(f"must begin with a slash and may have {MAX_PATH} printable characters", ".path")
    if not isinstance(how, str) or (how and how.upper() not in METHODS):
        raise Unfit(f"must be one of {', '.join(METHODS)}", ".method")
    return {"path": where, "method": how.upper()}


def network(value: Any) -> str:
    """An address or a network, in its shortest form."""
    try:
        return restrictions.network(value if isinstance(value, str) else "")
    except InvalidRequest as exc:
        raise Unfit("must be addresses or networks such as 192.0.2.7 or 10.0.0.0/8") from exc


def timeouts(value: Any) -> dict[str, float] | None:
    """Seconds by name; None where nothing is said. A member that is null is none."""
    if not isinstance(value, dict):
        raise Unfit('must be an object such as {"total_s": 60}')
    found: dict[str, float] = {}
    for name, seconds in value.items():
        if name not in TIMEOUTS:
            raise Unfit(f"is none of {', '.join(TIMEOUTS)}", f".{name[:MAX_NAME]}")
        if seconds is None:
            continue
        is_number = isinstance(seconds, int | Decimal) and not isinstance(seconds, bool)
        if not is_number or not SHORTEST_S <= seconds <= LONGEST_S:
            raise Unfit(f"must be seconds from {SHORTEST_S} to {LONGEST_S}", f".{name}")
        found[name] = float(seconds)
    return found or None


def order(value: Any) -> str:
    """Which way a list runs."""
    if not isinstance(value, str) or value.lower() not in ("", "asc", "desc"):
        raise Unfit("can only be desc or asc")
    return value.lower()


def user(value: Any) -> str | int:
    """A user by name or number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else text(MAX_NAME, is_required=True)(value)


def absent(reason: str) -> Parse:
    """A member that may only be empty, since what it would name is not there."""

    def parse(value: Any) -> None:
        named = value if isinstance(value, list) else [value]
        first = next((name for name in named if name not in ("", False)), None)
        if first is not None:
            raise Unfit(f"`{str(first)[:MAX_NAME]}` {reason}")

    return parse


def secret(*, is_strict: bool) -> Parse:
    """A key that its owner made up. It must be one that a request can carry and that is taken for nothing else."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not ALLOWED.fullmatch(value) or len(value) > MAX_CHARS:
            raise Unfit(f"must have 1 to {MAX_CHARS} letters, digits, `_`, `-` and `.`")
        if is_strict and len(value) < MIN_STRICT:
            raise Unfit(f"must have {MIN_STRICT} characters or more")
        if is_token(value):
            raise Unfit("looks like a token that somebody signed")
        if value.startswith(keys.PREFIX) and not keys.is_well_formed(value):
            raise Unfit(f"begins like a key of this gateway ({keys.PREFIX}) and is none")
        return value

    return parse


def _digits(value: Any) -> str:
    """A number given as a number or as a text, as plain text."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Unfit("must be a number")
    digits = str(value).strip()
    if len(digits) > MAX_DIGITS or (isinstance(value, str) and not _PLAIN.fullmatch(digits)):
        raise Unfit("must be a number")
    return digits


SHARED: Final[Mapping[str, Parse]] = {  # members of keys and users
    "tags": some(text(MAX_NAME, is_required=True)),
    "revoked": flag,
    "revokedReason": text(MAX_NAME),
    "costLimitInUsd": usd,
    "costLimitInUsdOverTime": usd,
    "costLimitInUsdUnit": text(MAX_NAME),
    "rateLimitOverTime": count,
    "rateLimitUnit": text(MAX_NAME),
    "ttl": ttl,
    "expiresAt": moment,
    "allowedModels": some(text(MAX_MODEL, is_required=True)),
    "allowedPaths": some(path),
}
