"""Refused calls with the rule that refused them, and what budgets and limits had left for each call

Revision ID: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NUMBER = {"sqlite": "INTEGER", "postgresql": "BIGSERIAL"}  # what a table's own number is
INDEXES = {"request_id": "request_id", "key_id_id": "key_id, id", "user_id_id": "user_id, id"}


def upgrade() -> None:
    op.execute(f"""
        CREATE TABLE refusals (
            id {NUMBER[op.get_bind().dialect.name]} NOT NULL,
            request_id VARCHAR(40) NOT NULL,
            created_at BIGINT NOT NULL,
            user_id BIGINT,
            key_id BIGINT,
            team_id BIGINT,
            model VARCHAR(200),
            kind VARCHAR(20) NOT NULL,
            rule VARCHAR(150),
            status INTEGER NOT NULL,
            code VARCHAR(60),
            message VARCHAR(300) NOT NULL,
            details TEXT,
            times INTEGER NOT NULL DEFAULT 1,
            CONSTRAINT pk_refusals PRIMARY KEY (id),
            CONSTRAINT ck_refusals_times_not_negative CHECK (times >= 0)
        )""")
    for name, columns in INDEXES.items():
        op.execute(f"CREATE INDEX ix_refusals_{name} ON refusals ({columns})")
    op.execute("ALTER TABLE usage ADD COLUMN trace TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE usage DROP COLUMN trace")
    op.execute("DROP TABLE refusals")
