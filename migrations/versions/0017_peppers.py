"""Under which KEY_PEPPER the digest of a key was made

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TABLES = ("api_keys", "retired_secrets")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("pepper", sa.String(16)))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "pepper")
