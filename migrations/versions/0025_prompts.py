"""Stored prompts: names, versions and labels, and usage by version

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = ("prompts", "prompt_versions", "prompt_labels")  # a worker remembers them as long as its snapshot
OF_PROMPTS = sa.text("prompt_version_id IS NOT NULL")


def upgrade() -> None:
    _make_prompts()
    _make_versions()
    op.create_index(
        "ix_usage_prompt_sums",
        "usage",
        ["prompt_version_id", "request_id", "input_tokens", "output_tokens", "cost_nanousd", "outcome"],
        sqlite_where=OF_PROMPTS,
        postgresql_where=OF_PROMPTS,
    )
    for table in TABLES:
        _raise_version_of(table)


def _make_prompts() -> None:
    op.create_table(
        "prompts",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_prompts_name", "prompts", ["user_id", "team_id", "name"], unique=True)
    op.create_index("ix_prompts_name", "prompts", ["name"])
    op.create_index("uq_prompts_uuid", "prompts", ["uuid"], unique=True)


def _make_versions() -> None:
    op.create_table(
        "prompt_versions",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("prompt_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("variables", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("author", sa.String(length=150), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_versions")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_prompt_versions_number", "prompt_versions", ["prompt_id", "number"], unique=True)
    op.create_table(
        "prompt_labels",
        sa.Column("prompt_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("prompt_id", "name", name=op.f("pk_prompt_labels")),
    )


def _raise_version_of(table: str) -> None:
    for event in ("INSERT", "UPDATE", "DELETE"):
        name = f"tr_{table}_{event.lower()}"
        if op.get_bind().dialect.name == "sqlite":
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN "
                "UPDATE catalog_version SET version = version + 1; END"
            )
        else:
            op.execute(
                f"CREATE CONSTRAINT TRIGGER {name} AFTER {event} ON {table} DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION tollhouse_catalog_changed()"
            )


def downgrade() -> None:
    op.drop_index("ix_usage_prompt_sums", "usage")
    for table in TABLES:
        op.drop_table(table)
