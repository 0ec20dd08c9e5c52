"""The tables of stored answers of the Responses API. Units as in models.py.

What was said is sealed; whose it is, when it ends and which answer it goes on from can be read. Rows of users are
removed with them (services/removal.py), and all others when they end.
"""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column

from utils.columns import UtcMs
from utils.extensions import Base


class StoredResponse(Base):
    """An answer, with the input that was sent for it alone: what came before stands with the one before."""

    __tablename__ = "stored_responses"

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, index=True)
    key_id: Mapped[int | None] = mapped_column(BigInteger)  # None: signed in by token
    previous_id: Mapped[str | None] = mapped_column(String(80))
    model: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcMs)
    expires_at: Mapped[datetime] = mapped_column(UtcMs, index=True)
    sealed: Mapped[bytes] = mapped_column(Sealed)  # JSON {"response": …, "input": [item, …]}


class StoredItem(Base):
    """In which answer an item stands, since a request may name items instead of repeating them."""

    __tablename__ = "stored_items"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(80), index=True)
