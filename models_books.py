"""The tables of the books: what is spent and held, what was used, every movement.

They have no foreign keys: a row about money outlives the user, key or model it names. Units as in models.py.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, ColumnElement, Index, String, Text, UniqueConstraint, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import Serial, UtcMs, not_negative, one_of
from utils.extensions import Base

# The calls that people look for. An index holds each of these alone, and a query must say it in the same words.
NOT_OK: Final[ColumnElement[bool]] = literal_column("outcome <> 'ok'")
IN_BATCH: Final[ColumnElement[bool]] = literal_column("batch_id IS NOT NULL")
NAMED: Final[ColumnElement[bool]] = literal_column("custom_id IS NOT NULL")
OF_PROMPTS: Final[ColumnElement[bool]] = literal_column("prompt_version_id IS NOT NULL")


class BudgetWindow(Base):
    """What is spent and held of a budget in one period. The period is part of the key: nothing is ever reset."""

    __tablename__ = "budget_windows"
    __table_args__ = (*not_negative("spent_amount", "held_amount"), {"sqlite_with_rowid": False})

    budget_id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    period_start: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False
    )  # unix seconds; 0 = total
    spent_amount: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    held_amount: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class LimitWindow(Base):
    """What is used of a limit now. One row a counter: it moves on with the clock, by the statement that counts."""

    __tablename__ = "limit_windows"
    __table_args__ = ({"sqlite_with_rowid": False},)

    subject: Mapped[str] = mapped_column(String(120), primary_key=True)
    period_start: Mapped[int] = mapped_column(BigInteger)  # unix seconds; 0 = calls under way
    period_end: Mapped[int] = mapped_column(BigInteger)
    used_amount: Mapped[int] = mapped_column(BigInteger)
    previous_amount: Mapped[int] = mapped_column(BigInteger)  # of the period before, for windows that slide


class Lease(Base):
    """A share of a budget's period that one worker took in advance; part of what the window has as held."""

    __tablename__ = "leases"
    __table_args__ = (*not_negative("amount"),)

    owner: Mapped[str] = mapped_column(String(100), primary_key=True)
    budget_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    period_start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    amount: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(UtcMs)


class LimitLease(Base):
    """The same of a limit; part of what its counter has as used."""

    __tablename__ = "limit_leases"
    __table_args__ = (*not_negative("amount"),)

    owner: Mapped[str] = mapped_column(String(100), primary_key=True)
    subject: Mapped[str] = mapped_column(String(120), primary_key=True)
    period_start: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    period_end: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(UtcMs)


class Hold(Base):
    """An admitted call that is not settled yet: what was taken, and whom to ask whether it still runs."""

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("budgets_taken = budgets_wanted", name="all_or_nothing"),
        {"sqlite_with_rowid": False},  # one page to write instead of two
    )

    request_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(100))  # the worker, as services/spool.py names it
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    deadline_at: Mapped[datetime] = mapped_column(UtcMs)
    budgets_wanted: Mapped[int]  # with the limits
    budgets_taken: Mapped[int]
    takes: Mapped[str] = mapped_column(Text)  # JSON [[budget_id, period_start, amount, unit, is_prepaid, model_id], …]
    counts: Mapped[str] = mapped_column(Text, server_default="[]")  # JSON [[subject, unit, start, end, amount], …]
    call: Mapped[str] = mapped_column(Text)  # JSON: what a usage row needs if the worker dies


class UsageRecord(Base):
    """One admitted call, settled. Cached and reasoning tokens are part of input and output (OpenTelemetry GenAI)."""

    __tablename__ = "usage"
    __table_args__ = (
        one_of("state", "measured", "estimated", "void"),
        *not_negative("input_tokens", "output_tokens", "cost_nanousd"),
        Index("ix_usage_user_id_id", "user_id", "id"),
        Index("ix_usage_key_id_id", "key_id", "id"),
        Index(  # a user's sums over a span of days, without reading the rows
            "ix_usage_user_sums", *("user_id", "request_id", "input_tokens", "output_tokens", "cache_read_input_tokens")
        ),
        Index("ix_usage_batch", "batch_id", "id", sqlite_where=IN_BATCH, postgresql_where=IN_BATCH),
        Index(  # the sums of a stored prompt's versions, in the same way
            "ix_usage_prompt_sums",
            *("prompt_version_id", "request_id", "input_tokens", "output_tokens", "cost_nanousd", "outcome"),
            sqlite_where=OF_PROMPTS,
            postgresql_where=OF_PROMPTS,
        ),
        Index("ix_usage_not_ok", "outcome", "request_id", sqlite_where=NOT_OK, postgresql_where=NOT_OK),
        Index("ix_usage_key_id_custom_id", "key_id", "custom_id", sqlite_where=NAMED, postgresql_where=NAMED),
        Index("ix_usage_custom_id_id", "custom_id", "id", sqlite_where=NAMED, postgresql_where=NAMED),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(40), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    user_id: Mapped[int] = mapped_column(BigInteger)
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    team_id: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str | None] = mapped_column(String(100))
    upstream_model: Mapped[str | None] = mapped_column(String(200))
    operation: Mapped[str] = mapped_column(String(20))
    is_stream: Mapped[bool]
    status: Mapped[int]  # HTTP status the caller got
    outcome: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(10))
    is_overrun: Mapped[bool] = mapped_column(default=False)  # the provider reported more than was held
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_read_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_creation_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cache_creation_1h_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    reasoning_output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    input_audio_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_audio_tokens: Mapped[int | None] = mapped_column(BigInteger)
    images: Mapped[int | None]  # made
    cost_nanousd: Mapped[int] = mapped_column(BigInteger)
    input_rate: Mapped[int | None] = mapped_column(BigInteger)  # these four: of the tier that applied
    output_rate: Mapped[int | None] = mapped_column(BigInteger)
    cache_read_rate: Mapped[int | None] = mapped_column(BigInteger)
    cache_creation_rate: Mapped[int | None] = mapped_column(BigInteger)
    price_source: Mapped[str | None] = mapped_column(String(60))
    charge_lines: Mapped[str | None] = mapped_column(Text)  # JSON [[what, units, rate], …], see services/pricing.py
    first_byte_ms: Mapped[int | None]
    duration_ms: Mapped[int]
    attempts: Mapped[str | None] = mapped_column(Text)  # JSON [[provider, what happened], …]
    error: Mapped[str | None] = mapped_column(String(300))
    custom_id: Mapped[str | None] = mapped_column(String(255))  # the caller's own name for the call
    client_metadata: Mapped[str | None] = mapped_column(Text)  # as the caller sent it
    path: Mapped[str | None] = mapped_column(String(200))  # these seven: see services/marks.py
    route_id: Mapped[str | None] = mapped_column(String(36))
    action: Mapped[str | None] = mapped_column(String(10))
    policy_id: Mapped[int | None] = mapped_column(BigInteger)
    saved_nanousd: Mapped[int | None] = mapped_column(BigInteger)
    prompt_version_id: Mapped[int | None] = mapped_column(BigInteger)
    batch_id: Mapped[int | None] = mapped_column(BigInteger)
    trace: Mapped[str | None] = mapped_column(Text)  # JSON, see trace_of in services/settlement.py


class LedgerEntry(Base):
    """One movement on one account. Append-only; every balance is a sum of these.

    Amounts say how much, the kind says which way: a charge or correction is spent, a top-up is given to a prepaid
    budget, a deduction is taken from it.
    """

    __tablename__ = "ledger_entries"
    __table_args__ = (
        one_of("kind", "charge", "correction", "top_up", "deduct"),
        one_of("account", "user", "budget"),
        UniqueConstraint("request_id", "kind", "account", "account_id"),  # a request is charged once
        Index("ix_ledger_entries_account_account_id_id", "account", "account_id", "id"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    kind: Mapped[str] = mapped_column(String(20))
    account: Mapped[str] = mapped_column(String(10))
    account_id: Mapped[int] = mapped_column(BigInteger)
    period_start: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_nanousd: Mapped[int] = mapped_column(BigInteger, default=0)
    amount_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    request_id: Mapped[str | None] = mapped_column(String(40))
    actor: Mapped[str | None] = mapped_column(String(150))
    actor_id: Mapped[int | None] = mapped_column(BigInteger)  # the user who acted, where one did
    reason: Mapped[str | None] = mapped_column(String(255))
