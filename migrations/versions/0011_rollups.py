"""What usage rows add up to, by hour and by day

Housekeeping adds up what is there already; until it is done the panel says so. Triggers keep note of usage rows that
are written anew, since they may have been added up as they were.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

Number = sa.BigInteger()
SUMS = ("calls", "failed", "input_tokens", "output_tokens", "cost_nanousd")
KEYS = {
    "usage_by_model": (("model", sa.String(200)), ("provider", sa.String(100))),
    "usage_by_owner": (("user_id", Number), ("key_id", Number), ("team_id", Number)),
    "usage_delays": (("metric", sa.String(10)), ("bucket", sa.Integer())),
}
COPIED = (
    *("created_at", "user_id", "key_id", "team_id", "model", "provider", "outcome", "is_stream"),
    *("input_tokens", "output_tokens", "cost_nanousd", "first_byte_ms", "duration_ms"),
)


def upgrade() -> None:
    for table, keys in KEYS.items():
        _spans(table, keys, ("calls",) if table == "usage_delays" else SUMS)
    _changes()
    op.create_table(
        "rollup_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("folded_id", Number, server_default="0", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_rollup_state_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollup_state")),
    )
    op.execute("INSERT INTO rollup_state (id, folded_id) VALUES (1, 0)")
    _watch()


def downgrade() -> None:
    if _is_sqlite():
        op.execute("DROP TRIGGER tr_usage_changed")
        op.execute("DROP TRIGGER tr_usage_deleted")
    else:
        op.execute("DROP TRIGGER tr_usage_changed ON usage")
        op.execute("DROP FUNCTION tollhouse_usage_changed()")
    for table in ("rollup_state", "usage_changes", *KEYS):
        op.drop_table(table)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _spans(table: str, keys: tuple, sums: tuple[str, ...]) -> None:
    """Sums of spans, one row for each value of the keys."""
    names = ["span_hours", "span_start", *(name for name, _kind in keys)]
    known = [sa.CheckConstraint("metric IN ('duration', 'first_byte')", name=op.f("ck_usage_delays_metric_known"))]
    op.create_table(
        table,
        sa.Column("span_hours", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("span_start", Number, autoincrement=False, nullable=False),
        *(sa.Column(name, kind, autoincrement=False, nullable=False) for name, kind in keys),
        *(sa.Column(name, Number, nullable=False) for name in sums),
        *(known if table == "usage_delays" else ()),
        sa.PrimaryKeyConstraint(*names, name=op.f(f"pk_{table}")),
        sqlite_with_rowid=False,
    )


def _changes() -> None:
    op.create_table(
        "usage_changes",
        sa.Column("id", Number.with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("usage_id", Number, nullable=False),
        sa.Column("sign", sa.Integer(), nullable=False),
        sa.Column("created_at", Number, nullable=False),
        sa.Column("user_id", Number, nullable=False),
        sa.Column("key_id", Number),
        sa.Column("team_id", Number),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("provider", sa.String(100)),
        sa.Column("outcome", sa.String(40), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("input_tokens", Number),
        sa.Column("output_tokens", Number),
        sa.Column("cost_nanousd", Number, nullable=False),
        sa.Column("first_byte_ms", sa.Integer()),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.CheckConstraint("sign IN (-1, 1)", name=op.f("ck_usage_changes_sign_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_changes")),
    )
    op.create_index("ix_usage_changes_usage", "usage_changes", ["usage_id"])


def _watch() -> None:
    columns = ", ".join(COPIED)
    copies = " ".join(
        f"INSERT INTO usage_changes (usage_id, sign, {columns}) "  # noqa: S608 - made of constants
        f"VALUES ({row}.id, {sign}, {', '.join(f'{row}.{name}' for name in COPIED)});"
        for row, sign in (("OLD", -1), ("NEW", 1))
    )
    if _is_sqlite():
        op.execute(f"CREATE TRIGGER tr_usage_changed AFTER UPDATE OF {columns} ON usage BEGIN {copies} END")
        op.execute(  # SQLite gives the number of the newest row again when that is deleted; the next row would be missed
            "CREATE TRIGGER tr_usage_deleted AFTER DELETE ON usage "
            "WHEN NOT EXISTS (SELECT 1 FROM usage WHERE id > OLD.id) BEGIN UPDATE rollup_state "
            "SET folded_id = min(folded_id, (SELECT coalesce(max(id), 0) FROM usage)); END"
        )
        return
    op.execute(
        "CREATE FUNCTION tollhouse_usage_changed() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN {copies} RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER tr_usage_changed AFTER UPDATE OF {columns} ON usage "
        "FOR EACH ROW EXECUTE FUNCTION tollhouse_usage_changed()"
    )
