"""Who manages teams, budgets, limits, routes, agents and configuration values: admins, or the configuration file

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = ("teams", "budgets", "limits", "routes", "agents", "system_configs")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("managed_by", sa.String(20), server_default="admin", nullable=False))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "managed_by")
