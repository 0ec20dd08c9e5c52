"""A call as bars on one scale: before its first attempt, each attempt, the answer. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

WIDE: Final = 1000  # of the drawing; every bar is a part of it
THIN: Final = 4  # the least that can be seen
QUEUE, ATTEMPT, ANSWER, WHOLE = "queue", "attempt", "answer", "whole"


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a call, in milliseconds after it came. `number`: which attempt; `name`: of its provider."""

    kind: str
    start_ms: int
    end_ms: int
    number: int = 0
    name: str = ""
    happened: str = ""
    left: float = 0.0
    wide: float = WIDE

    @property
    def took_ms(self) -> int:
        """How long it took."""
        return self.end_ms - self.start_ms


def trace_of(row: Any) -> Mapping[str, Any]:
    """What was noted of how a call went; see trace_of in services/settlement.py."""
    found: Mapping[str, Any] = json.loads(row.trace) if row.trace else {}
    return found


def attempts_of(row: Any) -> list[list[Any]]:
    """The attempts of a call: provider and what happened."""
    found: list[list[Any]] = json.loads(row.attempts) if row.attempts else []
    return found


def bars_of(row: Any) -> list[Bar]:
    """The bars of a usage row; without its trace those before and after the first byte, and none of attempts."""
    total, first = row.duration_ms, row.first_byte_ms
    began, attempts = list(trace_of(row).get("began", ())), attempts_of(row)
    middle = min(first, total) if first is not None else total
    found: list[tuple[Any, ...]] = []
    if began and len(began) == len(attempts):
        found.append((QUEUE, 0, began[0]))
        for number, ((start, end), attempt) in enumerate(zip(pairwise([*began, middle]), attempts, strict=True), 1):
            found.append((ATTEMPT, start, max(start, end), number, str(attempt[0]), str(attempt[1])))
    else:
        found.append((QUEUE if first is not None else WHOLE, 0, middle))
    if first is not None and row.is_stream:
        found.append((ANSWER, middle, max(middle, total)))
    return [_placed(Bar(*values), total) for values in found]


def _placed(bar: Bar, total: int) -> Bar:
    scale = WIDE / total if total else 0.0
    wide = max(THIN, bar.took_ms * scale)
    left = min(bar.start_ms * scale, WIDE - THIN)
    values = (bar.kind, bar.start_ms, bar.end_ms, bar.number, bar.name, bar.happened)
    return Bar(*values, round(max(0.0, left), 1), round(min(wide, WIDE - left), 1))
