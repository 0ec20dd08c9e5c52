"""An index of the calls that did not simply succeed

They are few, and what people look for: without it a list of one outcome read thousands of rows for each page.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = "ix_usage_not_ok"
FEW = sa.text("outcome <> 'ok'")


def upgrade() -> None:
    op.create_index(NAME, "usage", ["outcome", "request_id"], sqlite_where=FEW, postgresql_where=FEW)


def downgrade() -> None:
    op.drop_index(NAME, table_name="usage")
