"""Timeouts of keys

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE api_keys ADD COLUMN timeouts JSON")


def downgrade() -> None:
    op.execute("ALTER TABLE api_keys DROP COLUMN timeouts")
