"""Alerts: whom to tell, what was noticed, and what became of telling it

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _targets()
    _alerts()
    _deliveries()


def downgrade() -> None:
    op.drop_table("alert_deliveries")
    op.drop_table("alerts")
    op.drop_table("alert_targets")


def _targets() -> None:
    op.create_table(
        "alert_targets",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("sealed_address", sa.LargeBinary, nullable=False),
        sa.Column("hint", sa.String(300), nullable=False),
        sa.Column("secret", sa.LargeBinary),
        sa.Column("former_secret", sa.LargeBinary),
        sa.Column("former_until_at", sa.BigInteger),
        sa.Column("events", sa.JSON),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('webhook', 'email')", name=op.f("ck_alert_targets_kind_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_targets")),
        sa.UniqueConstraint("name", name=op.f("uq_alert_targets_name")),
        sqlite_autoincrement=True,
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("code", sa.String(40), nullable=False),
        sa.Column("event", sa.String(30), nullable=False),
        sa.Column("subject", sa.String(220), nullable=False),
        sa.Column("period", sa.String(80), nullable=False),
        sa.Column("user_id", sa.BigInteger),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("code", name=op.f("uq_alerts_code")),
        sa.UniqueConstraint("event", "subject", "period", name=op.f("uq_alerts_event_subject_period")),
    )
    op.create_index("ix_alerts_user", "alerts", ["user_id", "id"])


def _deliveries() -> None:
    op.create_table(
        "alert_deliveries",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("alert_id", SERIAL, nullable=False),
        sa.Column("target_id", SERIAL, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.String(500)),
        sa.Column("sent_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'sent', 'failed')", name=op.f("ck_alert_deliveries_state_known")),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_alert_deliveries_attempts_not_negative")),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("fk_alert_deliveries_alert_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["target_id"],
            ["alert_targets.id"],
            name=op.f("fk_alert_deliveries_target_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_deliveries")),
        sa.UniqueConstraint("alert_id", "target_id", name=op.f("uq_alert_deliveries_alert_id_target_id")),
    )
    op.create_index("ix_alert_deliveries_due", "alert_deliveries", ["state", "next_at"])
    op.create_index("ix_alert_deliveries_target", "alert_deliveries", ["target_id", "id"])
