"""Kinds of columns and constraints that tables are made of."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Integer, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only in INTEGER columns
IntOrNone = Integer().evaluates_none()  # None is stored where a row is made with it; without, its default
Names = JSON(none_as_null=True)  # a list, or nothing at all


class UtcMs(TypeDecorator[datetime]):
    """A moment: aware datetime in Python, milliseconds since 1970 in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Datetime to milliseconds; a naive one is taken as UTC."""
        if value is None:
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Milliseconds to datetime."""
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


class Managed:
    """Rows that admins change, or the configuration file alone."""

    managed_by: Mapped[str] = mapped_column(String(20), default="admin", server_default="admin")


class Peppered:
    """Rows with the digest of a secret, and which KEY_PEPPER it was made under; None = from before that was noted."""

    pepper: Mapped[str | None] = mapped_column(String(16))


def created() -> Mapped[datetime]:
    """The moment a row was made."""
    return mapped_column(UtcMs, default=_now)


def updated() -> Mapped[datetime]:
    """The moment a row was last changed through the ORM."""
    return mapped_column(UtcMs, default=_now, onupdate=_now)


def one_of(column: str, *values: str) -> CheckConstraint:
    """The column holds one of these words."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_known")


def not_negative(*columns: str) -> tuple[CheckConstraint, ...]:
    """None of these columns goes below zero."""
    return tuple(CheckConstraint(f"{column} >= 0", name=f"{column}_not_negative") for column in columns)


def _now() -> datetime:
    return datetime.now(UTC)
