"""Saved views of the panel's lists, and the columns that people chose

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

from utils.columns import Serial, UtcMs

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("id", Serial, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("view", sa.String(60), nullable=False),
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("is_shared", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcMs(), nullable=False),
        sa.Column("updated_at", UtcMs(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
    )
    op.create_index("uq_saved_views_name", "saved_views", ["user_id", "view", "name"], unique=True)
    op.create_index("ix_saved_views_shared", "saved_views", ["is_shared", "view"])


def downgrade() -> None:
    op.drop_table("saved_views")
