"""The table of kept answers: of the cache, and of calls with an `Idempotency-Key`. See services/kept.py."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import UtcMs, not_negative, one_of
from utils.extensions import Base


class KeptAnswer(Base):
    """An answer that may be given again, or the claim of the call that is making it."""

    __tablename__ = "kept_answers"
    __table_args__ = (
        one_of("kind", "cache", "repeat"),
        one_of("state", "open", "done", "lost"),
        *not_negative("size", "cost_nanousd"),
        Index("ix_kept_answers_expires", "expires_at"),
        Index("ix_kept_answers_user", "user_id"),
    )

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # of whom it is for and what was asked
    kind: Mapped[str] = mapped_column(String(10))
    user_id: Mapped[int] = mapped_column(BigInteger)  # whose call made it
    request_id: Mapped[str] = mapped_column(String(40))  # of that call, which alone may fill or give up the claim
    state: Mapped[str] = mapped_column(String(10))
    lease_until: Mapped[datetime] = mapped_column(UtcMs)  # an open claim is dead after that: see Shelf.renew
    asked: Mapped[str | None] = mapped_column(String(64))  # digest of the body, where the key says nothing of it
    status: Mapped[int | None]
    content_type: Mapped[str | None] = mapped_column(String(200))
    headers: Mapped[str | None] = mapped_column(Text)  # JSON: those of the answer that are given again
    is_stream: Mapped[bool | None]
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the body as it is stored
    cost_nanousd: Mapped[int] = mapped_column(BigInteger)  # what the call cost
    created_at: Mapped[datetime] = mapped_column(UtcMs)  # when it was whole
    expires_at: Mapped[datetime] = mapped_column(UtcMs)
    body: Mapped[bytes | None] = mapped_column(Sealed)  # with the digest in it, so that it fits no other row
