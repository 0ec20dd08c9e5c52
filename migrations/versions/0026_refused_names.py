"""What callers call their refused calls, and where those went

Revision ID: 0026
Revises: 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

NAMED = sa.text("custom_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("refusals", sa.Column("path", sa.String(length=200), nullable=True))
    op.add_column("refusals", sa.Column("custom_id", sa.String(length=255), nullable=True))
    op.add_column("refusals", sa.Column("client_metadata", sa.Text(), nullable=True))
    op.create_index(
        "ix_refusals_custom_id_id", "refusals", ["custom_id", "id"], sqlite_where=NAMED, postgresql_where=NAMED
    )


def downgrade() -> None:
    op.drop_index("ix_refusals_custom_id_id", table_name="refusals")
    for name in ("client_metadata", "custom_id", "path"):
        op.drop_column("refusals", name)
