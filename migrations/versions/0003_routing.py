"""Aliases of models, and how their calls are routed

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = ("aliases", "routing")


def upgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE models ADD COLUMN {column} JSON")


def downgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE models DROP COLUMN {column}")
