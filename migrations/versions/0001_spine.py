"""The tables of the spine: people, keys, providers, models, prices, budgets, books, audit

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Changes of these (table: columns; none = any) must be seen by every worker. New keys and users need not: who is not
# known is looked up. Counters are left out: they change with every call.
WATCHED = {
    "users": ("username", "role", "is_active", "token_version"),
    "api_keys": ("user_id", "digest", "hint", "allowed_models", "expires_at", "revoked_at"),
    "providers": ("name", "kind", "base_url", "credential", "settings", "is_enabled"),
    "models": (),
    "deployments": (),
    "prices": (),
    "budgets": (),
}
INSERTS_MATTER = ("providers", "models", "deployments", "prices", "budgets")
APPEND_ONLY = ("ledger_entries", "audit_log")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(length=150), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("resource_type", sa.String(length=40), nullable=False),
        sa.Column("resource_id", sa.String(length=200), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("ip_address", sa.String(length=45), nullable=True),
        sa.Column("user_agent", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "budget_windows",
        sa.Column("budget_id", SERIAL, autoincrement=False, nullable=False),
        sa.Column("period_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("spent_amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("held_amount >= 0", name=op.f("ck_budget_windows_held_amount_not_negative")),
        sa.CheckConstraint("spent_amount >= 0", name=op.f("ck_budget_windows_spent_amount_not_negative")),
        sa.PrimaryKeyConstraint("budget_id", "period_start", name=op.f("pk_budget_windows")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "budgets",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("scope_id", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(length=10), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("timezone", sa.String(length=60), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("is_prepaid", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "NOT is_prepaid OR (unit = 'tokens' AND period = 'total')", name=op.f("ck_budgets_prepaid_is_total_tokens")
        ),
        sa.CheckConstraint(
            "period IN ('total', 'second', 'minute', 'hour', 'day', 'week', 'month')",
            name=op.f("ck_budgets_period_known"),
        ),
        sa.CheckConstraint("scope IN ('user', 'key')", name=op.f("ck_budgets_scope_known")),
        sa.CheckConstraint("unit IN ('usd', 'tokens')", name=op.f("ck_budgets_unit_known")),
        sa.CheckConstraint("limit_amount >= 0", name=op.f("ck_budgets_limit_amount_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint(
            "scope",
            "scope_id",
            "unit",
            "period",
            "is_prepaid",
            name=op.f("uq_budgets_scope_scope_id_unit_period_is_prepaid"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "catalog_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalog_version_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_version")),
    )
    op.create_table(
        "holds",
        sa.Column("request_id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("budgets_wanted", sa.Integer(), nullable=False),
        sa.Column("budgets_taken", sa.Integer(), nullable=False),
        sa.Column("takes", sa.Text(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.CheckConstraint("budgets_taken = budgets_wanted", name=op.f("ck_holds_all_or_nothing")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_holds")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_entries",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("account", sa.String(length=10), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column("amount_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("amount_tokens", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=40), nullable=True),
        sa.Column("actor", sa.String(length=150), nullable=True),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.CheckConstraint("account IN ('user', 'budget')", name=op.f("ck_ledger_entries_account_known")),
        sa.CheckConstraint(
            "kind IN ('charge', 'correction', 'top_up', 'deduct')", name=op.f("ck_ledger_entries_kind_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
        sa.UniqueConstraint(
            "request_id",
            "kind",
            "account",
            "account_id",
            name=op.f("uq_ledger_entries_request_id_kind_account_account_id"),
        ),
    )
    op.create_table(
        "models",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("owned_by", sa.String(length=100), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("context_window", sa.BigInteger(), nullable=True),
        sa.Column("max_output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("fallbacks", sa.JSON(), nullable=False),
        sa.Column("managed_by", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "managed_by IN ('admin', 'file', 'environment', 'discovery')", name=op.f("ck_models_managed_by_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", name=op.f("uq_models_name")),
    )
    op.create_table(
        "providers",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("base_url", sa.String(length=500), nullable=False),
        sa.Column("credential", sa.LargeBinary(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("discover", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("managed_by", sa.String(length=20), nullable=False),
        sa.Column("discovered_at", sa.BigInteger(), nullable=True),
        sa.Column("discovery_error", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "managed_by IN ('admin', 'file', 'environment')", name=op.f("ck_providers_managed_by_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_providers")),
        sa.UniqueConstraint("name", name=op.f("uq_providers_name")),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_settings")),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_sign_in_failures")),
    )
    op.create_table(
        "usage",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("request_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("provider", sa.String(length=100), nullable=True),
        sa.Column("upstream_model", sa.String(length=200), nullable=True),
        sa.Column("operation", sa.String(length=20), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("is_overrun", sa.Boolean(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_creation_input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_nanousd", sa.BigInteger(), nullable=False),
        sa.Column("input_rate", sa.BigInteger(), nullable=True),
        sa.Column("output_rate", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_rate", sa.BigInteger(), nullable=True),
        sa.Column("cache_creation_rate", sa.BigInteger(), nullable=True),
        sa.Column("price_source", sa.String(length=60), nullable=True),
        sa.Column("first_byte_ms", sa.Integer(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Text(), nullable=True),
        sa.Column("error", sa.String(length=300), nullable=True),
        sa.CheckConstraint("state IN ('measured', 'estimated', 'void')", name=op.f("ck_usage_state_known")),
        sa.CheckConstraint("cost_nanousd >= 0", name=op.f("ck_usage_cost_nanousd_not_negative")),
        sa.CheckConstraint("input_tokens >= 0", name=op.f("ck_usage_input_tokens_not_negative")),
        sa.CheckConstraint("output_tokens >= 0", name=op.f("ck_usage_output_tokens_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        sa.UniqueConstraint("request_id", name=op.f("uq_usage_request_id")),
    )
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.create_index("ix_usage_key_id_id", ["key_id", "id"], unique=False)
        batch_op.create_index("ix_usage_user_id_id", ["user_id", "id"], unique=False)

    op.create_table(
        "users",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("username", sa.String(length=150), nullable=False),
        sa.Column("password_hash", sa.String(length=100), nullable=True),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=True),
        sa.Column("tokens_used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent_nanousd", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('admin', 'user')", name=op.f("ck_users_role_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("user_id", SERIAL, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hint", sa.String(length=32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("allowed_models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_reason", sa.String(length=255), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('standard', 'default', 'environment')", name=op.f("ck_api_keys_kind_known")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_user_id"), ["user_id"], unique=False)
        batch_op.create_index(
            "uq_api_keys_one_default",
            ["user_id"],
            unique=True,
            sqlite_where=sa.text("kind = 'default' AND revoked_at IS NULL"),
            postgresql_where=sa.text("kind = 'default' AND revoked_at IS NULL"),
        )

    op.create_table(
        "deployments",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model_id", SERIAL, nullable=False),
        sa.Column("provider_id", SERIAL, nullable=False),
        sa.Column("upstream_model", sa.String(length=200), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("ck_deployments_weight_positive")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_deployments_model_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.id"], name=op.f("fk_deployments_provider_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint(
            "model_id", "provider_id", "upstream_model", name=op.f("uq_deployments_model_id_provider_id_upstream_model")
        ),
    )
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deployments_provider_id"), ["provider_id"], unique=False)

    op.create_table(
        "web_sessions",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_id", SERIAL, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ip_address", sa.String(length=45), nullable=True),
        sa.Column("user_agent", sa.String(length=255), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_web_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_web_sessions")),
    )
    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_web_sessions_user_id"), ["user_id"], unique=False)

    op.create_table(
        "prices",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("model_id", SERIAL, nullable=False),
        sa.Column("deployment_id", SERIAL, nullable=True),
        sa.Column("is_free", sa.Boolean(), nullable=False),
        sa.Column("input_rate", sa.BigInteger(), nullable=False),
        sa.Column("output_rate", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_rate", sa.BigInteger(), nullable=True),
        sa.Column("cache_creation_rate", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(length=60), nullable=False),
        sa.Column("valid_from_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("NOT is_free OR (input_rate = 0 AND output_rate = 0)", name=op.f("ck_prices_free_is_zero")),
        sa.CheckConstraint("cache_creation_rate >= 0", name=op.f("ck_prices_cache_creation_rate_not_negative")),
        sa.CheckConstraint("cache_read_rate >= 0", name=op.f("ck_prices_cache_read_rate_not_negative")),
        sa.CheckConstraint("input_rate >= 0", name=op.f("ck_prices_input_rate_not_negative")),
        sa.CheckConstraint("output_rate >= 0", name=op.f("ck_prices_output_rate_not_negative")),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name=op.f("fk_prices_deployment_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_prices_model_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
    )
    with op.batch_alter_table("prices", schema=None) as batch_op:
        batch_op.create_index("ix_prices_model", ["model_id", "deployment_id", "valid_from_at"], unique=False)

    op.execute("INSERT INTO catalog_version (id, version) VALUES (1, 1)")
    _triggers()


def _triggers() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for name in () if sqlite else ("bump", "refuse"):
        op.execute(POSTGRES_FUNCTIONS[name])
    for table, columns in WATCHED.items():
        of = f" OF {', '.join(columns)}" if columns else ""
        events = [f"UPDATE{of}", "DELETE", *(["INSERT"] if table in INSERTS_MATTER else [])]
        for event in events:
            name = f"tr_{table}_{event.split()[0].lower()}"
            if sqlite:
                op.execute(
                    f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN "
                    "UPDATE catalog_version SET version = version + 1; END"
                )
            else:
                op.execute(
                    f"CREATE TRIGGER {name} AFTER {event} ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION tollhouse_catalog_changed()"
                )
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            name = f"tr_{table}_no_{event.lower()}"
            if sqlite:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN "
                    f"SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
            else:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {event} ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION tollhouse_append_only()"
                )
    if not sqlite:
        # These rows change twice a call; room on their page keeps the change there.
        op.execute("ALTER TABLE budget_windows SET (fillfactor = 50)")


POSTGRES_FUNCTIONS = {
    "bump": """CREATE FUNCTION tollhouse_catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE catalog_version SET version = version + 1; RETURN NULL; END $$""",
    "refuse": """CREATE FUNCTION tollhouse_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$""",
}


def downgrade() -> None:
    with op.batch_alter_table("prices", schema=None) as batch_op:
        batch_op.drop_index("ix_prices_model")

    op.drop_table("prices")
    with op.batch_alter_table("web_sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_web_sessions_user_id"))

    op.drop_table("web_sessions")
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deployments_provider_id"))

    op.drop_table("deployments")
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_api_keys_one_default",
            sqlite_where=sa.text("kind = 'default' AND revoked_at IS NULL"),
            postgresql_where=sa.text("kind = 'default' AND revoked_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_api_keys_user_id"))

    op.drop_table("api_keys")
    op.drop_table("users")
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.drop_index("ix_usage_user_id_id")
        batch_op.drop_index("ix_usage_key_id_id")

    op.drop_table("usage")
    op.drop_table("sign_in_failures")
    op.drop_table("settings")
    op.drop_table("providers")
    op.drop_table("models")
    op.drop_table("ledger_entries")
    op.drop_table("holds")
    op.drop_table("catalog_version")
    op.drop_table("budgets")
    op.drop_table("budget_windows")
    op.drop_table("audit_log")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION tollhouse_catalog_changed()")
        op.execute("DROP FUNCTION tollhouse_append_only()")
