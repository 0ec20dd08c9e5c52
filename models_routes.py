"""The table of routes: paths of an admin's own, with the places where their calls are tried."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from utils import ids
from utils.columns import Managed, Names, Serial, created, one_of, updated
from utils.extensions import Base


class Route(Managed, Base):
    """A path that some keys may call, and its steps in order."""

    __tablename__ = "routes"
    __table_args__ = (one_of("retry_strategy", "exponential", "constant"), Index("uq_routes_uuid", "uuid", unique=True))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), default=ids.uuid)  # what clients of the API see
    name: Mapped[str] = mapped_column(String(255))
    path: Mapped[str] = mapped_column(String(255), unique=True)
    key_ids: Mapped[list[int]] = mapped_column(JSON, default=list)
    steps: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)  # as services/callroutes.py reads them
    cache: Mapped[dict[str, Any] | None] = mapped_column(Names)  # {"enabled", "ttl"}
    retry_strategy: Mapped[str] = mapped_column(String(20), default="exponential")
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()
