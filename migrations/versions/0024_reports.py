"""How long calls took in the sums of the roll-ups, and indexes by the caller's own name for a call

The sums are emptied: housekeeping adds everything up again, with the new column, and the pages say how far it is.
Calls without a name of their own are in neither index.

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SUMS = ("usage_by_model", "usage_by_owner")
NAMED = sa.text("custom_id IS NOT NULL")
INDEXES = {"ix_usage_key_id_custom_id": ["key_id", "custom_id"], "ix_usage_custom_id_id": ["custom_id", "id"]}


def upgrade() -> None:
    for table in (*SUMS, "usage_delays", "usage_changes"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
    op.execute("UPDATE rollup_state SET folded_id = 0")
    for table in SUMS:
        op.add_column(table, sa.Column("duration_ms", sa.BigInteger(), nullable=False))
    for name, columns in INDEXES.items():
        op.create_index(name, "usage", columns, sqlite_where=NAMED, postgresql_where=NAMED)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="usage")
    for table in SUMS:
        op.drop_column(table, "duration_ms")
