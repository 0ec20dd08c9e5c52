"""Policies: what must not go out or come back, and whose calls they apply to

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("tags", sa.JSON(none_as_null=True)),
        sa.Column("rules", sa.JSON, nullable=False),
        *(
            sa.Column(name, sa.Boolean, nullable=False)
            for name in ("on_requests", "on_answers", "is_enabled", "is_dry_run", "is_for_all")
        ),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("version >= 0", name=op.f("ck_policies_version_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("uuid", name=op.f("uq_policies_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "policy_bindings",
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("scope_id", sa.BigInteger, nullable=False),
        sa.Column("policy_id", SERIAL, nullable=False),
        sa.CheckConstraint(
            "scope IN ('key', 'user', 'team', 'model')", name=op.f("ck_policy_bindings_scope_known")
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_policy_bindings_policy_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("scope", "scope_id", name=op.f("pk_policy_bindings")),
    )
    op.create_index(op.f("ix_policy_bindings_policy_id"), "policy_bindings", ["policy_id"])
    for table in ("policies", "policy_bindings"):
        for event in ("INSERT", "UPDATE", "DELETE"):  # a worker's snapshot has them
            _raise_version(table, event)


def downgrade() -> None:
    op.drop_table("policy_bindings")
    op.drop_table("policies")


def _raise_version(table: str, event: str) -> None:
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
