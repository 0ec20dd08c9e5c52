"""An index for the panel's list of dialogs

Without it, the dialogs of everybody were sorted whenever somebody looked at the newest ones.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = "ix_dialogs_updated"


def upgrade() -> None:
    op.create_index(NAME, "dialogs", ["updated_at", "id"])


def downgrade() -> None:
    op.drop_index(NAME, table_name="dialogs")
