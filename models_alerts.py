"""The tables of alerts: whom to tell, what was noticed, and what became of telling it. Units as in models.py."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column, relationship

from utils.columns import Names, Serial, UtcMs, created, not_negative, one_of, updated
from utils.extensions import Base


class AlertTarget(Base):
    """Somebody who is told: a webhook or e-mail addresses. The address may hold a secret, so it is sealed too."""

    __tablename__ = "alert_targets"
    __table_args__ = (one_of("kind", "webhook", "email"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    kind: Mapped[str] = mapped_column(String(10))
    sealed_address: Mapped[bytes] = mapped_column(Sealed)
    hint: Mapped[str] = mapped_column(String(300))  # what may be shown of the address
    secret: Mapped[bytes | None] = mapped_column(Sealed)  # signs what a webhook gets
    former_secret: Mapped[bytes | None] = mapped_column(Sealed)  # signs it as well until former_until_at
    former_until_at: Mapped[datetime | None] = mapped_column(UtcMs)
    events: Mapped[list[str] | None] = mapped_column(Names)  # None: all
    is_enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    def __str__(self) -> str:
        return self.name


class Alert(Base):
    """Something that was noticed, once for its subject and period, whoever noticed it: see services/alerts.py."""

    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("event", "subject", "period"), Index("ix_alerts_user", "user_id", "id"))

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    code: Mapped[str] = mapped_column(String(40), unique=True)  # what receivers tell repeats by
    event: Mapped[str] = mapped_column(String(30))
    subject: Mapped[str] = mapped_column(String(220))  # such as `budget 17`
    period: Mapped[str] = mapped_column(String(80))  # within which it is told once
    user_id: Mapped[int | None] = mapped_column(BigInteger)  # whom it is about, where it is about one
    facts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = created()

    deliveries: Mapped[list["AlertDelivery"]] = relationship(
        back_populates="alert", order_by="AlertDelivery.id", passive_deletes=True
    )


class AlertDelivery(Base):
    """An alert for one target: written with the alert, sent afterwards."""

    __tablename__ = "alert_deliveries"
    __table_args__ = (
        one_of("state", "waiting", "sent", "failed"),
        *not_negative("attempts"),
        UniqueConstraint("alert_id", "target_id"),
        Index("ix_alert_deliveries_due", "state", "next_at"),
        Index("ix_alert_deliveries_target", "target_id", "id"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"))
    target_id: Mapped[int] = mapped_column(ForeignKey("alert_targets.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)  # since it was written, or sent again by hand
    next_at: Mapped[datetime] = mapped_column(UtcMs)  # when it is tried; of one under way, when another worker may
    status: Mapped[int | None]  # HTTP status of the last answer
    error: Mapped[str | None] = mapped_column(String(500))
    sent_at: Mapped[datetime | None] = mapped_column(UtcMs)
    created_at: Mapped[datetime] = created()

    alert: Mapped[Alert] = relationship(back_populates="deliveries")
    target: Mapped[AlertTarget] = relationship()
