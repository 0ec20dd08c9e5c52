"""Indexes for the filters of the audit log

Without them, looking for what one user did, for a rare action or for a day long ago read the whole table.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_audit_log_user": ("user_id", "id"),
    "ix_audit_log_action": ("action", "id"),
    "ix_audit_log_resource": ("resource_type", "id"),
    "ix_audit_log_created": ("created_at", "id"),
}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        op.create_index(name, "audit_log", list(columns))


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, table_name="audit_log")
