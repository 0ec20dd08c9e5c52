"""Routes: paths of an admin's own

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "routes",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("key_ids", sa.JSON(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("cache", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("retry_strategy", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "retry_strategy IN ('exponential', 'constant')", name=op.f("ck_routes_retry_strategy_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routes")),
        sa.UniqueConstraint("path", name=op.f("uq_routes_path")),
    )
    op.create_index("uq_routes_uuid", "routes", ["uuid"], unique=True)
    for event in ("INSERT", "UPDATE", "DELETE"):  # a worker's snapshot has the routes
        name = f"tr_routes_{event.lower()}"
        if op.get_bind().dialect.name == "sqlite":
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON routes BEGIN "
                "UPDATE catalog_version SET version = version + 1; END"
            )
        else:
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON routes "
                "FOR EACH STATEMENT EXECUTE FUNCTION tollhouse_catalog_changed()"
            )


def downgrade() -> None:
    op.drop_table("routes")
