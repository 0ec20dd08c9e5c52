"""The tables of the roll-ups: what usage rows add up to, by the hour and by the day, so that no page adds up millions.

services/rollups.py fills them. A span is an hour or a UTC day, named by its length in hours and the second in which it
begins. What has no name or number in a usage row is '' or 0 here, since it is part of a key.
"""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import Serial, one_of
from utils.extensions import Base

CLUSTERED: dict[str, Any] = {
    "sqlite_with_rowid": False
}  # the rows of a span lie together, and there is no second index


def _number(*, is_key: bool = False) -> Mapped[int]:
    return mapped_column(BigInteger, primary_key=is_key, autoincrement=False)


class ModelSpan(Base):
    """What the calls of one model at one provider came to in a span."""

    __tablename__ = "usage_by_model"
    __table_args__ = (CLUSTERED,)

    span_hours: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    span_start: Mapped[int] = _number(is_key=True)
    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    provider: Mapped[str] = mapped_column(String(100), primary_key=True)
    calls: Mapped[int] = _number()
    failed: Mapped[int] = _number()
    input_tokens: Mapped[int] = _number()
    output_tokens: Mapped[int] = _number()
    cost_nanousd: Mapped[int] = _number()
    duration_ms: Mapped[int] = _number()


class OwnerSpan(Base):
    """The same of one key, with its user and team at the time. Hours are kept for a few days only."""

    __tablename__ = "usage_by_owner"
    __table_args__ = (CLUSTERED,)

    span_hours: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    span_start: Mapped[int] = _number(is_key=True)
    user_id: Mapped[int] = _number(is_key=True)
    key_id: Mapped[int] = _number(is_key=True)
    team_id: Mapped[int] = _number(is_key=True)
    calls: Mapped[int] = _number()
    failed: Mapped[int] = _number()
    input_tokens: Mapped[int] = _number()
    output_tokens: Mapped[int] = _number()
    cost_nanousd: Mapped[int] = _number()
    duration_ms: Mapped[int] = _number()


class DelaySpan(Base):
    """How many calls of a span took that long: `bucket` stands for a range of milliseconds, see services/delays.py."""

    __tablename__ = "usage_delays"
    __table_args__ = (one_of("metric", "duration", "first_byte"), CLUSTERED)

    span_hours: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    span_start: Mapped[int] = _number(is_key=True)
    metric: Mapped[str] = mapped_column(String(10), primary_key=True)
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    calls: Mapped[int] = _number()


class UsageChange(Base):
    """A usage row that was written anew, as it was (sign -1) and as it is (+1), until that is added up too.

    Triggers in the migration write it, so nothing that changes a usage row needs to know of the roll-ups.
    """

    __tablename__ = "usage_changes"
    __table_args__ = (
        CheckConstraint("sign IN (-1, 1)", name="sign_known"),
        Index("ix_usage_changes_usage", "usage_id"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    usage_id: Mapped[int] = _number()
    sign: Mapped[int]
    created_at: Mapped[int] = _number()  # milliseconds since 1970, as all that follows copied from usage
    user_id: Mapped[int] = _number()
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    team_id: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str | None] = mapped_column(String(100))
    outcome: Mapped[str] = mapped_column(String(40))
    is_stream: Mapped[bool]
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cost_nanousd: Mapped[int] = _number()
    first_byte_ms: Mapped[int | None]
    duration_ms: Mapped[int]


class RollupState(Base):
    """One row: the newest usage row that is added up; all older ones are too. Whoever adds up has it locked."""

    __tablename__ = "rollup_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    folded_id: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
