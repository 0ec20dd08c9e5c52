"""Teams, limits, rotation, prepaid top-ups, leases, and prices by the kind of token

Revision ID: 0002
Revises: 0001
"""

import uuid

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = {  # table: {column: its definition}
    "users": {
        "display_name": "VARCHAR(255)",
        "disabled_reason": "VARCHAR(255)",
        "team_id": "BIGINT",
        "tags": "JSON",
        "allowed_models": "JSON",
        "allowed_paths": "JSON",
        "ttl": "VARCHAR(40)",
        "expires_at": "BIGINT",
    },
    "api_keys": {
        "uuid": "VARCHAR(36)",
        "tags": "JSON",
        "allowed_paths": "JSON",
        "allowed_ips": "JSON",
        "provider_ids": "JSON",
        "should_log_request": "BOOLEAN DEFAULT '0' NOT NULL",
        "should_log_response": "BOOLEAN DEFAULT '0' NOT NULL",
        "rotation_enabled": "BOOLEAN DEFAULT '0' NOT NULL",
        "ttl": "VARCHAR(40)",
    },
    "providers": {"uuid": "VARCHAR(36)"},
    "prices": {
        **{
            name: f"BIGINT CONSTRAINT ck_prices_{name}_not_negative CHECK ({name} >= 0)"
            for name in ("cache_creation_1h_rate", "input_audio_rate", "output_audio_rate", "reasoning_rate")
        },
        **{
            name: f"BIGINT DEFAULT '0' NOT NULL CONSTRAINT ck_prices_{name}_not_negative CHECK ({name} >= 0)"
            for name in ("request_nanousd", "image_nanousd")
        },
        "tiers": "JSON",
        "valid_until_at": "BIGINT",
    },
    "holds": {"counts": "TEXT DEFAULT '[]' NOT NULL"},
    "usage": {
        "team_id": "BIGINT",
        "input_audio_tokens": "BIGINT",
        "output_audio_tokens": "BIGINT",
        "cache_creation_1h_input_tokens": "BIGINT",
        "images": "INTEGER",
        "charge_lines": "TEXT",
        "custom_id": "VARCHAR(255)",
        "client_metadata": "TEXT",
    },
    "ledger_entries": {"actor_id": "BIGINT"},
}
LEDGER_INDEX = "ix_ledger_entries_account_account_id_id"
APPEND_ONLY = ("ledger_entries", "audit_log")

WARN_PERCENT = "CONSTRAINT ck_budgets_warn_percent_is_a_share CHECK (warn_percent BETWEEN 1 AND 100)"

# As in 0001: what a worker's snapshot depends on. Columns that are new, and tables that are.
WATCHED = {
    "users": ("username", "role", "is_active", "token_version"),
    "api_keys": ("user_id", "digest", "hint", "allowed_models", "expires_at", "revoked_at"),
    "budgets": (),
    "teams": (),
    "limits": (),
    "retired_secrets": (),
}
MORE_WATCHED = {
    "users": ("team_id", "allowed_models", "allowed_paths", "expires_at"),
    "api_keys": ("allowed_paths", "allowed_ips", "provider_ids", "should_log_request", "should_log_response"),
}
INSERTS_MATTER = ("budgets", "limits")

INITIAL_BALANCES = """
INSERT INTO ledger_entries
  (created_at, kind, account, account_id, period_start, amount_nanousd, amount_tokens, actor, reason)
SELECT created_at, 'top_up', 'budget', id, 0, 0, limit_amount, 'system', 'initial balance' FROM budgets
WHERE is_prepaid AND limit_amount > 0 AND NOT EXISTS (
  SELECT 1 FROM ledger_entries e WHERE e.kind = 'top_up' AND e.account = 'budget' AND e.account_id = budgets.id)"""


def upgrade() -> None:
    op.create_table(
        "teams",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.String(length=150), nullable=False),
        sa.Column("allowed_models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("name", name=op.f("uq_teams_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "limits",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=10), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("scope IN ('user', 'key', 'team', 'model', 'address')", name=op.f("ck_limits_scope_known")),
        sa.CheckConstraint("unit IN ('requests', 'tokens', 'concurrent')", name=op.f("ck_limits_unit_known")),
        sa.CheckConstraint(
            "period IN ('none', 'second', 'minute', 'hour', 'day', 'month')", name=op.f("ck_limits_period_known")
        ),
        sa.CheckConstraint(
            "(unit = 'concurrent') = (period = 'none')", name=op.f("ck_limits_concurrent_has_no_period")
        ),
        sa.CheckConstraint("(scope = 'address') = (scope_id = 0)", name=op.f("ck_limits_address_has_no_id")),
        sa.CheckConstraint("limit_amount >= 0", name=op.f("ck_limits_limit_amount_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_limits")),
        sa.UniqueConstraint("scope", "scope_id", "unit", "period", name=op.f("uq_limits_scope_scope_id_unit_period")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "limit_windows",
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column("period_end", sa.BigInteger(), nullable=False),
        sa.Column("used_amount", sa.BigInteger(), nullable=False),
        sa.Column("previous_amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_limit_windows")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("budget_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("period_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_leases_amount_not_negative")),
        sa.PrimaryKeyConstraint("owner", "budget_id", "period_start", name=op.f("pk_leases")),
    )
    op.create_table(
        "limit_leases",
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("period_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("period_end", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_limit_leases_amount_not_negative")),
        sa.PrimaryKeyConstraint("owner", "subject", "period_start", name=op.f("pk_limit_leases")),
    )
    op.create_table(
        "retired_secrets",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("key_id", SERIAL, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_retired_secrets_key_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_retired_secrets")),
    )
    op.create_index("ix_retired_secrets_key_id", "retired_secrets", ["key_id"])
    for table, columns in COLUMNS.items():
        for name, definition in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {definition}")
    for table in ("api_keys", "providers"):
        _name(table)
    op.create_index("uq_providers_uuid", "providers", ["uuid"], unique=True)
    op.create_index("uq_api_keys_uuid", "api_keys", ["uuid"], unique=True)
    op.create_index("ix_users_team_id", "users", ["team_id"])
    op.create_index(LEDGER_INDEX, "ledger_entries", ["account", "account_id", "id"])
    _budgets(("user", "key", "team", "model"), is_up=True)
    op.execute(INITIAL_BALANCES)
    _unwatch(("users", "api_keys"))
    for table, columns in WATCHED.items():
        _watch(table, (*columns, *MORE_WATCHED.get(table, ())))
    if not _is_sqlite():  # SQLite has no TRUNCATE
        for table in ("limit_windows", "leases", "limit_leases"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER tr_{table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION tollhouse_append_only()"
            )


def downgrade() -> None:
    for table in () if _is_sqlite() else APPEND_ONLY:
        op.execute(f"DROP TRIGGER tr_{table}_no_truncate ON {table}")
    op.drop_index(LEDGER_INDEX, "ledger_entries")
    _unwatch(("users", "api_keys"))
    for table in ("users", "api_keys"):
        _watch(table, WATCHED[table])
    op.execute("DELETE FROM budgets WHERE scope NOT IN ('user', 'key')")
    op.execute("DELETE FROM prices WHERE valid_until_at IS NOT NULL")  # they would be valid again
    _budgets(("user", "key"), is_up=False)
    _watch("budgets", ())
    op.drop_index("ix_users_team_id", "users")
    for table in ("api_keys", "providers"):
        op.drop_index(f"uq_{table}_uuid", table)
    for table, columns in COLUMNS.items():
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    for table in ("retired_secrets", "limit_leases", "leases", "limit_windows", "limits", "teams"):
        op.drop_table(table)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _name(table: str) -> None:
    """A UUID for each row."""
    connection = op.get_bind()
    for (number,) in connection.execute(sa.text(f"SELECT id FROM {table}")).fetchall():
        values = {"uuid": str(uuid.uuid4()), "id": number}
        connection.execute(sa.text(f"UPDATE {table} SET uuid = :uuid WHERE id = :id"), values)


def _budgets(scopes: tuple[str, ...], *, is_up: bool) -> None:
    """Other scopes, and a share to warn at. SQLite copies the table for it, which loses its triggers."""
    known = f"scope IN ({', '.join(map(repr, scopes))})"
    if _is_sqlite():
        _copy_budgets(known, is_up=is_up)
        return
    _unwatch(("budgets",))
    op.execute("ALTER TABLE budgets DROP CONSTRAINT ck_budgets_scope_known")
    op.execute(f"ALTER TABLE budgets ADD CONSTRAINT ck_budgets_scope_known CHECK ({known})")
    if is_up:
        op.execute(f"ALTER TABLE budgets ADD COLUMN warn_percent INTEGER {WARN_PERCENT}")
        op.execute("UPDATE budgets SET warn_percent = 80")
    else:
        op.execute("ALTER TABLE budgets DROP COLUMN warn_percent")


def _copy_budgets(known: str, *, is_up: bool) -> None:
    connection = op.get_bind()
    highest = connection.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'budgets'")).scalar()
    warn = [sa.Column("warn_percent", sa.Integer(), nullable=True)] if is_up else []
    checks = {
        "period_known": "period IN ('total', 'second', 'minute', 'hour', 'day', 'week', 'month')",
        "prepaid_is_total_tokens": "NOT is_prepaid OR (unit = 'tokens' AND period = 'total')",
        "scope_known": known,
        "unit_known": "unit IN ('usd', 'tokens')",
        "limit_amount_not_negative": "limit_amount >= 0",
        **({"warn_percent_is_a_share": "warn_percent BETWEEN 1 AND 100"} if is_up else {}),
    }
    unique = ("scope", "scope_id", "unit", "period", "is_prepaid")
    op.create_table(
        "budgets_copy",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=10), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("timezone", sa.String(length=60), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("is_prepaid", sa.Boolean(), nullable=False),
        *warn,
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        *(sa.CheckConstraint(check, name=op.f(f"ck_budgets_{name}")) for name, check in checks.items()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint(*unique, name=op.f("uq_budgets_" + "_".join(unique))),
        sqlite_autoincrement=True,
    )
    columns = "id, scope, scope_id, unit, period, timezone, limit_amount, is_prepaid, created_at, updated_at"
    op.execute(f"INSERT INTO budgets_copy ({columns}) SELECT {columns} FROM budgets")
    op.drop_table("budgets")
    op.rename_table("budgets_copy", "budgets")
    if is_up:
        op.execute("UPDATE budgets SET warn_percent = 80")
    if highest is not None:  # a number is never given twice
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'budgets'"))
        connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('budgets', :n)"), {"n": highest})


def _unwatch(tables: tuple[str, ...]) -> None:
    for table in tables:
        for event in ("update", "delete", *(("insert",) if table in INSERTS_MATTER else ())):
            op.execute(f"DROP TRIGGER tr_{table}_{event}" + ("" if _is_sqlite() else f" ON {table}"))


def _watch(table: str, columns: tuple[str, ...]) -> None:
    of = f" OF {', '.join(columns)}" if columns else ""
    for event in (f"UPDATE{of}", "DELETE", *(["INSERT"] if table in INSERTS_MATTER else [])):
        name = f"tr_{table}_{event.split()[0].lower()}"
        if _is_sqlite():
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN "
                "UPDATE catalog_version SET version = version + 1; END"
            )
        else:
            op.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION tollhouse_catalog_changed()"
            )
