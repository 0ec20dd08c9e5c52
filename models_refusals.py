"""The table of refused calls: who asked for what, which rule said no, and its numbers. Units as in models.py."""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Index, String, Text, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import Serial, UtcMs, not_negative
from utils.extensions import Base

NAMED: Final[ColumnElement[bool]] = literal_column("custom_id IS NOT NULL")


class Refusal(Base):
    """A call that was refused before anything was held for it, or several alike: see services/refusals.py."""

    __tablename__ = "refusals"
    __table_args__ = (
        *not_negative("times"),
        Index("ix_refusals_request_id", "request_id"),
        Index("ix_refusals_key_id_id", "key_id", "id"),
        Index("ix_refusals_user_id_id", "user_id", "id"),
        Index("ix_refusals_custom_id_id", "custom_id", "id", sqlite_where=NAMED, postgresql_where=NAMED),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    user_id: Mapped[int | None] = mapped_column(BigInteger)  # None: calls of many, which are only counted
    key_id: Mapped[int | None] = mapped_column(BigInteger)
    team_id: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str | None] = mapped_column(String(200))  # as it was asked for
    kind: Mapped[str] = mapped_column(String(20))  # which rule: see services/refusals.py
    rule: Mapped[str | None] = mapped_column(String(150))  # the very one, such as `budget 17`
    status: Mapped[int]  # with code and message: what the caller got
    code: Mapped[str | None] = mapped_column(String(60))
    message: Mapped[str] = mapped_column(String(300))
    details: Mapped[str | None] = mapped_column(Text)  # JSON: the numbers
    path: Mapped[str | None] = mapped_column(String(200))  # with the next two: as usage has them
    custom_id: Mapped[str | None] = mapped_column(String(255))
    client_metadata: Mapped[str | None] = mapped_column(Text)
    times: Mapped[int] = mapped_column(default=1, server_default="1")  # this one, and like it in the same second
