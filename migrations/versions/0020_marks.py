"""What the gateway did to a call: its path, route, policy, saving, prompt and batch

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COLUMNS = {
    "path": sa.String(200),
    "route_id": sa.String(36),
    "action": sa.String(10),
    "policy_id": sa.BigInteger(),
    "saved_nanousd": sa.BigInteger(),
    "prompt_version_id": sa.BigInteger(),
    "batch_id": sa.BigInteger(),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("usage", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("usage", name)
