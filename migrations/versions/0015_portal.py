"""Requests for higher budgets and limits, and codes that top people up

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _requests()
    _codes()


def downgrade() -> None:
    op.drop_table("top_up_codes")
    op.drop_table("raise_requests")


def _requests() -> None:
    op.create_table(
        "raise_requests",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("scope_id", sa.BigInteger, nullable=False),
        sa.Column("unit", sa.String(10), nullable=False),
        sa.Column("period", sa.String(10), nullable=False),
        sa.Column("seen_amount", sa.BigInteger, nullable=False),
        sa.Column("wanted_amount", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("decided_amount", sa.BigInteger),
        sa.Column("decided_by", sa.String(150)),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("answer", sa.String(500)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('budget', 'limit', 'balance')", name=op.f("ck_raise_requests_kind_known")),
        sa.CheckConstraint(
            "state IN ('open', 'approved', 'declined', 'withdrawn')", name=op.f("ck_raise_requests_state_known")
        ),
        sa.CheckConstraint("wanted_amount >= 0", name=op.f("ck_raise_requests_wanted_amount_not_negative")),
        sa.CheckConstraint("decided_amount >= 0", name=op.f("ck_raise_requests_decided_amount_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raise_requests")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_raise_requests_user", "raise_requests", ["user_id", "id"])
    op.create_index("ix_raise_requests_state", "raise_requests", ["state", "id"])


def _codes() -> None:
    op.create_table(
        "top_up_codes",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(20), nullable=False),
        sa.Column("unit", sa.String(10), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("created_by", sa.String(150), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_by", sa.BigInteger),
        sa.Column("voided_at", sa.BigInteger),
        sa.CheckConstraint("unit IN ('usd', 'tokens')", name=op.f("ck_top_up_codes_unit_known")),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_top_up_codes_amount_not_negative")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_top_up_codes")),
    )
    op.create_index("ix_top_up_codes_used_by", "top_up_codes", ["used_by"])
