"""Dialogs, agents, ways to sign in, more roles, a chain through the audit log

Revision ID: 0007
Revises: 0006
"""

import time

import sqlalchemy as sa
from alembic import op

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ROLES = "role IN ('admin', 'auditor', 'team_admin', 'user')"
TWO_ROLES = "role IN ('admin', 'user')"
KINDS = ("table", "index", "trigger")
DROPPED = (
    *("stored_bodies", "second_factors", "invitations", "identities", "system_configs", "agents"),
    *("messages", "dialogs", "audit_head"),
)
# Words of messages, with their user as one more word, so that a search reads nothing of others.
GONE = (
    "INSERT INTO message_texts (message_texts, rowid, user_id, content) "
    "VALUES ('delete', old.number, old.user_id, old.content)"
)
COME = "INSERT INTO message_texts (rowid, user_id, content) VALUES (new.number, new.user_id, new.content)"
SEARCH = (
    "CREATE VIRTUAL TABLE message_texts USING fts5(user_id, content, content='messages', content_rowid='number')",
    f"CREATE TRIGGER tr_messages_text_insert AFTER INSERT ON messages BEGIN {COME}; END",
    f"CREATE TRIGGER tr_messages_text_delete AFTER DELETE ON messages BEGIN {GONE}; END",
    f"CREATE TRIGGER tr_messages_text_update AFTER UPDATE OF content ON messages BEGIN {GONE}; {COME}; END",
)
# Postgres' index has the user as a word too. It takes the beginning of a text: one with a megabyte of words would not
# be stored at all.
WORDS = "to_tsvector('simple', 'user' || CAST(user_id AS text) || ' ' || left(content, 100000))"

# What the gateway whose API this is knew from its start: window, and USD per million tokens, read in the catalogue of
# prices. They serve nobody until a provider lists them or is given to them.
KNOWN = (
    ("gpt-4-turbo", "openai", 128_000, (10, 30, None, None, None)),
    ("gpt-3.5-turbo", "openai", 16_385, (0.5, 1.5, None, None, None)),
    ("claude-3-opus", "anthropic", 200_000, (15, 75, 1.5, 18.75, 30)),
    ("claude-3-sonnet", "anthropic", 200_000, (3, 15, 0.3, 3.75, 6)),
)
RATES = ("input_rate", "output_rate", "cache_read_rate", "cache_creation_rate", "cache_creation_1h_rate")
SOURCE = "genai-prices 0.2.3"
NANO_PER_USD = 10**9

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _dialogs()
    _agents()
    _sign_in()
    _kept()
    op.execute("ALTER TABLE audit_log ADD COLUMN sequence BIGINT")
    op.execute("ALTER TABLE audit_log ADD COLUMN digest VARCHAR(64)")
    op.create_index("uq_audit_log_sequence", "audit_log", ["sequence"], unique=True)
    op.execute("INSERT INTO audit_head (id, entry_id, digest) VALUES (1, 0, '')")
    _roles(TWO_ROLES, ROLES)
    op.execute("ALTER TABLE models ADD COLUMN description VARCHAR(500)")
    sums = ["user_id", "request_id", "input_tokens", "output_tokens", "cache_read_input_tokens"]
    op.create_index("ix_usage_user_sums", "usage", sums)
    _known()
    if _is_sqlite():
        for statement in SEARCH:
            op.execute(statement)
    else:
        op.execute(f"CREATE INDEX ix_messages_content ON messages USING gin ({WORDS})")


def downgrade() -> None:
    op.execute("UPDATE users SET role = 'user' WHERE role NOT IN ('admin', 'user')")
    _roles(ROLES, TWO_ROLES)
    op.execute("ALTER TABLE models DROP COLUMN description")
    op.drop_index("ix_usage_user_sums", "usage")
    op.drop_index("uq_audit_log_sequence", "audit_log")
    for name in ("sequence", "digest"):
        op.execute(f"ALTER TABLE audit_log DROP COLUMN {name}")
    if _is_sqlite():
        op.execute("DROP TABLE message_texts")
    for table in DROPPED:
        op.drop_table(table)


def _dialogs() -> None:
    op.create_table(
        "dialogs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=True),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("agent_config", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("message_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("busy_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dialogs")),
    )
    op.create_index("ix_dialogs_user", "dialogs", ["user_id", "updated_at", "id"])
    op.create_table(
        "messages",
        sa.Column("number", SERIAL, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("dialog_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("request_id", sa.String(length=80), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('system', 'user', 'assistant')", name=op.f("ck_messages_role_known")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_messages")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_messages_id", "messages", ["id"], unique=True)
    op.create_index("ix_messages_dialog", "messages", ["dialog_id", "number"])
    op.create_index("ix_messages_user_id", "messages", ["user_id"])


def _agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("system_prompt", sa.Text(), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agents")),
    )
    op.create_index("uq_agents_owner_name", "agents", ["user_id", "name"], unique=True)


def _sign_in() -> None:
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identities")),
    )
    op.create_index("ix_identities_user_id", "identities", ["user_id"])
    op.create_table(
        "invitations",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hint", sa.String(length=20), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("team_id", sa.BigInteger(), nullable=True),
        sa.Column("created_by", sa.String(length=150), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("used_by", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitations")),
    )
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("recovery", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_second_factors")),
    )


def _kept() -> None:
    op.create_table(
        "system_configs",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("is_secret", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(length=500), nullable=False),
        sa.Column("updated_by", sa.String(length=150), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_system_configs")),
    )
    op.create_table(
        "stored_bodies",
        sa.Column("request_id", sa.String(length=80), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_stored_bodies")),
    )
    op.create_index("ix_stored_bodies_user_id", "stored_bodies", ["user_id"])
    op.create_index("ix_stored_bodies_expires_at", "stored_bodies", ["expires_at"])
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )


def _known() -> None:
    """The models of KNOWN, but for names that are taken; going down leaves them, like everything that people see."""
    connection, now = op.get_bind(), int(time.time() * 1000)
    model = sa.text(
        "INSERT INTO models (name, owned_by, is_enabled, context_window, fallbacks, managed_by, created_at, updated_at) "
        "VALUES (:name, :owner, :yes, :window, '[]', 'discovery', :now, :now) ON CONFLICT (name) DO NOTHING RETURNING id"
    )
    price = sa.text(
        f"INSERT INTO prices (model_id, is_free, source, valid_from_at, {', '.join(RATES)}) "
        f"VALUES (:model, :no, :source, :now, {', '.join(f':{rate}' for rate in RATES)})"
    )
    for name, owner, window, usd in KNOWN:
        values = {"name": name, "owner": owner, "window": window, "now": now, "yes": True}
        made = connection.execute(model, values).scalar()
        rates = {rate: None if one is None else round(one * NANO_PER_USD) for rate, one in zip(RATES, usd, strict=True)}
        if made is not None:
            connection.execute(price, {"model": made, "no": False, "source": SOURCE, "now": now, **rates})


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _roles(before: str, after: str) -> None:
    """Other roles for users."""
    if _is_sqlite():
        _copy_users(before, after)
        return
    op.execute("ALTER TABLE users DROP CONSTRAINT ck_users_role_known")
    op.execute(f"ALTER TABLE users ADD CONSTRAINT ck_users_role_known CHECK ({after})")


def _copy_users(before: str, after: str) -> None:
    """SQLite changes no constraint: the table is made again, with its indexes, triggers and highest number."""
    connection = op.get_bind()
    found = "SELECT type, sql FROM sqlite_master WHERE tbl_name = 'users' AND sql IS NOT NULL"
    made = {kind: [row.sql for row in connection.execute(sa.text(found)) if row.type == kind] for kind in KINDS}
    ((table,), highest) = made["table"], _highest(connection)
    assert before in table  # noqa: S101 - else the copy would keep the old constraint
    body = table[table.index("(") :].replace(before, after)
    connection.exec_driver_sql(f"CREATE TABLE users_copy {body}")
    connection.exec_driver_sql("INSERT INTO users_copy SELECT * FROM users")
    op.drop_table("users")
    op.rename_table("users_copy", "users")
    for statement in (*made["index"], *made["trigger"]):
        connection.exec_driver_sql(statement)
    if highest is not None:  # a number is never given twice
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'users'"))
        connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('users', :n)"), {"n": highest})


def _highest(connection: sa.Connection) -> int | None:
    return connection.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'users'")).scalar()
