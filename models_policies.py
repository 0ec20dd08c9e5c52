"""The tables of policies: what they look for, what they do about it, and whose calls they apply to."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from utils import ids
from utils.columns import Names, Serial, created, not_negative, one_of, updated
from utils.extensions import Base


class Policy(Base):
    """What must not go out or come back. `rules` is what services/policies/rules.py reads."""

    __tablename__ = "policies"
    __table_args__ = (*not_negative("version"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), default=ids.uuid, unique=True)
    name: Mapped[str] = mapped_column(String(255))
    tags: Mapped[list[str] | None] = mapped_column(Names)
    rules: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    on_requests: Mapped[bool] = mapped_column(default=True)
    on_answers: Mapped[bool] = mapped_column(default=False)
    is_enabled: Mapped[bool] = mapped_column(default=True)
    is_dry_run: Mapped[bool] = mapped_column(default=False)  # decides and notes, changes nothing
    is_for_all: Mapped[bool] = mapped_column(default=False)  # applies to every call
    version: Mapped[int] = mapped_column(default=1)  # raised with every change
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    bindings: Mapped[list["PolicyBinding"]] = relationship(
        back_populates="policy", cascade="all, delete-orphan", order_by="PolicyBinding.scope"
    )

    def __str__(self) -> str:
        return self.name


class PolicyBinding(Base):
    """The policy of a key, user, team or model; each has one at most."""

    __tablename__ = "policy_bindings"
    __table_args__ = (one_of("scope", "key", "user", "team", "model"),)

    scope: Mapped[str] = mapped_column(String(10), primary_key=True)
    scope_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    policy_id: Mapped[int] = mapped_column(ForeignKey("policies.id", ondelete="CASCADE"), index=True)

    policy: Mapped[Policy] = relationship(back_populates="bindings")
