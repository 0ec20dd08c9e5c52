"""The tables of the self-service portal: what people ask for, and codes that top them up. Units as in models.py."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column, synonym

from utils.columns import Serial, UtcMs, created, not_negative, one_of
from utils.extensions import Base


class RaiseRequest(Base):
    """Somebody asks for more of a budget, limit or balance; admins decide once."""

    __tablename__ = "raise_requests"
    __table_args__ = (
        one_of("kind", "budget", "limit", "balance"),
        one_of("state", "open", "approved", "declined", "withdrawn"),
        *not_negative("wanted_amount", "decided_amount"),
        Index("ix_raise_requests_user", "user_id", "id"),
        Index("ix_raise_requests_state", "state", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(10))
    scope: Mapped[str] = mapped_column(String(10))  # whose budget or limit, as in `budgets`
    scope_id: Mapped[int] = mapped_column(BigInteger)
    unit: Mapped[str] = mapped_column(String(10))
    period: Mapped[str] = mapped_column(String(10))
    seen_amount: Mapped[int] = mapped_column(BigInteger)  # the limit when it was asked; of a balance what was left
    wanted_amount: Mapped[int] = mapped_column(BigInteger)  # the new limit; of a balance so much more
    reason: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(10), default="open")
    decided_amount: Mapped[int | None] = mapped_column(BigInteger)
    decided_by: Mapped[str | None] = mapped_column(String(150))
    decided_at: Mapped[datetime | None] = mapped_column(UtcMs)
    answer: Mapped[str | None] = mapped_column(String(500))  # what whoever decided says
    created_at: Mapped[datetime] = created()


class TopUpCode(Base):
    """A code that gives whoever redeems it tokens or USD, once. Only its digest is kept."""

    __tablename__ = "top_up_codes"
    __table_args__ = (one_of("unit", "usd", "tokens"), *not_negative("amount"))

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = synonym("digest")  # as all pages of the panel name their rows
    hint: Mapped[str] = mapped_column(String(20))
    unit: Mapped[str] = mapped_column(String(10))
    amount: Mapped[int] = mapped_column(BigInteger)  # nano-USD or tokens
    note: Mapped[str] = mapped_column(String(200), default="")
    created_by: Mapped[str] = mapped_column(String(150))
    created_at: Mapped[datetime] = created()
    expires_at: Mapped[datetime] = mapped_column(UtcMs)
    used_at: Mapped[datetime | None] = mapped_column(UtcMs)
    used_by: Mapped[int | None] = mapped_column(BigInteger, index=True)
    voided_at: Mapped[datetime | None] = mapped_column(UtcMs)
