"""Files and batches: what was uploaded, what is to be done, how far it is

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
STATUSES = ("validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled")
IN_BATCH = sa.text("batch_id IS NOT NULL")

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _files()
    _chunks()
    _batches()
    _lines()
    op.create_index(
        "ix_usage_batch", "usage", ["batch_id", "id"], sqlite_where=IN_BATCH, postgresql_where=IN_BATCH
    )


def downgrade() -> None:
    op.drop_index("ix_usage_batch", "usage")
    for table in ("batch_lines", "batches", "batch_chunks", "batch_files"):
        op.drop_table(table)


def _files() -> None:
    op.create_table(
        "batch_files",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("key_id", sa.BigInteger),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("is_whole", sa.Boolean, nullable=False),
        sa.Column("batch_id", sa.BigInteger),
        sa.Column("state", sa.String(10)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.CheckConstraint("purpose IN ('batch', 'batch_output')", name=op.f("ck_batch_files_purpose_known")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_batch_files_size_bytes_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_files")),
    )
    for column in ("user_id", "batch_id", "expires_at"):
        op.create_index(f"ix_batch_files_{column}", "batch_files", [column])


def _chunks() -> None:
    op.create_table(
        "batch_chunks",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("file_id", sa.String(40), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_chunks")),
        sa.UniqueConstraint("file_id", "number", name=op.f("uq_batch_chunks_file_id_number")),
    )
    op.create_index("ix_batch_chunks_user_id", "batch_chunks", ["user_id"])


def _batches() -> None:
    known = ", ".join(f"'{status}'" for status in STATUSES)
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    op.create_table(
        "batches",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("key_id", sa.BigInteger),
        sa.Column("address", sa.String(45), nullable=False),
        sa.Column("endpoint", sa.String(40), nullable=False),
        sa.Column("input_file_id", sa.String(40), nullable=False),
        sa.Column("output_file_id", sa.String(40)),
        sa.Column("error_file_id", sa.String(40)),
        sa.Column("output_seconds", sa.Integer),
        sa.Column("model", sa.String(200)),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("client_metadata", sa.JSON),
        sa.Column("errors", sa.JSON),
        sa.Column("stop", sa.JSON),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("total", "completed", "failed")),
        sa.Column("owner", sa.String(40)),
        sa.Column("lease_at", sa.BigInteger),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        *(sa.Column(f"{name}_at", sa.BigInteger) for name in moments),
        sa.CheckConstraint(f"status IN ({known})", name=op.f("ck_batches_status_known")),
        *(
            sa.CheckConstraint(f"{name} >= 0", name=op.f(f"ck_batches_{name}_not_negative"))
            for name in ("total", "completed", "failed")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("name", name=op.f("uq_batches_name")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batches_user", "batches", ["user_id", "id"])
    op.create_index("ix_batches_status", "batches", ["status"])


def _lines() -> None:
    op.create_table(
        "batch_lines",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("length", sa.BigInteger, nullable=False),
        sa.Column("custom_id", sa.String(255), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("request_id", sa.String(40)),
        sa.Column("owner", sa.String(40)),
        sa.Column("lease_at", sa.BigInteger),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'completed', 'failed')", name=op.f("ck_batch_lines_state_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch_lines")),
        sa.UniqueConstraint("batch_id", "number", name=op.f("uq_batch_lines_batch_id_number")),
    )
    op.create_index("ix_batch_lines_user_id", "batch_lines", ["user_id"])
    op.create_index("ix_batch_lines_state", "batch_lines", ["batch_id", "state", "number"])
