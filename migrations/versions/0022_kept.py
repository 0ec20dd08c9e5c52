"""Kept answers: of the cache, and of calls with an idempotency key

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "kept_answers",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.String(40), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("asked", sa.String(64)),
        sa.Column("status", sa.Integer),
        sa.Column("content_type", sa.String(200)),
        sa.Column("headers", sa.Text),
        sa.Column("is_stream", sa.Boolean),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("cost_nanousd", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.CheckConstraint("kind IN ('cache', 'repeat')", name=op.f("ck_kept_answers_kind_known")),
        sa.CheckConstraint("state IN ('open', 'done', 'lost')", name=op.f("ck_kept_answers_state_known")),
        sa.CheckConstraint("size >= 0", name=op.f("ck_kept_answers_size_not_negative")),
        sa.CheckConstraint("cost_nanousd >= 0", name=op.f("ck_kept_answers_cost_nanousd_not_negative")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_kept_answers")),
    )
    op.create_index("ix_kept_answers_expires", "kept_answers", ["expires_at"])
    op.create_index("ix_kept_answers_user", "kept_answers", ["user_id"])


def downgrade() -> None:
    op.drop_table("kept_answers")
