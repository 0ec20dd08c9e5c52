"""The tables: columns, constraints, indexes. No queries and no logic.

Units stand in the names: `_nanousd` is 10^-9 USD, a `_rate` is nano-USD per million tokens, `_at` is a moment
in UTC (stored as whole milliseconds since 1970, the same on SQLite and Postgres). Files models_*.py have more tables.

Triggers keep two promises: ledger and audit log are append-only; what a snapshot depends on raises `catalog_version`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy import LargeBinary as Sealed
from sqlalchemy.orm import Mapped, mapped_column, relationship

import models_alerts  # noqa: F401 - its tables belong to the same database
import models_batches  # noqa: F401 - the same
import models_kept  # noqa: F401 - likewise
import models_policies  # noqa: F401 - the same
import models_prompts  # noqa: F401 - the same
import models_rollups  # noqa: F401 - the same
from models_books import BudgetWindow, Hold, Lease, LedgerEntry, LimitLease, LimitWindow, UsageRecord
from models_people import (
    Agent,
    AuditEntry,
    AuditHead,
    Dialog,
    Identity,
    Invitation,
    Message,
    SavedView,
    SecondFactor,
    StoredBody,
    SystemConfig,
)
from models_portal import RaiseRequest, TopUpCode
from models_refusals import Refusal
from models_responses import StoredItem, StoredResponse
from models_routes import Route
from utils import ids
from utils.columns import IntOrNone, Managed, Names, Peppered, Serial, UtcMs, created, not_negative, one_of, updated
from utils.extensions import Base

# fmt: off
__all__ = [
    "Agent", "AuditEntry", "AuditHead", "BudgetWindow", "Dialog", "Hold", "Identity", "Invitation", "Lease",
    "LedgerEntry", "LimitLease", "LimitWindow", "Message", "RaiseRequest", "Refusal", "Route", "SavedView",
    "SecondFactor", "StoredBody", "StoredItem", "StoredResponse", "SystemConfig", "TopUpCode", "UsageRecord",
]
# fmt: on

NEVER_AGAIN: dict[str, Any] = {"sqlite_autoincrement": True}  # the books know the numbers of deleted ones for ever


class Team(Managed, Base):
    """A group of users that shares budgets and limits, and may use these models (None: all)."""

    __tablename__ = "teams"
    __table_args__ = (NEVER_AGAIN,)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(150), unique=True)
    allowed_models: Mapped[list[str] | None] = mapped_column(Names)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    users: Mapped[list["User"]] = relationship(
        back_populates="team", primaryjoin="Team.id == foreign(User.team_id)", order_by="User.username"
    )

    def __str__(self) -> str:
        return self.name


class User(Base):
    """A person or service that owns keys. The two counters are sums of the ledger."""

    __tablename__ = "users"
    __table_args__ = (one_of("role", "admin", "auditor", "team_admin", "user"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    username: Mapped[str] = mapped_column(String(150), unique=True)
    display_name: Mapped[str | None] = mapped_column(String(255))
    password_hash: Mapped[str | None] = mapped_column(String(100))  # None = cannot sign in (service account)
    role: Mapped[str] = mapped_column(String(20), default="user")
    is_active: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(String(255))
    must_change_password: Mapped[bool] = mapped_column(default=False)
    token_version: Mapped[int] = mapped_column(default=0)  # raised to void every issued JWT
    signed_out_at: Mapped[datetime | None] = mapped_column(UtcMs)  # when that was last; it voids outside tokens too
    locale: Mapped[str | None] = mapped_column(String(10))
    team_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    tags: Mapped[list[str] | None] = mapped_column(Names)
    allowed_models: Mapped[list[str] | None] = mapped_column(Names)  # None: all, here and below
    allowed_paths: Mapped[list[dict[str, str]] | None] = mapped_column(Names)  # [{"path", "method"}]
    ttl: Mapped[str | None] = mapped_column(String(40))  # as it was given; counted from created_at
    expires_at: Mapped[datetime | None] = mapped_column(UtcMs)
    tokens_used: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    spent_nanousd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    team: Mapped[Team | None] = relationship(back_populates="users", primaryjoin="Team.id == foreign(User.team_id)")
    keys: Mapped[list["ApiKey"]] = relationship(
        back_populates="user", cascade="all, delete-orphan", passive_deletes=True
    )

    def __str__(self) -> str:
        return self.username


class ApiKey(Peppered, Base):
    """A key of ours. Only its digest is kept; of a user's default key also a sealed copy."""

    __tablename__ = "api_keys"
    __table_args__ = (
        one_of("kind", "standard", "default", "environment"),
        Index(
            "uq_api_keys_one_default",
            "user_id",
            unique=True,
            sqlite_where=text("kind = 'default' AND revoked_at IS NULL"),
            postgresql_where=text("kind = 'default' AND revoked_at IS NULL"),
        ),
        Index("uq_api_keys_uuid", "uuid", unique=True),
        NEVER_AGAIN,
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    uuid: Mapped[str] = mapped_column(String(36), default=ids.uuid, nullable=True)  # what clients of the API see
    name: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(20), default="standard")
    digest: Mapped[str] = mapped_column(String(64), unique=True)  # HMAC-SHA-256 under KEY_PEPPER, hex
    hint: Mapped[str] = mapped_column(String(32))  # what may be shown: sk-th-AbCd…9xYz
    sealed: Mapped[bytes | None] = mapped_column(Sealed)
    tags: Mapped[list[str] | None] = mapped_column(Names)
    allowed_models: Mapped[list[str] | None] = mapped_column(Names)
    allowed_paths: Mapped[list[dict[str, str]] | None] = mapped_column(Names)
    allowed_ips: Mapped[list[str] | None] = mapped_column(Names)  # networks, CIDR
    provider_ids: Mapped[list[int] | None] = mapped_column(Names)  # the accounts its calls may go to
    should_log_request: Mapped[bool] = mapped_column(default=False, server_default="0")
    should_log_response: Mapped[bool] = mapped_column(default=False, server_default="0")
    rotation_enabled: Mapped[bool] = mapped_column(default=False, server_default="0")
    timeouts: Mapped[dict[str, float] | None] = mapped_column(Names)  # first_byte_s, silence_s, total_s
    ttl: Mapped[str | None] = mapped_column(String(40))
    expires_at: Mapped[datetime | None] = mapped_column(UtcMs)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcMs)
    revoked_reason: Mapped[str | None] = mapped_column(String(255))
    last_used_at: Mapped[datetime | None] = mapped_column(UtcMs)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    user: Mapped[User] = relationship(back_populates="keys")

    def __str__(self) -> str:
        return f"{self.name} ({self.hint})"


class RetiredSecret(Peppered, Base):
    """The digest that a rotated key had before; it still opens the key until then."""

    __tablename__ = "retired_secrets"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[datetime] = mapped_column(UtcMs)


class Provider(Base):
    """An upstream account: which wire, which address, which credential."""

    __tablename__ = "providers"
    __table_args__ = (
        one_of("managed_by", "admin", "file", "environment"),
        Index("uq_providers_uuid", "uuid", unique=True),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36), default=ids.uuid, nullable=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    kind: Mapped[str] = mapped_column(String(30))
    base_url: Mapped[str] = mapped_column(String(500), default="")
    credential: Mapped[bytes | None] = mapped_column(Sealed)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    discover: Mapped[bool] = mapped_column(default=False)  # whether everything it lists is offered
    is_enabled: Mapped[bool] = mapped_column(default=True)
    managed_by: Mapped[str] = mapped_column(String(20), default="admin")
    discovered_at: Mapped[datetime | None] = mapped_column(UtcMs)
    discovery_error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    def __str__(self) -> str:
        return self.name


class Model(Base):
    """A public model name that callers may use."""

    __tablename__ = "models"
    __table_args__ = (one_of("managed_by", "admin", "file", "environment", "discovery"),)

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    owned_by: Mapped[str] = mapped_column(String(100), default="tollhouse")
    description: Mapped[str | None] = mapped_column(String(500))
    is_enabled: Mapped[bool] = mapped_column(default=True)
    context_window: Mapped[int | None] = mapped_column(BigInteger)
    max_output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    fallbacks: Mapped[list[str]] = mapped_column(JSON, default=list)  # public names, tried in order
    aliases: Mapped[list[str] | None] = mapped_column(Names)  # other names that callers may use
    routing: Mapped[dict[str, Any] | None] = mapped_column(Names)  # fields of services.types.Routing that are set
    managed_by: Mapped[str] = mapped_column(String(20), default="admin")
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()

    deployments: Mapped[list["Deployment"]] = relationship(
        back_populates="model", cascade="all, delete-orphan", order_by="Deployment.id"
    )
    prices: Mapped[list["Price"]] = relationship(
        back_populates="model", cascade="all, delete-orphan", order_by="Price.id"
    )

    def __str__(self) -> str:
        return self.name


class Deployment(Base):
    """One upstream model that serves a public name. Lower priority is tried first."""

    __tablename__ = "deployments"
    __table_args__ = (
        UniqueConstraint("model_id", "provider_id", "upstream_model"),
        CheckConstraint("weight > 0", name="weight_positive"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    provider_id: Mapped[int] = mapped_column(ForeignKey("providers.id", ondelete="CASCADE"), index=True)
    upstream_model: Mapped[str] = mapped_column(String(200))
    priority: Mapped[int] = mapped_column(default=1)
    weight: Mapped[int] = mapped_column(default=1)
    is_enabled: Mapped[bool] = mapped_column(default=True)

    model: Mapped[Model] = relationship(back_populates="deployments")
    provider: Mapped[Provider] = relationship()

    def __str__(self) -> str:
        return self.upstream_model


class Price(Base):
    """What a model costs, from a moment on. A deployment's own price goes before its model's.

    A row is never changed, but for its end: a new price is a new row. Which one is in force: services/prices.py.
    """

    __tablename__ = "prices"
    __table_args__ = (
        *not_negative("input_rate", "output_rate", "cache_read_rate", "cache_creation_rate"),
        *not_negative("cache_creation_1h_rate", "input_audio_rate", "output_audio_rate", "reasoning_rate"),
        *not_negative("request_nanousd", "image_nanousd"),
        CheckConstraint("NOT is_free OR (input_rate = 0 AND output_rate = 0)", name="free_is_zero"),
        Index("ix_prices_model", "model_id", "deployment_id", "valid_from_at"),
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    deployment_id: Mapped[int | None] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    is_free: Mapped[bool] = mapped_column(default=False)
    input_rate: Mapped[int] = mapped_column(BigInteger)
    output_rate: Mapped[int] = mapped_column(BigInteger)
    cache_read_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as input
    cache_creation_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as input
    cache_creation_1h_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as cache_creation_rate
    input_audio_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as input
    output_audio_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as output
    reasoning_rate: Mapped[int | None] = mapped_column(BigInteger)  # None = as output
    request_nanousd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # for each call
    image_nanousd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # for each made image
    tiers: Mapped[list[dict[str, int]] | None] = mapped_column(Names)  # [{"above": input tokens, rates that differ}]
    source: Mapped[str] = mapped_column(String(60))
    valid_from_at: Mapped[datetime] = created()
    valid_until_at: Mapped[datetime | None] = mapped_column(UtcMs)

    model: Mapped[Model] = relationship(back_populates="prices")


class Budget(Managed, Base):
    """A ceiling for one user, key, team or model. In nano-USD or tokens, per calendar period or in total."""

    __tablename__ = "budgets"
    __table_args__ = (
        one_of("scope", "user", "key", "team", "model"),
        one_of("unit", "usd", "tokens"),
        one_of("period", "total", "second", "minute", "hour", "day", "week", "month"),
        *not_negative("limit_amount"),
        CheckConstraint("NOT is_prepaid OR (unit = 'tokens' AND period = 'total')", name="prepaid_is_total_tokens"),
        CheckConstraint("warn_percent BETWEEN 1 AND 100", name="warn_percent_is_a_share"),
        UniqueConstraint("scope", "scope_id", "unit", "period", "is_prepaid"),
        NEVER_AGAIN,
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    scope: Mapped[str] = mapped_column(String(10))
    scope_id: Mapped[int] = mapped_column(BigInteger)
    unit: Mapped[str] = mapped_column(String(10))
    period: Mapped[str] = mapped_column(String(10), default="total")
    timezone: Mapped[str] = mapped_column(String(60), default="UTC")
    limit_amount: Mapped[int] = mapped_column(BigInteger)
    is_prepaid: Mapped[bool] = mapped_column(default=False)  # a balance: free models do not consume it
    warn_percent: Mapped[int | None] = mapped_column(IntOrNone, default=80)  # None: no warning
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()


class Limit(Managed, Base):
    """How much of something may be had at once or per period: requests, tokens, or calls under way."""

    __tablename__ = "limits"
    __table_args__ = (
        one_of("scope", "user", "key", "team", "model", "address"),
        one_of("unit", "requests", "tokens", "concurrent"),
        one_of("period", "none", "second", "minute", "hour", "day", "month"),
        CheckConstraint("(unit = 'concurrent') = (period = 'none')", name="concurrent_has_no_period"),
        CheckConstraint("(scope = 'address') = (scope_id = 0)", name="address_has_no_id"),
        *not_negative("limit_amount"),
        UniqueConstraint("scope", "scope_id", "unit", "period"),
        NEVER_AGAIN,
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    scope: Mapped[str] = mapped_column(String(10))
    scope_id: Mapped[int] = mapped_column(BigInteger, default=0)  # 0: every client address has a count of its own
    unit: Mapped[str] = mapped_column(String(10))
    period: Mapped[str] = mapped_column(String(10), default="none")
    limit_amount: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = created()
    updated_at: Mapped[datetime] = updated()


class Setting(Base):
    """A value the product keeps for itself."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = updated()


class CatalogVersion(Base):
    """One row; its number rises with every change that a worker's snapshot must follow."""

    __tablename__ = "catalog_version"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInteger)


class WebSession(Base):
    """A signed-in browser. The cookie carries a random token, this row its digest."""

    __tablename__ = "web_sessions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = created()
    seen_at: Mapped[datetime] = created()
    ip_address: Mapped[str | None] = mapped_column(String(45))
    user_agent: Mapped[str | None] = mapped_column(String(255))


class SignInFailure(Base):
    """Failed sign-ins of one account from one address, or of one account from anywhere."""

    __tablename__ = "sign_in_failures"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)  # digest of what is throttled
    failures: Mapped[int]
    blocked_until_at: Mapped[datetime] = mapped_column(UtcMs)
