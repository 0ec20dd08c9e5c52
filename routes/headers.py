"""Headers that tell a caller where its limits and budgets stand, on good answers and on refusals."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from services import counting
from services.counting import Room
from services.errors import RateLimited
from services.pricing import tokens_of
from services.types import Call
from utils import clock

MAX_CHARS: Final = 1000
SHOWN: Final = (counting.REQUESTS, counting.TOKENS)  # units with headers of their own


def of_call(call: Call) -> dict[str, str]:
    """Of an admitted call: as its admission left them, or as its end did where the answer is whole."""
    rooms: Iterable[Room] = call.room
    if call.is_finished and call.usage is not None:
        tokens = tokens_of(call.usage)
        amounts = {count.limit.subject: count.amount for count in (*call.counts, *call.remote_counts)}
        rooms = [counting.settled(room, amounts.get(room.limit.subject, 0), tokens) for room in call.room]
    headers = of_rooms(rooms)
    if call.warnings:
        headers["x-gateway-budget-warning"] = "; ".join(call.warnings)[:MAX_CHARS]
    if call.guard is not None and call.guard.warned:
        headers["x-gateway-policy-warning"] = quote("; ".join(call.guard.warned), safe=" ;:,_")[:MAX_CHARS]
    return headers


def for_anthropic(rooms: Iterable[Room]) -> dict[str, str]:
    """The strictest limits of requests and tokens as Anthropic's clients read them."""
    headers: dict[str, str] = {}
    for unit, room in _strictest(rooms).items():
        if unit in SHOWN:
            resets_at = datetime.fromtimestamp(math.ceil(clock.now_s() + room.resets_in_s), UTC)
            headers[f"anthropic-ratelimit-{unit}-limit"] = str(room.limit.amount)
            headers[f"anthropic-ratelimit-{unit}-remaining"] = str(room.left)
            headers[f"anthropic-ratelimit-{unit}-reset"] = f"{resets_at:%Y-%m-%dT%H:%M:%SZ}"
    return headers


def of_refusal(exc: RateLimited) -> dict[str, str]:
    """Of a call that a limit refused."""
    return of_rooms([exc.room])


def of_rooms(rooms: Iterable[Room]) -> dict[str, str]:
    """OpenAI's names for requests and tokens, each for its strictest limit; the short ones for the strictest of all."""
    by_unit = _strictest(rooms)
    if not by_unit:
        return {}
    headers: dict[str, str] = {}
    for unit in SHOWN:
        if unit in by_unit:
            headers[f"x-ratelimit-limit-{unit}"] = str(by_unit[unit].limit.amount)
            headers[f"x-ratelimit-remaining-{unit}"] = str(by_unit[unit].left)
            headers[f"x-ratelimit-reset-{unit}"] = duration(by_unit[unit].resets_in_s)
    strictest = min(by_unit.values(), key=lambda room: room.share)
    return headers | {
        "X-RateLimit-Limit": str(strictest.limit.amount),
        "X-RateLimit-Remaining": str(strictest.left),
        "X-RateLimit-Reset": str(math.ceil(clock.now_s() + strictest.resets_in_s)),
        "x-gateway-limit": f"{strictest.limit.scope} {strictest.limit.unit} {counting.span_of(strictest.limit)}",
    }


def _strictest(rooms: Iterable[Room]) -> dict[str, Room]:
    """Of each unit the limit with the smallest share left."""
    by_unit: dict[str, Room] = {}
    for room in rooms:
        known = by_unit.get(room.limit.unit)
        if known is None or room.share < known.share:
            by_unit[room.limit.unit] = room
    return by_unit


def duration(seconds: float) -> str:
    """As OpenAI writes it: `1s`, `6m0s`, `120ms`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else "") + f"{rest}s"
