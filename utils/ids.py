"""Identifiers and randomness. Nothing else in the product draws random numbers for secrets."""

import os
import secrets
import uuid as uuids
from collections import deque
from typing import Final

from utils import clock

CLEAR = "23456789abcdefghjkmnpqrstuvwxyz"  # 4.95 bits a character
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


ENDING: Final = 10  # random bytes of a request id
AT_ONCE: Final = 256

_endings: deque[str] = deque()  # drawn together: the operating system takes as long for one as for all
os.register_at_fork(after_in_child=_endings.clear)


def request_id() -> str:
    """A new id that sorts by time: 48 bits of milliseconds, then 80 random bits, in hex."""
    try:
        ending = _endings.pop()
    except IndexError:
        drawn, width = os.urandom(ENDING * AT_ONCE).hex(), 2 * ENDING
        _endings.extend(drawn[at : at + width] for at in range(width, len(drawn), width))
        ending = drawn[:width]
    return f"req_{clock.now_ms():012x}{ending}"


def uuid() -> str:
    """A new random UUID; names things, opens nothing."""
    return str(uuids.uuid4())


def random_base62(length: int) -> str:
    """Unpredictable text, 5.95 bits a character."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def random_code() -> str:
    """Unpredictable text that people type from paper: four groups of four, without characters that look alike."""
    return "-".join("".join(secrets.choice(CLEAR) for _ in range(4)) for _ in range(4))


def base62(number: int, width: int) -> str:
    """The number in base 62, padded with zeros to the width."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits.rjust(width, "0")
