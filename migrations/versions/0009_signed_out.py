"""When a user was last signed out everywhere

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN signed_out_at BIGINT")


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN signed_out_at")
