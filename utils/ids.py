"""Identifiers and randomness. Nothing else in the product draws random numbers for secrets."""

import os
import secrets
import uuid as uuids

from utils import clock

CLEAR = "23456789abcdefghjkmnpqrstuvwxyz"  # 4.95 bits a character
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def request_id() -> str:
    """A new id that sorts by time: 48 bits of milliseconds, then 80 random bits, in hex."""
    return f"req_{clock.now_ms():012x}{os.urandom(10).hex()}"


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
