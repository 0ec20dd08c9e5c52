"""What is booked for a call: the records that go to the books, or to the spool while the books are away."""

from dataclasses import dataclass, field
from typing import Any

from services.marks import Marks
from services.types import ChargeLine, Price, Usage


@dataclass(frozen=True, slots=True)
class Booking:
    """What one budget is charged for a call, against what the hold had taken from it."""

    budget_id: int
    period_start: int
    unit: str  # "usd" or "tokens"
    held: int
    booked: int


@dataclass(frozen=True, slots=True)
class Recount:
    """What a settlement changes in a limit's counter: a call that ended, tokens that were not used after all."""

    subject: str
    unit: str
    start: int
    end: int
    change: int
    is_remote: bool = False  # the counter is in Valkey or Redis


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is booked for a call: everything a usage row, the ledger and the budgets need, and nothing else.

    Written to the database or, when that fails, to the spool; so it is plain JSON-able data.
    """

    request_id: str
    created_ms: int
    user_id: int
    key_id: int | None
    model: str
    provider: str | None
    upstream_model: str | None
    operation: str
    is_stream: bool
    status: int
    outcome: str
    state: str  # measured, estimated or void
    is_overrun: bool
    usage: Usage
    cost_nanousd: int
    price: Price | None
    bookings: tuple[Booking, ...]
    first_byte_ms: int | None
    duration_ms: int
    attempts: tuple[tuple[str, str], ...]
    error: str | None
    recounts: tuple[Recount, ...] = ()
    team_id: int | None = None
    charge_lines: tuple[ChargeLine, ...] = ()
    custom_id: str | None = None
    client_metadata: str | None = None
    marks: Marks = field(default_factory=Marks)
    trace: dict[str, Any] | None = None  # see trace_of in services/settlement.py
