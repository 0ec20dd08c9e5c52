"""Raise the catalogue's version as the last thing of a transaction

Until now each statement raised it at once and kept its row to the end. Two transactions that each wanted a name which
the other had just taken, or a row that the other held, could wait for each other for ever.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BUMP = "CREATE OR REPLACE FUNCTION tollhouse_catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $${}$$"
AT_ONCE = """
        BEGIN UPDATE catalog_version SET version = version + 1; RETURN NULL; END """
AT_THE_END = """
        BEGIN  -- once, however many rows were changed
          IF current_setting('tollhouse.version_raised', true) IS DISTINCT FROM 'yes' THEN
            UPDATE catalog_version SET version = version + 1;
            PERFORM set_config('tollhouse.version_raised', 'yes', true);
          END IF;
          RETURN NULL;
        END """
STATEMENT = ("CREATE TRIGGER", "FOR EACH STATEMENT")
DEFERRED = ("CREATE CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW")


def upgrade() -> None:
    _turn(STATEMENT, DEFERRED, AT_THE_END)


def downgrade() -> None:
    _turn(DEFERRED, STATEMENT, AT_ONCE)


def _turn(before: tuple[str, str], after: tuple[str, str], body: str) -> None:
    """Make every trigger that raises the version again, in another way. SQLite has one writer, which waits for nobody."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    found = connection.execute(
        sa.text(
            "SELECT tgname, tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE NOT tgisinternal AND tgfoid = 'tollhouse_catalog_changed'::regproc ORDER BY 2, 1"
        )
    ).all()
    for name, table, definition in found:
        op.execute(f"DROP TRIGGER {name} ON {table}")
        for old, new in zip(before, after, strict=True):
            definition = definition.replace(old, new)
        op.execute(definition)
    op.execute(BUMP.format(body))
