"""JSON at the border: fast, and nothing gets through that a later stage would choke on.

orjson itself refuses NaN, 1e999, lone surrogates, invalid UTF-8 and a byte order mark; duplicate keys
collapse to the last one here, before anything is decided, and only the collapsed form is ever sent on.
"""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

LARGE_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 100  # orjson writes at most 254 levels; no real request comes near either


class BadJson(ValueError):
    """The bytes are not JSON that we accept; the message says where."""


def loads(raw: bytes | bytearray | memoryview | str) -> Any:
    """The value in the bytes.

    Raises:
        BadJson: not JSON, or nested deeper than MAX_DEPTH.
    """
    try:
        if len(raw) < LARGE_BYTES:
            value = orjson.loads(raw)
        else:
            with _no_collection():
                value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadJson(str(exc)) from exc
    if raw_brackets(raw) > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
    return value


@contextmanager
def _no_collection() -> Iterator[None]:
    """Millions of small lists would set off the garbage collector again and again: seconds instead of tenths."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def exact(raw: bytes) -> Any:
    """The value in small bodies about money: fractions are Decimal as they were written, no member stands twice.

    Raises:
        BadJson: as `loads`, or an object has a member twice.
    """
    loads(raw)  # what it refuses, the slower reader below would take
    try:
        return json.loads(raw.decode(), parse_float=Decimal, object_pairs_hook=_members)
    except InvalidOperation as exc:
        raise BadJson("a number is out of range") from exc
    except ValueError as exc:
        raise BadJson(str(exc)) from exc


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadJson("an object has a member twice")
    return members


def peek(raw: bytes) -> Any:
    """The value in bytes that are only looked at and never written again, so that their depth does not matter.

    Raises:
        BadJson: not JSON.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadJson(str(exc)) from exc


def dumps(value: Any) -> bytes:
    """The value as compact UTF-8 JSON; a Decimal is a number, digit by digit."""
    return orjson.dumps(value, default=_number)


def canonical(value: Any) -> bytes:
    """The same with the members of objects in the order of their names, so that equal values are equal bytes."""
    return orjson.dumps(value, default=_number, option=orjson.OPT_SORT_KEYS)


def _number(value: Any) -> orjson.Fragment:
    if not isinstance(value, Decimal) or not value.is_finite():
        raise TypeError(f"no JSON for {type(value).__name__}")
    digits = f"{value:f}"
    return orjson.Fragment(digits.rstrip("0").rstrip(".") if "." in digits else digits)


def raw_brackets(raw: bytes | bytearray | memoryview | str) -> int:
    """An upper bound of the nesting depth that costs a scan and no recursion."""
    text = bytes(raw) if isinstance(raw, memoryview) else raw
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def depth(value: Any) -> int:
    """Levels of nesting; a scalar has none."""
    level, layer = 0, [value]
    while layer:
        below: list[Any] = []
        for member in layer:
            if isinstance(member, dict):
                below.extend(member.values())
            elif isinstance(member, list):
                below.extend(member)
        nested = any(isinstance(member, dict | list) for member in layer)
        level += nested
        layer = below
    return level
